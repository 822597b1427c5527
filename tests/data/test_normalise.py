"""What `normalise` promises for every text, and what makes two texts the same."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glotprompt.data.readers.normalise import letters, normalise, words

# What is rare in random text, and matters here.
DIRT = (
    "\u00ad\u200b\ufeff\u200c\u200d\u00a0\u2028\u2029\u3000\x00\x1f\x7f\x85\x96\x81\t\r\n \u0301\u0323eo\u1ecd\u0958A1"
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(DIRT))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" a \t b\r\nc ", "a b c"),
        ("a\u00a0b\u2009c\u3000d", "a b c d"),
        ("a\u2028b\u2029c\x0bd\x0ce", "a b c d e"),
        ("e\u0301", "é"),
        ("e\u00ad\u0301", "é"),
        ("\ufeffa\ufeffb\u200bc\u00add", "abcd"),
        ("\x93a\x94 \x96 b\x85", "“a” – b…"),
        ("a\x00b\x07c\x7fd\x81e\x9df", "abcdef"),
        ("می\u200cخواهم क\u094d\u200dष", "می\u200cخواهم क\u094d\u200dष"),
        ("ʼn ꞌa Ａ ﬁ ß \ue000 \ufffd &amp;", "ʼn ꞌa Ａ ﬁ ß \ue000 \ufffd &amp;"),
        (" \u00a0\ufeff", ""),
    ],
    ids=[
        "spaces", "unicode spaces", "line ends", "NFC", "NFC after removal", "invisible", "C1 is cp1252", "controls",
        "joiners stay", "what stays", "nothing",
    ],
)  # fmt: skip
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.slow
@given(TEXTS)
def test_a_normalised_text_stays_as_it_is(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(TEXTS)
def test_a_normalised_text_is_clean_and_never_longer_than_nfc(text: str) -> None:
    found = normalise(text)
    assert unicodedata.is_normalized("NFC", found)
    assert len(found) <= len(unicodedata.normalize("NFC", text))
    assert all(char == " " or not (char.isspace() or unicodedata.category(char) == "Cc") for char in found)
    assert "  " not in found
    assert found == found.strip()


@given(TEXTS)
def test_letters_marks_and_digits_are_kept(text: str) -> None:
    # A C1 control may stand for a letter of cp1252, so there are more letters then.
    plain = "".join(char for char in text if not "\x80" <= char <= "\x9f")

    def kept(value: str) -> str:
        decomposed = unicodedata.normalize("NFD", value)
        found = "".join(char for char in decomposed if unicodedata.category(char)[0] in "LMN")
        return unicodedata.normalize("NFD", found)

    assert kept(normalise(plain)) == kept(plain)


@given(TEXTS)
def test_cleaning_does_not_make_another_text_of_it(text: str) -> None:
    plain = "".join(char for char in text if not "\x80" <= char <= "\x9f")
    assert letters(normalise(plain)) == letters(plain)


def test_words_are_letters_marks_and_digits_in_one_case() -> None:
    assert words("  “Ṣàlàyé”,\u00a0ọ̀rọ̀—NÁÀ… 12!") == ["ṣàlàyé", "ọ̀rọ̀náà", "12"]
    assert words("don't\u2028STOP ... \ufeff") == ["dont", "stop"]
    assert letters("Ｓtraße ﬁ") == "strassefi"
    assert letters("?! .") == ""
