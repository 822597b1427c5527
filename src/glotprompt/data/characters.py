"""Character maps, which rewrite characters unknown to a tokenizer to similar known ones.

A `CharacterMap` is an ordered table, applied entry by entry and inverted in the opposite order. An entry is reversible
if its spelling occurs nowhere else in the text that the map was made from; then every line of that text is restored
exactly, except lines with a character of an irreversible entry.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glotprompt.data.readers.files import read_mapping
from glotprompt.errors import DataError

_GLOTTAL = "a glottal stop or apostrophe"
_LETTER = "a letter of the same shape or sound"
_SIGN = "a sign of the same shape"
_MARK = "a mark of the same shape, or written beside its letter"
_LOOK_ALIKES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    _GLOTTAL: dict.fromkeys("ꞌꞋʔʼʻˀˈʾʿɁɂ’‘‛′ʹ", ("ʼ", "’", "'")) | dict.fromkeys("ʕˁ", ("ʻ", "‘", "`")),
    _LETTER: {
        "ɨ": ("i",), "Ɨ": ("I",), "ʉ": ("u",), "Ʉ": ("U",), "ə": ("e",), "Ə": ("E",), "ɛ": ("e",), "Ɛ": ("E",),
        "ɔ": ("o",), "Ɔ": ("O",), "ɩ": ("i",), "Ɩ": ("I",), "ʊ": ("u",), "Ʊ": ("U",), "ʋ": ("v",), "Ʋ": ("V",),
        "ı": ("i",), "ŋ": ("ng", "n"), "Ŋ": ("Ng", "N"), "ɲ": ("ny", "n"), "Ɲ": ("Ny", "N"), "ɓ": ("b",), "Ɓ": ("B",),
        "ɗ": ("d",), "Ɗ": ("D",), "ɖ": ("d",), "Ɖ": ("D",), "ƙ": ("k",), "Ƙ": ("K",), "ƴ": ("y",), "Ƴ": ("Y",),
        "ɣ": ("gh", "g"), "Ɣ": ("Gh", "G"), "ƒ": ("f",), "Ƒ": ("F",), "ɬ": ("lh", "l"), "ʃ": ("sh", "s"),
        "ʒ": ("zh", "z"), "ø": ("o",), "Ø": ("O",), "ł": ("l",), "Ł": ("L",), "đ": ("d",), "Đ": ("D",), "ħ": ("h",),
        "Ħ": ("H",), "ŧ": ("t",), "Ŧ": ("T",), "ƀ": ("b",), "Ƀ": ("B",), "ǥ": ("g",), "Ǥ": ("G",), "ɇ": ("e",),
        "Ɇ": ("E",), "ß": ("ss",), "æ": ("ae",), "Æ": ("Ae",), "œ": ("oe",), "Œ": ("Oe",), "ð": ("d",), "þ": ("th",),
    },
    _SIGN: {
        **dict.fromkeys("ː꞉", (":",)), **dict.fromkeys("‐‑‒–—―−˗", ("-",)), **dict.fromkeys("“”„‟«»", ('"',)),
        "ǀ": ("|", "/"), "ǁ": ("||", "//"), "ǃ": ("!",), "ǂ": ("=",), "…": ("...",), "•": ("*",), "●": ("*",),
    },
    _MARK: {
        "\u0300": ("`",), "\u0301": ("'",), "\u0302": ("^",), "\u0303": ("~",), "\u0304": ("-",), "\u0306": ("^",),
        "\u0307": (".",), "\u0308": (":",), "\u030a": ("°", "o"), "\u030b": ('"',), "\u030c": ("^",), "\u0323": (".",),
        "\u0324": ("\u0308", ":"), "\u0325": ("°", "o"), "\u0327": (",",), "\u0328": (",",), "\u0329": ("\u0323", "."),
        "\u032d": ("^",), "\u0330": ("~",), "\u0331": ("_",), "\u0320": ("\u0331", "_"), "\u0332": ("\u0331", "_"),
        "\u0335": ("-",), "\u0336": ("-",), "\u0337": ("/",), "\u0338": ("/",),
    },
}  # fmt: skip
"""Reason -> character -> spellings, the nearest first. Only characters that Unicode does not decompose are listed."""

_SMALL = "its small letter"

_SECOND = "'`^~_-*"
"""Second characters that distinguish a rewritten letter from the plain one if no similar spelling is free."""


@dataclass(frozen=True, slots=True)
class Rewriting:
    """One entry: a character (or a letter with its combining marks) and its new spelling."""

    character: str
    spelling: str
    reason: str
    reversible: bool
    """Whether the spelling occurs nowhere else in the text that the map was made from."""


@dataclass(frozen=True)
class CharacterMap:
    """Ordered rewritings that are applied before a text is tokenised."""

    rewritings: tuple[Rewriting, ...]
    left: tuple[str, ...] = ()
    """Unknown characters without a similar known one; they stay."""

    @classmethod
    def fitted(
        cls, table: Mapping[str, str], texts: Sequence[str], reasons: Mapping[str, str] | None = None
    ) -> CharacterMap:
        """The map of a table character -> spelling; `texts` decide which entries are reversible. Raises `DataError` for
        an entry without effect or with an empty side, and for a spelling that would be rewritten again."""
        _refuse_unclear(table)
        text = "\n".join(texts)
        entries: list[Rewriting] = []
        for character, spelling in table.items():
            free = all(spelling != other.spelling for other in entries) and _free(character, spelling, text)
            entries.append(Rewriting(character, spelling, (reasons or {}).get(character, "given"), free))
            text = text.replace(character, spelling)
        return cls(tuple(entries))

    def apply(self, text: str) -> str:
        """Rewrite a text for the tokenizer."""
        for entry in self.rewritings:
            text = text.replace(entry.character, entry.spelling)
        return text

    def invert(self, text: str) -> str:
        """Restore a rewritten text, as far as the entries are reversible."""
        for entry in reversed(self.rewritings):
            if entry.reversible:
                text = text.replace(entry.spelling, entry.character)
        return text

    def to_dict(self) -> dict[str, Any]:
        """JSON value of the map."""
        rows = [[entry.character, entry.spelling, entry.reason, entry.reversible] for entry in self.rewritings]
        return {"rewritings": rows, "left": list(self.left)}

    @classmethod
    def from_dict(cls, metadata: Mapping[str, Any]) -> CharacterMap:
        """The map of a value from `to_dict`. Raises `DataError` as `fitted` does."""
        table = {character: spelling for character, spelling, _, _ in metadata["rewritings"]}
        if len(table) != len(metadata["rewritings"]):
            raise DataError("a character map rewrites a character twice; create it again")
        _refuse_unclear(table)
        return cls(tuple(Rewriting(*row) for row in metadata["rewritings"]), tuple(metadata["left"]))

    @classmethod
    def in_file(cls, metadata: Mapping[str, Any]) -> CharacterMap | None:
        """The map in a file's metadata; older files have none."""
        stored = metadata.get("characters")
        return None if stored is None else cls.from_dict(stored)

    @classmethod
    def load(cls, path: str | Path, texts: Sequence[str] = ()) -> CharacterMap:
        """The map of a TOML or JSON file of character = spelling; see `fitted` for `texts` and errors."""
        table = read_mapping(path, "a TOML or JSON file of character = spelling")
        if not all(isinstance(spelling, str) for spelling in table.values()):
            raise DataError(f'{path}: expected a spelling in quotes for every character, for example "ꞌ" = "\'"')
        try:
            return cls.fitted(table, texts)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def nearest_known(texts: Sequence[str], known: Callable[[str], bool]) -> CharacterMap:
    """The map that rewrites every character of `texts` that is not `known` to a similar spelling that is.

    A capital becomes its small letter if that is known, which is not reversible. Otherwise these are tried in order:
    Unicode's decomposition, the look-alikes of this module, the letter with its marks written beside it, the letter
    alone, its capital. The first free one is used; if none is free, the first with a second character that makes it
    free; else the first, which is not reversible.
    """
    text = "\n".join(texts)
    table: dict[str, str] = {}
    reasons: dict[str, str] = {}
    left: list[str] = []
    characters, staying = _unknown(text, known)
    for units in ("characters", "clusters"):
        for character in characters if units == "characters" else _unknown_clusters(text, known, left):
            spelling, reason = _choose(character, text, table.values(), known)
            if not spelling:
                left.append(character)
                continue
            table[character], reasons[character] = spelling, reason
            text = text.replace(character, spelling)
    return CharacterMap(CharacterMap.fitted(table, texts, reasons).rewritings, (*left, *staying))


def _choose(character: str, text: str, spellings: Collection[str], known: Callable[[str], bool]) -> tuple[str, str]:
    """Spelling and reason for one character, by the rules of `nearest_known`; both "" if nothing is similar."""
    near: dict[str, str] = {}
    for spelling, reason in _near(character):
        if spelling not in near and known(spelling):
            near[spelling] = reason
    nearest = next(iter(near), "")
    if near.get(nearest) == _SMALL:
        return nearest, _SMALL
    for spelling, reason in near.items():
        if spelling not in spellings and _free(character, spelling, text):
            return spelling, reason
    for spelling, reason in near.items():
        for marked in (spelling + second for second in _SECOND):
            if marked not in spellings and _free(character, marked, text) and known(marked):
                return marked, f"{reason}, made free by a second character"
    return nearest, near.get(nearest, "")


def name_of(character: str) -> str:
    """Code points and Unicode name, such as "U+A78C LATIN SMALL LETTER SALTILLO"."""
    return " + ".join(f"U+{ord(one):04X} {unicodedata.name(one, 'without a name')}" for one in character)


def _unknown(text: str, known: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """The unknown characters that can be rewritten everywhere, the most frequent first; and those that cannot, because
    they are unknown alone but known in a cluster (a tokenizer that composes sees another character)."""
    counts, clusters = Counter(text), _clusters(text)
    unknown = [character for character in counts if not character.isspace() and not known(character)]
    composed = {part for cluster in clusters if len(cluster) > 1 and known(cluster) for part in cluster}
    alone = Counter(counts)
    for cluster, count in clusters.items():
        for part in cluster if len(cluster) > 1 else "":
            alone[part] -= count
    unknown.sort(key=lambda character: (-counts[character], character))
    return [one for one in unknown if one not in composed], [
        one for one in unknown if one in composed and alone[one] > 0
    ]


def _unknown_clusters(text: str, known: Callable[[str], bool], left: Collection[str]) -> list[str]:
    """Unknown clusters of a letter with marks; longer ones first, as a letter with two marks contains that with one."""
    counts = _clusters(text)
    unknown = [one for one in counts if len(one) > 1 and not set(one) & set(left) and not known(one)]
    return sorted(unknown, key=lambda cluster: (-len(cluster), -counts[cluster], cluster))


def _clusters(text: str) -> Counter[str]:
    """Letters with their combining marks, and marks without a letter, counted."""
    marks = "".join(re.escape(one) for one in set(text) if unicodedata.combining(one))
    return Counter(re.findall(f"[^{marks}\\s]?[{marks}]+", text)) if marks else Counter()


def _near(character: str) -> Iterator[tuple[str, str]]:
    """Similar spellings of a character with the reason, the nearest first."""
    if character.lower() != character:
        yield character.lower(), _SMALL
    parts = unicodedata.normalize("NFKD", character)
    if parts != character:
        yield parts, "decomposed"
    for reason, group in _LOOK_ALIKES.items():
        for spelling in group.get(character, ()):
            yield spelling, reason
    letters = "".join(part for part in parts if not unicodedata.combining(part))
    if letters and letters != parts:
        yield "".join(_LOOK_ALIKES[_MARK].get(part, (part,))[-1] for part in parts), "marks written beside the letter"
        yield letters, "without its marks"
    if character.upper() != character:
        yield character.upper(), "its capital"


def _free(character: str, spelling: str, text: str) -> bool:
    """Whether `spelling` would stand only for `character` in this text."""
    return spelling not in text and text.replace(character, spelling).replace(spelling, character) == text


def _refuse_unclear(table: Mapping[str, str]) -> None:
    keys = list(table)
    for number, (character, spelling) in enumerate(table.items()):
        if not character or not spelling.strip() or character == spelling or "\n" in character + spelling:
            raise DataError(f"{character!r} = {spelling!r} rewrites nothing; expected one character and its spelling")
        again = next((key for key in keys[number:] if key in spelling), None)
        if again is not None:
            raise DataError(
                f"{character!r} becomes {spelling!r}, which holds {again!r}, itself rewritten; write the final spelling"
            )
