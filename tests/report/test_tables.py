"""Means over seeds and the writing of numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from glotprompt.report import tables


def rows(method: str, *accuracies: float | None) -> list[dict[str, Any]]:
    """Rows of one method with seeds 0, 1, ..."""
    return [{"method": method, "seed": seed, "target_test_accuracy": a} for seed, a in enumerate(accuracies)]


def test_mean_and_sample_deviation() -> None:
    (summary,) = tables.summarise(rows("soft-prompt", 40.0, 44.0, 48.0))
    spread = summary.columns["target_test_accuracy"]
    assert (spread.mean, spread.sd, spread.num, spread.values) == (44.0, 4.0, 3, (40.0, 44.0, 48.0))
    assert tables.mean_sd(spread) == "44.0 ± 4.0"


def test_one_seed_has_no_deviation() -> None:
    (summary,) = tables.summarise(rows("soft-prompt", 40.0))
    spread = summary.columns["target_test_accuracy"]
    assert (spread.mean, spread.sd, spread.num) == (40.0, None, 1)
    assert tables.mean_sd(spread) == "40.0"


def test_missing_is_not_zero() -> None:
    (summary,) = tables.summarise(rows("soft-prompt", 40.0, None, 42.0))
    assert summary.columns["target_test_accuracy"].values == (40.0, None, 42.0)
    assert tables.mean_sd(summary.columns["target_test_accuracy"]) == "41.0 ± 1.4 (2 of 3)"
    assert summary.columns["macro_f1"].mean is None
    assert tables.mean_sd(summary.columns["macro_f1"]) == "-"


def test_order_of_methods_and_seeds() -> None:
    unsorted = [*rows("new", 1.0), *reversed(rows("soft-prompt", 1.0, 2.0)), *rows("majority", 3.0)]
    summaries = tables.summarise(unsorted)
    assert [summary.method for summary in summaries] == ["majority", "soft-prompt", "new"]
    assert summaries[1].seeds == (0, 1)
    assert summaries[1].columns["target_test_accuracy"].values == (1.0, 2.0)
    assert [summary.name for summary in summaries][-1] == "new"


def test_collapses_are_kept_with_their_seed() -> None:
    first, second = rows("soft-prompt", 40.0, 41.0)
    (summary,) = tables.summarise([first, {**second, "collapsed_label": "law", "collapsed_share": 0.95}])
    assert summary.collapses == (tables.Collapse(1, "law", 0.95),)


def test_nothing_gives_nothing() -> None:
    assert tables.summarise([]) == []


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


def test_own_label_column_appears_only_when_filled() -> None:
    def headings(*extra: dict[str, Any]) -> list[str]:
        result = {"task": {"source_name": "Hausa", "target_name": "Shona"}}
        return [heading for _, heading in tables.accuracy_columns(result, tables.summarise(extra))]

    (row,) = rows("soft-prompt", 40.0)
    assert headings(row) == ["Shona test"]
    assert headings({**row, "target_test_accuracy_centred": 50.0}) == ["Shona test", "test, centred"]
    assert headings({**row, "target_test_accuracy_own_labels": 50.0})[-1] == "test, own labels"


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


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [("a b", "c", "a b __ c"), ("m'", "; d", "m'__; d"), ("a ", " b", "a __ b"), ("", "", "__")],
)
def test_gap_is_apart_from_letters_only(left: str, right: str, expected: str) -> None:
    before, after = tables.around_gap(left, right)
    assert f"{before}__{after}" == expected


def test_right_word_ignores_only_the_word_mark() -> None:
    assert tables.is_right("▁madzi", "madzi")
    assert not tables.is_right("Madzi", "madzi")
