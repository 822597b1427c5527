"""Detection of mark-up and of encoding errors in text. No torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html.entities import html5


@dataclass(frozen=True)
class Markup:
    """A kind of mark-up: the pattern of a line, and the remedy."""

    name: str
    pattern: re.Pattern[str]
    remedy: str
    is_sentence: bool = True
    """Whether the line is a sentence with additions."""
    least: float = 0.01
    """Smallest share of lines that is reported; clean text has less by chance."""
    at_start: bool = False
    """Whether the pattern must match at the start of a line."""


_JSON = r"""\s*(?:\{\s*["}]|\[\s*["{]|["\[{}\]],?\s*$|"[^"]*"\s*:\s*(?:["\[{\d-]|true|false|null))"""
_TAGS = "ADJ|ADP|ADV|AUX|CCONJ|DET|INTJ|NOUN|NUM|PART|PRON|PROPN|PUNCT|SCONJ|SYM|VERB"
_CONLL = (
    r"\d+(?:[-.]\d+)?\t(?:[^\t]*\t){5,}"  # CoNLL-U and earlier formats: number, word, lemma, tag ...
    rf"|\S+(?:[\t ]\S+){{0,3}}[\t ](?:O|[BIESLU]-[A-Z]\w*)$|\S+[\t ](?:{_TAGS})$"  # a tag behind each word
    r"|# ?(?:sent_id|text(?:_\w+)?|newdoc|newpar)\b|-DOCSTART-"
)
_BOOK = r"(?:(?:[1-4]|I{1,3}V?)[ ._]?)?(?:[^\s\d:|]{1,25} ){0,2}[^\s\d:|._]{2,25}\.?"
_VERSE = (
    r"(?=\D{0,80}\d)"  # most lines end here
    rf"[(\[]?(?:(?:b\.)?{_BOOK}(?: ?\d{{1,3}}(?::\d{{1,3}}|[.,]\d{{1,2}})|[._]\d{{1,3}}[._]\d{{1,3}})"  # GEN 1:1
    r"|\d{1,3}:\d{1,3}|\d{1,2}[._]\d{1,3}[._]\d{1,3}|\d{8})"  # 1:1, 40.1.1, 40001001
    r"(?:[-–,]\d{1,3})*[)\]]?(?:[\s|]|[:.,]\s|$)"
)
_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|([A-Za-z]\w*));")

MARKUP = (
    Markup(
        "JSON", re.compile(_JSON),
        "name the file .jsonl and choose its field of text, or keep the text alone", False, at_start=True,
    ),
    Markup(
        "CoNLL columns, one word a line", re.compile(_CONLL),
        "write each sentence on one line (in CoNLL-U it stands behind # text =)", False, at_start=True,
    ),
    Markup("subtitle times", re.compile(r"\d[\d:.,]+ --> \d"), "keep the lines of speech alone"),
    Markup(
        "a verse reference in front", re.compile(_VERSE),
        "cut it off, for example with cut -f 2- where a tab follows it", least=0.05, at_start=True,
    ),
    Markup(
        "USFM markers", re.compile(r"(?:^|\s)\\(?![nrt](?![a-z]))\+?[a-z]{1,6}\d?\*?(?=[\s\\|*]|-[se]\b|$)"),
        "export plain text from it, a verse on each line, without headings and notes",
    ),
    Markup("bitext with |||", re.compile(r"(?:^|\s)\|\|\|(?:\s|$)"), "keep the side of the target language"),
    Markup(
        "columns of a table", re.compile(r"\S[^\S\t]*\t\s*\S|^[^\s\",;]{1,20}([,;])[^\s\",;]{1,20}\1[^\s\d]"),
        "name the file .tsv or .csv and choose its column of text",
    ),
    Markup("XML or HTML tags", re.compile(r"(?<!<)<[/?!]?[A-Za-z][\w:.-]*(?:\s[^<>]*)?/?>(?!>)|<!--"), "take them out"),
    Markup("entities such as &amp;", _ENTITY, "turn them into characters, as Python's html.unescape does"),
    Markup(
        "sub-words of BPE (@@) or WordPiece (##)", re.compile(r"\S@@(?:\s|$)|(?:^|\s)##\S|￭"),
        "join them again, for example with sed -E 's/@@( |$)//g; s/ ##//g'",
    ),
    Markup(
        "pieces of SentencePiece (▁)", re.compile("▁"), "join them again, for example with sed 's/ //g; s/▁/ /g'"
    ),
    Markup(
        "wiki or Markdown marks", re.compile(r"\[\[|\{\{|\}\}|^==+[^=].*==$|\]\(https?:|^#{2,6} \S|\*\*\w"),
        "export plain text",
    ),
    Markup(
        "backslash escapes such as \\n", re.compile(r"\\(?:[ntr]|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})"),
        "write the characters that they stand for", least=0.05,
    ),
)  # fmt: skip
"""Kinds of mark-up in order of priority: a line counts for the first kind that it matches."""

NUMBERED = Markup(
    "a number in front", re.compile(r"\W?(\d{1,7})[\])]?[.:]?\s+(?=\D)"),
    "cut it off, for example with sed -E 's/^[^ ]+ +//'", least=0.1, at_start=True,
)  # fmt: skip
"""Numbers in front of lines; a line counts only if its number is one more than that of the line before."""

KINDS = {kind.name: kind for kind in (*MARKUP, NUMBERED)}


def markup_lines(lines: Iterable[str]) -> dict[str, int]:
    """Number of lines of each kind of mark-up, most frequent first."""
    counts: Counter[str] = Counter()
    before = -1
    for line in lines:
        numbered = NUMBERED.pattern.match(line)
        number = int(numbered[1]) if numbered else -1
        kind = next((kind for kind in MARKUP if _has(kind, line)), None)
        if kind is None and before >= 0 and number == before + 1:
            kind = NUMBERED
        before = number
        if kind is not None:
            counts[kind.name] += 1
    return dict(counts.most_common())


def _has(kind: Markup, line: str) -> bool:
    if kind.pattern is _ENTITY:
        return any(not name or f"{name};" in html5 for name in _ENTITY.findall(line))
    return (kind.pattern.match if kind.at_start else kind.pattern.search)(line) is not None


def _decode(byte: int) -> str:
    """The characters of a byte in cp1252 and in Latin-1."""
    return bytes([byte]).decode("cp1252", "ignore") + chr(byte)


def _class(first: int, last: int) -> str:
    return f"[{re.escape(''.join(map(_decode, range(first, last))))}]"


_REST = _class(0x80, 0xC0)
_MOJIBAKE = re.compile(
    f"{_class(0xC3, 0xE0)}{_REST}|Â{_class(0xA1, 0xC0)}"
    f"|{_class(0xE0, 0xF0)}{_REST}{{2}}|{_class(0xF0, 0xF5)}{_REST}{{3}}"
)


def mojibake_lines(lines: Sequence[str]) -> tuple[int, tuple[str, str]]:
    """Number of lines with UTF-8 that was read as Latin-1 or cp1252; its most frequent case, and the correct text."""
    cases: Counter[str] = Counter()
    number = 0
    for line in lines:
        if line.isascii():
            continue
        wrong = [one for one in _MOJIBAKE.findall(line) if _repair(one)]
        number += bool(wrong)
        cases.update(wrong)
    commonest = next((one for one, _ in cases.most_common(1)), "")
    return number, (commonest, _repair(commonest))


def _repair(text: str) -> str:
    """The text whose UTF-8 bytes were decoded as `text`; "" if there is none."""
    as_bytes = b"".join(char.encode("cp1252") if ord(char) > 255 else char.encode("latin-1") for char in text)
    try:
        return as_bytes.decode()
    except UnicodeDecodeError:
        return ""
