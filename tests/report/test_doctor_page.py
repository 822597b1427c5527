"""The doctor's page: what it shows, and that it stands alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from glotprompt.report.doctor_page import MOST_CHARACTERS, doctor_page, length_bars, pieces_bars, write_doctor_page

from .test_page import Reader


def invented() -> dict[str, Any]:
    """Invented figures, in the form of `Diagnosis.to_dict()`."""
    return {
        "model": "invented-model", "language": "zzz", "level": "warn", "verdict": "will work with care",
        "findings": [
            {"name": "amount", "level": "ok", "figure": "900 lines", "meaning": "Enough.", "remedy": ""},
            {"name": "unknown", "level": "warn", "figure": "3 %", "meaning": "<Holes> & more.", "remedy": "Map them."},
        ],
        "text": {
            "pieces_per_word": 2.5, "line_lengths": [(1, 0), (2, 5), (4, 7)],
            "unknown": [
                {"text": "\u0320", "shown": "◌\u0320", "code_points": "U+0320", "name": "a mark", "count": 1234}
            ],
        },
        "references": {"eng": 1.2, "spa": 1.4, "rus": 3.0},
    }  # fmt: skip


@pytest.fixture
def diagnosis() -> dict[str, Any]:
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
    assert text.index("! unknown: take care") < text.index("✓ amount: well")


def test_page_stands_alone(page: str) -> None:
    read = Reader(page)
    assert all(link.startswith("#") for link in read.links)
    assert not re.search(r"url\((?!#)", page)
    assert "default-src 'none'" in page
    assert read.tags["script"] == 0
    assert read.tags["svg"] == 2
    assert len(read.ids) == len(set(read.ids))
    assert set(read.label_ids) <= set(read.ids)


def test_page_without_unknown_characters_and_with_many(diagnosis: dict[str, Any]) -> None:
    (one,) = diagnosis["text"]["unknown"]
    diagnosis["text"]["unknown"] = []
    assert "None: every character of this text is known." in doctor_page(diagnosis)
    diagnosis["text"]["unknown"] = [one] * (MOST_CHARACTERS + 2)
    page = doctor_page(diagnosis)
    assert page.count("U+0320") == MOST_CHARACTERS
    assert "and 2 more." in page


def test_figures_are_spoken(diagnosis: dict[str, Any]) -> None:
    assert "sub-words per word: eng 1.20, spa 1.40, zzz 2.50, rus 3.00." in pieces_bars(diagnosis)
    assert "tokens per line: 5 up to 2, 7 up to 4." in length_bars(diagnosis)
    diagnosis["language"] = None
    assert "this text 2.50" in pieces_bars(diagnosis)


def test_page_is_written_whole(diagnosis: dict[str, Any], page: str, tmp_path: Path) -> None:
    write_doctor_page(diagnosis, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
