"""What tables show of a classifier on a target whose label set may be smaller than the source's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glotprompt.classifier import PromptClassifier
from glotprompt.data.records import Example
from glotprompt.records import EvaluationReport
from glotprompt.train.calibration import fit_offsets, with_offsets
from glotprompt.train.inputs import Input
from glotprompt.train.scoring import report


@dataclass(frozen=True)
class TransferScores:
    """One classifier on one target, three ways."""

    as_is: EvaluationReport
    """Over all labels of the source."""
    own_labels: EvaluationReport
    """Over the labels that the target has."""
    offset: EvaluationReport
    """The latter with label offsets fitted on unlabelled target text, prior uniform over the target's own labels."""


def transfer_scores(
    classifier: PromptClassifier, test: Sequence[Example], own_labels: Sequence[str], prior_texts: Sequence[Input]
) -> TransferScores:
    """Score a classifier all three ways, reading every text once. `prior_texts` must not be the test's."""
    names = classifier.task.labels
    allowed = classifier.task.indices(own_labels)
    assert allowed is not None
    log_probs = classifier.log_probabilities(test)
    offsets = fit_offsets(classifier.log_probabilities(prior_texts), [float(i in allowed) for i in range(len(names))])
    gold = [str(example.label) for example in test]

    def scores(offsets: NDArray[np.float64] | None, allowed: Sequence[int] | None) -> EvaluationReport:
        best = with_offsets(log_probs, offsets, allowed).argmax(axis=1)
        return report(gold, [names[index] for index in best])

    return TransferScores(scores(None, None), scores(None, allowed), scores(offsets, allowed))
