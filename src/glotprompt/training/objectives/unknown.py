"""Unknown tokens and characters: how much of a text a tokenizer does not know."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerFast

from glotprompt.data.characters import CharacterMap, nearest_known
from glotprompt.errors import DataError, setting, visible
from glotprompt.model.tokens import LONG, plain, without_tokens

_CHUNK = 1000
"""Texts tokenised at once."""

MAX_LINES = 100_000
"""Largest number of counted lines; of a longer text, evenly spaced ones."""

NEGLIGIBLE, MOST_UNKNOWN = 0.001, 0.2
"""Shares of words with an unknown token: below the first no warning is needed, above the second the model cannot learn
from the text."""

_SHOWN = 5
"""Number of unknown characters named in a message."""


def knows(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], bool]:
    """A function that tells whether a spelling has no unknown token, at the start of a word and after a letter."""
    # Combining marks need a letter before them, and some vocabularies distinguish word starts.
    before = ["", "a"] if not _unknown_in(["a"], tokenizer)[0] else [""]

    def known(spelling: str) -> bool:
        return not _unknown_in([f"{letter}{spelling}" for letter in before], tokenizer)[0]

    return known


def unknown_characters(text: str, known: Callable[[str], bool], characters: CharacterMap | None) -> list[str]:
    """Characters of a text, in order, that are not `known` even after the character map."""
    apply = str if characters is None else characters.apply
    # A letter with its marks is rewritten as one; looked at alone, its marks would be unknown.
    for entry in () if characters is None else characters.rewritings:
        if all(map(known, entry.spelling)):
            text = text.replace(entry.character, " ")
    return [one for one in dict.fromkeys(text) if not one.isspace() and not all(map(known, apply(one)))]


def map_to_known(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> CharacterMap:
    """The character map from unknown characters of `texts` to the nearest known ones."""
    mapping = nearest_known(texts, knows(tokenizer))
    if not mapping.left:
        return mapping
    # A character may be unknown by itself but known wherever it occurs in these texts.
    words = list({word for text in texts for word in mapping.apply(text).split()})
    rows = tokenizer([plain(word, tokenizer) for word in words], add_special_tokens=False)["input_ids"]
    unknown = {char for word, row in zip(words, rows, strict=True) if tokenizer.unk_token_id in row for char in word}
    return replace(mapping, left=tuple(one for one in mapping.left if set(one) & unknown))


def unknown_tokens(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    """Number of unknown tokens in the texts, and of all tokens."""
    counts = [_unknown_in(texts[start : start + _CHUNK], tokenizer) for start in range(0, len(texts), _CHUNK)]
    return sum(unknown for unknown, _ in counts), sum(count for _, count in counts)


def _unknown_in(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    rows = tokenizer([plain(text, tokenizer) for text in texts], add_special_tokens=False)["input_ids"]
    return sum(row.count(tokenizer.unk_token_id) for row in rows), sum(map(len, rows))


@dataclass(frozen=True)
class UnknownCharacter:
    """A character that becomes the unknown token."""

    text: str
    """One character, or a letter with its marks, composed where Unicode has a character for them."""
    count: int
    """Number of occurrences in the counted lines."""

    @property
    def shown(self) -> str:
        """Display form: a combining mark on a dotted circle, a control character as an escape."""
        return visible(f"◌{self.text}" if unicodedata.combining(self.text[0]) else self.text)

    @property
    def code_points(self) -> str:
        return " ".join(f"U+{ord(char):04X}" for char in self.text)

    @property
    def name(self) -> str:
        """Unicode name; "no name" for a control character or an unassigned one."""
        return " + ".join(unicodedata.name(char, "no name").lower() for char in self.text)


class Vocabulary:
    """The distinct words of a text with their tokens."""

    def __init__(self, tokenizer: Any, lines: Iterable[str]) -> None:
        self.words: Counter[str] = Counter()
        for line in lines:
            self.words.update(line.split())
        self._special = [str(token) for token in tokenizer.all_special_tokens]
        self._backend, self._unknown = tokenizer.backend_tokenizer, tokenizer.unk_token_id
        self._backend.no_truncation()  # undo settings of earlier calls
        self._backend.no_padding()
        encoded = self._backend.encode_batch_fast(list(map(self._spell, self.words)), add_special_tokens=False)
        self.pieces: dict[str, int] = {}
        """Number of tokens of each word."""
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

    def _spell(self, word: str) -> str:
        """A word as it appears after another one; a literal "<unk>" stays text."""
        return f" {without_tokens(word, self._special)}"

    def unknown_characters(self) -> tuple[UnknownCharacter, ...]:
        """Characters behind the unknown tokens.

        The span of an unknown token may be longer than the unknown part: runs are joined, and WordPiece gives up the
        whole word. So only those characters of a span count that are unknown alone, or if there are none, the whole
        span as one. A span may also be too short: a tokenizer that composes characters gives only the letter's offsets,
        so its combining marks are added."""
        counts: Counter[str] = Counter()
        alone: dict[str, bool] = {}
        for word in self._with_unknown:
            spelled = self._spell(word)
            encoding = self._backend.encode(spelled, add_special_tokens=False)
            for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
                if token != self._unknown:
                    continue
                span = spelled[start:end].strip()
                for char in span:
                    if char not in alone:
                        ids = self._backend.encode(char, add_special_tokens=False).ids
                        alone[char] = self._unknown in ids
                chars = [char for char in span if alone[char]]
                if not chars:
                    while end < len(spelled) and unicodedata.combining(spelled[end]):
                        end += 1
                    chars = [unicodedata.normalize("NFC", spelled[start:end].strip())]
                for char in chars:
                    counts[char] += self.words[word]
        return tuple(UnknownCharacter(text, count) for text, count in counts.most_common())


@dataclass(frozen=True)
class Unknown:
    """Counts of unknown tokens and characters in a text."""

    num_words: int
    touched_words: int
    """Words that contain an unknown token."""
    num_tokens: int
    unknown_tokens: int
    characters: tuple[UnknownCharacter, ...]
    """The most frequent first."""

    @property
    def touched_share(self) -> float:
        """Share of words with an unknown token, 0 to 1."""
        return self.touched_words / max(1, self.num_words)

    @property
    def unknown_share(self) -> float:
        """Share of unknown tokens, 0 to 1."""
        return self.unknown_tokens / max(1, self.num_tokens)

    @property
    def matters(self) -> bool:
        return self.touched_share >= NEGLIGIBLE

    @property
    def too_much(self) -> bool:
        """Whether too much is unknown to learn from the text."""
        return self.touched_share > MOST_UNKNOWN

    @property
    def shown(self) -> str:
        """The most frequent unknown characters, with code points."""
        names = ", ".join(f"{char.shown} {char.code_points}" for char in self.characters[:_SHOWN])
        more = len(self.characters) - _SHOWN
        return f"{names} and {more} more" if more > 0 else names

    def sentence(self) -> str:
        """A sentence with both shares and the characters."""
        shares = f"{percent(self.unknown_share)} of the tokens, in {percent(self.touched_share)} of the words"
        return f"unknown to the tokenizer: {shares}{': ' + self.shown if self.characters else ''}"

    def to_dict(self) -> dict[str, Any]:
        """JSON value; the shares are named as in the doctor's report."""
        return {
            "unknown_share": self.unknown_share,
            "touched_share": self.touched_share,
            "characters": {char.text: char.count for char in self.characters},
        }


def percent(share: float) -> str:
    """A share (0 to 1) in per cent; a positive one never rounds to 0."""
    if 0 < share < 0.0001:
        return "< 0.01 %"
    return f"{100 * share:.2f} %" if share < 0.01 else f"{100 * share:.1f} %"


def unknown_in(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> Unknown:
    """Count unknown tokens of a text: in evenly spaced lines of a long text, and the beginning of long lines."""
    lines = texts[:: max(1, -(-len(texts) // MAX_LINES))]
    vocabulary = Vocabulary(tokenizer, [line[:LONG] for line in lines])
    return Unknown(
        num_words=vocabulary.num_words,
        touched_words=vocabulary.touched_words,
        num_tokens=vocabulary.num_tokens,
        unknown_tokens=vocabulary.unknown_tokens,
        characters=vocabulary.unknown_characters(),
    )


def is_near(unknown: Unknown, tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether a character map would make enough of the unknown characters known to learn from the text."""
    unmapped = map_to_known([char.text for char in unknown.characters], tokenizer).left
    stays = sum(char.count for char in unknown.characters if any(one in char.text for one in unmapped))
    total = sum(char.count for char in unknown.characters)
    return total > 0 and unknown.touched_share * stays / total <= MOST_UNKNOWN


def refuse_unknown(name: str, unknown: Unknown, tokenizer: PreTrainedTokenizerFast) -> None:
    """Raise `DataError` if too much of a text, called `name`, is unknown, with a remedy that fits its characters."""
    if not unknown.too_much:
        return
    remedy = "take a byte-level backbone (ByT5) or one with a larger vocabulary, or romanise the text"
    if is_near(unknown, tokenizer):
        remedy = f"write known ones in their place ({setting('characters')})"
    elif unknown.characters:
        remedy = f"nothing that it knows is near them: {remedy}"
    raise DataError(
        f"{percent(unknown.touched_share)} of the words of {name} have characters unknown to the tokenizer"
        f"{f' ({unknown.shown})' if unknown.characters else ''}; above {100 * MOST_UNKNOWN:.0f} % a model cannot learn"
        f" from it; {remedy}, or train anyway with {setting('allow_unknown', 'True')}"
    )
