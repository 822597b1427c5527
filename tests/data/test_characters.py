"""The map from unknown to known characters: what it picks, and that it can be taken back."""

from __future__ import annotations

import json
import string
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glotprompt.data.characters import CharacterMap, name_of, nearest_known
from glotprompt.errors import DataError

ASCII = set(string.printable)
MARKS = "\u0301\u0303\u0331"


def knowing(more: str = "") -> Callable[[str], bool]:
    """Knows ASCII and `more`, after composing, as most tokenizers do."""
    return lambda spelling: set(unicodedata.normalize("NFKC", spelling)) <= ASCII | set(more)


def picked(texts: list[str], more: str = "") -> dict[str, str]:
    return {entry.character: entry.spelling for entry in nearest_known(texts, knowing(more)).rewritings}


@pytest.mark.parametrize(
    ("text", "more", "spelling"),
    [
        ("a\ua78ca", "", "'"),  # saltillo, where an apostrophe is free
        ("a\ua78ca", "’ʼ", "ʼ"),  # the nearest of several
        ("it's a\ua78ca", "’", "’"),  # an apostrophe is taken: the next one
        ("it's a\ua78ca", "", "''"),  # none is free: a second character
        ("ẽ", MARKS, "e~"),  # composed again by the tokenizer: the mark goes beside its letter
        ("u\u0320", "\u0331", "\u0331"),
        ("u\u0320u\u0331", "\u0331", "_"),
        ("ﬁ", "", None),  # NFKC already makes it two letters
        ("ǆ", "ž", None),
    ],
)
def test_nearest_free_spelling(text: str, more: str, spelling: str | None) -> None:
    expected = {} if spelling is None else {next(c for c in text if not knowing(more)(c)): spelling}
    assert picked([text], more) == expected


def test_decomposes_where_the_tokenizer_leaves_it_so() -> None:
    as_it_is = set("e\u0303 ")
    found = nearest_known(["ẽ e"], lambda spelling: set(spelling) <= as_it_is)
    assert [(entry.character, entry.spelling, entry.reason) for entry in found.rewritings] == [
        ("ẽ", "e\u0303", "decomposed")
    ]


def test_letter_and_mark_that_are_known_apart_but_not_together() -> None:
    """Y and a tilde are known, Ỹ is not; the text holds both spellings of it."""
    found = nearest_known(["Y\u0303e \u1ef8a a\u0303"], knowing("ã\u0303"))
    assert {entry.character for entry in found.rewritings} == {"Ỹ", "Y\u0303"}
    assert all(knowing("ã\u0303")(word) for word in found.apply("Y\u0303e \u1ef8a a\u0303").split())
    assert found.invert(found.apply("Y\u0303e \u1ef8a a\u0303")) == "Y\u0303e \u1ef8a a\u0303"


@pytest.mark.parametrize(
    ("text", "more", "table"),
    [
        ("Ɨa ɨ", "ɨ", {"Ɨ": "ɨ"}),  # though it is taken, and i is free
        ("ƁƐ ɓɛ", "ɓɛ", {"Ɓ": "ɓ", "Ɛ": "ɛ"}),
        ("Ẹ ẹ", "ẹ", {"Ẹ": "ẹ"}),
        ("E\u0323 e\u0323", "ẹ", {"E\u0323": "e\u0323"}),
        ("Ŋ ŋ", "", {"Ŋ": "Ng", "ŋ": "ng"}),  # the small letter is unknown, too
        ("ꮝ", "Ꮝ", {"ꮝ": "Ꮝ"}),  # nothing else is near
    ],
)
def test_a_capital_becomes_its_small_letter(text: str, more: str, table: dict[str, str]) -> None:
    assert picked([text], more) == table


def test_a_mark_that_is_known_with_its_letter_is_not_rewritten_there() -> None:
    """U+0307 alone is unknown, and so is it on o, but a tokenizer that composes knows it on e."""
    found = nearest_known(["e\u0307 o\u0307"], knowing("ė"))
    assert {entry.character: entry.spelling for entry in found.rewritings} == {"o\u0307": "o."}
    assert (found.apply("e\u0307 o\u0307"), found.left) == ("e\u0307 o.", ())
    assert nearest_known(["e\u0307 o"], knowing("ė")) == CharacterMap(())
    assert nearest_known(["e\u0307 \u0307"], knowing("ė")) == CharacterMap((), ("\u0307",))


def test_what_has_nothing_near_stays_and_is_named() -> None:
    found = nearest_known(["你 ab"], knowing())
    assert found == CharacterMap((), ("你",))
    assert found.apply("你") == "你"
    assert name_of("你") == "U+4F60 CJK UNIFIED IDEOGRAPH-4F60"


def test_the_nearest_taken_spelling_is_better_than_none() -> None:
    """No second character is known either."""
    found = nearest_known(["ɛ e ŋ"], lambda spelling: set(spelling) <= set("eng "))
    table = {entry.character: (entry.spelling, entry.reversible) for entry in found.rewritings}
    assert table == {"ɛ": ("e", False), "ŋ": ("ng", True)}
    assert found.invert(found.apply("ŋe")) == "ŋe"
    assert found.invert(found.apply("ɛ")) == "e"


def test_two_characters_never_share_a_reversible_spelling() -> None:
    text = "\ua78ca ʔa ʼa ‛a it's"
    found = nearest_known([text], knowing())
    spellings = [entry.spelling for entry in found.rewritings]
    assert len(set(spellings)) == len(spellings) == 4
    assert found.invert(found.apply(text)) == text


TEXT = st.text(alphabet="aeny'`~^_-* :\n" + MARKS + "\ua78cʔʼẽỹñŋɛ\u0320ː你Ỹ", max_size=30)


@pytest.mark.slow
@given(st.lists(TEXT, max_size=4))
def test_round_trip(texts: list[str]) -> None:
    known = knowing("ãñ" + MARKS)
    found = nearest_known(texts, known)
    lossy = [entry.character for entry in found.rewritings if not entry.reversible]
    for line in "\n".join(texts).split("\n"):
        if not any(character in line for character in lossy):
            assert found.invert(found.apply(line)) == line
        after = found.apply(line)
        assert not [c for c in after if not known(c) and not c.isspace() and c not in found.left]
    assert CharacterMap.from_dict(found.to_dict()) == found


def test_a_spelling_that_would_come_back_wrong_is_not_reversible() -> None:
    # Behind an apostrophe the two characters cannot be told from the letter's: ''' is '' + ' or ' + ''.
    (entry,) = CharacterMap.fitted({"ʔ": "''"}, ["'ʔ"]).rewritings
    assert not entry.reversible
    (entry,) = CharacterMap.fitted({"ʔ": "''"}, ["aʔ"]).rewritings
    assert entry.reversible


@pytest.mark.parametrize("name", ["map.toml", "map.json"])
def test_a_file_written_by_hand(tmp_path: Path, name: str) -> None:
    text = '\ua78ca u\u0320 " \\ ɛe ꞉你'
    found = nearest_known([text], knowing())
    table = {entry.character: entry.spelling for entry in found.rewritings}
    lines = "".join(f"{json.dumps(one)} = {json.dumps(other)}\n" for one, other in table.items())
    (tmp_path / name).write_text(lines if name.endswith("toml") else json.dumps(table), encoding="utf-8")
    again = CharacterMap.load(tmp_path / name, [text])
    pairs = [[(e.character, e.spelling, e.reversible) for e in one.rewritings] for one in (found, again)]
    assert len(pairs[0]) == 4
    assert pairs[0] == pairs[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"a" = 3', "spelling in quotes"),
        ("[a]\nb = 'c'", "spelling in quotes"),
        ("a = ", "not readable"),
        ('"a" = ""', "rewrites nothing"),
        ('"a" = "a"', "rewrites nothing"),
        ('"" = "a"', "rewrites nothing"),
        ('"a" = "b"\n"b" = "c"', "itself rewritten"),
    ],
)
def test_unclear_files_are_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "map.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        CharacterMap.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        CharacterMap.load(tmp_path / "none.toml")
