"""What a tokenizer knows of a text's characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerFast

from glotprompt.data.characters import CharacterMap, nearest_known
from glotprompt.model.tokens import plain

_CHUNK = 1000
"""Texts that are tokenised at once."""


def knows(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], bool]:
    """From a spelling to whether it becomes tokens of its own, both at the start of a word and behind a letter."""
    # A combining mark means something only behind a letter, and some vocabularies tell starts of words from the rest.
    before = ["", "a"] if not _unknown_in(["a"], tokenizer)[0] else [""]

    def known(spelling: str) -> bool:
        return not _unknown_in([f"{letter}{spelling}" for letter in before], tokenizer)[0]

    return known


def map_to_known(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> CharacterMap:
    """The map from characters of `texts` that the tokenizer does not know to the nearest that it knows."""
    found = nearest_known(texts, knows(tokenizer))
    if not found.left:
        return found
    # A character may be unknown by itself and known wherever it stands in these texts.
    words = list({word for text in texts for word in found.apply(text).split()})
    rows = tokenizer([plain(word, tokenizer) for word in words], add_special_tokens=False)["input_ids"]
    unknown = {char for word, row in zip(words, rows, strict=True) if tokenizer.unk_token_id in row for char in word}
    return replace(found, left=tuple(one for one in found.left if set(one) & unknown))


def unknown_tokens(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    """How many of the texts' tokens stand for something unknown, and how many tokens there are."""
    found = [_unknown_in(texts[start : start + _CHUNK], tokenizer) for start in range(0, len(texts), _CHUNK)]
    return sum(unknown for unknown, _ in found), sum(count for _, count in found)


def _unknown_in(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    rows = tokenizer([plain(text, tokenizer) for text in texts], add_special_tokens=False)["input_ids"]
    return sum(row.count(tokenizer.unk_token_id) for row in rows), sum(map(len, rows))
