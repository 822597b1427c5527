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


def per_example(ours: Sequence[Correct], theirs: Sequence[Correct]) -> dict[str, float]:
    """For each example that all runs have, by rising id: the share of correct seeds of `ours` minus that of `theirs`.

    Seeds are averaged inside an example, so that three seeds do not count as three times the examples.
    """
    runs = [*ours, *theirs]
    shared = sorted(set(runs[0]).intersection(*runs[1:]))
    first, second = (np.array([[run[example] for example in shared] for run in side], float) for side in (ours, theirs))
    return dict(zip(shared, (first.mean(axis=0) - second.mean(axis=0)).tolist(), strict=True))


def same_items(golds: Sequence[Mapping[str, str]]) -> list[list[int]]:
    """Groups of test sets (gold labels by id) that hold the same items, as translations of one test set do.

    Two are the same where more than half of the larger one's ids are common, so that a few may be missing, and all of
    these have the same gold label. Files that only happen to agree do no harm: drawn together, their examples vary
    independently all the same.
    """
    groups: list[tuple[dict[str, str], list[int]]] = []
    for index, gold in enumerate(golds):
        for items, members in groups:
            common = items.keys() & gold.keys()
            if 2 * len(common) > max(len(items), len(gold)) and all(items[one] == gold[one] for one in common):
                items.update(gold)
                members.append(index)
                break
        else:
            groups.append((dict(gold), [index]))
    return [members for _, members in groups]


def drawn_together(
    differences: Sequence[Mapping[str, float]], groups: Sequence[Sequence[int]]
) -> list[NDArray[np.float64]]:
    """One array for `paired_bootstrap` from the differences of each group of languages (by id), so that each draw takes
    the same items for all languages of a group.

    An item's value is what it adds to the mean over all languages. One that a language lacks adds nothing there, and
    that language's others count for as much more, so the mean stays the mean over languages.
    """
    arrays: list[NDArray[np.float64]] = []
    for group in groups:
        members = [differences[index] for index in group]
        values = dict.fromkeys(sorted({item for member in members for item in member}), 0.0)
        for member in members:
            weight = len(values) / max(1, len(member)) * len(groups) / len(differences)
            for item, difference in member.items():
                values[item] += weight * difference
        # without rounding, sums of the same thirds in another order would be different values
        arrays.append(np.asarray(np.round([*values.values()], 12), np.float64))
    return arrays


def paired_bootstrap(
    differences: Sequence[NDArray[np.float64]], resamples: int = RESAMPLES, seed: int = 0
) -> Difference | None:
    """The mean difference over test sets (each [example]) and its interval; None where one of them has no examples.

    Each test set is resampled separately, with replacement, and has the same weight in the mean: languages that share
    their items are to be one test set (`drawn_together`). Differences take few distinct values, so sampling the count
    of each value (a multinomial) is the same as sampling the examples.
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
