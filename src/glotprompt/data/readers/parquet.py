"""Reader of parquet files, by pyarrow (optional)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from glotprompt.data.readers.lines import name_of, opened
from glotprompt.errors import DataError, MissingExtraError

_ROWS_AT_ONCE = 1024


class NotText:
    """A cell whose bytes are not UTF-8."""


def read_parquet(source: str | Path) -> tuple[tuple[str, ...], Iterator[Sequence[object]]]:
    """Column names of a file, and a lazy iterator over its rows, with cells of any type."""
    rows = _rows(source)
    return tuple(map(str, next(rows))), rows


def _rows(source: str | Path) -> Iterator[Sequence[object]]:
    """Yield the column names, then every row."""
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise MissingExtraError(f"Reading {name_of(source)}, a parquet file,", "parquet") from None
    with opened(source) as stream:
        try:
            # Parquet is read from its end, which a pipe does not have.
            file = parquet.ParquetFile(io.BytesIO(stream.read()) if str(source) == "-" else stream)
            yield file.schema_arrow.names
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                yield from zip(*map(_cells, batch.columns), strict=True)
        except (ValueError, OSError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise DataError(f"{name_of(source)}: not a whole parquet file ({reason}). Fetch it again.") from None


def _cells(column: Any) -> list[object]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_cell(value) for value in column]


def _cell(value: Any) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return NotText()
