"""Layout of a dataset: the file of each split, in a folder or on the hub, and its columns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from glotprompt.data.readers.lines import is_blank, read_lines, without_line_end
from glotprompt.data.readers.normalise import letters
from glotprompt.data.readers.records import Example, Pair
from glotprompt.data.readers.tables import OnBadRow, Quoting, ReadOptions, Row, read_table
from glotprompt.errors import DataError, counted, nearest

Report = Callable[[str], None]
Input = Literal["headline", "article"]
"""The part of a news item that is classified."""


@dataclass(frozen=True)
class Columns:
    """The columns of a dataset's tables."""

    fields: Mapping[str, str]
    """Column by field ("text", or "premise" and "hypothesis"; "source" and "target" of parallel text); empty for plain
    lines of text."""

    label: str | None = None
    row_id: str | None = None
    """Column of ids; None: an example's id is its row number, from 1."""

    header: tuple[str, ...] | None = None
    """Column names of a file without header line."""

    quoting: Quoting = "csv"
    names: Mapping[object, str] = field(default_factory=dict[object, str])
    """Label names by cell of the label column, where they differ: {0: "entailment"}."""

    not_examples: tuple[str, ...] = ()
    """Labels of rows that the publisher wants skipped."""

    unread: tuple[str, ...] = ()
    """Further text columns, which `check` includes."""

    blank_is_missing: bool = False
    """Whether a row without text marks an item that the language lacks, and is no example."""


@dataclass(frozen=True)
class Layout:
    """Files of a dataset in the data folder."""

    files: Mapping[str, tuple[str, ...]]
    """Path patterns by split; the first existing file is read. {language} is the publisher's name of the language,
    {code} its code."""

    columns: Columns
    folders: Mapping[str, str] = field(default_factory=dict[str, str])
    """Publisher's names of languages, where they differ from our codes."""

    codes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Publisher's codes, where they differ from ours."""

    source_side: str | None = None
    """File beside plain lines with the aligned lines in the source language; {split} is the split."""

    def path(self, data_dir: Path, language: str, split: str) -> Path:
        """Path of a split: the first existing file, else the first pattern."""
        places = [data_dir / self.shown(language, pattern) for pattern in self.files[split]]
        return next((path for path in places if path.is_file()), places[0])

    def shown(self, language: str, pattern: str) -> str:
        """A pattern filled with the publisher's name and code of the language."""
        return pattern.format(language=self.folders.get(language, language), code=self.codes.get(language, language))


@dataclass(frozen=True)
class HubFiles:
    """Files of a dataset in a repository on the Hugging Face hub."""

    repo: str
    revision: str | None
    """Commit to read; None: unknown, so the user has to give one."""

    source: str
    """Source of revision and file names."""

    files: Mapping[str, str]
    """File by split; {language} is the repository's name of the language."""

    columns: Columns
    folders: Mapping[str, str] = field(default_factory=dict[str, str])

    def file(self, language: str, split: str) -> str:
        """Path of a split in the repository."""
        return self.files[split].format(language=self.folders.get(language, language))


def placed(folders: tuple[str, ...], below: str, **splits: str) -> dict[str, tuple[str, ...]]:
    """Patterns for `Layout.files` in any of several folders. {split} in `below` is the name of a split in files, given
    for each of our splits."""
    return {
        split: tuple(f"{folder}/{below.replace('{split}', written)}" for folder in folders)
        for split, written in splits.items()
    }


@dataclass(frozen=True, slots=True)
class Record:
    """An example of a split, with its further text."""

    example: Example
    unread: tuple[str, ...]
    """Cells of the columns `Columns.unread`."""

    def read_as(self, input: Input) -> Example:
        """The example; as an article with the further text below, a line a cell."""
        if input == "headline" or not self.unread:
            return self.example
        text = "\n".join([self.example.fields["text"], *self.unread])
        return Example.of(text, self.example.label, self.example.id)

    def keys(self) -> set[str]:
        """Letters and digits of its texts, by which it is found in another split. A text without any is no key ("." is
        the body of several quiz pages)."""
        return {letters(text) for text in (*self.example.fields.values(), *self.unread)} - {""}


def read_records(
    path: Path,
    columns: Columns,
    labels: tuple[str, ...],
    on_bad_row: OnBadRow = "error",
    report: Report | None = None,
    *,
    every_row: bool = False,
) -> list[Record]:
    """The rows of a table, in order, with duplicates, blank texts and edge spaces unchanged.

    A published row is not dropped because its text is blank (a score over fewer rows would not be comparable), unless
    blank means that the item is missing (`Columns.blank_is_missing`). Raises `DataError` at a row that cannot be read
    or whose label is none of `labels`; `on_bad_row="skip"` leaves it out. With `every_row` neither a label nor a blank
    text is looked at.
    """
    options = ReadOptions(quoting=columns.quoting, columns=columns.header, on_bad_row=on_bad_row, report=report)
    table = read_table(path, options)
    for column in (*columns.fields.values(), columns.label, columns.row_id):
        if column is not None:
            table.require(column)
    unread = tuple(column for column in columns.unread if column in table.columns)
    records: list[Record] = []
    passed_over = missing = 0
    for number, row in enumerate(table.rows, 1):
        label = _label(row, columns)
        if label in columns.not_examples:
            passed_over += 1
        elif not every_row and label is not None and label not in labels:
            hint = f"{nearest(label, labels)} Expected one of {', '.join(labels)}"
            table.bad.add(row.line, f"unknown label {label!r}.{hint}")
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
    """Non-blank lines of a file, without line ends."""
    return (without_line_end(line) for line in read_lines(path) if not is_blank(line))


def read_aligned(source: str | Path, target: str | Path, encoding: str | None = None) -> list[Pair]:
    """Aligned lines of two files, including blank ones; `DataError` if one file has more lines."""
    sides = [[without_line_end(line) for line in read_lines(path, encoding)] for path in (source, target)]
    counts = [len(lines) for lines in sides]
    if counts[0] != counts[1]:
        raise DataError(
            f"{source} has {counted(counts[0], 'line')} and {target} has {counts[1]:,}. Expected the same number, with"
            " translations on the same line; get both files again, or fix the one that lacks lines."
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
    name = columns.names.get(value) if isinstance(value, Hashable) else None
    return name or ("" if value is None else str(value).strip())
