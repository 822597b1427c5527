"""What a tokenizer knows of a text's characters."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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
    return nearest_known(texts, knows(tokenizer))


def unknown_tokens(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    """How many of the texts' tokens stand for something unknown, and how many tokens there are."""
    found = [_unknown_in(texts[start : start + _CHUNK], tokenizer) for start in range(0, len(texts), _CHUNK)]
    return sum(unknown for unknown, _ in found), sum(count for _, count in found)


def _unknown_in(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    rows = tokenizer([plain(text, tokenizer) for text in texts], add_special_tokens=False)["input_ids"]
    return sum(row.count(tokenizer.unk_token_id) for row in rows), sum(map(len, rows))


@dataclass(frozen=True)
class UnknownCharacter:
    """What the tokenizer turns into its unknown token."""

    text: str
    """One character, or several that the tokenizer's normaliser makes one."""
    count: int
    """Occurrences in the counted lines."""

    @property
    def shown(self) -> str:
        """The text, a mark that wants a letter under it on a dotted circle."""
        return f"◌{self.text}" if unicodedata.combining(self.text[0]) else self.text

    @property
    def code_points(self) -> str:
        return " ".join(f"U+{ord(char):04X}" for char in self.text)

    @property
    def name(self) -> str:
        """Unicode's name; "no name" for a control character or one without assignment."""
        return " + ".join(unicodedata.name(char, "no name").lower() for char in self.text)


class Vocabulary:
    """The different words of a text and what the tokenizer makes of each."""

    def __init__(self, tokenizer: Any, lines: Iterable[str]) -> None:
        self.words: Counter[str] = Counter()
        for line in lines:
            self.words.update(line.split())
        self._special = [str(token) for token in tokenizer.all_special_tokens]
        self._backend, self._unknown = tokenizer.backend_tokenizer, tokenizer.unk_token_id
        self._backend.no_truncation()  # whatever the last call of the tokenizer asked for
        self._backend.no_padding()
        encoded = self._backend.encode_batch_fast(list(map(self._spelled, self.words)), add_special_tokens=False)
        self.pieces: dict[str, int] = {}
        """Word -> its number of sub-words."""
        self._with_unknown: dict[str, int] = {}
        for word, encoding in zip(self.words, encoded, strict=True):
            ids: list[int] = encoding.ids
            self.pieces[word] = len(ids)
            if self._unknown in ids:
                self._with_unknown[word] = ids.count(self._unknown)
        self.num_words = self.words.total()
        self.num_tokens = sum(count * self.pieces[word] for word, count in self.words.items())
        self.unknown_tokens = sum(self.words[word] * times for word, times in self._with_unknown.items())
        self.touched_words = sum(self.words[word] for word in self._with_unknown)

    @property
    def pieces_per_word(self) -> float:
        return self.num_tokens / max(1, self.num_words)

    def _spelled(self, word: str) -> str:
        """A word as it stands behind another; a literal "<unk>" in a text is text."""
        for token in self._special:
            if token in word:
                word = word.replace(token, f"{token[0]} {token[1:]}")
        return f" {word}"

    def unknown_characters(self) -> tuple[UnknownCharacter, ...]:
        """Which characters the unknown tokens stand for.

        An unknown token's span may be longer than what is unknown in it: runs are joined, and WordPiece gives up the
        whole word. So of a span those characters count that are unknown by themselves, else all of it as one."""
        found: Counter[str] = Counter()
        alone: dict[str, bool] = {}
        for word in self._with_unknown:
            spelled = self._spelled(word)
            encoding = self._backend.encode(spelled, add_special_tokens=False)
            for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
                if token != self._unknown:
                    continue
                span = spelled[start:end].strip()
                for char in span:
                    if char not in alone:
                        ids = self._backend.encode(char, add_special_tokens=False).ids
                        alone[char] = self._unknown in ids
                for char in [char for char in span if alone[char]] or [span]:
                    found[char] += self.words[word]
        return tuple(UnknownCharacter(text, count) for text, count in found.most_common())
