"""What a text is to a tokenizer: scripts, sub-words, unknown characters, repetition, foreign lines. No torch."""

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
from glotprompt.data.readers.normalise import script_of
from glotprompt.doctor.markup import markup_lines, mojibake_lines
from glotprompt.training.objectives.unknown import MAX_LINES, UnknownCharacter, Vocabulary, knows

SHORT_WORDS = 3
"""A line of fewer words is very short."""

FOREIGN_WORDS, FOREIGN_SHARE = 3, 0.25
"""A line is taken for one of a reference language when so many different function words of it stand in the line, and
they are at least this share of its words. Measured in docs/doctor.md."""

UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Scripts without a space between words."""


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
    far: tuple[UnknownCharacter, ...]
    """Those to which nothing known is near, so that no character map can help."""
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
    markup: Mapping[str, int]
    """Kind of mark-up (`markup.KINDS`) -> lines that have it, the commonest first."""
    num_mojibake: int
    """Lines with UTF-8 that was read as Latin-1 or cp1252."""
    mojibake: tuple[str, str]
    """The commonest of it, and what it stands for."""

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
    unknown = seen.unknown_characters()
    num_mojibake, mojibake = mojibake_lines(counted)
    return TextStatistics(
        num_lines=len(lines),
        num_unique=len({" ".join(line.split()) for line in lines}),
        num_counted=len(counted),
        num_words=seen.num_words,
        num_tokens=seen.num_tokens,
        num_characters=characters.total(),
        unknown_tokens=seen.unknown_tokens,
        touched_words=seen.touched_words,
        unknown=unknown,
        far=_far(unknown, tokenizer),
        scripts=scripts,
        line_tokens=tuple(sum(map(seen.pieces.__getitem__, words)) for words in split),
        num_short=sum(len(words) < SHORT_WORDS for words in split),
        num_other_script=_lines_in_other_scripts(split, seen.words, next(iter(scripts), "")),
        foreign=foreign_lines(split, seen.words),
        markup=markup_lines(counted),
        num_mojibake=num_mojibake,
        mojibake=mojibake,
    )


def _far(unknown: Sequence[UnknownCharacter], tokenizer: Any) -> tuple[UnknownCharacter, ...]:
    """Those of the unknown characters that are still unknown when each is rewritten as near as can be."""
    if not unknown:
        return ()
    known = knows(tokenizer)
    near = nearest_known([char.text for char in unknown], known)
    return tuple(char for char in unknown if not known(near.apply(char.text)))


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
