"""Means over seeds and the writing of numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from glotprompt.report import tables


def test_every_named_method_has_its_own_colour() -> None:
    looks = [*tables.looks().values(), tables.look("new")]
    for facet in ("name", "colour", "marker"):
        assert len({getattr(look, facet) for look in looks}) == len(looks), facet


@pytest.mark.parametrize("colour", [look.colour for look in (*tables.looks().values(), tables.look("new"))])
@pytest.mark.parametrize("page", ["#fbfaf7", "#15181b"])  # --paper of the template, light and dark
def test_colours_stand_out_on_light_and_dark(colour: str, page: str) -> None:
    def luminance(code: str) -> float:
        parts = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(colour), luminance(page)))
    assert (high + 0.05) / (low + 0.05) >= 3


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (tables.size, 294_912, "295 kB"),
        (tables.size, None, "-"),
        (tables.duration, 4.25, "4.2 s"),
        (tables.duration, None, "-"),
        (tables.percent, 0.934, "93 %"),
        (tables.percent, 0.004, "< 1 %"),
        (tables.percent, 0.0, "0 %"),
        (tables.percent, None, "-"),
        (tables.number, 1234.56, "1,234.6"),
        (tables.number, math.nan, "-"),
        (tables.number, None, "-"),
    ],
)
def test_numbers_as_people_write_them(function: Any, value: Any, text: str) -> None:
    assert function(value) == text


def test_missing_is_not_zero() -> None:
    assert tables.mean_sd(tables.Spread((40.0, None, 42.0))) == "41.0 ± 1.4 (2 of 3)"
    assert tables.mean_sd(tables.Spread((None,))) == "-"
