"""What a text is to a tokenizer: scripts, sub-words, unknown characters, repetition, foreign lines. No torch."""

from __future__ import annotations

import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any

from glotprompt.data.normalise import script_of

MAX_LINES = 100_000
"""Of a longer text so many lines, evenly spaced, are counted; its lines and duplicates are counted in full."""

SHORT_WORDS = 3
"""A line of fewer words is very short."""

FOREIGN_WORDS, FOREIGN_SHARE = 3, 0.25
"""A line is taken for one of a reference language when so many different function words of it stand in the line, and
they are at least this share of its words. Measured in docs/doctor.md."""

UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Scripts without a space between words."""


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


@dataclass(frozen=True)
class TextStatistics:
    """Counts over a text. A word is what stands between white space, punctuation included."""

    num_lines: int
    num_unique: int
    """Different lines, spaces aside."""
    num_counted: int
    """Lines that the following figures are of (`MAX_LINES`)."""
    num_words: int
    num_tokens: int
    """Sub-words, special tokens not included."""
    num_characters: int
    """Without white space."""
    unknown_tokens: int
    """How often the model reads "unknown"; a run of unknown characters is one."""
    touched_words: int
    """Words with an unknown token in them."""
    unknown: tuple[UnknownCharacter, ...]
    """The commonest first."""
    scripts: Mapping[str, float]
    """Unicode's name of the script, in capitals -> share of the letters, the largest first."""
    line_tokens: tuple[int, ...]
    """Sub-words of each counted line."""
    num_short: int
    """Lines of fewer than `SHORT_WORDS` words."""
    num_other_script: int
    """Lines most of whose words have no letter of the main script."""
    foreign: Mapping[str, int]
    """Reference language's code -> lines taken for it."""

    @property
    def pieces_per_word(self) -> float:
        return self.num_tokens / max(1, self.num_words)

    @property
    def unknown_share(self) -> float:
        """Of the tokens, 0 to 1."""
        return self.unknown_tokens / max(1, self.num_tokens)

    @property
    def touched_share(self) -> float:
        """Of the words, 0 to 1."""
        return self.touched_words / max(1, self.num_words)

    @property
    def duplicate_share(self) -> float:
        """Lines that repeat an earlier one, 0 to 1."""
        return (self.num_lines - self.num_unique) / max(1, self.num_lines)

    @property
    def spaced(self) -> bool:
        """Whether words are told apart by spaces in the main script."""
        return next(iter(self.scripts), "") not in UNSPACED


@dataclass(frozen=True)
class Reference:
    """A language that multilingual models have read."""

    name: str
    sentences: tuple[str, ...]
    function_words: frozenset[str]


@cache
def references() -> dict[str, Reference]:
    """ISO 639-3 code -> the languages of assets/references.toml."""
    path = files("glotprompt") / "assets" / "references.toml"
    found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        code: Reference(entry["name"], tuple(entry["sentences"]), frozenset(entry["function_words"].split()))
        for code, entry in found.items()
    }


def reference_pieces(tokenizer: Any) -> dict[str, float]:
    """Code -> sub-words per word of each reference language."""
    return {
        code: Vocabulary(tokenizer, reference.sentences).pieces_per_word for code, reference in references().items()
    }


def statistics_of(lines: Sequence[str], tokenizer: Any) -> TextStatistics:
    """Count a text. Each different word is encoded once: a pre-tokenizer that splits at spaces (XLM-R, mBERT, mmBERT)
    makes the same sub-words of it wherever it stands."""
    step = max(1, -(-len(lines) // MAX_LINES))
    counted = lines[::step]
    seen = Vocabulary(tokenizer, counted)
    split = [line.split() for line in counted]
    characters = Counter(chain.from_iterable(chain.from_iterable(split)))
    letters: Counter[str] = Counter()
    for char, count in characters.items():
        script = script_of(char)
        if script:
            letters[script] += count
    total = max(1, letters.total())
    scripts = {name: count / total for name, count in letters.most_common()}
    return TextStatistics(
        num_lines=len(lines),
        num_unique=len({" ".join(line.split()) for line in lines}),
        num_counted=len(counted),
        num_words=seen.num_words,
        num_tokens=seen.num_tokens,
        num_characters=characters.total(),
        unknown_tokens=seen.unknown_tokens,
        touched_words=seen.touched_words,
        unknown=seen.unknown_characters(),
        scripts=scripts,
        line_tokens=tuple(sum(map(seen.pieces.__getitem__, words)) for words in split),
        num_short=sum(len(words) < SHORT_WORDS for words in split),
        num_other_script=_lines_in_other_scripts(split, seen.words, next(iter(scripts), "")),
        foreign=foreign_lines(split, seen.words),
    )


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


def _lines_in_other_scripts(split: Sequence[list[str]], words: Iterable[str], main: str) -> int:
    """Lines of which more than half of the words have letters, but none of the main script."""
    other: set[str] = set()
    for word in words:
        found = {script_of(char) for char in word} - {""}
        if found and main not in found:
            other.add(word)
    return sum(2 * sum(word in other for word in line) > len(line) for line in split) if other else 0


def foreign_lines(split: Sequence[list[str]], words: Iterable[str]) -> dict[str, int]:
    """Code -> lines that read like a reference language by its function words; the commonest language first."""
    known: dict[str, list[tuple[str, str]]] = {}
    for word in words:
        bare = word.casefold().strip('.,;:!?"“”‘’«»()[]¡¿…-–—')
        spoken = [(code, bare) for code, reference in references().items() if bare in reference.function_words]
        if spoken:
            known[word] = spoken
    found: Counter[str] = Counter()
    for line in split:
        hits: dict[str, list[str]] = {}
        for word in line:
            for code, bare in known.get(word, ()):
                hits.setdefault(code, []).append(bare)
        best = max(hits, key=lambda code: len(hits[code]), default=None)
        if best is not None and _reads_like(hits[best], len(line)):
            found[best] += 1
    return dict(found.most_common())


def _reads_like(hits: list[str], num_words: int) -> bool:
    # Words of two letters alone are words of many languages: Lingala's na, ya and wa are Swahili's too.
    different = set(hits)
    longer = any(len(word) > 2 for word in different)
    return longer and len(different) >= FOREIGN_WORDS and len(hits) >= FOREIGN_SHARE * num_words
