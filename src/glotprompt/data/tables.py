"""Bytes to lines to rows: decoding, line ends and quoting, for every file that the package reads.

Lines end in \\n or \\r\\n and nothing else. `str.splitlines` also cuts at U+2028 and its kin, which occur inside
real articles, so it is never used; and a quoted cell may itself hold newlines, so a row knows the line it starts on.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from glotprompt.errors import ConfigError, DataError, nearest

Format = Literal["txt", "tsv", "csv", "jsonl"]
Quoting = Literal["csv", "none"]
OnBadRow = Literal["error", "skip"]

# Articles are longer than csv's own limit for a cell (131,072 characters). A C long on Windows has 32 bits.
_CELL_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a file; the defaults suit a UTF-8 file whose ending tells its format."""

    format: Format | None = None
    """None: told by the file's ending."""

    delimiter: str | None = None
    """None: a tab for tsv, a comma for csv."""

    quoting: Quoting = "csv"
    """"csv": cells may be quoted, quotes inside are doubled. "none": a quote is a character like any other."""

    columns: tuple[str, ...] | None = None
    """Names of the columns of a table that has no header line."""

    encoding: str = "utf-8"
    on_bad_row: OnBadRow = "error"
    report: Callable[[str], None] | None = None
    """Told, in one sentence per file, how many rows were skipped."""

    def __post_init__(self) -> None:
        _expect("format", self.format, (None, *get_args(Format)))
        _expect("quoting", self.quoting, get_args(Quoting))
        _expect("on_bad_row", self.on_bad_row, get_args(OnBadRow))
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ConfigError(f"delimiter is {self.delimiter!r}; expected one character such as ';' or a tab.")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    line: int
    """The physical line it starts on, from 1."""

    values: Mapping[str, object]
    """Cells by column. Strings, except in JSON lines, where a value may be anything."""


@dataclass(frozen=True, slots=True)
class Table:
    """A file's rows, with what is needed to speak of them in an error."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    bad: BadRows

    def require(self, column: str, option: str) -> None:
        """Raises when `column`, which the caller named with `option`, is not there."""
        if column not in self.columns:
            raise DataError(
                f"{self.name}: no column {column!r}.{nearest(column, self.columns)} It has: "
                f"{', '.join(self.columns)}. Name the right one with {option}=, or, when the file has no header "
                "line, name them all with columns=."
            )


class BadRows:
    """What happens to a row that cannot be used: an error at once, or a count that is reported at the end."""

    def __init__(self, name: str, options: ReadOptions) -> None:
        self.name = name
        self._options = options
        self._count = 0
        self._first = ""

    def add(self, line: int, reason: str, last_line: int | None = None) -> None:
        """Takes note of a bad row; raises unless bad rows are to be skipped."""
        where = f"line {line}" if last_line in (None, line) else f"lines {line}-{last_line}"
        if self._options.on_bad_row == "error":
            raise DataError(f'{self.name}, {where}: {reason}. Mend the row, or pass on_bad_row="skip".')
        self._count += 1
        self._first = self._first or f"{where}: {reason}"

    def finish(self, used: int, expected: str) -> None:
        """Reports what was skipped; raises when nothing is left."""
        if used == 0:
            why = f"all {self._count} rows are bad, the first at {self._first}" if self._count else "it is empty"
            raise DataError(f"{self.name}: no {expected} in it ({why}). Expected at least one.")
        if self._count and self._options.report is not None:
            rows = "row" if self._count == 1 else "rows"
            self._options.report(f"{self.name}: {self._count} bad {rows} skipped (the first at {self._first})")


def format_of(source: str | Path, options: ReadOptions) -> Format:
    """The format asked for, or the one that the ending tells; any ending that is not a table's is plain text."""
    if options.format is not None:
        return options.format
    suffixes = [suffix.lower() for suffix in Path(source).suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    ending = suffixes[-1].removeprefix(".") if suffixes else ""
    if ending in ("tsv", "csv"):
        return cast(Format, ending)
    return "jsonl" if ending in ("jsonl", "ndjson") else "txt"


def name_of(source: str | Path) -> str:
    """How messages call the source."""
    return "standard input" if str(source) == "-" else str(source)


def is_blank(text: str) -> bool:
    """Whether there is nothing to read: only spaces (also NBSP) and invisible characters (also U+FEFF)."""
    return all(char.isspace() or unicodedata.category(char) in ("Cc", "Cf") for char in text)


def read_lines(source: str | Path, encoding: str = "utf-8") -> list[str]:
    """The physical lines of a file, or of standard input for "-", with their ends, without a BOM at the start."""
    name, data = name_of(source), _read_bytes(source)
    try:
        text = data.decode(encoding)
    except LookupError:
        raise ConfigError(f"encoding={encoding!r} is not known; expected a name such as utf-8 or cp1252.") from None
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        line = data.count(b"\n", 0, start) + 1
        other = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"
        raise DataError(
            f"{name}, line {line}: not {encoding} (at byte {start}). "
            f'Save the file as UTF-8, or pass its encoding, for example encoding="{other}".'
        ) from None
    nul = text.find("\0")
    if nul >= 0:
        line = text.count("\n", 0, nul) + 1
        raise DataError(
            f"{name}, line {line}: a NUL character, so this is not UTF-8 text. "
            'Expected text; if it is UTF-16, pass encoding="utf-16".'
        )
    # newline="\n": no translation, and no other character ends a line.
    return io.StringIO(text.removeprefix("\ufeff"), newline="\n").readlines()


def read_table(source: str | Path, options: ReadOptions) -> Table:
    """The rows of a tsv, csv or JSON-lines file. Blank lines are passed over."""
    kind, name = format_of(source, options), name_of(source)
    if kind == "txt":
        raise DataError(
            f"{name}: not a table by its ending. Expected .tsv, .csv or .jsonl (also .gz), or pass format=."
        )
    lines = read_lines(source, options.encoding)
    bad = BadRows(name, options)
    if kind == "jsonl":
        rows = tuple(_json_rows(lines, bad))
        # A dict for its order: the columns as they first occur.
        columns = tuple(dict.fromkeys(column for row in rows for column in row.values))
        if not rows:
            bad.finish(0, "rows")
        return Table(name, columns, rows, bad)
    delimiter = options.delimiter or ("\t" if kind == "tsv" else ",")
    cells = _quoted_rows(lines, delimiter, bad) if options.quoting == "csv" else _plain_rows(lines, delimiter)
    columns = options.columns
    if columns is None:
        header = next(cells, None)
        if header is None:
            raise DataError(f"{name}: empty. Expected a header line with the columns' names, then rows.")
        columns = tuple(cell.strip() for cell in header[2])
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise DataError(f"{name}: the column {repeated[0]!r} occurs twice in the header. Rename one of them.")
    return Table(name, columns, tuple(_named(cells, columns, bad)), bad)


def _named(cells: Iterator[tuple[int, int, list[str]]], columns: Sequence[str], bad: BadRows) -> Iterator[Row]:
    for first, last, row in cells:
        if len(row) == len(columns):
            yield Row(first, dict(zip(columns, row, strict=True)))
        else:
            bad.add(first, f"{_count(len(row))} where {len(columns)} were expected", last)


def _quoted_rows(lines: list[str], delimiter: str, bad: BadRows) -> Iterator[tuple[int, int, list[str]]]:
    """(first line, last line, cells) by csv's rules, read strictly: a stray quote is an error where it stands."""
    csv.field_size_limit(max(csv.field_size_limit(), _CELL_LIMIT))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    hint = 'if quotes mean nothing in this file, pass quoting="none"'
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                # Never skipped: everything after the quote would be lost with it.
                raise DataError(f"{bad.name}, line {first}: a quote opens here and is never closed; {hint}.") from None
            reason = "a carriage return" if "new-line character" in str(error) else "a quote that is not doubled"
            bad.add(first, f"{reason} inside a cell; {hint}", reader.line_num)
            continue
        if not all(is_blank(cell) for cell in row):
            yield first, reader.line_num, row


def _plain_rows(lines: list[str], delimiter: str) -> Iterator[tuple[int, int, list[str]]]:
    for number, line in enumerate(lines, 1):
        if not is_blank(line):
            yield number, number, without_line_end(line).split(delimiter)


def _json_rows(lines: list[str], bad: BadRows) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if is_blank(line):
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            bad.add(number, f"not JSON ({error})")
            continue
        if isinstance(value, dict):
            yield Row(number, cast(dict[str, object], value))
        else:
            bad.add(number, f"a JSON {type(value).__name__} where an object was expected")


def without_line_end(line: str) -> str:
    r"""The line without its one \n or \r\n."""
    return line.removesuffix("\n").removesuffix("\r") if line.endswith("\n") else line


def _count(cells: int) -> str:
    return "1 column" if cells == 1 else f"{cells} columns"


def _read_bytes(source: str | Path) -> bytes:
    if str(source) == "-":
        return sys.stdin.buffer.read()
    path = Path(source)
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix.lower() == ".gz" else data
    except FileNotFoundError:
        near = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise DataError(f"{source}: no such file.{near} Expected the path of a file of text.") from None
    except IsADirectoryError:
        raise DataError(f"{source}: a folder. Expected a file of text; name the files in it.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{source}: not a whole gzip file. Expected one by its ending; fetch it again.") from None
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}). Check the path and its rights.") from None


def _expect(option: str, value: str | None, choices: Sequence[str | None]) -> None:
    if value not in choices:
        names = [choice for choice in choices if choice is not None]
        raise ConfigError(f"{option}={value!r} is not known.{nearest(str(value), names)} Expected {', '.join(names)}.")
