"""The lines of a cached text, read from disk when they are wanted: what stage 1 draws its sequences from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glotprompt.config import identity_of
from glotprompt.data.characters import CharacterMap
from glotprompt.model.tokens import Sequences, SpecialIds
from glotprompt.train.batches import pack
from glotprompt.train.characters import Unknown

HELD_OUT_SEQUENCES = 2000
"""No more sequences than this are held out of a cached text: of a gigabyte, 5 % would take longer to score than the
training."""

NUMBER = np.dtype(np.uint64).newbyteorder("<")
"""How places and hashes are written."""
_CHUNK = 2**20
"""Hashes that are read at once."""


@dataclass(frozen=True)
class TokenText:
    """The lines of a cached text. Like a list of texts it can be given to stage 1; its tokens are read when wanted."""

    key: str
    """What it holds: two texts with one key have the same tokens."""
    num_texts: int
    """Texts that were read, those without any token among them."""
    special: SpecialIds
    characters: CharacterMap | None
    """What was rewritten before tokenising."""
    tokens: NDArray[Any] = field(repr=False)
    """All lines, each closed by the separator; uint16 or uint32, mapped into memory."""
    ends: NDArray[Any] = field(repr=False)
    """The place behind each line's separator."""
    notes: dict[str, Any]
    """What was noted when the text was read; JSON values."""
    hashes: Path
    """File of what each line says, one `NUMBER` per line."""
    unknown: Unknown | None = field(default=None, repr=False)
    """What the tokenizer does not know of it, where that was counted on lines of the text."""
    left_out: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64), repr=False)
    """Sorted numbers of the lines that are not used: the held-out ones."""

    def __len__(self) -> int:
        return self.num_texts - len(self.left_out)

    @property
    def num_lines(self) -> int:
        """Lines with tokens, the left-out ones too."""
        return len(self.ends)

    def line(self, number: int) -> NDArray[np.int64]:
        """The tokens of one line, without the separator."""
        first, end = self.span(number)
        return np.asarray(self.tokens[first : end - 1], dtype=np.int64)

    def sequences(self, max_length: int, packing: str) -> Sequences:
        """As `batches.token_sequences` of the lines that are used, made when they are asked for."""
        if packing == "none":
            return _SingleLines(self, max_length)
        return _PackedLines(self, max_length)

    def split(self, share: float, seed: int, max_length: int, packing: str) -> tuple[TokenText, HeldOut]:
        """What is trained on and what is held out: about `share` of the lines, at most `HELD_OUT_SEQUENCES` sequences.
        A line's hash decides, so equal lines stay on one side."""
        size = (max_length - 2) * self.num_lines / max(1, len(self.tokens)) if packing == "full" else 1.0
        count = max(1, round(min(share * self.num_lines, HELD_OUT_SEQUENCES * size)))
        held = self._draw_lines(count, seed)
        lines = [self.line(int(number)) for number in held]
        return replace(self, left_out=held), HeldOut(lines, self.special)

    def _draw_lines(self, count: int, seed: int) -> NDArray[np.int64]:
        """Sorted numbers of about `count` lines, whole groups of equal ones in the order of their mixed hashes."""
        # Twice as many as are wanted, for groups that are too large to fit; of a small text all.
        limit = min(1.0, (2 * count + 1000) / max(1, self.num_lines))
        numbers, values = self._lines_below(limit, seed)
        if len(np.unique(values)) < 2:  # nearly all lines say the same
            numbers, values = self._lines_below(1.0, seed)
        order = np.lexsort((numbers, values))
        numbers, values = numbers[order], values[order]
        groups = np.split(numbers, np.flatnonzero(np.diff(values)) + 1) if len(numbers) else []
        if len(groups) < 2:
            return np.empty(0, np.int64)
        held: list[NDArray[np.int64]] = []
        room = min(count, self.num_lines - 1)
        for group in groups:
            if len(group) <= room:
                held.append(group)
                room -= len(group)
        return np.sort(np.concatenate(held or [min(groups, key=len)]))

    def _lines_below(self, limit: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Numbers and mixed hashes of the share `limit` of the lines whose mixed hashes are lowest."""
        numbers: list[NDArray[np.int64]] = []
        values: list[NDArray[np.uint64]] = []
        highest = np.uint64(min(2**64 - 1, int(limit * 2**64)))
        for start in range(0, self.num_lines, _CHUNK):
            mixed = _mixed(np.fromfile(self.hashes, NUMBER, _CHUNK, offset=start * NUMBER.itemsize), seed)
            chosen = np.flatnonzero(mixed <= highest)
            numbers.append(chosen + start)
            values.append(mixed[chosen])
        return np.concatenate(numbers or [np.empty(0, np.int64)]), np.concatenate(values or [np.empty(0, np.uint64)])

    def span(self, number: int) -> tuple[int, int]:
        """Where a line and its separator lie among all tokens."""
        return int(self.ends[number - 1]) if number else 0, int(self.ends[number])


@dataclass(frozen=True)
class HeldOut:
    """Held-out lines, in memory."""

    lines: list[NDArray[np.int64]]
    special: SpecialIds

    def __len__(self) -> int:
        return len(self.lines)

    def sequences(self, max_length: int, packing: str) -> Sequences:
        """As `batches.token_sequences` of these lines."""
        return pack([line.tolist() for line in self.lines], self.special, max_length, packing)


class _SingleLines(Sequence[NDArray[np.int64]]):
    """Packing "none": one line each, cut at `max_length`."""

    def __init__(self, text: TokenText, max_length: int) -> None:
        self._text, self._room = text, max_length - 2
        # Line number = place among the lines that are used + left-out lines before it.
        self._places = text.left_out - np.arange(len(text.left_out))

    def __len__(self) -> int:
        return self._text.num_lines - len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        line = self._text.line(place + int(np.searchsorted(self._places, place, side="right")))
        special = self._text.special
        return np.concatenate([[special.first], line[: self._room], [special.last]])


class _PackedLines(Sequence[NDArray[np.int64]]):
    """Packing "full": the lines in order, each closed by the separator, cut into pieces of `max_length`."""

    def __init__(self, text: TokenText, max_length: int) -> None:
        self._text, self._room = text, max_length - 2
        spans = np.array([text.span(int(number)) for number in text.left_out], dtype=np.int64).reshape(-1, 2)
        self._gaps = spans[:, 0]
        self._gone = np.concatenate([[0], np.cumsum(spans[:, 1] - spans[:, 0])])
        # Where each gap lies in the stream of the lines that are used.
        self._places = self._gaps - self._gone[:-1]
        self._size = len(text.tokens) - int(self._gone[-1])

    def __len__(self) -> int:
        whole, rest = divmod(self._size, self._room)
        return max(whole, min(1, rest))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index] * self._room
        end = min(place + self._room, self._size)
        parts: list[Any] = [[self._text.special.first]]
        while place < end:
            gap = int(np.searchsorted(self._places, place, side="right"))
            stop = min(end, int(self._places[gap])) if gap < len(self._places) else end
            gone = int(self._gone[gap])
            parts.append(self._text.tokens[place + gone : stop + gone])
            place = stop
        return np.concatenate([*parts, [self._text.special.last]]).astype(np.int64)


def _mixed(hashes: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Another hash for every seed (the finaliser of SplitMix64)."""
    mixed = hashes ^ np.uint64(int(identity_of(["held-out", seed]), 16))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
