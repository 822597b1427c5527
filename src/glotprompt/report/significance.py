"""Significance of a difference between two methods: a paired bootstrap over test examples.

Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation"; Efron and Tibshirani 1993, chapter 13.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glotprompt.errors import DataError

RESAMPLES = 10_000
"""Number of times that the test examples are resampled."""

LEVEL = 95
"""Per cent of the resampled differences inside an interval."""

Correct = Mapping[str, bool]
"""Whether each test example of a run was labelled correctly, by its id."""


@dataclass(frozen=True)
class Difference:
    """Accuracy of one method minus that of another, in points of per cent."""

    mean: float
    low: float
    high: float
    """Ends of the interval."""
    num_examples: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def compare_predictions(gold: Sequence[str | None], ours: Sequence[str], theirs: Sequence[str]) -> Difference:
    """Accuracy of `ours` minus that of `theirs` on the same examples, with its 95 % interval. Raises `DataError` where
    the three lists are not equally long, or empty.

    The interval covers the choice of test examples, not the seed of a training.

    >>> compare_predictions(["a", "b"] * 50, ours=["a", "b"] * 50, theirs=["a", "a"] * 50).mean
    50.0
    """
    if not len(gold) == len(ours) == len(theirs):
        raise DataError(
            f"{len(gold)} gold labels, {len(ours)} and {len(theirs)} predictions; expected as many of each, in the same"
            " order"
        )
    right = [(one == truth) - (other == truth) for truth, one, other in zip(gold, ours, theirs, strict=True)]
    difference = paired_bootstrap([np.array(right, float)])
    if difference is None:
        raise DataError("there are no predictions to compare")
    return difference


def per_example(ours: Sequence[Correct], theirs: Sequence[Correct]) -> NDArray[np.float64]:
    """For each example that all runs have, by rising id: the share of correct seeds of `ours` minus that of `theirs`.

    Shape [example]. Seeds are averaged inside an example, so that three seeds do not count as three times the examples.
    """
    runs = [*ours, *theirs]
    shared = sorted(set(runs[0]).intersection(*runs[1:]))
    first, second = (np.array([[run[example] for example in shared] for run in side], float) for side in (ours, theirs))
    return np.asarray(first.mean(axis=0) - second.mean(axis=0))


def paired_bootstrap(
    differences: Sequence[NDArray[np.float64]], resamples: int = RESAMPLES, seed: int = 0
) -> Difference | None:
    """The mean difference over test sets (each [example], one per language) and its interval; None where one of them
    has no examples.

    Each test set is resampled separately, with replacement, and has the same weight in the mean. Differences take few
    distinct values, so sampling the count of each value (a multinomial) is the same as sampling the examples.
    """
    if not differences or not all(values.size for values in differences):
        return None
    random = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for values in differences:
        distinct, counts = np.unique(values, return_counts=True)
        times = random.multinomial(values.size, counts / values.size, size=resamples)
        means += times @ distinct / values.size
    means *= 100 / len(differences)
    means = np.round(means, 9)  # shares that add up to zero may leave 1e-16, which is not clear of it
    low, high = np.percentile(means, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    mean = 100 * float(np.mean([values.mean() for values in differences]))
    return Difference(mean, float(low), float(high), sum(values.size for values in differences))
