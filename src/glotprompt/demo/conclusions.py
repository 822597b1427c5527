"""Conclusions from a demo's figures, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from glotprompt.demo.result import DemoFigures
from glotprompt.records import ALREADY_ALIGNED
from glotprompt.report.significance import Difference, paired_bootstrap
from glotprompt.report.tables import look, method_name, number

BASELINE = "embedding"
"""The row that a trained one must beat."""
WITH_LABELS = ("labels-5", "labels-20")
"""Rows that have labels of the target language, too: told apart, as they need what the others do without."""


@dataclass(frozen=True, order=True)
class Reading:
    """One way to read one method's predictions."""

    method: str
    centred: bool = False
    """Whether sentence vectors were centred by unlabelled target text."""

    @property
    def name(self) -> str:
        style = look(self.method)
        name = BASELINE if self.method == BASELINE else style.long_name or style.name
        return name + (", centred" if self.centred else "")


Right = Mapping[Reading, Sequence[Sequence[int]]]
"""By reading, for every seed: 1 for each test example that was right, else 0, in one order."""


def conclusions(result: DemoFigures, right: Right) -> tuple[list[str], Reading]:
    """The sentences of a demo, and the reading that the last of them names. `right` has that of embedding as it is."""
    best, last = advice(result, right)
    return [*_reading_sentence(result), *_alignment_sentence(result), *_labels_sentence(result, right), last], best


def advice(result: DemoFigures, right: Right) -> tuple[Reading, str]:
    """The recommended reading, and why: embedding in its better reading (centring costs nothing); or the best trained
    reading, where the paired bootstrap over the test examples leaves zero out against both readings of embedding."""
    untrained = [reading for reading in (Reading(BASELINE), Reading(BASELINE, centred=True)) if reading in right]
    baseline = max(untrained, key=lambda one: _accuracy(right, one))  # the first at a tie: as it is
    others = (reading for reading in right if reading.method not in (BASELINE, *WITH_LABELS))
    trained = sorted(others, key=lambda one: -_accuracy(right, one))
    gains = {reading: compared(right, reading, baseline) for reading in trained}
    is_better = trained and all(compared(right, trained[0], one).low > 0 for one in untrained)
    best = trained[0] if is_better else baseline
    majority = next((row.target_test_accuracy for row in result.rows if row.method == "majority"), None)
    if majority is not None and _low(right, best) <= majority:
        return best, (
            f"Use none of them yet: {best.name}, {number(_accuracy(right, best))} % right, cannot be told from"
            f" always answering the largest class ({number(majority)} %)."
        )
    how_right = f"{number(_accuracy(right, best))} % of {len(right[best][0]):,} right"
    if best in gains:
        why = f"{_points(gains[best])} against {baseline.name}"
        return best, f"Use {best.name}: {how_right}, {why}.{_because(result, best)}"
    aligned = [reading for reading in trained if reading.method.endswith("-aligned")]
    compared_readings = list(
        {reading.method: reading for reading in reversed(aligned or trained)}.values()
    )  # the best of each
    gains_text = "; ".join(f"{reading.name} {_points(gains[reading])}" for reading in reversed(compared_readings))
    what = "alignment adds" if aligned else "training adds"
    nothing = f": {what} nothing that can be told from chance ({gains_text})" if gains_text else ""
    return best, f"Use {best.name}, {how_right}{nothing}.{_because(result, best)}"


def compared(right: Right, ours: Reading, theirs: Reading) -> Difference:
    """Points of accuracy of one reading over another, seeds averaged within an example."""
    difference = paired_bootstrap([_share(right, ours) - _share(right, theirs)])
    assert difference is not None
    return difference


def _share(right: Right, reading: Reading) -> np.ndarray:
    return np.mean(np.array(right[reading], dtype=float), axis=0)


def _accuracy(right: Right, reading: Reading) -> float:
    return 100 * float(_share(right, reading).mean())


def _low(right: Right, reading: Reading) -> float:
    """The lower end of a reading's accuracy."""
    interval = paired_bootstrap([_share(right, reading)])
    assert interval is not None
    return interval.low


def _points(gain: Difference) -> str:
    return f"{gain.mean:+.1f} points [{gain.low:+.1f}, {gain.high:+.1f}]"


def _because(result: DemoFigures, best: Reading) -> str:
    """A sentence on the retrieval of held-out translations."""
    if not result.alignment:
        return ""
    before, target = result.alignment[0].retrieval_before, result.task.target_name
    own = next((one for one in result.alignment if one.method == best.method), None)
    if own is not None:
        return f" It finds {number(own.retrieval_after)} % of held-out translations, {number(before)} % before."
    if before >= ALREADY_ALIGNED:
        return f" The backbone knows {target} already: it finds {number(before)} % of held-out translations untrained."
    return f" The backbone finds {number(before)} % of held-out translations untrained."


def _reading_sentence(result: DemoFigures) -> list[str]:
    language = result.language
    if language is None:
        return []
    verb = "fell" if language.learned else "did not fall: it went"
    return [
        f"Reading: on held-out {result.task.target_name} text the MLM loss {verb} from"
        f" {number(language.mlm_loss_before, 2)} to {number(language.mlm_loss_after, 2)}, and the right token is now"
        f" first {number(language.top1_after)} % of the time instead of {number(language.top1_before)} %."
    ]


def _alignment_sentence(result: DemoFigures) -> list[str]:
    if not result.alignment:
        return []
    first = result.alignment[0]
    after = ", ".join(f"{number(one.retrieval_after)} % ({method_name(one.method)})" for one in result.alignment)
    return [
        f"Aligning: of half of {number(first.held_out_pairs, 0)} held-out pairs (the others choose the step)"
        f" {number(first.retrieval_before)} % found each other by their vectors before, and after it {after}."
    ]


def _labels_sentence(result: DemoFigures, right: Right) -> list[str]:
    """The gain from labels of the target language, by the number of each label."""
    baseline = Reading(BASELINE)
    gains = {name.removeprefix("labels-"): compared(right, Reading(name), baseline) for name in WITH_LABELS
             if Reading(name) in right}  # fmt: skip
    if not gains:
        return []
    gains_text = ", ".join(f"{_points(gain)} with {number} of each" for number, gain in gains.items())
    return [f"Labels in {result.task.target_name} as well, against {baseline.name}: {gains_text}."]
