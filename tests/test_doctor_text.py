"""What the doctor counts in a text: each figure against a text small enough to count by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from glotprompt.data.datasets.catalog import dataset
from glotprompt.data.readers.files import read_texts
from glotprompt.doctor import text as doctor_text
from glotprompt.doctor.text import (
    UnknownCharacter,
    foreign_lines,
    reference_pieces,
    references,
    script_of,
    statistics_of,
)


def test_counts_by_hand(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    lines = ["the king the king", "the  king the king ", "day"]
    found = statistics_of(lines, tiny_tokenizer)
    assert (found.num_lines, found.num_unique, found.num_counted, found.num_words) == (3, 2, 3, 9)
    assert found.num_short == 1
    assert found.duplicate_share == pytest.approx(1 / 3)
    assert found.num_characters == 4 * 3 + 4 * 4 + 3
    assert found.scripts == {"LATIN": 1.0}
    assert (found.unknown, found.unknown_tokens, found.touched_words) == ((), 0, 0)


@pytest.mark.slow
def test_sub_words_are_those_of_whole_lines(mini_tokenizer: PreTrainedTokenizerFast, english_lines: list[str]) -> None:
    lines = [*english_lines, "Ńgá ọ̀rẹ́, “swa”\u00a0ሰላም\u200bዓለም x\ufeffy", "<mask> and <unk> are text"]
    mini_tokenizer(["the day"], padding="max_length", max_length=99)  # must not linger
    found = statistics_of(lines, mini_tokenizer)
    clean = [*lines[:-1], "< mask> and < unk> are text"]
    whole = [len(ids) for ids in mini_tokenizer(clean, add_special_tokens=False)["input_ids"]]
    assert list(found.line_tokens) == whole
    assert found.num_tokens == sum(whole)


def test_unknown_characters_are_found_exactly(mini_tokenizer: PreTrainedTokenizerFast) -> None:
    lines = ["r\u0320a\u0320 wa r\u0320a\u0320", "wa\u1258\u125at ሰላም", "no such thing"]
    found = statistics_of(lines, mini_tokenizer)
    assert found.unknown[0] == UnknownCharacter("\u0320", 4)
    assert set(found.unknown[1:]) == {UnknownCharacter("\u1258", 1), UnknownCharacter("\u125a", 1)}
    assert found.touched_words == 3
    assert found.unknown_tokens == 5  # the two Ethiopic ones stand together and are read as one
    ids = mini_tokenizer(lines, add_special_tokens=False)["input_ids"]
    assert found.unknown_tokens == sum(row.count(mini_tokenizer.unk_token_id) for row in ids)
    assert found.unknown_share == 5 / found.num_tokens
    assert found.touched_share == 3 / 8
    assert found.unknown[0].shown == "◌\u0320"
    assert (found.unknown[0].code_points, found.unknown[0].name) == ("U+0320", "combining minus sign below")


def test_letters_with_marks_are_shown_composed(mini_tokenizer: PreTrainedTokenizerFast) -> None:
    """The tokenizer composes: not the letter z is unknown, which it knows, but the letter with its dot."""
    assert statistics_of(["z za z"], mini_tokenizer).unknown == ()
    found = statistics_of(["z\u0323a baz\u0323 \u1e93 z"], mini_tokenizer).unknown
    assert found == (UnknownCharacter("\u1e93", 3),)
    assert (found[0].shown, found[0].code_points) == ("\u1e93", "U+1E93")


def test_characters_that_no_map_helps(mini_tokenizer: PreTrainedTokenizerFast) -> None:
    found = statistics_of(["ߗߙ r\u0320a z\u0323 Ɨ"], mini_tokenizer)
    assert {char.text for char in found.far} == {"ߗ", "ߙ"}
    assert len(found.unknown) == 5
    assert statistics_of(["all is known"], mini_tokenizer).far == ()


def test_a_tokenizer_that_gives_up_whole_words() -> None:
    words = WordPiece({"[UNK]": 0, "a": 1, "##b": 2, "##a": 3, "b": 4}, unk_token="[UNK]")
    backend = Tokenizer(words)
    backend.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    found = statistics_of(["ab abŋ ŋa"], tokenizer)
    assert found.unknown == (UnknownCharacter("ŋ", 2),)
    assert (found.touched_words, found.unknown_tokens, found.num_tokens) == (2, 2, 4)


@pytest.mark.parametrize(
    ("char", "script"),
    [
        *[("a", "LATIN"), ("Ñ", "LATIN"), ("ｱ", "KATAKANA"), ("Ａ", "LATIN"), ("ж", "CYRILLIC"), ("ሰ", "ETHIOPIC")],
        *[("水", "CJK"), ("ᱚ", "OL CHIKI"), ("ᐁ", "CANADIAN SYLLABICS"), ("ߊ", "NKO"), ("ا", "ARABIC")],
        *[("1", ""), (".", ""), ("\u0320", ""), ("ʼ", ""), ("µ", "GREEK"), ("ª", "LATIN"), ("\ue000", "")],
    ],
)
def test_script(char: str, script: str) -> None:
    assert script_of(char) == script


def test_lines_in_another_script(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    found = statistics_of(["the king", "the water", "в лес и the", "в лес the king", "12 ..."], tiny_tokenizer)
    assert list(found.scripts) == ["LATIN", "CYRILLIC"]
    assert found.num_other_script == 1
    assert found.spaced
    assert not statistics_of(["水火木金土"], tiny_tokenizer).spaced


def test_foreign_lines_want_several_function_words() -> None:
    lines = ["de la la la", "esta es la casa de mi madre", "kasa ya nde la umi", "It was in the house, with them."]
    split = [line.split() for line in lines]
    assert foreign_lines(split, {word for line in split for word in line}) == {"spa": 1, "eng": 1}


def test_long_texts_are_counted_in_part(
    tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_text, "MAX_LINES", 10)
    found = statistics_of([f"king {i % 20}" for i in range(25)], tiny_tokenizer)
    assert (found.num_lines, found.num_unique, found.num_counted) == (25, 20, 9)
    assert found.num_words == 18
    assert len(found.line_tokens) == 9


def test_references_say_the_same_in_ten_languages(mini_tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(references()) == 10
    assert {len(reference.sentences) for reference in references().values()} == {8}
    # Function words of one language recognise its own sentences and no other's.
    for code, reference in references().items():
        split = [sentence.split() for sentence in reference.sentences]
        found = foreign_lines(split, {word for line in split for word in line})
        assert set(found) <= {code}
    pieces = reference_pieces(mini_tokenizer)
    assert {code: round(value, 2) for code, value in pieces.items()} == {
        "eng": 1.17, "fra": 1.30, "ind": 1.34, "spa": 1.38, "por": 1.40, "afr": 1.45, "deu": 1.67, "swa": 1.70,
        "rus": 2.04, "tur": 2.27,
    }  # fmt: skip


@pytest.mark.slow
def test_published_texts(corpora: Path, mini_tokenizer: PreTrainedTokenizerFast) -> None:
    (path,) = corpora.glob("americasnlp2021/*/train.oto")
    otomi = statistics_of(read_texts(path), mini_tokenizer)
    assert [(char.code_points, char.count) for char in otomi.unknown] == [("U+0320", 342)]
    assert round(100 * otomi.unknown_share, 2) == 0.21
    tigrinya = statistics_of(dataset("masakhanews").texts("tir", data_dir=corpora)[:200], mini_tokenizer)
    assert round(tigrinya.pieces_per_word, 1) == 3.2
    assert list(tigrinya.scripts) == ["ETHIOPIC", "LATIN"]
