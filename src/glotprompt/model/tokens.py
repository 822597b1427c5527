"""Token ids: which are special, how rows of unequal length become one array, and text that stays text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

LENGTH_STEP = 16
"""Padded lengths are rounded up to a multiple of this: every new shape costs the CPU a new compiled kernel."""

Sequences = Sequence[NDArray[np.int64]]
"""Ids with special tokens: a list, or what reads them from disk."""


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the tokens that are not text. `unk` counts as text: it stands for some."""

    first: int
    last: int
    mask: int
    pad: int
    all: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> SpecialIds:
        """Look them up; the tokenizer's own attributes may hold anything, as far as types go."""
        first, last, mask, pad_id = (int(str(getattr(tokenizer, f"{name}_token_id"))) for name in NEEDED)
        others = {int(token) for token in tokenizer.all_special_ids if token != tokenizer.unk_token_id}
        return cls(first, last, mask, pad_id, tuple(sorted(others)))


NEEDED = ("cls", "sep", "mask", "pad")
"""The special tokens without which nothing can be read, as transformers calls them."""


def missing_tokens(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Which of them a tokenizer lacks."""
    return [name for name in NEEDED if getattr(tokenizer, f"{name}_token_id") is None]


def plain(text: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """`text` with the spelling of special tokens broken up, so that a literal "<mask>" in it stays text."""
    for token in tokenizer.all_special_tokens:
        if token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def pad(sequences: Sequences, pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """One [batch, seq] array and its mask (1 text, 0 padding); no mask when all sequences are equally long."""
    longest = max(len(sequence) for sequence in sequences)
    if all(len(sequence) == longest for sequence in sequences):
        return np.stack(sequences), None
    width = padded_width(longest)
    input_ids = np.full((len(sequences), width), pad_id, dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for row, sequence in enumerate(sequences):
        input_ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return input_ids, mask


def padded_width(longest: int) -> int:
    """Width of a padded batch whose longest sequence has so many tokens."""
    return -(-longest // LENGTH_STEP) * LENGTH_STEP


def by_length(sequences: Sequences, batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first (so that a lack of memory shows at once)."""
    order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
