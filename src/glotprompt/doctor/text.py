"""Statistics of a text: scripts, sub-words, unknown characters, repeated and foreign lines. No torch."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any

from glotprompt.data.characters import nearest_known
from glotprompt.data.readers.normalise import UNSPACED, script_of
from glotprompt.data.readers.records import text_key
from glotprompt.doctor.markup import markup_lines, mojibake_lines
from glotprompt.model.tokens import is_byte_level
from glotprompt.training.objectives.unknown import MAX_LINES, UnknownCharacter, Vocabulary, knows

SHORT_WORDS = 3
"""Number of words below which a line is very short."""

FOREIGN_WORDS, FOREIGN_SHARE = 3, 0.25
"""A line counts as a reference language if it has so many different function words of it, and they are at least this
share of its words. Measured in docs/doctor.md."""


@dataclass(frozen=True)
class TextStatistics:
    """Counts over a text. A word is a run of characters between white space, punctuation included."""

    num_lines: int
    num_unique: int
    """Distinct lines after folding white space (`records.text_key`)."""
    num_counted: int
    """Lines behind the following figures (`MAX_LINES`)."""
    num_words: int
    num_tokens: int
    """Sub-words, special tokens not included."""
    num_characters: int
    """Without white space."""
    unknown_tokens: int
    """Number of unknown tokens; a run of unknown characters is one token."""
    touched_words: int
    """Words that contain an unknown token."""
    unknown: tuple[UnknownCharacter, ...]
    """Unknown characters, most frequent first."""
    far: tuple[UnknownCharacter, ...]
    """Unknown characters without a similar known one, so that no character map can help."""
    scripts: Mapping[str, float]
    """Unicode's name of the script, in capitals -> share of the letters, largest first."""
    line_tokens: tuple[int, ...]
    """Sub-words of each counted line."""
    num_short: int
    """Lines of fewer than `SHORT_WORDS` words."""
    num_other_script: int
    """Lines most of whose words have no letter of the main script."""
    foreign: Mapping[str, int]
    """Code of a reference language -> lines that look like it."""
    markup: Mapping[str, int]
    """Kind of mark-up (`markup.KINDS`) -> lines of it, most frequent first."""
    num_mojibake: int
    """Lines with UTF-8 that was read as Latin-1 or cp1252."""
    mojibake: tuple[str, str]
    """The most frequent case, and the correct text."""
    is_byte_level: bool = False
    """Whether the tokenizer reads bytes, so that no character is unknown."""

    @property
    def pieces_per_word(self) -> float:
        return self.num_tokens / max(1, self.num_words)

    @property
    def unknown_share(self) -> float:
        """Unknown tokens, as a share of all tokens."""
        return self.unknown_tokens / max(1, self.num_tokens)

    @property
    def touched_share(self) -> float:
        """Words with an unknown token, as a share of all words."""
        return self.touched_words / max(1, self.num_words)

    @property
    def duplicate_share(self) -> float:
        """Lines that equal an earlier one after folding white space, as a share of all lines."""
        return (self.num_lines - self.num_unique) / max(1, self.num_lines)

    @property
    def spaced(self) -> bool:
        """Whether the main script separates words by spaces."""
        return next(iter(self.scripts), "") not in UNSPACED


@dataclass(frozen=True)
class Reference:
    """A pre-training language of multilingual models."""

    name: str
    sentences: tuple[str, ...]
    function_words: frozenset[str]


@cache
def references() -> dict[str, Reference]:
    """The languages of assets/references.toml by ISO 639-3 code."""
    path = files("glotprompt") / "assets" / "references.toml"
    entries: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    return {
        code: Reference(entry["name"], tuple(entry["sentences"]), frozenset(entry["function_words"].split()))
        for code, entry in entries.items()
    }


def reference_pieces(tokenizer: Any) -> dict[str, float]:
    """Sub-words per word of each reference language, by code."""
    return {
        code: Vocabulary(tokenizer, reference.sentences).pieces_per_word for code, reference in references().items()
    }


def statistics_of(lines: Sequence[str], tokenizer: Any) -> TextStatistics:
    """Count a text. Each distinct word is encoded once: a pre-tokenizer that splits at spaces (XLM-R, mBERT, mmBERT)
    gives it the same sub-words everywhere."""
    step = max(1, -(-len(lines) // MAX_LINES))
    sample = lines[::step]
    vocabulary = Vocabulary(tokenizer, sample)
    line_words = [line.split() for line in sample]
    characters = Counter(chain.from_iterable(chain.from_iterable(line_words)))
    letters: Counter[str] = Counter()
    for char, count in characters.items():
        script = script_of(char)
        if script:
            letters[script] += count
    total = max(1, letters.total())
    scripts = {name: count / total for name, count in letters.most_common()}
    unknown = vocabulary.unknown_characters()
    num_mojibake, mojibake = mojibake_lines(sample)
    return TextStatistics(
        num_lines=len(lines),
        num_unique=len({text_key(line) for line in lines}),
        num_counted=len(sample),
        num_words=vocabulary.num_words,
        num_tokens=vocabulary.num_tokens,
        num_characters=characters.total(),
        unknown_tokens=vocabulary.unknown_tokens,
        touched_words=vocabulary.touched_words,
        unknown=unknown,
        far=_far(unknown, tokenizer),
        scripts=scripts,
        line_tokens=tuple(sum(map(vocabulary.pieces.__getitem__, words)) for words in line_words),
        num_short=sum(len(words) < SHORT_WORDS for words in line_words),
        num_other_script=_lines_in_other_scripts(line_words, vocabulary.words, next(iter(scripts), "")),
        foreign=foreign_lines(line_words, vocabulary.words),
        markup=markup_lines(sample),
        num_mojibake=num_mojibake,
        mojibake=mojibake,
        is_byte_level=is_byte_level(tokenizer),
    )


def _far(unknown: Sequence[UnknownCharacter], tokenizer: Any) -> tuple[UnknownCharacter, ...]:
    """The unknown characters that stay unknown after a character map."""
    if not unknown:
        return ()
    is_known = knows(tokenizer)
    near = nearest_known([char.text for char in unknown], is_known)
    return tuple(char for char in unknown if not is_known(near.apply(char.text)))


def _lines_in_other_scripts(line_words: Sequence[list[str]], words: Iterable[str], main: str) -> int:
    """Number of lines in which more than half of the words have letters, but none of the main script."""
    other: set[str] = set()
    for word in words:
        scripts = {script_of(char) for char in word} - {""}
        if scripts and main not in scripts:
            other.add(word)
    return sum(2 * sum(word in other for word in line) > len(line) for line in line_words) if other else 0


def foreign_lines(line_words: Sequence[list[str]], words: Iterable[str]) -> dict[str, int]:
    """Number of lines that look like a reference language by function words, by code, most frequent first."""
    languages_of: dict[str, list[tuple[str, str]]] = {}
    for word in words:
        bare = word.casefold().strip('.,;:!?"“”‘’«»()[]¡¿…-–—')
        matches = [(code, bare) for code, reference in references().items() if bare in reference.function_words]
        if matches:
            languages_of[word] = matches
    counts: Counter[str] = Counter()
    for line in line_words:
        hits: dict[str, list[str]] = {}
        for word in line:
            for code, bare in languages_of.get(word, ()):
                hits.setdefault(code, []).append(bare)
        best = max(hits, key=lambda code: len(hits[code]), default=None)
        if best is not None and _reads_like(hits[best], len(line)):
            counts[best] += 1
    return dict(counts.most_common())


def _reads_like(hits: list[str], num_words: int) -> bool:
    # Two-letter words alone are no evidence: Lingala's na, ya and wa are Swahili's too.
    distinct = set(hits)
    longer = any(len(word) > 2 for word in distinct)
    return longer and len(distinct) >= FOREIGN_WORDS and len(hits) >= FOREIGN_SHARE * num_words
