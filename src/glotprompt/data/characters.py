"""Characters that a tokenizer does not know, rewritten to near ones that it knows.

A `CharacterMap` is an ordered table, applied entry by entry and taken back in the opposite order. An entry is
reversible when its spelling stands nowhere else in the text that the map was made from; then every line of that text
comes back exactly, except lines that hold a character of an entry that is not reversible.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glotprompt.data.readers.files import read_mapping
from glotprompt.errors import DataError
from glotprompt.storage import atomic

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
"""Reason -> character -> spellings, the nearest first. Only what Unicode does not decompose needs a line."""

_SMALL = "its small letter"

_SECOND = "'`^~_-*"
"""What tells a rewritten letter from the plain one, where no near spelling is free."""


@dataclass(frozen=True, slots=True)
class Rewriting:
    """One entry: a character (or a letter with its combining marks) and what is written instead."""

    character: str
    spelling: str
    reason: str
    reversible: bool
    """Whether the spelling stands for nothing else in the text that the map was made from."""


@dataclass(frozen=True)
class CharacterMap:
    """What is rewritten before a text is tokenised, in order."""

    rewritings: tuple[Rewriting, ...]
    left: tuple[str, ...] = ()
    """Unknown characters to which nothing known is near: they stay."""

    @classmethod
    def fitted(
        cls, table: Mapping[str, str], texts: Sequence[str], reasons: Mapping[str, str] | None = None
    ) -> CharacterMap:
        """The map of a table character -> spelling; which entries are reversible is found out on `texts`. Raises
        `DataError` for an entry without effect or an empty side, and for a spelling that would be rewritten again."""
        _refuse_unclear(table)
        text = "\n".join(texts)
        entries: list[Rewriting] = []
        for character, spelling in table.items():
            free = all(spelling != other.spelling for other in entries) and _free(character, spelling, text)
            entries.append(Rewriting(character, spelling, (reasons or {}).get(character, "given"), free))
            text = text.replace(character, spelling)
        return cls(tuple(entries))

    def apply(self, text: str) -> str:
        """The text as the tokenizer is to see it."""
        for entry in self.rewritings:
            text = text.replace(entry.character, entry.spelling)
        return text

    def invert(self, text: str) -> str:
        """The text as it was, as far as the entries are reversible."""
        for entry in reversed(self.rewritings):
            if entry.reversible:
                text = text.replace(entry.spelling, entry.character)
        return text

    def to_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        rows = [[entry.character, entry.spelling, entry.reason, entry.reversible] for entry in self.rewritings]
        return {"rewritings": rows, "left": list(self.left)}

    @classmethod
    def from_dict(cls, metadata: Mapping[str, Any]) -> CharacterMap:
        """What `to_dict` made. Raises `DataError` for what `fitted` would refuse."""
        table = {character: spelling for character, spelling, _, _ in metadata["rewritings"]}
        if len(table) != len(metadata["rewritings"]):
            raise DataError("a character map rewrites a character twice; make it anew")
        _refuse_unclear(table)
        return cls(tuple(Rewriting(*row) for row in metadata["rewritings"]), tuple(metadata["left"]))

    def save(self, path: str | Path) -> Path:
        """Write the table as TOML, or as JSON by the ending .json: a file for `load` that a person may change."""
        path = Path(path)
        if path.suffix.lower() == ".json":
            table = {entry.character: entry.spelling for entry in self.rewritings}
            return atomic.write(path, json.dumps(table, indent=2) + "\n")
        lines = [f"# {name_of(character)}: nothing known is near" for character in self.left]
        for entry in self.rewritings:
            back = "" if entry.reversible else "; not reversible"
            lines.append(f"# {name_of(entry.character)}: {entry.reason}{back}")
            lines.append(f"{_toml(entry.character)} = {_toml(entry.spelling)}")
        return atomic.write(path, "\n".join([*lines, ""]))

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
    """The map that rewrites every character of `texts` that is not `known` to a near spelling that is.

    A capital becomes its small letter, where that is known, though it can then not be told from it. Else tried in this
    order: Unicode's decomposition, the look-alikes of this module, the letter with its marks written beside it, the
    letter alone, its capital. The first of these that is free is taken; where none is, the nearest with a second
    character that makes it free; else the nearest, which is not reversible.
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
    """The spelling of one character as `nearest_known` has it, and the reason; two times "" where nothing is near."""
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
    """The unknown characters that can be rewritten wherever they stand, the most frequent first, and those that cannot:
    they are unknown alone and known in a cluster (a tokenizer that composes sees another character)."""
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
    """Letters with marks, not known together; longer ones first: a letter with two marks holds that with one."""
    counts = _clusters(text)
    unknown = [one for one in counts if len(one) > 1 and not set(one) & set(left) and not known(one)]
    return sorted(unknown, key=lambda cluster: (-len(cluster), -counts[cluster], cluster))


def _clusters(text: str) -> Counter[str]:
    """Letters with the combining marks behind them, and marks without a letter."""
    marks = "".join(re.escape(one) for one in set(text) if unicodedata.combining(one))
    return Counter(re.findall(f"[^{marks}\\s]?[{marks}]+", text)) if marks else Counter()


def _near(character: str) -> Iterator[tuple[str, str]]:
    """Spellings near to a character with the reason, the nearest first."""
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
    """Whether `spelling` can stand for `character` in this text and for nothing else."""
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


def _toml(value: str) -> str:
    """A TOML string; what cannot be seen alone is written by its code point."""
    escapes = (
        f"\\U{ord(one):08X}"
        if unicodedata.combining(one) or not one.isprintable()
        else f"\\{one}"
        if one in '"\\'
        else one
        for one in value
    )
    return f'"{"".join(escapes)}"'
