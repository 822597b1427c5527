"""A person's own files: one text per line, or the columns of a table.

Texts are handed on as they stand in the file: NBSP, edge spaces and characters that are not in NFC are the
tokenizer's business, and what a prediction is shown for should be what was written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from glotprompt.data.records import Example
from glotprompt.data.tables import (
    Format,
    OnBadRow,
    Quoting,
    ReadOptions,
    Row,
    Table,
    format_of,
    is_blank,
    name_of,
    read_lines,
    read_table,
    without_line_end,
)
from glotprompt.errors import ConfigError, DataError

Source = str | Path


def read_texts(
    source: Source | Sequence[Source],
    text: str | None = None,
    *,
    format: Format | None = None,
    delimiter: str | None = None,
    quoting: Quoting = "csv",
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8",
    on_bad_row: OnBadRow = "error",
    report: Callable[[str], None] | None = None,
) -> list[str]:
    """The unlabelled texts of one file or several; "-" is standard input.

    Any file is one text per line, except .tsv, .csv and .jsonl (each also with .gz), of which `text` names the
    column ("text" when it is not given). Blank lines and blank cells are passed over.

    `format` overrules the ending, `delimiter` the separator; `quoting="none"` makes quotes plain characters;
    `columns` names the columns of a table without a header line; `on_bad_row="skip"` leaves out rows that cannot be
    used and tells `report` how many.
    """
    names = _column_names(columns)
    options = ReadOptions(format, delimiter, quoting, names, encoding, on_bad_row, report)
    sources = [source] if isinstance(source, str | Path) else list(source)
    if not sources:
        raise ConfigError("No file was given. Expected at least one file of text.")
    return [item for one in sources for item in _texts_of(one, text, options)]


def read_examples(
    source: Source,
    text: str = "text",
    label: str | None = "label",
    *,
    premise: str | None = None,
    hypothesis: str | None = None,
    row_id: str | None = None,
    format: Format | None = None,
    delimiter: str | None = None,
    quoting: Quoting = "csv",
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8",
    on_bad_row: OnBadRow = "error",
    report: Callable[[str], None] | None = None,
) -> list[Example]:
    """The examples of a .tsv, .csv or .jsonl file (each also with .gz).

    `text` and `label` name the columns; `premise` and `hypothesis`, given together, take the place of `text`;
    `label=None` reads examples whose label is not known. An example's id is its cell in the column `row_id`, or
    "file name:line". The other options are those of `read_texts`. Spaces around a label are dropped; spaces in and
    around texts are kept.
    """
    if (premise is None) != (hypothesis is None):
        given = "premise" if hypothesis is None else "hypothesis"
        missing = "hypothesis" if hypothesis is None else "premise"
        raise ConfigError(f"{given}= was given without {missing}=. Expected both, or neither.")
    fields = {"text": text}
    if premise is not None and hypothesis is not None:
        fields = {"premise": premise, "hypothesis": hypothesis}
    names = _column_names(columns)
    options = ReadOptions(format, delimiter, quoting, names, encoding, on_bad_row, report)
    table = read_table(source, options)
    for option, column in (*fields.items(), ("label", label), ("row_id", row_id)):
        if column is not None:
            table.require(column, option)
    examples: list[Example] = []
    short_name = Path(table.name).name
    for row in table.rows:
        try:
            example = _example(row, fields, label, row_id, short_name)
        except _BadCell as error:
            table.bad.add(row.line, str(error))
        else:
            examples.append(example)
    table.bad.finish(len(examples), "examples")
    return examples


class _BadCell(Exception):
    """The reason why a row cannot be used."""


def _texts_of(source: Source, text: str | None, options: ReadOptions) -> list[str]:
    if format_of(source, options) == "txt":
        if text is not None:
            raise DataError(
                f"{name_of(source)}: the column {text!r} was asked for, but this is not a table by its ending. "
                "Expected .tsv, .csv or .jsonl; pass format= if it is one, or leave the column out."
            )
        texts = [without_line_end(line) for line in read_lines(source, options.encoding) if not is_blank(line)]
        if not texts:
            raise DataError(f"{name_of(source)}: no text in it. Expected one text per line.")
        return texts
    table = read_table(source, options)
    column = "text" if text is None else text
    table.require(column, "text")
    texts = _column_texts(table, column)
    table.bad.finish(len(texts), "texts")
    return texts


def _column_texts(table: Table, column: str) -> list[str]:
    texts: list[str] = []
    for row in table.rows:
        value = row.values.get(column)
        # A blank cell in unlabelled text is what a blank line is elsewhere: nothing, not a mistake.
        if value is None or (isinstance(value, str) and is_blank(value)):
            continue
        try:
            texts.append(_text(row, column))
        except _BadCell as error:
            table.bad.add(row.line, str(error))
    return texts


def _example(row: Row, fields: dict[str, str], label: str | None, row_id: str | None, file_name: str) -> Example:
    texts = {slot: _text(row, column) for slot, column in fields.items()}
    name = None if label is None else _name(row, label)
    return Example(texts, name, f"{file_name}:{row.line}" if row_id is None else _name(row, row_id))


def _text(row: Row, column: str) -> str:
    """A cell that must hold text."""
    value = row.values.get(column)
    if value is None or (isinstance(value, str) and is_blank(value)):
        raise _BadCell(f"nothing in the column {column!r}")
    if not isinstance(value, str):
        raise _BadCell(f"a JSON {type(value).__name__} in the column {column!r} where text was expected")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can write half a character: "\ud800"
        raise _BadCell(f"half a surrogate pair in the column {column!r}") from None
    return value


def _name(row: Row, column: str) -> str:
    """A cell that must hold a label or an id. Numbers are taken as they are written: 1 is "1"."""
    value = row.values.get(column)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return _text(row, column).strip()


def _column_names(columns: Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(columns, str):
        raise ConfigError(f'columns is the text {columns!r}; expected a list of names such as ["text", "label"].')
    return None if columns is None else tuple(columns)
