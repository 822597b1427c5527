"""The paired bootstrap against cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from glotprompt.errors import DataError
from glotprompt.report.significance import RESAMPLES, compare_predictions, paired_bootstrap, per_example


def test_no_difference_has_an_interval_around_zero() -> None:
    found = paired_bootstrap([np.array([1.0, -1.0] * 100)])
    assert found is not None
    assert found.mean == 0
    assert found.low < 0 < found.high
    assert not found.is_clear


def test_shares_that_add_up_to_zero_are_zero() -> None:
    """Of three seeds each example tells thirds, whose sums leave 1e-15."""
    for sign in (1, -1):
        found = paired_bootstrap([sign * np.array([1 / 3] * 10 + [-2 / 3] * 3 + [1.0] * 3)])
        assert found is not None
        assert 0.0 in (found.low, found.high)
        assert not found.is_clear


def test_a_large_difference_leaves_zero_out_on_either_side() -> None:
    better = np.array([1.0] * 60 + [0.0] * 40)
    for sign in (1, -1):
        found = paired_bootstrap([sign * better])
        assert found is not None
        assert found.mean == pytest.approx(sign * 60)
        assert found.is_clear


def test_interval_is_the_normal_one_for_many_examples() -> None:
    values = np.random.default_rng(7).choice([-1.0, 0.0, 1 / 3, 1.0], size=4000)
    found = paired_bootstrap([values])
    assert found is not None
    error = 100 * values.std() / math.sqrt(values.size)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.03)
    assert (found.low + found.high) / 2 == pytest.approx(100 * values.mean(), abs=0.1 * error)


def test_mean_over_languages_counts_them_alike_and_each_is_drawn_by_itself() -> None:
    draw = np.random.default_rng(8)
    small, large = draw.choice([-1.0, 0.0, 1.0], size=400), draw.choice([0.0, 1.0], size=3600)
    found = paired_bootstrap([small, large])
    assert found is not None
    assert found.mean == pytest.approx(50 * (small.mean() + large.mean()))
    error = 50 * math.sqrt(small.var() / small.size + large.var() / large.size)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.04)
    assert found.num_examples == 4000


def test_the_same_as_drawing_examples_one_by_one() -> None:
    values = np.random.default_rng(9).choice([-1.0, -0.5, 0.0, 0.5, 1.0], size=50)
    found = paired_bootstrap([values])
    assert found is not None
    rows = np.random.default_rng(10).integers(0, values.size, size=(RESAMPLES, values.size))
    low, high = np.percentile(100 * values[rows].mean(axis=1), [2.5, 97.5])
    assert (found.low, found.high) == (pytest.approx(low, abs=1.1), pytest.approx(high, abs=1.1))


def test_seeded() -> None:
    values = np.array([0.0, 1.0, 1.0, -1.0])
    assert paired_bootstrap([values]) == paired_bootstrap([values])
    assert paired_bootstrap([values], resamples=50, seed=1) != paired_bootstrap([values], resamples=50, seed=2)


def test_nothing_to_compare() -> None:
    assert paired_bootstrap([]) is None
    assert paired_bootstrap([np.array([1.0]), np.array([])]) is None


def test_examples_are_paired_by_id_and_averaged_over_seeds() -> None:
    ours = [{"a": True, "b": True, "c": False}, {"c": False, "b": False, "a": True}]
    theirs = [{"b": True, "a": False, "x": True}]
    assert per_example(ours, theirs).tolist() == [1.0, -0.5]  # a, b; c and x have no counterpart


def test_more_seeds_are_not_more_examples() -> None:
    run = {f"{i}": i % 3 > 0 for i in range(90)}
    other = {f"{i}": i % 3 > 1 for i in range(90)}
    once, thrice = (paired_bootstrap([per_example([run] * n, [other] * n)]) for n in (1, 3))
    assert once == thrice


def test_two_lists_of_predictions() -> None:
    gold = ["a", "b"] * 50
    ours, theirs = ["a"] * 100, ["b"] * 20 + ["a"] * 80
    found = compare_predictions(gold, ours, theirs)
    assert (found.mean, found.num_examples) == (0, 100)
    assert found.low < 0 < found.high
    better = compare_predictions(gold, gold, theirs)
    assert better.mean == pytest.approx(50)
    assert better.is_clear
    worse = compare_predictions(gold, theirs, gold)
    assert (worse.mean, worse.is_clear) == (pytest.approx(-50), True)


def test_pairing_narrows_the_interval() -> None:
    """60 and 50 of 100: clear where one is right wherever the other is, and not where they err apart."""
    gold = ["a"] * 100
    ours, theirs = ["a"] * 60 + ["b"] * 40, ["a"] * 50 + ["b"] * 50
    assert compare_predictions(gold, ours, theirs).is_clear
    assert not compare_predictions(gold, ours, theirs[::-1]).is_clear


def test_predictions_of_other_examples_are_not_compared() -> None:
    with pytest.raises(DataError, match="3 gold labels, 3 and 2 predictions; expected as many of each"):
        compare_predictions(["a", "b", "a"], ["a", "b", "a"], ["a", "b"])
    with pytest.raises(DataError, match="no predictions to compare"):
        compare_predictions([], [], [])
