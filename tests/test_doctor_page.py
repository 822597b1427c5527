"""The doctor's page: what it shows, and that it stands alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from glotprompt.doctor import Diagnosis
from glotprompt.doctor.page import MOST_CHARACTERS, doctor_page, length_bars, pieces_bars, write_doctor_page
from glotprompt.doctor.text import TextStatistics
from glotprompt.doctor.verdict import Finding
from glotprompt.training.objectives.unknown import UnknownCharacter

from .pages import Reader

UNKNOWN = UnknownCharacter("\u0320", 1234)


def invented(language: str | None = "zzz", unknown: tuple[UnknownCharacter, ...] = (UNKNOWN,)) -> Diagnosis:
    """Invented figures."""
    counts: dict[str, Any] = dict.fromkeys(
        "num_lines num_unique num_counted num_characters unknown_tokens touched_words num_short num_other_script"
        " num_mojibake".split(),
        0,
    )
    text = TextStatistics(
        num_words=10,
        num_tokens=25,
        line_tokens=(2,) * 5 + (3,) * 7,
        unknown=unknown,
        far=(),
        scripts={},
        foreign={},
        markup={},
        mojibake=("", ""),
        **counts,
    )
    findings = (
        Finding("amount", "ok", "900 lines", "Enough."),
        Finding("unknown", "warn", "3 %", "<Holes> & more.", "Map them."),
    )
    references = {"eng": 1.2, "spa": 1.4, "rus": 3.0}
    return Diagnosis("invented-model", language, None, text, references, cast(Any, None), None, findings)


@pytest.fixture
def diagnosis() -> Diagnosis:
    return invented()


@pytest.fixture(scope="module")
def page() -> str:
    """Made once: its figures take most of the time."""
    return doctor_page(invented())


def test_page_shows_the_findings(page: str) -> None:
    read = Reader(page)
    text = " ".join(read.text.split())
    for shown in ("will work with care", "<Holes> & more.", "To do: Map them.", "◌\u0320", "U+0320", "1,234", "zzz"):
        assert shown in text, shown
    assert text.count("To do:") == 1
    # What needs a person stands first.
    assert text.index("! unknown: warning") < text.index("✓ amount: ok")
    assert "<summary>Fine: amount</summary>" in page


def test_page_stands_alone(page: str) -> None:
    read = Reader(page)
    assert all(link.startswith("#") for link in read.links)
    assert not re.search(r"url\((?!#)", page)
    assert "default-src 'none'" in page
    assert read.tags["script"] == 0
    assert read.tags["svg"] == 2
    assert len(read.ids) == len(set(read.ids))
    assert set(read.label_ids) <= set(read.ids)


@pytest.mark.slow
def test_page_without_unknown_characters_and_with_many() -> None:
    assert "None: the vocabulary covers every character of this text." in doctor_page(invented(unknown=()))
    page = doctor_page(invented(unknown=(UNKNOWN,) * (MOST_CHARACTERS + 2)))
    assert page.count("U+0320") == MOST_CHARACTERS
    assert "and 2 more." in page


def test_figures_are_spoken(diagnosis: Diagnosis) -> None:
    assert "sub-words per word: eng 1.20, spa 1.40, zzz 2.50, rus 3.00." in pieces_bars(diagnosis)
    assert "tokens per line: 5 up to 2, 7 up to 4." in length_bars(diagnosis)
    assert "this text 2.50" in pieces_bars(replace(diagnosis, language=None))


def test_page_is_written_whole(diagnosis: Diagnosis, page: str, tmp_path: Path) -> None:
    write_doctor_page(diagnosis, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
