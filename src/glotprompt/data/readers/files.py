"""Readers of a user's files: one text per line, or the columns of a table.

Texts are returned as they are in the file unless `normalise=True`: NBSP, edge spaces and characters outside NFC are
left to the tokenizer, and predictions should be shown with the original text.
"""

from __future__ import annotations

import json
import re
import tomllib
import unicodedata
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from glotprompt.data.readers.lines import is_blank, name_of, read_lines, read_option, without_line_end
from glotprompt.data.readers.normalise import normalise as normalised
from glotprompt.data.readers.parquet import NotText
from glotprompt.data.readers.records import Example
from glotprompt.data.readers.tables import (
    USUAL,
    QuotingError,
    ReadOptions,
    Row,
    Table,
    format_of,
    looks_like_several,
    open_table,
    read_table,
)
from glotprompt.errors import ConfigError, DataError, counted, nearest, setting, toml_fault

Source = str | Path


def read_texts(
    source: Source | Sequence[Source], text: str | None = None, *, options: ReadOptions = USUAL
) -> list[str]:
    """The unlabelled texts of one file or several; "-" is standard input.

    Any file is one text per line, except .tsv, .csv, .jsonl (each also with .gz) and .parquet, of which `text` names
    the column ("text" when it is not given). Blank lines and cells are skipped and counted; repeated texts are kept.
    `options` control reading, such as `ReadOptions(delimiter=";")`.
    """
    result: list[str] = []
    for one in _sources(source):
        texts = list(_texts_of(one, text, options))
        _report_repeated(name_of(one), texts, "texts", options)
        result += texts
    return result


def read_examples(
    source: Source,
    text: str = "text",
    label: str | None = "label",
    *,
    premise: str | None = None,
    hypothesis: str | None = None,
    row_id: str | None = None,
    labels: Collection[str] | None = None,
    options: ReadOptions = USUAL,
) -> list[Example]:
    """The examples of a .tsv, .csv, .jsonl (each also with .gz) or .parquet file.

    `text` and `label` name the columns; `premise` and `hypothesis`, given together, replace `text`;
    `label=None` reads examples whose label is not known. With `labels`, a row with another label is a bad row. An
    example's id is its cell in the column `row_id`, or "file name:line". `options` say how the file is read.
    Spaces around a label are dropped; spaces in and around texts are kept.
    """
    if (premise is None) != (hypothesis is None):
        side = "premise" if hypothesis is None else "hypothesis"
        missing = "hypothesis" if hypothesis is None else "premise"
        raise ConfigError(f"{setting(side)} was given without {setting(missing)}. Expected both, or neither.")
    fields = {"text": text}
    if premise is not None and hypothesis is not None:
        fields = {"premise": premise, "hypothesis": hypothesis}
    table = read_table(source, options)
    for option, column in (*fields.items(), ("label", label), ("row_id", row_id)):
        if column is not None:
            table.require(column, option)
    examples: list[Example] = []
    short_name = Path(table.name).name
    for row in table.rows:
        try:
            texts = {slot: _text(row, column, options) for slot, column in fields.items()}
            name = None if label is None else _known_label(_name(row, label), labels)
            place = f"{short_name}:{row.line}" if row_id is None else _name(row, row_id)
        except _BadCell as error:
            table.bad.add(row.line, str(error), remedy=error.remedy)
        else:
            examples.append(Example(texts, name, place))
    table.bad.finish(len(examples), "examples")
    _report_repeated(table.name, [tuple(example.fields.items()) for example in examples], "examples", options)
    _report_contradictions(table.name, examples, options)
    return examples


def read_for_comparison(
    source: Source, options: ReadOptions = USUAL, named: Collection[str] = ("text", "premise", "hypothesis")
) -> list[str]:
    """All texts of a file, for overlap checks: its lines, or in a table the cells of all text columns.

    A column is text if it is one of `named`, or if half of its cells have two or more words, or `_LONG` letters of a
    caseless script, which may have no spaces. Quotes that break csv's rules are read as characters, and a first line
    that is no header as a row. Nothing is normalised.
    """
    options = replace(options, normalise=False)
    if format_of(source, options) == "txt":
        return list(_texts_of(source, None, options))
    table = _table_to_compare(source, options)
    texts = [column for column in table.columns if options.columns is None and _is_text(column)]
    for column in table.columns:
        cells = [
            value for row in table.rows if isinstance(value := row.values.get(column), str) and not is_blank(value)
        ]
        if column in named or (cells and 2 * sum(map(_is_text, cells)) >= len(cells)):
            texts += cells
    if len(table.columns) == 1 and texts and all("," in text for text in (*table.columns, *texts)):
        # Commas under another ending or delimiter: the label may stand on either side.
        texts += [part for text in texts for part in (text.rpartition(",")[0], text.partition(",")[2])]
    table.bad.finish(len(texts), "texts")
    return texts


def _table_to_compare(source: Source, options: ReadOptions) -> Table[tuple[Row, ...]]:
    table = _table_with_its_quotes(source, options)
    several = None if options.columns is not None else looks_like_several(table.name, table.columns, "\t;|")
    if several is not None:
        columns = read_option("columns", "text")
        raise DataError(f"{several}, or name the one column of a table without a header line with {columns}.")
    return table


def _table_with_its_quotes(source: Source, options: ReadOptions) -> Table[tuple[Row, ...]]:
    strict = replace(options, on_bad_row="error")
    try:
        return read_table(source, strict)
    except QuotingError:
        with suppress(DataError):
            return read_table(source, replace(strict, quoting="none"))
    except DataError:
        pass
    return read_table(source, options)


_LONG = 8
"""Number of caseless letters that make a cell text rather than a label."""


def _is_text(cell: str) -> bool:
    caseless = sum(unicodedata.category(char) == "Lo" for char in cell)
    return caseless >= _LONG or len(cell.split(maxsplit=1)) > 1


class _BadCell(Exception):
    """The reason why a row cannot be used."""

    remedy = "Fix the row"


class _UnknownLabel(_BadCell):
    remedy = "If the label is right, the task does not know it: make a task file that does. Else mend the row"


def _sources(source: Source | Sequence[Source]) -> list[Source]:
    sources = [source] if isinstance(source, str | Path) else list(source)
    if not sources:
        raise ConfigError("No file was given. Expected at least one file of text.")
    return sources


def _texts_of(source: Source, text: str | None, options: ReadOptions) -> Iterator[str]:
    if format_of(source, options) != "txt":
        yield from _column_texts(source, "text" if text is None else text, options)
        return
    if text is not None:
        raise DataError(
            f"{name_of(source)}: the column {text!r} needs a table, but this is not a table by its ending. "
            f"Expected .tsv, .csv, .jsonl or .parquet; pass {read_option('format')} if it is one, or omit the column."
        )
    num_texts = num_blank = 0
    for line in read_lines(source, options.encoding):
        if is_blank(line):
            num_blank += 1
            continue
        num_texts += 1
        line = without_line_end(line)
        yield normalised(line) if options.normalise else line
    if not num_texts:
        raise DataError(f"{name_of(source)}: no text in it. Expected one text per line.")
    _report_blank(name_of(source), num_blank, "line", options)


def _column_texts(source: Source, column: str, options: ReadOptions) -> Iterator[str]:
    table = open_table(source, options)
    if table.columns:  # columns of JSON lines are known only after reading
        table.require(column, "text")
    num_texts = num_blank = 0
    for row in table.rows:
        if column not in row.values:  # possible in JSON lines only
            if options.on_bad_row == "error":
                table.require(column, "text")
            table.bad.add(row.line, f"no {column!r} in it")
            continue
        value = row.values[column]
        # A blank cell in unlabelled text is like a blank line: skipped, not an error.
        if value is None or (isinstance(value, str) and is_blank(value)):
            num_blank += 1
            continue
        try:
            cell = _text(row, column, options)
        except _BadCell as error:
            table.bad.add(row.line, str(error))
        else:
            num_texts += 1
            yield cell
    if table.columns:
        table.require(column, "text")
    table.bad.finish(num_texts, "texts")
    _report_blank(table.name, num_blank, "cell", options)


def _report_blank(name: str, blank: int, what: str, options: ReadOptions) -> None:
    if blank and options.report is not None:
        options.report(f"{name}: {counted(blank, f'blank {what}')} passed over")


def _report_repeated(name: str, items: Sequence[Hashable], what: str, options: ReadOptions) -> None:
    repeated = len(items) - len(set(items))
    if repeated and options.report is not None:
        verb, action = ("repeats", "it is kept") if repeated == 1 else ("repeat", "they are kept")
        options.report(f"{name}: {repeated:,} of {len(items):,} {what} {verb} an earlier one; {action}")


def _report_contradictions(name: str, examples: Iterable[Example], options: ReadOptions) -> None:
    labels_of: dict[Hashable, set[str | None]] = {}
    for example in examples:
        labels_of.setdefault(tuple(example.fields.items()), set()).add(example.label)
    several = sum(len(labels) > 1 for labels in labels_of.values())
    if several and options.report is not None:
        options.report(f"{name}: {counted(several, 'text has', 'texts have')} more than one label")


def _known_label(name: str, labels: Collection[str] | None) -> str:
    """The matching label of `labels`: equal as text in NFC, or as a whole number (1 and 1.0)."""
    if labels is None or name in labels:
        return name
    same = [label for label in labels if _whole(label) == _whole(name)]
    if len(same) != 1:
        raise _UnknownLabel(
            f"unknown label {name!r}; expected one of {', '.join(labels)}.{nearest(name, labels)}".removesuffix(".")
        )
    return same[0]


def _whole(name: str) -> str:
    """A whole number without zeros after the decimal point; any other name in NFC."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", unicodedata.normalize("NFC", name))


def _text(row: Row, column: str, options: ReadOptions) -> str:
    """A cell that must hold text, normalised if the options say so."""
    cell = _cell(row, column)
    return normalised(cell) if options.normalise else cell


def _cell(row: Row, column: str) -> str:
    value = row.values.get(column)
    if value is None or (isinstance(value, str) and is_blank(value)):
        raise _BadCell(f"nothing in the column {column!r}")
    if isinstance(value, NotText):
        raise _BadCell(f"the column {column!r} is not UTF-8")
    if not isinstance(value, str):
        raise _BadCell(f"a value of type {type(value).__name__} in the column {column!r} where text was expected")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can write half a character: "\ud800"
        raise _BadCell(f"half a surrogate pair in the column {column!r}") from None
    return value


def _name(row: Row, column: str) -> str:
    """A cell that must hold a label or an id. Whole numbers are unified: 1 and 1.0 are "1"."""
    value = row.values.get(column)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return _cell(row, column).strip()


def read_mapping(path: Source, expected: str) -> dict[str, Any]:
    """The table in a TOML or (by its ending) JSON file; `DataError`, which names what is `expected`, for anything
    else."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {expected}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        table: Any = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as TOML or JSON ({toml_fault(error, path)})") from None
    if not isinstance(table, dict):
        raise DataError(f"{path}: a JSON {type(table).__name__}; expected {expected}")
    return {str(name): value for name, value in table.items()}
