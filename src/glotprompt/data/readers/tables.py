"""Lines to rows: quoting, headers and rows that cannot be used, for every table that the package reads.

A table is read row by row and need never be held whole. A quoted cell may itself hold newlines, so a row knows the
line it starts on.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar, cast, get_args

from glotprompt.data.readers.lines import is_blank, name_of, read_lines, read_option, refuse_reference, without_line_end
from glotprompt.data.readers.parquet import read_parquet
from glotprompt.errors import ConfigError, DataError, counted, nearest, setting

Format = Literal["txt", "tsv", "csv", "jsonl", "parquet"]
Quoting = Literal["csv", "none"]
OnBadRow = Literal["error", "skip"]

# Articles are longer than csv's own limit for a cell (131,072 characters). A C long on Windows has 32 bits.
_CELL_LIMIT = 2**31 - 1

_LISTED = 20
"""Bad rows that are reported one by one; of the others there is a count."""


def or_skip() -> str:
    """How the message about a bad row ends."""
    return f", or pass {read_option('on_bad_row', 'skip')}."


class QuotingError(DataError):
    """Quotes stand where csv's rules do not allow them, so perhaps they mean nothing in this file."""


def _expect(field: str, value: str | None, choices: Sequence[str | None]) -> None:
    if value not in choices:
        names = [choice for choice in choices if choice is not None]
        given = setting(field, str(value))
        raise ConfigError(f"{given} is not known.{nearest(str(value), names)} Expected {', '.join(names)}.")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read files of one's own; the defaults suit a UTF-8 file whose ending tells its format."""

    format: Format | None = None
    """None: told by the file's ending."""

    delimiter: str | None = None
    """None: a tab for tsv, a comma for csv."""

    quoting: Quoting = "csv"
    """"csv": cells may be quoted, quotes inside are doubled. "none": a quote is a character like any other."""

    columns: Sequence[str] | None = None
    """Names of the columns of a table that has no header line."""

    encoding: str | None = None
    """None: told by a byte-order mark (UTF-8, UTF-16, UTF-32), else UTF-8."""

    on_bad_row: OnBadRow = "error"
    """"error": a row that cannot be used is an error. "skip": it is left out, and `report` is told."""

    normalise: bool = False
    """Whether texts are cleaned by `normalise.normalise`."""

    report: Callable[[str], None] | None = None
    """Told, a sentence at a time, which rows were skipped and how many, and how many texts occur again."""

    def __post_init__(self) -> None:
        _expect("format", self.format, (None, *get_args(Format)))
        _expect("quoting", self.quoting, get_args(Quoting))
        _expect("on_bad_row", self.on_bad_row, get_args(OnBadRow))
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ConfigError(
                f"{setting('delimiter', self.delimiter)} is not one character; expected such as ';' or a tab."
            )
        if isinstance(self.columns, str):
            raise ConfigError(
                f'columns is the text {self.columns!r}; expected a list of names such as ["text", "label"].'
            )
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(self.columns))


USUAL = ReadOptions()
"""How a file is read of which nothing else is said."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    line: int
    """The physical line it starts on, from 1; in parquet, which has no lines, the row's number."""

    values: Mapping[str, object]
    """Cells by column. Strings, except in JSON lines and parquet, where a value may be anything."""


_Rows = TypeVar("_Rows", bound=Iterable[Row])


@dataclass(frozen=True, slots=True)
class Table(Generic[_Rows]):
    """A file's rows, with what is needed to speak of them in an error."""

    name: str
    columns: Collection[str]
    """In JSON lines that are being read: the columns of the rows so far."""
    rows: _Rows
    bad: BadRows
    repeated: Collection[str] = ()
    """Names that several columns have; the second one of "text" is "text (2)" among `columns`."""
    has_header: bool = True
    """Whether a first line names the columns; JSON lines and parquet hold the names elsewhere."""

    def require(self, column: str, option: str) -> None:
        """Raises when `column`, which the caller named with `option`, is not there, or there twice."""
        if column in self.repeated:
            headless = f", or, when the file has no header line, name the columns with {read_option('columns')}"
            headless *= self.has_header
            raise DataError(f"{self.name}: the column {column!r} occurs twice. Rename one of them{headless}.")
        if column not in self.columns:
            if several := looks_like_several(self.name, self.columns, "\t;|,"):
                raise DataError(f"{several}.")
            headless = f", or, when the file has no header line, name them all with {read_option('columns')}"
            headless *= self.has_header
            raise DataError(
                f"{self.name}: no column {column!r}.{nearest(column, self.columns)} It has: "
                f"{', '.join(self.columns)}. Name the right one with {setting(option)}{headless}."
            )


class BadRows:
    """What happens to a row that cannot be used: an error at once, or a report and a count."""

    def __init__(self, name: str, options: ReadOptions, unit: str = "line") -> None:
        self.name = name
        self._options = options
        self._unit = unit
        self._count = 0
        self._first = ""

    def add(
        self,
        line: int,
        reason: str,
        last_line: int | None = None,
        error: type[DataError] = DataError,
        remedy: str = "Mend the row",
    ) -> None:
        """Takes note of a bad row; raises an `error` unless bad rows are to be skipped. Of one that seems to have
        several lines only the first is lost."""
        where = f"{self._unit} {line}" if last_line in (None, line) else f"{self._unit}s {line}-{last_line}"
        if self._options.on_bad_row == "error":
            stop = "" if reason.endswith("?") else "."
            raise error(f"{self.name}, {where}: {reason}{stop} {remedy}{or_skip()}")
        self._count += 1
        self._first = self._first or f"{where}: {reason}"
        if self._count <= _LISTED:
            lost = "" if last_line in (None, line) else f"line {line} "
            self._report(f"{self.name}, {where}: {reason}; {lost}skipped")

    def finish(self, used: int, expected: str) -> None:
        """Reports how many were skipped; raises when nothing is left."""
        if used == 0:
            all_bad = (
                "the only row is bad, at" if self._count == 1 else f"all {self._count:,} rows are bad, the first at"
            )
            why = f" ({all_bad} {self._first})" if self._count else ""
            raise DataError(f"{self.name}: no {expected} in it{why}. Expected at least one.")
        if self._count:
            listed = f", of which the first {_LISTED} are listed" if self._count > _LISTED else ""
            self._report(f"{self.name}: {counted(self._count, 'bad row')} skipped{listed}")

    def _report(self, sentence: str) -> None:
        if self._options.report is not None:
            self._options.report(sentence)


def looks_like_several(name: str, columns: Collection[str], delimiters: str) -> str | None:
    """What is wrong with a file whose one column's name holds one of the delimiters, and the first remedy."""
    column = next(iter(columns)) if len(columns) == 1 else ""
    found = next((delimiter for delimiter in delimiters if delimiter in column), None)
    if found is None:
        return None
    return f"{name}: one column only, whose name {column!r} looks like several. Pass {read_option('delimiter', found)}"


def format_of(source: str | Path, options: ReadOptions) -> Format:
    """The format asked for, or the one that the ending tells; any ending that is not a table's is plain text, but for
    .json, which is refused."""
    if options.format is not None:
        return options.format
    suffixes = [suffix.lower() for suffix in Path(source).suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    ending = suffixes[-1].removeprefix(".") if suffixes else ""
    if ending in ("tsv", "csv", "parquet"):
        return cast(Format, ending)
    if ending == "json":
        raise DataError(
            f"{name_of(source)}: a .json file is neither lines of text nor rows. If it has one object a line, pass"
            f" {read_option('format', 'jsonl')}; else write it as JSON lines."
        )
    return "jsonl" if ending in ("jsonl", "ndjson") else "txt"


def read_table(source: str | Path, options: ReadOptions) -> Table[tuple[Row, ...]]:
    """The rows of a tsv, csv, JSON-lines or parquet file. Blank lines are passed over."""
    table = open_table(source, options)
    rows = tuple(table.rows)
    if not rows and not table.columns:
        table.bad.finish(0, "rows")
    return Table(table.name, tuple(table.columns), rows, table.bad, table.repeated, table.has_header)


def open_table(source: str | Path, options: ReadOptions) -> Table[Iterator[Row]]:
    """As `read_table`, with rows that are read as they are asked for. The columns are known at once, but for JSON
    lines, whose columns are those of the rows that have been read."""
    kind, name = format_of(source, options), name_of(source)
    if kind == "txt":
        refuse_reference(source)
        raise DataError(
            f"{name}: not a table by its ending. Expected .tsv, .csv, .jsonl or .parquet (also .gz), or pass"
            f" {read_option('format')}."
        )
    if kind == "parquet":
        names, values = read_parquet(source)
        columns, repeated = _distinct(names)
        rows = (Row(number, dict(zip(columns, row, strict=True))) for number, row in enumerate(values, 1))
        return Table(name, columns, rows, BadRows(name, options, "row"), repeated, has_header=False)
    lines = read_lines(source, options.encoding)
    bad = BadRows(name, options)
    if kind == "jsonl":
        seen: dict[str, None] = {}  # a dict for its order: the columns as they first occur
        return Table(name, seen.keys(), _json_rows(lines, seen, bad), bad, has_header=False)
    delimiter = options.delimiter or ("\t" if kind == "tsv" else ",")
    cells = (
        _quoted_rows(lines, delimiter, options.columns, bad)
        if options.quoting == "csv"
        else _plain_rows(lines, delimiter)
    )
    columns = options.columns
    if columns is None:
        header = next(cells, None)
        if header is None:
            raise DataError(f"{name}: empty. Expected a header line with the columns' names, then rows.")
        columns = tuple(cell.strip() for cell in header[1])
    columns, repeated = _distinct(columns)
    return Table(name, columns, _named(cells, columns, bad), bad, repeated)


def _distinct(names: Sequence[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Columns under names of their own, and the names that several have. Nobody may want those."""
    seen = Counter[str]()
    columns: list[str] = []
    for name in names:
        seen[name] += 1
        columns.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(columns), frozenset(name for name, times in seen.items() if times > 1)


def _named(cells: Iterator[tuple[int, list[str]]], columns: Sequence[str], bad: BadRows) -> Iterator[Row]:
    for line, row in cells:
        if len(row) == len(columns):
            yield Row(line, dict(zip(columns, row, strict=True)))
            continue
        if several := looks_like_several(bad.name, columns, "\t;|,"):
            raise DataError(f"{several}.")
        bad.add(line, _other_width(len(row), len(columns)))


def _quoted_rows(
    lines: Iterator[str], delimiter: str, columns: Sequence[str] | None, bad: BadRows
) -> Iterator[tuple[int, list[str]]]:
    """(first line, cells) by csv's rules, read strictly: a stray quote is an error where it stands.
    `columns` as in `ReadOptions`; None: the first row has them.

    A quote that nobody meant makes one row of many lines. Where that shows, only the line on which the row starts is
    bad, and reading goes on at the next one."""
    csv.field_size_limit(max(csv.field_size_limit(), _CELL_LIMIT))
    source = _Lines(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    width = None if columns is None else len(columns)
    hint = f"if quotes mean nothing in this file, pass {read_option('quoting', 'none')}"
    while True:
        source.begin_row()
        row, never_closed, wrong = list[str](), False, None
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            never_closed = "unexpected end of data" in str(error)
            wrong = f"{_quoting_fault(error)}; {hint}"
        else:
            if width is not None and len(source.row) > 1:
                wrong = _swallowed(source.row, delimiter, width, len(row), hint)
        if wrong is not None:
            bad.add(source.first, wrong, None if never_closed else source.last, QuotingError)
            source.go_back()
            reader = csv.reader(source, delimiter=delimiter, strict=True)
        elif not all(is_blank(cell) for cell in row):
            width = len(row) if width is None else width
            yield source.first, row


class _Lines:
    """Lines of a file, of which those of the row that is being read can be had once more."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self._again = lines, deque[str]()
        self.first, self.row = 1, list[str]()
        """Number of the row's first line, and its lines so far."""

    def begin_row(self) -> None:
        self.first += len(self.row)
        self.row = []

    @property
    def last(self) -> int:
        return self.first + max(0, len(self.row) - 1)

    def go_back(self) -> None:
        """Read all but the row's first line once more."""
        self._again.extendleft(reversed(self.row[1:]))
        self.row = self.row[:1]

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        self.row.append(self._again.popleft() if self._again else next(self._lines))
        return self.row[-1]


def _quoting_fault(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quote opens here and is never closed"
    reason = "a carriage return" if "new-line character" in str(error) else "a quote that is not doubled"
    return f"{reason} inside a cell"


def _swallowed(lines: Sequence[str], delimiter: str, width: int, cells: int, hint: str) -> str | None:
    """What is wrong with a row of several lines; None: nothing."""
    if width > 1 and all(line.count(delimiter) == width - 1 for line in lines):
        return f"a quote makes one row of lines that each have {_count(width)}; {hint}, else double the quote"
    if cells != width:
        return f"{_other_width(cells, width)}; {hint}"
    return None


def _plain_rows(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, 1):
        if not is_blank(line):
            yield number, without_line_end(line).split(delimiter)


def _json_rows(lines: Iterator[str], columns: dict[str, None], bad: BadRows) -> Iterator[Row]:
    started = False
    for number, line in enumerate(lines, 1):
        if is_blank(line):
            continue
        if not started and line.lstrip().startswith("["):
            raise DataError(f"{bad.name}: a JSON array, not JSON lines. Write one object a line (jq -c '.[]').")
        started = True
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            bad.add(number, f"not JSON ({error})")
            continue
        if isinstance(value, dict):
            row = Row(number, cast(dict[str, object], value))
            columns.update(dict.fromkeys(row.values))
            yield row
        else:
            bad.add(number, f"a JSON {type(value).__name__} where an object was expected")


def _count(cells: int) -> str:
    return counted(cells, "column")


def _other_width(cells: int, width: int) -> str:
    return f"{_count(cells)} where {width} {'was' if width == 1 else 'were'} expected"
