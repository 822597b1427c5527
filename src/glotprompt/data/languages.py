"""The languages of the datasets, and which families of backbones have read them in pre-training.

languages.tsv beside this file has a row for each language, with what Glot500-m and mmBERT have seen of it. The lists of
XLM-R and mBERT stand here, whole. What could not be looked up is None, never a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

from glotprompt.errors import ConfigError, DataError, nearest

Family = Literal["xlm-r", "mbert", "glot500", "mmbert"]
FAMILIES: tuple[Family, ...] = get_args(Family)

_XLM_R = """
    afr amh ara asm aze bel ben bos bre bul cat ces cym dan deu ell eng epo est eus fas fin fra fry gla gle glg guj hau
    heb hin hrv hun hye ind isl ita jav jpn kan kat kaz khm kir kor kur lao lat lav lit mal mar mkd mlg mon msa mya nep
    nld nor ori orm pan pol por pus ron rus san sin slk slv snd som spa sqi srp sun swa swe tam tel tgl tha tur uig ukr
    urd uzb vie xho yid zho
"""
XLM_R = frozenset(_XLM_R.split())
"""Conneau et al. 2020, appendix A, and the README of github.com/facebookresearch/XLM. They count 100: Chinese in two
scripts, Burmese in two encodings, and Bengali, Hindi, Tamil, Telugu and Urdu romanized besides. Kurdish is Kurmanji."""

_MBERT = """
    afr sqi ara arg hye ast aze bak eus bar bel ben bpy bos bre bul mya cat ceb che zho chv hrv ces dan nld eng est fin
    fra glg kat deu ell guj hat heb hin hun isl ido ind gle ita jpn jav kan kaz kir kor lat lav lit lmo nds ltz mkd mlg
    msa mal mar min nep new nob nno oci fas pms pol por pan ron rus sco srp hbs scn slk slv azb spa sun swa swe tgl tgk
    tam tat tel tur ukr urd uzb vie vol war cym fry pnb yor tha mon
"""
MBERT = frozenset(_MBERT.split())
"""multilingual.md of github.com/google-research/bert. It counts 104: Chinese in two scripts. Thai and Mongolian are in
the cased model only."""

_LISTS = {"xlm-r": XLM_R, "mbert": MBERT}
_BOTH_SCRIPTS: dict[str, frozenset[Family]] = {"zho": frozenset({"xlm-r", "mbert", "glot500"})}
"""What has seen a language in all its scripts. Of others we know of the usual script only."""

_BACKBONES: tuple[tuple[str, Family], ...] = (
    (r"xlm-roberta-(base|large|xl|xxl)\b", "xlm-r"),
    (r"mini(-xlmr)?$", "xlm-r"),
    (r"(distil)?bert-base-multilingual-(un)?cased\b", "mbert"),
    (r"glot500-(base|m)\b", "glot500"),
    (r"mmbert-(small|base)\b", "mmbert"),
)
"""The beginning of a backbone's name without its owner or folder. Models that went on training on other languages
(afro-xlmr, serengeti) are missing on purpose: they have seen more."""


@dataclass(frozen=True, slots=True)
class Language:
    """A language of some dataset."""

    code: str
    """ISO 639-3."""
    name: str
    scripts: tuple[str, ...]
    """ISO 15924, the usual one first."""
    aliases: tuple[str, ...]
    """Other codes for the same language."""
    macrolanguage: str | None
    """The macrolanguage that it belongs to, in ISO 639-3."""
    standard: bool
    """Whether this is the variety in which the macrolanguage is usually written."""
    seen: tuple[tuple[Family, bool | None], ...]
    """What languages.tsv says of it."""


def language(code: str) -> Language:
    """The language of a code: ISO 639-3, an alias such as "gn", or with a script, "ace-Arab" or "ace_Arab".

    With a script, `scripts` has that one alone. Raises `DataError` for a code that no dataset of the catalog has.
    """
    found = _find(code)
    if found is None:
        hint = nearest(code, [row.code for row in _rows()])
        raise DataError(
            f"The language {code!r} is not in the table.{hint} Expected an ISO 639-3 code such as"
            " 'quy', or one with a script such as 'ace-Arab'; `glotprompt data show NAME` lists those of a dataset."
        )
    return found


def seen_by(code: str, family: str) -> bool | None:
    """Whether models of a family have read the language in pre-training; None when that is not known.

    `family` is one of `FAMILIES`. Of a macrolanguage that was read, the standard variety counts as read; of its other
    varieties (Egyptian Arabic for "Arabic") nobody knows how much was there.
    """
    if family not in FAMILIES:
        raise ConfigError(f"family={family!r} is not known.{nearest(family, FAMILIES)} Expected {', '.join(FAMILIES)}.")
    found = _find(code)
    if found is None:
        # No False: a code without a row may be a variety of a language that is on the list under another code.
        return True if code in _LISTS.get("xlm-r" if family == "glot500" else family, ()) else None
    usual = _by_code()[found.code]
    if found.scripts[0] != usual.scripts[0]:
        return True if family in _BOTH_SCRIPTS.get(found.code, ()) else None
    if family not in _LISTS:
        return dict(found.seen)[family]
    read = _LISTS[family]
    if found.code in read:
        return True
    if found.macrolanguage in read:
        return True if found.standard else None
    return any(other.standard and other.macrolanguage == found.code and other.code in read for other in _rows())


def family_of(backbone_name: str) -> Family | None:
    """The family of a hub name or folder ("xlm-r" of "FacebookAI/xlm-roberta-large"); None if the name says nothing."""
    name = re.split(r"[/\\]", backbone_name.rstrip("/\\"))[-1].lower()
    return next((family for pattern, family in _BACKBONES if re.match(pattern, name)), None)


def same_language(one: str, other: str) -> bool:
    """Whether two codes mean one language in one script: aliases, or a macrolanguage and its standard variety."""
    if one == other:
        return True
    first, second = _find(one), _find(other)
    if first is None or second is None or first.scripts[0] != second.scripts[0]:
        return False
    if first.code == second.code:
        return True
    return any(a.standard and a.macrolanguage == b.code for a, b in ((first, second), (second, first)))


def _find(code: str) -> Language | None:
    plain, _, script = code.replace("_", "-").partition("-")
    found = _by_code().get(plain)
    if found is None or not script:
        return found
    return replace(found, scripts=(script,)) if script in found.scripts else None


@cache
def _by_code() -> dict[str, Language]:
    return {code: row for row in _rows() for code in (row.code, *row.aliases)}


@cache
def _rows() -> tuple[Language, ...]:
    text = files("glotprompt.data").joinpath("languages.tsv").read_text(encoding="utf-8")
    lines = [line.split("\t") for line in text.split("\n") if line and not line.startswith("#")]
    flag = {"+": True, "-": False, "?": None}
    return tuple(
        Language(
            code, name, tuple(scripts.split(",")), () if aliases == "-" else tuple(aliases.split(",")),
            None if macro == "-" else macro[1:], macro.startswith("="),
            (("glot500", flag[glot500]), ("mmbert", flag[mmbert])),
        )
        for code, name, scripts, aliases, macro, glot500, mmbert in lines[1:]
    )  # fmt: skip
