"""Is one method better than another, or did the test set only happen to like it? A paired bootstrap over examples.

Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation"; Efron and Tibshirani 1993, chapter 13.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glotprompt.errors import DataError

RESAMPLES = 10_000
"""How often the test examples are drawn anew."""

LEVEL = 95
"""Per cent of the resampled differences that an interval holds."""

Correct = Mapping[str, bool]
"""One run: the id of each test example, and whether its label was right."""


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
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def compare_predictions(gold: Sequence[str | None], ours: Sequence[str], theirs: Sequence[str]) -> Difference:
    """Our accuracy minus theirs on the same examples, with its 95 % interval. Raises `DataError` where the three lists
    are not equally long, or empty.

    The interval tells what other examples like these would have given, not what another seed of training would."""
    if not len(gold) == len(ours) == len(theirs):
        raise DataError(
            f"{len(gold)} gold labels, {len(ours)} and {len(theirs)} predictions; expected as many of each, in the same"
            " order"
        )
    right = [(one == truth) - (other == truth) for truth, one, other in zip(gold, ours, theirs, strict=True)]
    found = paired_bootstrap([np.array(right, float)])
    if found is None:
        raise DataError("there are no predictions to compare")
    return found


def per_example(ours: Sequence[Correct], theirs: Sequence[Correct]) -> NDArray[np.float64]:
    """For each example that all runs have, by rising id: the share of our seeds that were right minus theirs. [example]

    The average over seeds is taken inside an example, so that three seeds do not pass for three times the examples.
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

    Every test set is drawn anew by itself, with replacement, and counts alike in the mean. Differences take few
    distinct values, so drawing how often each value comes (a multinomial) is the same as drawing the examples.
    """
    if not differences or not all(values.size for values in differences):
        return None
    random = np.random.default_rng(seed)
    drawn = np.zeros(resamples)
    for values in differences:
        distinct, counts = np.unique(values, return_counts=True)
        times = random.multinomial(values.size, counts / values.size, size=resamples)
        drawn += times @ distinct / values.size
    drawn *= 100 / len(differences)
    drawn = np.round(drawn, 9)  # shares that add up to zero may leave 1e-16, which is not clear of it
    low, high = np.percentile(drawn, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    mean = 100 * float(np.mean([values.mean() for values in differences]))
    return Difference(mean, float(low), float(high), sum(values.size for values in differences))
