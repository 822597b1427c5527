"""Reader of tables: quoting, headers and bad rows, for every table that the package reads.

Tables are read row by row and need not fit in memory. A quoted cell may contain newlines, so a row records the line it
starts on.
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
"""Number of bad rows reported one by one; the others are counted."""


def or_skip() -> str:
    """End of a message about a bad row."""
    return f", or pass {read_option('on_bad_row', 'skip')}."


class QuotingError(DataError):
    """A quote breaks csv's rules, so perhaps quotes have no meaning in this file."""


def _expect(field: str, value: str | None, choices: Sequence[str | None]) -> None:
    if value not in choices:
        names = [choice for choice in choices if choice is not None]
        option = setting(field, str(value))
        raise ConfigError(f"{option} is not known.{nearest(str(value), names)} Expected {', '.join(names)}.")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Options for reading a user's files; the defaults suit UTF-8 files with a known ending."""

    format: Format | None = None
    """Format; None: by the file's ending."""

    delimiter: str | None = None
    """Delimiter; None: a tab for tsv, a comma for csv."""

    quoting: Quoting = "csv"
    """"csv": cells may be quoted, quotes inside are doubled. "none": a quote is a character like any other."""

    columns: Sequence[str] | None = None
    """Column names of a table without header line."""

    encoding: str | None = None
    """Encoding; None: by byte-order mark (UTF-8, UTF-16, UTF-32), else UTF-8."""

    on_bad_row: OnBadRow = "error"
    """"error": a row that cannot be used is an error. "skip": it is left out, and `report` is told."""

    normalise: bool = False
    """Whether texts are cleaned by `normalise.normalise`."""

    report: Callable[[str], None] | None = None
    """Called with one sentence at a time about skipped rows and repeated texts."""

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
"""Default options."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    line: int
    """Physical line it starts on, from 1; in parquet the row number."""

    values: Mapping[str, object]
    """Cells by column: strings, but values of any type in JSON lines and parquet."""


_Rows = TypeVar("_Rows", bound=Iterable[Row])


@dataclass(frozen=True, slots=True)
class Table(Generic[_Rows]):
    """Rows of a file, with the information for error messages."""

    name: str
    columns: Collection[str]
    """Column names; in JSON lines those of the rows read so far."""
    rows: _Rows
    bad: BadRows
    repeated: Collection[str] = ()
    """Names of several columns; the second column "text" is "text (2)" in `columns`."""
    has_header: bool = True
    """Whether the first line names the columns; not in JSON lines and parquet."""

    def require(self, column: str, option: str | None = None) -> None:
        """Raise if `column`, which `option` named (None: which is always called so), is missing or occurs twice."""
        if column in self.repeated:
            headless = f", or, when the file has no header line, name the columns with {read_option('columns')}"
            headless *= self.has_header
            raise DataError(f"{self.name}: the column {column!r} occurs twice. Rename one of them{headless}.")
        if column not in self.columns:
            if several := looks_like_several(self.name, self.columns, "\t;|,"):
                raise DataError(f"{several}.")
            headless = f", or, when the file has no header line, name them all with {read_option('columns')}"
            headless *= self.has_header
            named = f"the word {column} in the header line" if option is None else setting(option)
            raise DataError(
                f"{self.name}: no column {column!r}.{nearest(column, self.columns)} It has: "
                f"{', '.join(self.columns)}. Name the right one with {named}{headless}."
            )


class BadRows:
    """Handler of bad rows: raises an error at once, or reports and counts them."""

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
        remedy: str = "Fix the row",
    ) -> None:
        """Record a bad row; raises an `error` unless bad rows are skipped. Of a row of several lines only the first is
        lost."""
        position = f"{self._unit} {line}" if last_line in (None, line) else f"{self._unit}s {line}-{last_line}"
        if self._options.on_bad_row == "error":
            stop = "" if reason.endswith("?") else "."
            raise error(f"{self.name}, {position}: {reason}{stop} {remedy}{or_skip()}")
        self._count += 1
        self._first = self._first or f"{position}: {reason}"
        if self._count <= _LISTED:
            lost = "" if last_line in (None, line) else f"line {line} "
            self._report(f"{self.name}, {position}: {reason}; {lost}skipped")

    def finish(self, used: int, expected: str) -> None:
        """Report the number of skipped rows; raises if none remains."""
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
    """The message for a file whose only column name contains a delimiter; None for any other file."""
    column = next(iter(columns)) if len(columns) == 1 else ""
    separator = next((delimiter for delimiter in delimiters if delimiter in column), None)
    if separator is None:
        return None
    remedy = read_option("delimiter", separator)
    return f"{name}: one column only, whose name {column!r} looks like several. Pass {remedy}"


def format_of(source: str | Path, options: ReadOptions) -> Format:
    """Format by the options, or by the file's ending; an unknown ending is plain text, except .json, which is
    refused."""
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
    """Read the rows of a tsv, csv, JSON-lines or parquet file. Blank lines are skipped."""
    table = open_table(source, options)
    rows = tuple(table.rows)
    if not rows and not table.columns:
        table.bad.finish(0, "rows")
    return Table(table.name, tuple(table.columns), rows, table.bad, table.repeated, table.has_header)


def open_table(source: str | Path, options: ReadOptions) -> Table[Iterator[Row]]:
    """`read_table` with rows that are read lazily. The columns are known at once, except in JSON lines, where they are
    those of the rows read so far."""
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
        keys: dict[str, None] = {}  # a dict for its order: the columns as they first occur
        return Table(name, keys.keys(), _json_rows(lines, keys, bad), bad, has_header=False)
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
    return Table(name, columns, _to_rows(cells, columns, bad), bad, repeated)


def _distinct(names: Sequence[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Unique column names, and the original names that occur several times."""
    counts = Counter[str]()
    columns: list[str] = []
    for name in names:
        counts[name] += 1
        columns.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return tuple(columns), frozenset(name for name, times in counts.items() if times > 1)


def _to_rows(cells: Iterator[tuple[int, list[str]]], columns: Sequence[str], bad: BadRows) -> Iterator[Row]:
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
    """Rows as (first line, cells) by strict csv rules: a stray quote is an error at its line.
    `columns` as in `ReadOptions`; None: the first row has them.

    An unintended quote makes one row of many lines. If that shows, only the first line of the row is bad, and reading
    continues at the next line."""
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
                wrong = _fault_of_long_row(source.row, delimiter, width, len(row), hint)
        if wrong is not None:
            bad.add(source.first, wrong, None if never_closed else source.last, QuotingError)
            source.go_back()
            reader = csv.reader(source, delimiter=delimiter, strict=True)
        elif not all(is_blank(cell) for cell in row):
            width = len(row) if width is None else width
            yield source.first, row


class _Lines:
    """Iterator over lines that can go back to the second line of the current row."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self._again = lines, deque[str]()
        self.first, self.row = 1, list[str]()
        """Number of the row's first line; lines of the row so far."""

    def begin_row(self) -> None:
        self.first += len(self.row)
        self.row = []

    @property
    def last(self) -> int:
        return self.first + max(0, len(self.row) - 1)

    def go_back(self) -> None:
        """Put back all lines of the row except the first."""
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


def _fault_of_long_row(lines: Sequence[str], delimiter: str, width: int, cells: int, hint: str) -> str | None:
    """The fault of a row of several lines; None if there is none."""
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
