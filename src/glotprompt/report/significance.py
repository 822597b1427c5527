"""Significance of a difference between two methods: a paired bootstrap over test examples; and the table of it.

Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation"; Efron and Tibshirani 1993, chapter 13.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glotprompt.errors import DataError
from glotprompt.grid.step_results import Labels
from glotprompt.report.paper_figures import stem
from glotprompt.report.paper_tables import MEAN, WHICH, colours
from glotprompt.report.results import REFERENCE, Correct, Experiment, Line, shared_seeds
from glotprompt.report.table_files import Table, TableCell, word_cell
from glotprompt.report.tables import DASH

RESAMPLES = 10_000
"""Number of times that the test examples are resampled."""

LEVEL = 95
"""Per cent of the resampled differences inside an interval."""


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


def significance_table(experiment: Experiment) -> Table | None:
    """Accuracy of the reference (the adapted soft prompt, if the experiment names none) minus that of each other
    method, with intervals; None where one side is missing."""
    own_prompt = (line for line in experiment.lines if line.varied.get("prompt_of", "target") == "target")
    name = experiment.plan.get("reference") or REFERENCE
    reference = next((line for line in own_prompt if line.method == name), None)
    others = [line for line in experiment.lines if line is not reference]
    if reference is None or not others or not any(run.correct() for run in reference.runs):
        return None
    golds = {run.target or "": run.gold for run in reversed(experiment.done)}
    groups = same_items([golds.get(target, {}) for target in experiment.targets])
    rows: list[tuple[TableCell, ...]] = []
    for other in others:
        cells = [_difference_cell(_difference(reference, other, [target], [[0]])) for target in experiment.targets]
        means = [_difference(reference, other, experiment.targets, groups, labels) for labels in WHICH]
        rows.append((word_cell(other.name), *map(_difference_cell, means), *cells))
    return Table(
        name=stem(experiment.name, "significance"),
        caption=f"Accuracy of “{reference.name}” minus that of each other method in points, with {LEVEL} % intervals:"
        f" paired bootstrap over the test examples, {RESAMPLES:,} resamples, each example averaged over the seeds that"
        f" both have; for the mean, {_drawn([[experiment.targets[one] for one in group] for group in groups])}. Bold:"
        " the interval excludes zero. Intervals cover the choice of test examples, not the training; they are not"
        " corrected for multiple comparisons.",
        headings=(f"{reference.name} minus", MEAN, f"{MEAN}, own labels", *experiment.targets),
        rows=tuple(rows),
        colours=colours(others),
    )


def _drawn(groups: Sequence[Sequence[str]]) -> str:
    """How the languages are resampled, in words."""
    shared = [group for group in groups if len(group) > 1]
    if not shared:
        return "each language is resampled separately"
    if len(groups) == 1:
        return "all languages have the same test items, and each draw takes the same ones for all"
    listed = "; ".join(", ".join(group) for group in shared)
    alone = ", the others are resampled separately" if len(shared) < len(groups) else ""
    return f"each draw takes the same items for languages that share their test items ({listed}){alone}"


def _difference(
    line: Line, other: Line, targets: Sequence[str], groups: Sequence[Sequence[int]], labels: Labels = "all"
) -> Difference | None:
    """The difference over some languages, of which groups (by index) are drawn together; None where a language is
    missing on one side."""
    samples: list[dict[str, float]] = []
    for target in targets:
        pair = shared_seeds(line.of(target), other.of(target))
        sides = [[run.correct(labels) for run in side] for side in pair]
        if not sides[0] or not all(run for side in sides for run in side):
            return None
        samples.append(per_example(*sides))
    return paired_bootstrap(drawn_together(samples, groups))


def _difference_cell(difference: Difference | None) -> TableCell:
    if difference is None:
        return TableCell(DASH)
    mean, low, high = (_signed(value) for value in (difference.mean, difference.low, difference.high))
    text = f"{mean} [{low}, {high}]"
    return TableCell(text, difference.is_clear, difference.mean, low=difference.low, high=difference.high)


def _signed(value: float) -> str:
    """A number with its sign: +1.2, −1.2, but 0.0."""
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")
