"""Normalised text, which is read (`normalise`), and keys, which are only compared (`words`, `letters`). A key with
white space folded and nothing else is `records.text_key`."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache

_INVISIBLE = "\u200b\u00ad\ufeff"
"""ZWSP, soft hyphen, U+FEFF. Not U+200C and U+200D, which choose between letter forms in many scripts."""

_TWO_WORDS = ("CANADIAN", "OL", "NEW", "OLD", "TAI", "SORA", "MEETEI", "SYLOTI", "VARANG", "PAU", "PHAGS")
"""First words of the names of scripts that have two."""


UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""Scripts without spaces between words."""
_FIRST_UNSPACED = "\u0e00"
"""Their first character, Thai's; most texts have none from there on."""


class _ByCharacter(dict[int, str]):
    """Table for `str.translate` that calls a function once per character."""

    def __init__(self, becomes: Callable[[str], str]) -> None:
        super().__init__()
        self._becomes = becomes

    def __missing__(self, code: int) -> str:
        return self.setdefault(code, self._becomes(chr(code)))


def _clean(char: str) -> str:
    if "\x80" <= char <= "\x9f":
        # cp1252 text that was decoded as Latin-1; the five codes unused in cp1252 are removed.
        return char.encode("latin-1").decode("cp1252", "ignore")
    if char.isspace():
        return " "
    return "" if char in _INVISIBLE or unicodedata.category(char) == "Cc" else char


def _of_words(char: str) -> str:
    if char.isspace():
        return " "
    return char if unicodedata.category(char)[0] in "LMN" else ""


_CLEANED, _OF_WORDS = _ByCharacter(_clean), _ByCharacter(_of_words)


def normalise(text: str) -> str:
    """Normalised text (`--normalise`): in NFC, without control and invisible characters, with single spaces between
    words and none at the edges.

    Tab, line ends, U+2028, NBSP and all other Unicode spaces become a space. C1 controls become what they stand for in
    cp1252 (U+0096 an en dash); other controls, U+FEFF, U+200B and the soft hyphen are removed. Nothing else changes:
    letters, case, punctuation, U+200C and U+200D stay. The result is one line, and is itself normalised.
    """
    return unicodedata.normalize("NFC", " ".join(text.translate(_CLEANED).split()))


def words(text: str) -> list[str]:
    """Words of a text, as a key for decontamination: letters, marks and digits, in NFKC, casefolded."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return folded.translate(_OF_WORDS).split()


def letters(text: str) -> str:
    """Letters of a text, the key by which two texts are the same: its `words` without spaces; "" if there are none."""
    return "".join(words(text))


def in_pieces(found: list[str], length: int) -> list[str]:
    """Words of a text; in a script without spaces every `length` characters in a row stand for one."""
    pieces: list[str] = []
    for word in found:
        if max(word) >= _FIRST_UNSPACED and any(script_of(char) in UNSPACED for char in word):
            pieces += [word[start : start + length] for start in range(max(1, len(word) - length + 1))]
        else:
            pieces.append(word)
    return pieces


@cache
def script_of(char: str) -> str:
    """Unicode name of a letter's script; "" for other characters and those of every script."""
    if unicodedata.category(char) not in ("Lu", "Ll", "Lt", "Lo"):
        return ""
    first, *others = unicodedata.name(unicodedata.normalize("NFKC", char)[0], "").split() or [""]
    if first in ("MODIFIER", "MICRO", "FEMININE", "MASCULINE"):
        return ""
    return f"{first} {others[0]}" if first in _TWO_WORDS and others else first
