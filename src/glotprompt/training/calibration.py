"""Calibration: per-label offsets, fitted on unlabelled text, that correct a bias towards some labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glotprompt.errors import DataError, setting


def with_offsets(
    log_probs: NDArray[np.float64], offsets: NDArray[np.float64] | None, allowed: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Probabilities after adding one offset per label, restricted to the `allowed` labels; rows sum to 1."""
    shifted = log_probs if offsets is None else log_probs + offsets
    if allowed is not None:
        keep = np.full(shifted.shape[1], -np.inf)
        keep[list(allowed)] = 0.0
        shifted = shifted + keep
    exponentials = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def fit_offsets(log_probs: NDArray[np.float64], prior: Sequence[float], rounds: int = 200) -> NDArray[np.float64]:
    """Fit one offset per label so that the mean predicted probabilities on unlabelled texts equal `prior`.

    Iterates offset += log(prior) - log(mean probability); labels with prior 0 are excluded. Corrects a bias towards
    some labels in a new language; a wrong prior hurts.
    """
    target = np.asarray(prior, dtype=float)
    if len(log_probs) == 0:
        raise DataError(f"calibration needs at least one unlabelled text; give more as {setting('prior_text')}")
    if target.shape != (log_probs.shape[1],) or (target < 0).any() or target.sum() <= 0:
        raise DataError(f"a prior needs {log_probs.shape[1]} non-negative numbers, one per label, not {list(prior)}")
    target = target / target.sum()
    used = target > 0
    offsets = np.where(used, 0.0, -np.inf)
    for _ in range(rounds):
        means = with_offsets(log_probs, offsets).mean(axis=0)
        change = np.log(target[used]) - np.log(np.maximum(means[used], 1e-300))
        offsets[used] += change
        if np.abs(change).max() < 1e-9:
            break
    offsets[used] -= offsets[used].mean()
    return offsets
