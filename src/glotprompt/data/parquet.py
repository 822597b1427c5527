"""Rows of parquet files, by pyarrow, which is an optional part."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from glotprompt.data.lines import name_of, opened
from glotprompt.errors import DataError, MissingExtraError

_ROWS_AT_ONCE = 1024


def read_parquet(source: str | Path) -> tuple[tuple[str, ...], Iterator[Mapping[str, object]]]:
    """A file's columns, and its rows as they are asked for: cells by column, of whatever type the file has."""
    rows = _rows(source)
    first = next(rows)  # what comes first is the empty row, with all columns
    return tuple(first), rows


def _rows(source: str | Path) -> Iterator[Mapping[str, object]]:
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise MissingExtraError(f"Reading {name_of(source)}, a parquet file,", "parquet") from None
    with opened(source) as stream:
        try:
            # Parquet is read from its end, which a pipe does not have.
            file = parquet.ParquetFile(io.BytesIO(stream.read()) if str(source) == "-" else stream)
            yield dict.fromkeys(file.schema_arrow.names)
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                yield from batch.to_pylist()
        except (ValueError, OSError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise DataError(f"{name_of(source)}: not a whole parquet file ({reason}). Fetch it again.") from None
