"""A linear map from the vectors of target sentences to those of their translations, which a linear head takes in.

Ridge regression, in closed form. It learns how a translation's vector differs from the sentence's own, each less the
mean of its side: under an endless penalty no map is left, and the head is one that the pairs have centred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from glotprompt.model.modules.classification import EmbeddingHead

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""In units of the mean eigenvalue of the target vectors' Gram matrix; held-out pairs choose one."""

_Vectors = Float[NDArray[np.float32], "pair hidden"]


@dataclass(frozen=True)
class PairVectors:
    """Sentence vectors of translations: row by row the same sentence."""

    source: _Vectors
    target: _Vectors


@dataclass(frozen=True)
class RidgeMap:
    """(target vector - `target_mean`) @ `matrix` + `source_mean` is near the source vector."""

    matrix: Float[NDArray[np.float64], "hidden hidden"]
    target_mean: Float[NDArray[np.float64], " hidden"]
    source_mean: Float[NDArray[np.float64], " hidden"]
    penalty: float

    def error(self, pairs: PairVectors) -> float:
        """Mean squared distance to the source vectors."""
        return float(np.mean(((pairs.target - self.target_mean) @ self.matrix + self.source_mean - pairs.source) ** 2))

    def folded(self, head: EmbeddingHead) -> EmbeddingHead:
        """The head that gives a target vector the scores which `head` gives its image."""
        matrix, target, source = (
            torch.from_numpy(value) for value in (self.matrix, self.target_mean, self.source_mean)
        )
        weight, bias, centre = (value.detach().cpu().double() for value in (head.weight, head.bias, head.centre))
        scale = head.scale.detach().cpu()
        made = EmbeddingHead(weight @ matrix.T, bias + weight @ (source - centre) / scale, target, scale, head.layer)
        return made.to(head.weight.device)


def fit_ridge(train: PairVectors, held_out: PairVectors, penalties: Sequence[float] = PENALTIES) -> RidgeMap:
    """The map with the least error on held-out pairs."""
    source, target = train.source.astype(np.float64), train.target.astype(np.float64)
    means = target.mean(axis=0), source.mean(axis=0)
    inputs, same = target - means[0], np.eye(target.shape[1])
    gram, cross = inputs.T @ inputs, inputs.T @ (source - means[1] - inputs)
    unit = np.trace(gram) / len(gram)
    maps = [
        RidgeMap(same + np.linalg.solve(gram + penalty * unit * same, cross), *means, penalty) for penalty in penalties
    ]
    return min(maps, key=lambda one: one.error(held_out))
