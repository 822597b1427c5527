"""The decisions of a comparison, from figures alone: folds, the winner, and what to tell the person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from glotprompt.compare.candidates import ALIGNED, EMBEDDING, Candidate
from glotprompt.compare.result import Gain
from glotprompt.data.readers.records import MOST_FOLDS, Example, rows_by_text, stratified_folds
from glotprompt.errors import DataError, counted, setting
from glotprompt.quantities import duration
from glotprompt.records import ALREADY_ALIGNED
from glotprompt.report.significance import paired_bootstrap

FEWEST = 2
"""Different texts that each label needs, to be trained on and scored."""
SPELT_ALIKE = 15.0
"""Per cent of the texts' words that occur in the translations, below which these are taken to be spelt otherwise.
Alignment gained nothing where it was 10 %, 12 points where it was 23 %, and 5 to 33 points where it was 39 to 92 %
(docs/does_it_help.md)."""

Right = Float[NDArray[np.float64], " example"]
"""For each example the share of the seeds that were right."""


def label_folds(examples: Sequence[Example]) -> list[list[int]]:
    """The rows of each fold of target labels (`stratified_folds`): as many folds as the rarest label has different
    texts, at most five; `DataError` where that is one."""
    groups = rows_by_text(examples)
    if len(groups) < 2:
        raise DataError("all target labels are the same; give examples of at least two")
    rarest = min(groups, key=lambda label: len(groups[label]))
    if len(groups[rarest]) < FEWEST:
        raise DataError(
            f"target label {rarest!r} has {len(groups[rarest])} different texts; to choose on them each label needs"
            f" {FEWEST}: give more, or leave that label out"
        )
    return stratified_folds(examples, min(MOST_FOLDS, len(groups[rarest])))


def majority(examples: Sequence[Example]) -> str:
    """The most frequent label; of several the first in alphabetical order."""
    counts = Counter(str(example.label) for example in examples)
    return min(counts, key=lambda label: (-counts[label], label))


def gain(ours: Right, theirs: Right) -> Gain:
    """How much better one candidate is than another."""
    difference = paired_bootstrap([ours - theirs])
    assert difference is not None
    return Gain(mean=difference.mean, low=difference.low, high=difference.high)


def best(rights: Mapping[Candidate, Right]) -> Candidate:
    """The most accurate one; of several the first."""
    return max(rights, key=lambda candidate: rights[candidate].mean())


@dataclass(frozen=True)
class Choice:
    """The winner on the target labels."""

    baseline: Candidate
    winner: Candidate
    higher: Candidate | None
    """One that is more accurate than the winner by less than a standard error, and needs more; None: there is none."""

    @property
    def to_save(self) -> Candidate | None:
        """The winner, unless it is the majority class."""
        return None if self.winner.reads == "majority" else self.winner


def choose(rights: Mapping[Candidate, Right]) -> Choice:
    """The simplest model within one standard error of the most accurate candidate, of those above the baselines; a
    baseline where none is. With the few labels that there are, hardly any difference is clear: to ask for one would
    choose the baseline nearly always, although sentence vectors were above tf-idf in all languages tried
    (docs/does_it_help.md)."""
    baseline = best({one: right for one, right in rights.items() if one.is_baseline})
    above = {one: right for one, right in rights.items() if right.mean() > rights[baseline].mean()}
    if not above:
        return Choice(baseline, baseline, None)
    top = best(above)
    near = {one: right for one, right in above.items() if _is_near(right, rights[top])}
    tier = min(one.tier for one in near)
    winner = best({one: right for one, right in near.items() if one.tier == tier})
    return Choice(baseline, winner, None if rights[winner].mean() == rights[top].mean() else top)


def _is_near(right: Right, top: Right) -> bool:
    """Whether the paired difference is within one standard error of it."""
    difference = top - right
    return bool(difference.mean() <= difference.std(ddof=1) / len(difference) ** 0.5)


def recommend(
    run: Sequence[Candidate], retrieval_before: float | None, shared: float | None, is_listed: bool
) -> Candidate:
    """What to use where nothing can be measured on the target language: alignment gained much on languages that the
    model did not know, and nothing where translations are found already, or are spelt otherwise (`shared`: the
    `shared_words`, per cent). Self-training gained a little on those that it knew, and did harm on others. It knows one
    whose translations it finds; without translations, one that is on a list of what it was trained on (`is_listed`)."""
    aligned = [one for one in run if one.stage1 in ALIGNED and not one.self_trained]
    knows = is_listed if retrieval_before is None else retrieval_before >= ALREADY_ALIGNED
    if aligned and retrieval_before is not None and not knows and not is_spelt_otherwise(shared):
        return aligned[0]
    self_trained = [one for one in run if one.self_trained]
    return self_trained[0] if knows and self_trained else EMBEDDING


def is_spelt_otherwise(shared: float | None) -> bool:
    """Whether so few of the texts' words occur in the translations that alignment on these may gain nothing."""
    return shared is not None and shared < SPELT_ALIKE


def why_not(needed: float | None, left: float) -> str | None:
    """Why a candidate that needs so many seconds (None: nobody knows) does not begin; None: it does."""
    if needed is None:
        return "no time left"
    if needed <= left:
        return None
    return f"needs about {duration(needed)}, {duration(left) if left > 0 else 'no time'} left"


# ---------------------------------------------------------------------------------------------------------------
# What to tell


def advice(rights: Mapping[Candidate, Right], choice: Choice, language: str) -> list[str]:
    """Sentences that follow from the figures on target labels, the winner first."""
    number, winner, baseline = len(rights[choice.winner]), choice.winner, choice.baseline
    reached = f"{100 * rights[winner].mean():.1f} % on your {number:,} {language} labels"
    more = choice.higher
    models = {one: right for one, right in rights.items() if not one.is_baseline}
    if winner == baseline:
        why = "no language model is more accurate" if models else "no language model was tried"
        sentences = [
            f"{winner.title} is recommended, with {reached}: {why}.",
            "It needs none: nothing was saved, and there is nothing to serve."
            if choice.to_save is None
            else "It needs none, and is used and served like the others.",
        ]
        if models:
            model = best(models)
            over = gain(rights[winner], rights[model])
            if not over.is_clear:
                sentences.append(f"{number:,} labels cannot show a difference to {model.title}: {_points(over)}.")
    else:
        over = gain(rights[winner], rights[baseline])
        sentences = [f"{winner.title} is recommended: {reached}, {_points(over)} against {baseline.title}."]
        if not over.is_clear:
            sentences.append(f"{number:,} labels cannot show that this is more than chance; more labels can.")
    if more is not None:
        apart = _points(gain(rights[more], rights[winner]))
        sentences.append(f"{more.title} is higher by less than a standard error ({apart}) and takes more to train.")
    for name, has in _FEATURES.items():
        with_it, without = ({one: r for one, r in models.items() if has(one) is side} for side in (True, False))
        if with_it and without:
            sentences.append(_worth(name, number, (best(with_it), best(without)), rights))
    return sentences


_FEATURES: Mapping[str, Callable[[Candidate], bool]] = {
    "labels": lambda one: one.labels,
    "alignment": lambda one: one.stage1 in ALIGNED,
    "self-training": lambda one: one.self_trained,
}


def _worth(name: str, number: int, sides: tuple[Candidate, Candidate], rights: Mapping[Candidate, Right]) -> str:
    """What the best candidate with something has over the best one without."""
    with_it, without = (rights[one] for one in sides)
    difference = gain(with_it, without)
    points = f"{_points(difference)}, {sides[0].title} against {sides[1].title}"
    if name == "labels" and difference.is_clear:
        return f"{number:,} labels of your own are worth more here than anything zero-shot: {points}."
    what = {"labels": f"Training on your {number:,} labels, too,", "alignment": "Alignment on your translations"}
    what |= {"self-training": "Self-training on your text"}
    if difference.is_clear:
        return f"{what[name]} helps: {points}."
    if difference.high < 0:
        return f"{what[name]} hurts: {points}."
    if np.array_equal(with_it, without):
        points = f"{sides[0].title} and {sides[1].title} are right on the same ones"
    return f"{what[name]} makes no difference that {number:,} labels can show: {points}."


def spelling(shared: float | None, language: str) -> list[str]:
    """A warning where the translations are spelt otherwise than the texts."""
    if not is_spelt_otherwise(shared):
        return []
    return [
        f"Only {shared:.0f} % of the words of your {language} texts occur in the translations. Where these were spelt"
        " otherwise, alignment gained nothing: rewrite them to your spelling first, if you can."
    ]


def advice_without_labels(
    recommended: Candidate, retrieval_before: float | None, language: str, has_pairs: bool
) -> list[str]:
    """The same where nothing was measured on the target language."""
    reasons = list[str]()
    if recommended.stage1:
        reasons.append(
            f"where few translations are found before alignment (here {retrieval_before:.0f} %), it gained 12 to 30"
            " points in five of seven languages, and 0 to 5 in two"
        )
    elif retrieval_before is not None and retrieval_before >= ALREADY_ALIGNED:
        reasons.append(
            f"{retrieval_before:.0f} % of your translations are found without alignment, which then gave a few points"
            " at most"
        )
    elif retrieval_before is not None:
        reasons.append("alignment on translations that are spelt otherwise gained nothing")
    elif has_pairs:
        reasons.append("alignment, which gained most, was not run")
    elif not recommended.self_trained:
        reasons.append("it needs source labels alone, and little was better on average")
    if recommended.self_trained or (retrieval_before is None and not has_pairs):
        reasons.append(
            "self-training on unlabelled text gained 1 to 2 points with English labels in languages that the model was"
            " trained on (in 16 of 20), lost 1.5 with Hausa ones, and lost 3 in other languages"
        )
    sentences = [
        f"Without labelled {language} examples it cannot know which of these is best: the accuracies above are those of"
        f" the source language. {recommended.title} is recommended by what was measured on other languages:"
        f" {'; '.join(reasons)}."
    ]
    if retrieval_before is None and not has_pairs:
        # Accuracy on the source language did not tell which is better.
        sentences.append(
            "Prompt tuning of the model mini, which is not tried here, was 6 to 9 points better on headlines, with 300"
            " source labels as with 1,900, and 11 points worse on other sentences (docs/does_it_help.md)."
        )
        translations = setting("parallel")
        sentences.append(
            f"Translations may help where the model does not know the language; give them as {translations}."
        )
    few = setting("target_labels")
    sentences.append(f"Label 5 to 20 examples of each label and give them as {few}: it then chooses on them.")
    return sentences


def left_out(titles: Sequence[str], minutes: float) -> list[str]:
    """A sentence on the candidates that there was no time for."""
    if not titles:
        return []
    others = f" and {counted(len(titles) - 1, 'other')}" if len(titles) > 1 else ""
    return [
        f"{titles[0]}{others} did not fit into {minutes:g} minutes: a higher {setting('minutes')} tries more;"
        " what is finished is kept."
    ]


def _points(difference: Gain) -> str:
    return f"{difference.mean:+.1f} points ({difference.low:+.1f} to {difference.high:+.1f})"
