"""Mark-up and wrong encodings in a text: every kind is found in made-up lines, and none in clean ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glotprompt.data.readers.files import read_texts
from glotprompt.doctor.markup import KINDS, markup_lines, mojibake_lines

WORD = st.text(alphabet="abdegiklmnoprstuwyñɛŋọሰላም'", min_size=2, max_size=8)
LINE = st.lists(WORD, min_size=3, max_size=9).map(lambda words: f"{' '.join(words).capitalize()}.")
LINES = st.lists(LINE, min_size=2, max_size=6)

Marked = Callable[[int, str], str]
MARKED: list[tuple[str, Marked]] = [
    ("a verse reference in front", lambda i, line: f"GEN 1:{i}\t{line}"),
    ("a verse reference in front", lambda i, line: f"1 Samuel 3:{i} {line}"),
    ("a verse reference in front", lambda i, line: f"Song of Songs 2:{i}-{i + 1} {line}"),
    ("a verse reference in front", lambda i, line: f"b.MAT.5.{i} {line}"),
    ("a verse reference in front", lambda i, line: f"MAT_5_{i} {line}"),
    ("a verse reference in front", lambda i, line: f"40.5.{i}\t{line}"),
    ("a verse reference in front", lambda i, line: f"[3:{i}] {line}"),
    ("a verse reference in front", lambda i, line: f"{40001000 + i} {line}"),
    ("a number in front", lambda i, line: f"{i} {line}"),
    ("a number in front", lambda i, line: f"{i}. {line}"),
    ("bitext with |||", lambda i, line: f"{line} ||| {line}"),
    ("USFM markers", lambda i, line: f"\\v {i} {line}"),
    ("USFM markers", lambda i, line: f"\\p \\v {i} {line}\\f + \\ft note\\f*"),
    ("USFM markers", lambda i, line: f"\\q1 {line}"),
    ("CoNLL columns, one word a line", lambda i, line: f"{i}\t{line.split()[0]}\tx\tNOUN\t_\t_\t0\troot\t_\t_"),
    ("CoNLL columns, one word a line", lambda i, line: f"{line.split()[0]} O"),
    ("CoNLL columns, one word a line", lambda i, line: f"{line.split()[0]}\tNNP\tB-NP\tB-PER"),
    ("CoNLL columns, one word a line", lambda i, line: f"{line.split()[0]}\tPROPN"),
    ("CoNLL columns, one word a line", lambda i, line: f"# text = {line}"),
    ("sub-words of BPE (@@) or WordPiece (##)", lambda i, line: line.replace(" ", "@@ ", 1)),
    ("sub-words of BPE (@@) or WordPiece (##)", lambda i, line: line.replace(" ", " ##", 1)),
    ("pieces of SentencePiece (▁)", lambda i, line: "▁" + line.replace(" ", " ▁")),
    ("XML or HTML tags", lambda i, line: f'<seg id="{i}">{line}</seg>'),
    ("XML or HTML tags", lambda i, line: f"{line}<br/>"),
    ("XML or HTML tags", lambda i, line: f"<s> {line} </s>"),
    ("entities such as &amp;", lambda i, line: f"&quot;{line}&quot;"),
    ("entities such as &amp;", lambda i, line: f"{line} &#8217;"),
    ("entities such as &amp;", lambda i, line: f"{line} &#x2019;"),
    ("JSON", lambda i, line: f'{{"text": "{line}", "label": {i}}}'),
    ("JSON", lambda i, line: f'  "text": "{line}",'),
    ("JSON", lambda i, line: f'["{line}", {i}]'),
    ("columns of a table", lambda i, line: f"{i}\tsports\t{line}"),
    ("columns of a table", lambda i, line: f"{line}\tsports"),
    ("columns of a table", lambda i, line: f'{i},sports,"{line}"'),
    ("columns of a table", lambda i, line: f"{i};sports;{line}"),
    ("wiki or Markdown marks", lambda i, line: f"[[{line}]]"),
    ("wiki or Markdown marks", lambda i, line: f"== {line} =="),
    ("subtitle times", lambda i, line: f"00:00:{i:02},000 --> 00:00:{i + 1:02},500"),
    ("backslash escapes such as \\n", lambda i, line: f"{line}\\n{line}"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "marked"), MARKED, ids=[f"{place}-{name}" for place, (name, _) in enumerate(MARKED)])
@settings(max_examples=5, deadline=None)
@given(LINES)
def test_every_kind_is_found_in_every_line(name: str, marked: Marked, lines: Sequence[str]) -> None:
    text = [marked(i, line) for i, line in enumerate(lines, 1)]
    # Of numbers in a row the first one says nothing.
    assert markup_lines(text) == {name: len(lines) - (name == "a number in front")}
    assert name in KINDS


@pytest.mark.slow
@given(LINES)
def test_clean_lines_have_none(lines: list[str]) -> None:
    more = [
        "We left the town at 12:30 <3, 2 > 1 & R&B; at a@b.org.",
        "1,234,567 men",
        "7 women",
        "C:\\Path",
        "«x», “y” – @home #tag = 5 %",
    ]
    assert markup_lines([*lines, *more]) == {}
    assert mojibake_lines([*lines, *more, "VOILÀ « né », Ã, Â, ÉÉ ñÑ"]) == (0, ("", ""))


ACCENTED = st.text(alphabet="áéñọẹŋɓƙኛሰйя", min_size=1, max_size=5).map(lambda word: f"“{word}’…")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
@given(st.lists(ACCENTED, min_size=1, max_size=5))
def test_utf8_that_was_read_as_latin1(encoding: str, words: list[str]) -> None:
    """Byte by byte, and five bytes that cp1252 does not have as they are, as browsers do."""
    text = [
        "".join(bytes([byte]).decode(encoding, "ignore") or chr(byte) for byte in f"the {word}".encode())
        for word in words
    ]
    number, (seen, meant) = mojibake_lines(text)
    assert number == len(words)
    assert seen in "".join(text)
    assert meant in "".join(words)
    assert mojibake_lines([f"the {word.strip('’“…')}" for word in words])[0] == 0


@pytest.mark.slow
def test_published_texts_are_clean(corpora: Path) -> None:
    files = [*corpora.glob("americasnlp2021/*/train.???"), *corpora.glob("americasnlp2021/*/train.gn")]
    files += [*corpora.glob("masakhanews/*/train.tsv"), *corpora.glob("sib200/*/train.tsv")]
    assert len(files) >= 20
    for path in files:
        lines = read_texts(path)[:250]
        shares = {name: count / len(lines) for name, count in markup_lines(lines).items()}
        assert not {name for name, share in shares.items() if share >= KINDS[name].least}, path
        assert mojibake_lines(lines)[0] < 0.01 * len(lines), path
