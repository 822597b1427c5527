"""The paired bootstrap against cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from glotprompt.errors import DataError
from glotprompt.report.significance import (
    RESAMPLES,
    compare_predictions,
    drawn_together,
    paired_bootstrap,
    per_example,
    same_items,
)


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


def test_languages_with_the_same_items_draw_them_together() -> None:
    """What helps on a sentence helps in every language: twelve translations are no twelve times the evidence."""
    draw = np.random.default_rng(11)
    of_sentence = draw.choice([-1.0, 0.0, 1.0], size=300, p=[0.2, 0.5, 0.3])
    languages = [dict(enumerate(of_sentence.tolist())) for _ in range(12)]
    found = [
        paired_bootstrap(drawn_together([{f"{i}": value for i, value in one.items()} for one in languages], groups))
        for groups in ([[*range(12)]], [[index] for index in range(12)])
    ]
    together, apart = (one for one in found if one is not None)
    assert together.mean == pytest.approx(apart.mean) == pytest.approx(100 * of_sentence.mean())
    error = 100 * of_sentence.std() / math.sqrt(300)
    assert together.high - together.low == pytest.approx(2 * 1.96 * error, rel=0.04)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * error / math.sqrt(12), rel=0.04)
    assert (together.num_examples, apart.num_examples) == (300, 3600)


def test_an_item_that_a_language_lacks_leaves_the_mean_over_languages() -> None:
    languages = [{"a": 1.0, "b": 0.0, "c": -1.0, "d": 1.0}, {"a": 1.0, "b": 1.0, "c": 0.0}, {"x": 1.0, "y": 0.0}]
    arrays = drawn_together(languages, [[0, 1], [2]])
    assert [array.size for array in arrays] == [4, 2]
    found = paired_bootstrap(arrays)
    assert found is not None
    assert found.mean == pytest.approx(100 * (1 / 4 + 2 / 3 + 1 / 2) / 3)


def test_items_are_the_same_by_id_and_gold_label() -> None:
    first = {"1": "a", "2": "b", "3": "a"}
    lacks_one, other_labels, other_ids = {"1": "a", "3": "a"}, {"1": "b", "2": "b", "3": "a"}, {"7": "a", "8": "b"}
    assert same_items([first, other_labels, lacks_one, other_ids]) == [[0, 2], [1], [3]]
    assert same_items([first, {"1": "a"}]) == [[0], [1]], "most are missing"
    assert same_items([{}, {}]) == [[0], [1]], "nothing is known of them"


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
    assert per_example(ours, theirs) == {"a": 1.0, "b": -0.5}  # c and x have no counterpart


def test_more_seeds_are_not_more_examples() -> None:
    run = {f"{i}": i % 3 > 0 for i in range(90)}
    other = {f"{i}": i % 3 > 1 for i in range(90)}
    once, thrice = (paired_bootstrap(drawn_together([per_example([run] * n, [other] * n)], [[0]])) for n in (1, 3))
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
