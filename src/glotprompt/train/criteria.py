"""Which of several classifiers reads an unfamiliar language best, judged without its labels.

All of them look at log-probabilities of the same unlabelled texts, [text, label] for each candidate, and give a score
for each: more is better. None is a proof; docs/log.md says how often each was right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glotprompt.train.scoring import fit_offsets, with_offsets

LogProbs = NDArray[np.floating]
"""[text, label], natural logarithms."""

Criterion = Literal["agreement", "mutual-information"]


def mutual_information(log_probs: LogProbs, allowed: Sequence[int] | None = None) -> float:
    """Entropy of the mean prediction minus the mean entropy (Bridle et al. 1992), in nats: sure of each text, and not
    always of the same label."""
    found = with_offsets(log_probs.astype(float), None, allowed)
    return _entropy(found.mean(axis=0)) - float(np.mean([_entropy(row) for row in found]))


def _entropy(probabilities: NDArray[np.floating]) -> float:
    used = probabilities[probabilities > 0]
    return float(-(used * np.log(used)).sum())


def agreement(candidates: Sequence[LogProbs], allowed: Sequence[int] | None = None) -> list[float]:
    """Share of the texts on which each candidate predicts what the mean of all candidates predicts (EnsV, Hu et al.
    2024), 0 to 1. Every candidate first gets label offsets of its own, or a bias that several share would win."""
    size = candidates[0].shape[1]
    prior = [float(allowed is None or label in allowed) for label in range(size)]
    adjusted = [
        with_offsets(found.astype(float), fit_offsets(found.astype(float), prior), allowed) for found in candidates
    ]
    together = np.mean(adjusted, axis=0).argmax(axis=1)
    plain = [with_offsets(found.astype(float), None, allowed).argmax(axis=1) for found in candidates]
    return [float((found == together).mean()) for found in plain]


def scores(
    criterion: Criterion, candidates: Mapping[str, LogProbs], allowed: Sequence[int] | None = None
) -> dict[str, float]:
    """Every candidate's score."""
    if criterion == "agreement":
        return dict(zip(candidates, agreement(list(candidates.values()), allowed), strict=True))
    return {name: mutual_information(found, allowed) for name, found in candidates.items()}
