"""Odd tables: quotes, delimiters, encodings, columns, NULs and bytes, drawn at random.

    python tests/fuzz/tables.py [COUNT] [SEED]

Each is read strictly and with bad rows skipped. Nothing but a `UserError` may come out, and what is read and what is
said to be lost add up to the lines that are there.
"""

from __future__ import annotations

import contextlib
import random
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from glotprompt.data.readers.files import read_examples, read_texts
from glotprompt.data.readers.records import Example
from glotprompt.data.readers.tables import ReadOptions
from glotprompt.errors import UserError

CELLS = (
    "bhora nhasi", "", " ", '"', 'a "b" c', '"whole"', '"open', 'close"', '""', "a,b", "a;b", "a|b", "tab\there", "1.0",
    "\u00a0", "e\u0301", "ñandu", "日本", "\u2028", "\ufeff", "[1]", '{"text": 1}', "x" * 3000, "\\", "'", "#",
)  # fmt: skip
LABELS = ("sports", "health", "sprots", "", "1", '"sports"')
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1")
NOISE = (b"\x00", b"\xff", b"\xc3", b"\r", b'"', b"\n", b"\xef\xbb\xbf", b"\t")


def odd_table(draw: random.Random, folder: Path) -> Path:
    """A file."""
    ending, delimiter = draw.choice((*[("tsv", "\t"), ("csv", ",")] * 4, ("csv", ";"), ("tsv", "|"), ("tsv", ",")))
    usual = ["text", "label"]
    header = draw.choice((*[usual] * 6, [*usual, ""], ["label", "text"], ["text", *usual], ["a"]))
    rows = [[draw.choice(CELLS) for _ in header] for _ in range(draw.randrange(12))]
    for row in rows:
        if "label" in header:
            row[header.index("label")] = draw.choice(LABELS)
        if draw.random() < 0.1:
            row.append("more")
    end = draw.choice(("\n", "\r\n"))
    text = end.join(delimiter.join(row) for row in [header, *rows]) + draw.choice(("", end))
    data = text.encode(draw.choice(ENCODINGS) if draw.random() < 0.3 else "utf-8", "replace")
    for _ in range(draw.choice((0, 0, 0, 1, 3))):
        place = draw.randrange(len(data) + 1)
        data = data[:place] + draw.choice(NOISE) + data[place:]
    path = folder / f"t.{ending}"
    path.write_bytes(data)
    return path


def read(path: Path, quoting: str, said: list[str], **how: str) -> list[Example] | UserError:
    """The examples, or the error that says why there are none."""
    options: Any = {**how, "quoting": quoting, "report": said.append}
    try:
        return read_examples(path, labels=["sports", "health"], options=ReadOptions(**options))
    except UserError as error:
        return error


def check(path: Path, quoting: str) -> bool:
    """Whether something was read. Raises what is no `UserError`; `AssertionError` where rows are lost in silence."""
    said: list[str] = []
    strict, kept = read(path, quoting, []), read(path, quoting, said, on_bad_row="skip")
    for one in (strict, kept):
        assert not isinstance(one, UserError) or "\n" not in str(one)
    if isinstance(kept, UserError):
        assert isinstance(strict, UserError), f"read strictly, but not with bad rows skipped: {kept}"
        return False
    counts = [re.search(r": ([\d,]+) bad rows? skipped", sentence) for sentence in said]
    lost = sum(int(found[1].replace(",", "")) for found in counts if found)
    spanned = sum(example.fields["text"].count("\n") for example in kept)
    assert isinstance(strict, UserError) or (strict == kept and not lost)
    lines = path.read_bytes().split(b"\n")[1:]
    if path.read_bytes().isascii():
        blank = sum(not line.strip(b' \r\t,;|"') for line in lines)
        there = len(lines) - blank
        assert there <= len(kept) + lost + spanned <= len(lines), (len(kept), lost, spanned, blank, len(lines))
    return True


def main(count: int = 500, seed: int = 0) -> int:
    """Checks so many tables, each also as lines of text; of how many something was read."""
    draw, num_read = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            path = odd_table(draw, Path(name))
            try:
                num_read += check(path, draw.choice(("csv", "csv", "none")))
                with contextlib.suppress(UserError):
                    read_texts(path, options=ReadOptions(format="txt"))
            except Exception:
                print(f"table {number} of seed {seed}: {path.read_bytes()[:400]!r}", file=sys.stderr)
                raise
    return num_read


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])), "of the tables gave something")
