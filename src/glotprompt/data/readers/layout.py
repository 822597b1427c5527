"""How a dataset lies in files: where each split is, in a folder or on the hub, and what the columns are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from glotprompt.data.readers.lines import is_blank, read_lines, without_line_end
from glotprompt.data.readers.records import Example, Pair
from glotprompt.data.readers.tables import OnBadRow, Quoting, ReadOptions, Row, read_table
from glotprompt.errors import DataError, counted, nearest

Report = Callable[[str], None]


@dataclass(frozen=True)
class Columns:
    """The columns of a dataset's tables."""

    fields: Mapping[str, str]
    """From an example's field ("text", or "premise" and "hypothesis"; "source" and "target" of parallel text) to the
    column; empty for plain lines of text."""

    label: str | None = None
    row_id: str | None = None
    """The column of ids; None: an example's id is its row's number, from 1."""

    header: tuple[str, ...] | None = None
    """The columns' names where the file has no header line."""

    quoting: Quoting = "csv"
    names: Mapping[object, str] = field(default_factory=dict[object, str])
    """From a cell of the label column to the label's name, where it is another: {0: "entailment"}."""

    not_examples: tuple[str, ...] = ()
    """Labels of rows that the publisher means to be passed over."""

    unread: tuple[str, ...] = ()
    """Further columns that hold text, which `check` looks into, too."""

    blank_is_missing: bool = False
    """Whether a row without text stands for an item that the language lacks, and is no example."""


@dataclass(frozen=True)
class Layout:
    """A dataset's files below the data folder."""

    files: Mapping[str, tuple[str, ...]]
    """From a split to the patterns of its file, of which the first one that exists is read. {language} stands for the
    publisher's name of the language, {code} for its code of it."""

    columns: Columns
    folders: Mapping[str, str] = field(default_factory=dict[str, str])
    """The publisher's names of languages, where they are not our codes."""

    codes: Mapping[str, str] = field(default_factory=dict[str, str])
    """The publisher's codes, where they are not ours."""

    source_side: str | None = None
    """Of plain lines: the file beside them that has the same lines in the source language; {split} as written here."""

    def path(self, data_dir: Path, language: str, split: str) -> Path:
        """Where the split is; where it is expected first when it is nowhere."""
        places = [data_dir / self.shown(language, pattern) for pattern in self.files[split]]
        return next((path for path in places if path.is_file()), places[0])

    def shown(self, language: str, pattern: str) -> str:
        """The pattern with the publisher's name and code of the language put in."""
        return pattern.format(language=self.folders.get(language, language), code=self.codes.get(language, language))


@dataclass(frozen=True)
class HubFiles:
    """A dataset's files in a dataset repository of the Hugging Face hub."""

    repo: str
    revision: str | None
    """The commit that is read. None: no commit could be looked up, so a person has to name one."""

    source: str
    """How revision and file names are known."""

    files: Mapping[str, str]
    """From a split to its file; {language} stands for the repository's name of the language."""

    columns: Columns
    folders: Mapping[str, str] = field(default_factory=dict[str, str])

    def file(self, language: str, split: str) -> str:
        """Path of the split within the repository."""
        return self.files[split].format(language=self.folders.get(language, language))


def placed(folders: tuple[str, ...], below: str, **splits: str) -> dict[str, tuple[str, ...]]:
    """Patterns of `Layout.files` in any of several folders. {split} in `below` stands for a split's name in files,
    which is given for each of our splits."""
    return {
        split: tuple(f"{folder}/{below.replace('{split}', written)}" for folder in folders)
        for split, written in splits.items()
    }


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a split."""

    example: Example
    unread: tuple[str, ...]
    """Its cells in `Columns.unread`."""


def read_records(
    path: Path,
    columns: Columns,
    labels: tuple[str, ...],
    on_bad_row: OnBadRow = "error",
    report: Report | None = None,
    *,
    every_row: bool = False,
) -> list[Record]:
    """The rows of a table in their order, with duplicates, blank texts and edge spaces as they are in the file.

    A published row is not dropped because its text is blank (a score over fewer rows would not be comparable), unless
    that is how the publisher writes that there is none (`Columns.blank_is_missing`). Raises `DataError` at a row that
    cannot be read or whose label is none of `labels`; `on_bad_row="skip"` leaves it out. With `every_row` neither a
    label nor a blank text is looked at.
    """
    options = ReadOptions(quoting=columns.quoting, columns=columns.header, on_bad_row=on_bad_row, report=report)
    table = read_table(path, options)
    for column in (*columns.fields.values(), columns.label, columns.row_id):
        if column is not None:
            table.require(column, column)
    unread = tuple(column for column in columns.unread if column in table.columns)
    records: list[Record] = []
    passed_over = missing = 0
    for number, row in enumerate(table.rows, 1):
        label = _label(row, columns)
        if label in columns.not_examples:
            passed_over += 1
        elif not every_row and label is not None and label not in labels:
            hint = f"{nearest(label, labels)} Expected one of {', '.join(labels)}"
            table.bad.add(row.line, f"the label {label!r} is unknown.{hint}")
        else:
            row_id = str(number) if columns.row_id is None else _cell(row, columns.row_id)
            texts = {name: _cell(row, column) for name, column in columns.fields.items()}
            if columns.blank_is_missing and not every_row and all(map(is_blank, texts.values())):
                missing += 1
                continue
            records.append(Record(Example(texts, label, row_id), tuple(_cell(row, column) for column in unread)))
    if passed_over and report is not None:
        rows, are = ("row", "is no example") if passed_over == 1 else ("rows", "are not examples")
        report(f"{path}: {passed_over:,} {rows} labelled {' or '.join(columns.not_examples)} {are}")
    if missing and report is not None:
        report(f"{path}: rows without text, which are not examples: {missing:,}")
    table.bad.finish(len(records), "examples")
    return records


def read_texts(path: Path) -> Iterator[str]:
    """The lines of a file that are not blank, without their ends."""
    return (without_line_end(line) for line in read_lines(path) if not is_blank(line))


def read_aligned(source: str | Path, target: str | Path, encoding: str | None = None) -> list[Pair]:
    """The lines of two files, line by line and with blank ones; `DataError` where one file has more lines."""
    sides = [[without_line_end(line) for line in read_lines(path, encoding)] for path in (source, target)]
    counts = [len(lines) for lines in sides]
    if counts[0] != counts[1]:
        raise DataError(
            f"{source} has {counted(counts[0], 'line')} and {target} has {counts[1]:,}. Expected as many, with"
            " translations on the same line; get both files anew, or mend the one that lacks lines."
        )
    return [Pair(*texts) for texts in zip(*sides, strict=True)]


def _cell(row: Row, column: str) -> str:
    value = row.values.get(column)
    return "" if value is None else str(value)


def _label(row: Row, columns: Columns) -> str | None:
    if columns.label is None:
        return None
    value = row.values.get(columns.label)
    # JSON may have a list or an object there, which is no label of ours by any name.
    named = columns.names.get(value) if isinstance(value, Hashable) else None
    return named or ("" if value is None else str(value).strip())
