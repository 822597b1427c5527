"""Reader of parallel text: from tables, from two line-aligned files, or from a dataset by name. `pairs.check_pairs`
filters it for training."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from glotprompt.data.datasets import catalog
from glotprompt.data.readers.layout import read_aligned
from glotprompt.data.readers.lines import is_blank, name_of, read_option
from glotprompt.data.readers.normalise import normalise
from glotprompt.data.readers.records import Pair
from glotprompt.data.readers.tables import USUAL, ReadOptions, Row, Table, format_of, read_table
from glotprompt.errors import ConfigError, DataError

_SIDES = ("source", "target")


def read_parallel(
    sources: str | Path | Sequence[str | Path],
    *,
    data_dir: str | Path | None = None,
    revision: str | None = None,
    options: ReadOptions = USUAL,
) -> list[Pair]:
    """Every pair in its order, repeats and pairs with a blank side included, of

    - tables (.tsv, .csv, .jsonl, each also with .gz, or .parquet): the columns "source" and "target". A tsv or csv of
      two columns without such a header is pairs from its first line;
    - references such as bible_verses:glv, mafand:lug or americasnlp2021:aym (`data_dir` and `revision` are for these);
    - exactly two files of plain text, first the source language's, line by line.

    Ids are a dataset's own; pairs of files have none. `options` say how files are read.
    """
    names = [sources] if isinstance(sources, str | Path) else list(sources)
    if not names:
        raise ConfigError("No parallel text was given. Expected a table, a reference, or two files of plain text.")
    references = [catalog.parse_reference(str(word)) for word in names]
    plain = [
        word
        for word, reference in zip(names, references, strict=True)
        if reference is None and format_of(word, options) == "txt"
    ]
    if plain:
        _expect_two(names, plain)
        pairs = read_aligned(names[0], names[1], options.encoding)
    else:
        pairs = list[Pair]()
        for word, reference in zip(names, references, strict=True):
            if reference is None:
                pairs += _table_pairs(word, options)
            else:
                pairs += reference.dataset.pairs(
                    reference.language,
                    reference.split or "train",
                    data_dir,
                    revision=revision,
                    on_bad_row=options.on_bad_row,
                    report=options.report,
                )
    if not options.normalise:
        return pairs
    return [Pair(normalise(pair.source), normalise(pair.target), pair.id) for pair in pairs]


def _expect_two(names: Sequence[str | Path], plain: Sequence[str | Path]) -> None:
    if len(plain) == len(names) == 2:
        return
    raise DataError(
        f"{name_of(plain[0])}: plain text by its ending, and {len(plain)} of {len(names)} given are."
        " Expected two such files and nothing else, first the source language's and then the target's, line by line; or"
        f" tables of two columns (.tsv, .csv, .jsonl or .parquet; {read_option('format')} for another ending)."
    )


def _table_pairs(source: str | Path, options: ReadOptions) -> list[Pair]:
    table = read_table(source, options)
    sides: Collection[str] = _SIDES
    pairs: list[Pair] = []
    if _is_headless(table, source, options):
        # The first line was read as a header, but is the first pair.
        sides = table.columns
        pairs.append(Pair(*sides))
        if options.report is not None:
            options.report(
                f"{table.name}: no header line with {' and '.join(_SIDES)}, so its two columns are these, and the first"
                " line is a pair"
            )
    for column in sides:
        table.require(column)
    for row in table.rows:
        cells = [_cell(row, column) for column in sides]
        if None in cells:
            table.bad.add(row.line, f"a value that is not text in the columns {' and '.join(sides)}")
        else:
            pairs.append(Pair(cells[0] or "", cells[1] or ""))
    table.bad.finish(len(pairs), "pairs")
    return pairs


def _is_headless(table: Table[tuple[Row, ...]], source: str | Path, options: ReadOptions) -> bool:
    """Whether a tsv or csv has no header: two cells in its first line, neither of which names a side."""
    written = options.columns is None and format_of(source, options) in ("tsv", "csv")
    return written and len(table.columns) == 2 and set(_SIDES).isdisjoint(table.columns)


def _cell(row: Row, column: str) -> str | None:
    """The text of a cell, "" if it is empty; None for a value that is not text."""
    value = row.values.get(column)
    if value is None or (isinstance(value, str) and is_blank(value)):
        return ""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can write half a character: "\ud800"
        return None
    return value
