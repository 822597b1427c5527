"""Token ids: which are special, how rows of unequal length become one array, and text that stays text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

LENGTH_STEP = 16
"""Padded lengths are rounded up to a multiple of this: every new shape costs the CPU a new compiled kernel."""

LONG = 2**14
"""Characters up to which a text is tokenised whole."""
MARGIN = 128
"""Tokens that must follow those that are wanted of a beginning: more than the 100 characters beyond which WordPiece
takes a word for unknown, so that such a word is cut nowhere that matters."""

_AFTER_A_WORD = re.compile(r"(?<=\S) ")

Sequences = Sequence[NDArray[np.int64]]
"""Ids with special tokens."""


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
    return without_tokens(text, tokenizer.all_special_tokens)


def without_tokens(text: str, special: Sequence[str]) -> str:
    """As `plain`, where the special tokens have been looked up."""
    for token in special:
        if token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def beginning(text: str, tokenizer: PreTrainedTokenizerFast, count: int) -> str:
    """The beginning of `text` whose first `count` tokens are those of the whole text, which need not be tokenised.

    Exact: a tokenizer that splits at spaces never looks across one. Any other (and a text without spaces) has the end
    of a token somewhere in as many characters as its longest token, and up to there its tokens are those of the part
    that ends there (Viterbi's best path, merges of pairs, longest match first). So where the parts that end at each of
    these characters begin alike, the whole begins as they do; where they do not, more is taken, at last all.
    """
    if len(text) <= LONG:
        return text
    size = 4 * (count + MARGIN)
    while 2 * size * len(ends := _ends(text, size, tokenizer)) <= len(text):  # else the whole is as cheap
        starts: set[tuple[int, ...]] = set()
        for end in ends:
            tokens = tokenizer(text[:end], add_special_tokens=False, verbose=False)["input_ids"]
            starts.add(tuple(tokens[:count]))
            if len(starts) > 1 or len(tokens) < count + MARGIN:
                break
        else:
            return text[: ends[-1]]
        size *= 2
    return text


def _ends(text: str, size: int, tokenizer: PreTrainedTokenizerFast) -> Sequence[int]:
    """Where parts of about `size` characters may end, of which one ends with a token of the whole text."""
    space = _AFTER_A_WORD.search(text, size, 2 * size)
    if space is not None and _splits_at_spaces(tokenizer):
        return [space.start()]
    return range(size, size + _longest_token(tokenizer))


@lru_cache(maxsize=8)
def _splits_at_spaces(tokenizer: PreTrainedTokenizerFast) -> bool:
    backend: Any = tokenizer.backend_tokenizer
    text = "a b" if backend.normalizer is None else backend.normalizer.normalize_str("a b")
    return backend.pre_tokenizer is not None and len(backend.pre_tokenizer.pre_tokenize_str(text)) > 1


@lru_cache(maxsize=8)
def _longest_token(tokenizer: PreTrainedTokenizerFast) -> int:
    return max(map(len, tokenizer.get_vocab()))


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
