"""Languages of the datasets, and whether families of backbones were pre-trained on them.

languages.tsv beside this file has a row per language, with the exposure of Glot500-m and mmBERT. The training corpora
of the others are in pretraining.toml, list by list. Missing information is "not known", never a guess.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from glotprompt.data.pretraining import TextList, lists_of
from glotprompt.errors import ConfigError, DataError, nearest

Family = Literal["xlm-r", "mbert", "glot500", "mmbert", "multilingual-e5", "mini-sentence", "mini"]
FAMILIES: tuple[Family, ...] = get_args(Family)

NOT_NAMED = "und"
"""Code of a language without a name: ISO 639's "undetermined"."""
_SHORTEST_NAME = 5
"""Shorter words are treated as mistyped codes."""

Verdict = Literal["read", "low-resource", "unseen", "not known"]
"""read: in the pre-training text. low-resource: only in later training text. unseen: in no list."""

_BOTH_SCRIPTS: dict[str, frozenset[Family]] = {
    "zho": frozenset({"xlm-r", "mbert", "glot500", "multilingual-e5", "mini-sentence", "mini"})
}
"""Families that were trained on a language in both scripts; for others only the usual script is known."""

_BACKBONES: tuple[tuple[str, Family], ...] = (
    (r"xlm-roberta-(base|large|xl|xxl)$", "xlm-r"),
    (r"multilingual-e5-(small|base|large)$", "multilingual-e5"),
    (r"mini-sentence$", "mini-sentence"),
    (r"mini(-xlmr)?$", "mini"),
    (r"(distil)?bert-base-multilingual-(un)?cased$", "mbert"),
    (r"glot500-(base|m)$", "glot500"),
    (r"mmbert-(small|base)$", "mmbert"),
)
"""Backbone names, without owner or folder. Models with further training on other languages (afro-xlmr,
serengeti, multilingual-e5-large-instruct) are left out on purpose: they have seen more."""


@dataclass(frozen=True, slots=True)
class Language:
    """A language in languages.tsv."""

    code: str
    """ISO 639-3 code."""
    name: str
    scripts: tuple[str, ...]
    """ISO 15924 codes, the usual one first."""
    aliases: tuple[str, ...]
    """Other codes of the same language."""
    macrolanguage: str | None
    """Macrolanguage, in ISO 639-3."""
    standard: bool
    """Whether this is the usual written variety of the macrolanguage."""
    seen: tuple[tuple[Family, bool | None], ...]
    """Exposure by family in languages.tsv."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Evidence of a language in the training text of a family of backbones."""

    family: Family
    verdict: Verdict
    present: tuple[TextList, ...] = ()
    """Lists with the language."""
    absent: tuple[TextList, ...] = ()
    """Lists without it."""
    unsure: tuple[TextList, ...] = ()
    """Lists that have it under a shared code of several varieties, or in another script."""
    unpublished: tuple[TextList, ...] = ()
    """Training text with unpublished languages, which may include it."""

    @property
    def evidence(self) -> str:
        """The evidence as text: "In mC4 and NLLB, not in CC100."; "" if there is only languages.tsv."""
        if self.verdict == "unseen":
            return " ".join(filter(None, (_not_in(self.absent), self.caveat)))
        if self.verdict == "not known":
            return (
                f"{_names(self.unsure)} may have it with a relative's text, or in another script."
                if self.unsure
                else ""
            )
        if not self.present:
            return ""
        text = f"In {_names(self.present)}"
        if len(self.present) == 1 and self.present[0].remark:
            text += f" ({self.present[0].remark})"
        for adverb, lists in (("not", self.absent), ("perhaps", self.unsure)):
            main = [entry for entry in lists if entry.use == "pre-training"]
            text += f", {adverb} in {_names(main)}" if main else ""
        return f"{text}."

    def to_dict(self) -> dict[str, Any]:
        """JSON value: verdict, evidence, and names of the lists."""
        fields = ("present", "absent", "unsure", "unpublished")
        lists = {field: [entry.name for entry in getattr(self, field)] for field in fields}
        return {"family": self.family, "verdict": self.verdict, "evidence": self.evidence, **lists}

    @property
    def caveat(self) -> str:
        """A sentence about training text with unpublished languages; "" if there is none."""
        if not self.unpublished:
            return ""
        return f"In which languages {_names(self.unpublished, remarks=True)} were read is not known."


def language(code: str) -> Language:
    """Look up a code: ISO 639-3, an alias such as "gn", or with a script, "ace-Arab" or "ace_Arab".

    With a script, `scripts` has only that one. Raises `DataError` for a code that languages.tsv does not have.
    """
    result = _find(code)
    if result is None:
        hint = nearest(code, [row.code for row in _rows()])
        raise DataError(
            f"The language {code!r} is not in languages.tsv.{hint} Expected an ISO 639-3 code such as"
            " 'quy', or one with a script such as 'ace-Arab'; `glotprompt data show NAME` lists those of a dataset."
        )
    return result


def name_of(code: str) -> str:
    """Name and code of each part of a code; an unknown code stays alone.

    >>> name_of("nya+sna")
    'Chichewa (nya) + Shona (sna)'
    """
    named = [(one, known_name(one)) for one in code.split("+")]
    return " + ".join(one if name is None else f"{name} ({one})" for one, name in named)


def known_name(code: str) -> str | None:
    """Name of a language in languages.tsv, else in ISO 639; None if in neither."""
    row = _find(code)
    if code == NOT_NAMED:
        return "language not named"
    return _iso_name(_parts(code)[0]) if row is None else row.name


def checked_code(code: str) -> str:
    """Validate a code: ISO 639-1, 639-3, or a BCP 47 tag with script or region, "ace-Arab". Raises `DataError` that
    suggests languages with similar names."""
    plain, subtags = _parts(code)
    if re.fullmatch(r"([A-Z][a-z]{3})?-?([A-Z]{2}|\d{3})?", subtags) and (
        _find(plain) is not None or _iso_name(plain) is not None or re.fullmatch("q[a-t][a-z]", plain)
    ):
        return code
    hint = " or ".join(_similar(plain))
    raise DataError(
        f"{code!r} is no language code; expected one of ISO 639-3 such as nya, or with a script ace-Arab"
        f"{f'. Did you mean {hint}?' if hint else ''}"
    )


def _parts(code: str) -> tuple[str, str]:
    plain, _, subtags = code.replace("_", "-").partition("-")
    return plain, subtags


def _iso_name(code: str) -> str | None:
    """ISO 639 name of a code of two or three letters."""
    from iso639 import Lang  # reads two megabytes: not before it is needed
    from iso639.exceptions import DeprecatedLanguageValue, InvalidLanguageValue

    if not re.fullmatch("[a-z]{2,3}", code):
        return None
    try:
        return Lang(code).name
    except (DeprecatedLanguageValue, InvalidLanguageValue):
        return None


def tag_of(code: str) -> str:
    """The tag of a language for a page, which is of two letters where there is one (BCP 47): ny for nya."""
    from iso639 import Lang
    from iso639.exceptions import DeprecatedLanguageValue, InvalidLanguageValue

    try:
        return Lang(code).pt1 or code
    except (DeprecatedLanguageValue, InvalidLanguageValue):
        return code


@cache
def all_languages() -> list[tuple[str, str]]:
    """Code and name of every language of ISO 639-3, those of the table by the names that it gives them."""
    from iso639 import iter_langs

    named = {entry.pt3: entry.name for entry in iter_langs() if entry.pt3}
    return sorted((named | {row.code: row.name for row in _rows()}).items())


def _similar(word: str) -> list[str]:
    """Names and codes of the languages whose names or codes are nearest to a word."""
    from iso639 import iter_langs

    names = {row.name.casefold(): row.code for row in _rows()}
    for entry in iter_langs():
        for name in (entry.name, *entry.other_names()):
            names.setdefault(name.casefold(), entry.pt3 or entry.pt1)
    codes = {row.code: row.code for row in _rows()} if len(word) < _SHORTEST_NAME else names
    near = get_close_matches(word.casefold(), codes, n=3, cutoff=0.7)
    return [name_of(code) for code in dict.fromkeys(codes[one] for one in near) if code]


def exposure(code: str, family: str) -> Exposure:
    """Exposure of a family's models to a language in training, with the evidence.

    `family` is one of `FAMILIES`. For a macrolanguage in a list, the standard variety counts as included; for its other
    varieties (Egyptian Arabic for "Arabic") it is not known. Raises `ConfigError` for another family.
    """
    if family not in FAMILIES:
        raise ConfigError(f"family={family!r} is not known.{nearest(family, FAMILIES)} Expected {', '.join(FAMILIES)}.")
    lists = lists_of(family)
    if not lists:
        return Exposure(family, _VERDICTS[_in_table(code, family)])
    listed = {
        entry: _presence(code, family, entry.languages) for entry in lists if entry.use in ("pre-training", "training")
    }
    present = tuple(entry for entry, presence in listed.items() if presence)
    unsure = tuple(entry for entry, presence in listed.items() if presence is None)
    verdict: Verdict = "unseen"
    if any(entry.use == "pre-training" for entry in present):
        verdict = "read"
    elif present:
        verdict = "low-resource"
    elif unsure:
        verdict = "not known"
    return Exposure(
        family,
        verdict,
        present,
        tuple(entry for entry, presence in listed.items() if presence is False),
        unsure if _find(code) else (),
        tuple(entry for entry in lists if _may_have(entry, code, family)),
    )


def genealogy(code: str) -> str | None:
    """The language family (families.toml); None for a language that is not in there."""
    text = files("glotprompt.data").joinpath("families.toml").read_text(encoding="utf-8")
    return next((name for name, codes in tomllib.loads(text).items() if code in codes), None)


def exposure_family(backbone_name: str) -> Family | None:
    """The models that were pre-trained on the same languages as a hub name or folder ("xlm-r" for
    "FacebookAI/xlm-roberta-large"); None for an unknown name."""
    name = re.split(r"[/\\]", backbone_name.rstrip("/\\"))[-1].lower()
    return next((family for pattern, family in _BACKBONES if re.match(pattern, name)), None)


def is_trained_on(code: str, backbone_name: str) -> bool:
    """Whether a list of what a model was trained on has the language; an unknown model's lists have none."""
    family = exposure_family(backbone_name)
    return family is not None and exposure(code, family).verdict in ("read", "low-resource")


def same_language(one: str, other: str) -> bool:
    """Whether two codes mean the same language and script: aliases, or a macrolanguage and its standard variety."""
    if one == other:
        return True
    first, second = _find(one), _find(other)
    if first is None or second is None or first.scripts[0] != second.scripts[0]:
        return False
    if first.code == second.code:
        return True
    return any(a.standard and a.macrolanguage == b.code for a, b in ((first, second), (second, first)))


_VERDICTS: dict[bool | None, Verdict] = {True: "read", False: "unseen", None: "not known"}


def _in_table(code: str, family: Family) -> bool | None:
    """Exposure of a family to the language by languages.tsv."""
    row = _find(code)
    if row is None:  # Glot500-m continues XLM-R
        return True if family == "glot500" and code in lists_of("xlm-r")[0].languages else None
    if row.scripts[0] != _by_code()[row.code].scripts[0]:
        return True if family in _BOTH_SCRIPTS.get(row.code, ()) else None
    return dict(row.seen)[family]


def _presence(code: str, family: Family, codes: frozenset[str]) -> bool | None:
    """Whether a list has the language; None if it has only a related variety or another script."""
    own = _find(code)
    if own is None:
        # No False: a code without a row may be a variety of a language that is on the list under another code.
        return True if code in codes else None
    varieties = [row for row in _rows() if row.macrolanguage == own.code and row.code in codes]
    presence: bool | None = False
    if own.code in codes or (own.standard and own.macrolanguage in codes) or any(row.standard for row in varieties):
        presence = True
    elif own.macrolanguage in codes or varieties:
        presence = None
    if presence and own.scripts[0] != _by_code()[own.code].scripts[0]:
        return True if family in _BOTH_SCRIPTS.get(own.code, ()) else None
    return presence


def _may_have(entry: TextList, code: str, family: Family) -> bool:
    """Whether training text with unpublished languages may include this one."""
    if entry.use == "possible":
        return _presence(code, family, entry.languages) is not False
    row = _find(code)
    return entry.use == "unknown" and (code if row is None else row.code) not in entry.absent


def _not_in(lists: Sequence[TextList]) -> str:
    if len(lists) < 2:
        return f"Not in {_names(lists)}." if lists else ""
    return f"On none of the {len(lists)} lists that are published of its training text."


def _names(lists: Sequence[TextList], *, remarks: bool = False) -> str:
    """Names of lists as text: "mC4, NLLB and xP3"."""
    *first, last = [f"{entry.name} ({entry.remark})" if remarks and entry.remark else entry.name for entry in lists]
    return f"{', '.join(first)} and {last}" if first else last


def _find(code: str) -> Language | None:
    plain, subtags = _parts(code)
    script = next((part for part in subtags.split("-") if len(part) == 4), "")  # others are regions: pt-BR
    row = _by_code().get(plain)
    if row is None or not script:
        return row
    return replace(row, scripts=(script,)) if script in row.scripts else None


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
            code,
            name,
            tuple(scripts.split(",")),
            () if aliases == "-" else tuple(aliases.split(",")),
            None if macro == "-" else macro[1:],
            macro.startswith("="),
            (("glot500", flag[glot500]), ("mmbert", flag[mmbert])),
        )
        for code, name, scripts, aliases, macro, glot500, mmbert in lines[1:]
    )
