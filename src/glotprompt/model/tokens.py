"""Token ids: special tokens, padding, batches by length, and escaping of special tokens in text."""

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
"""Padded lengths are multiples of this: on a CPU every new shape compiles a new kernel."""

LONG = 2**14
"""Texts up to this many characters are tokenised whole."""
MARGIN = 128
"""Tokens that must follow the requested ones of a beginning: more than the 100 characters beyond which WordPiece maps a
word to the unknown token, so that cutting such a word does no harm."""

_AFTER_A_WORD = re.compile(r"(?<=\S) ")

Sequences = Sequence[NDArray[np.int64]]
"""Token ids of texts, with special tokens."""


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the special tokens, without the unknown token, which stands for text."""

    first: int
    last: int
    mask: int
    pad: int
    all: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> SpecialIds:
        """The special ids of a tokenizer, whose attributes have no reliable types."""
        first, last, mask, pad_id = (int(str(getattr(tokenizer, f"{name}_token_id"))) for name in NEEDED)
        others = {int(token) for token in tokenizer.all_special_ids if token != tokenizer.unk_token_id}
        return cls(first, last, mask, pad_id, tuple(sorted(others)))


NEEDED = ("cls", "sep", "mask", "pad")
"""Required special tokens, by their names in transformers."""


def missing_tokens(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Required special tokens that a tokenizer lacks."""
    return [name for name in NEEDED if getattr(tokenizer, f"{name}_token_id") is None]


def plain(text: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """`text` with special tokens broken up, so that a literal "<mask>" stays text."""
    return without_tokens(text, tokenizer.all_special_tokens)


def without_tokens(text: str, special: Sequence[str]) -> str:
    """`plain`, for given special tokens."""
    for token in special:
        if token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def beginning(text: str, tokenizer: PreTrainedTokenizerFast, count: int) -> str:
    """A beginning of `text` with the same first `count` tokens as the whole text, without tokenising all of it.

    Exact: a tokenizer that splits at spaces never looks across one. For any other tokenizer (and text without spaces)
    some token ends within as many characters as the longest token has, and the tokens up to there are those of the part
    that ends there (Viterbi's best path, pair merges, longest match first). So if the parts that end at each of these
    characters have the same first tokens, the whole text has them too; if not, a longer part is tried, finally all.
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
    """Possible ends of a part of about `size` characters; at least one is a token boundary of the whole text."""
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
    """Pad to one [batch, seq] array, with its mask (1 text, 0 padding); no mask for sequences of equal length."""
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
    """Width of a padded batch whose longest sequence has this many tokens."""
    return -(-longest // LENGTH_STEP) * LENGTH_STEP


def by_length(sequences: Sequences, batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first (so that memory runs out at once, if at all)."""
    order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
