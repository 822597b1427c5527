"""Logistic regression on the sentence vectors of a frozen backbone: the baseline that anybody would try first, and what
reads an aligned prompt."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from glotprompt.config import TuneConfig
from glotprompt.errors import DataError
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.classification import EmbeddingHead
from glotprompt.model.prefix import Prefix
from glotprompt.training.objectives.cloze import Cloze
from glotprompt.training.objectives.scoring import accuracy_and_loss

STRENGTHS = (0.01, 0.1, 1.0)
"""scikit-learn's C, inverse strengths of the penalty, of which dev examples choose one (`strongest_within_error`).
Smaller ones would be within a standard error, too, and read every language worse."""
NO_EXAMPLE = -1e4
"""Bias of a label without a training example: never the answer."""

_Vectors = Float[NDArray[np.float32], "text hidden"]


@dataclass(frozen=True)
class Vectors:
    """Labelled examples as logistic regression reads them."""

    states: Any
    """[text, hidden], a numpy array or a sparse matrix of scipy's."""
    gold: Sequence[int]
    """Index of each example's label."""
    weights: Float[NDArray[np.float64], " text"] | None = None
    """How much each counts for; None: all the same."""
    folds: Sequence[Sequence[int]] = ()
    """Rows that judge the penalty as dev examples do, each fold by a fit on all other rows."""

    def some(self, rows: Sequence[int]) -> Vectors:
        """Some of them, without folds."""
        weights = None if self.weights is None else self.weights[rows]
        return Vectors(self.states[rows], [self.gold[row] for row in rows], weights)


@dataclass(frozen=True)
class Penalty:
    """A strength of the penalty, and what its fit does on dev examples."""

    strength: float
    """C of the logistic regression."""
    dev_accuracy: float
    """In per cent."""
    dev_loss: float


Fit = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Weights [label, hidden] and biases [label]."""

Choice = Callable[[Sequence[Penalty], int], Penalty]
"""From what each penalty does on dev examples, and how many these are, to the one to keep."""


def strongest_within_error(penalties: Sequence[Penalty], num_dev: int) -> Penalty:
    """The strongest penalty whose dev accuracy is within one standard error of the best. Dev examples are mostly of the
    source language, and a sentence or two of these is no reason for a weaker penalty, which reads the target language
    worse (docs/log.md, 2026-11-30)."""
    best = max(one.dev_accuracy for one in penalties)
    error = float(np.sqrt(best * (100 - best) / num_dev))
    return min((one for one in penalties if one.dev_accuracy >= best - error), key=lambda one: one.strength)


def most_accurate(penalties: Sequence[Penalty], num_dev: int) -> Penalty:
    """The penalty with the best dev accuracy, then dev loss."""
    return min(penalties, key=lambda one: (-one.dev_accuracy, one.dev_loss))


def layer_read(backbone: Backbone, config: TuneConfig) -> int:
    """How many layers lie before the states that are pooled."""
    return backbone.num_state_layers if config.layer is None else config.layer


@torch.no_grad()
def vectors_of(
    backbone: Backbone, clozes: Sequence[Cloze], prefix: Prefix | None, layer: int, batch_size: int
) -> _Vectors:
    """Pooled states behind `layer` layers, fp32, in the order of the examples."""
    return backbone.vectors([cloze.input_ids for cloze in clozes], prefix, layer, batch_size).cpu().numpy()


def best_head(
    layer: int,
    train: Vectors,
    dev: Vectors,
    num_labels: int,
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[EmbeddingHead, Penalty]:
    """Fit a head on the vectors behind `layer` layers for each strength of the penalty, and keep that which
    `strongest_within_error` takes. Raises `DataError` for one label alone."""
    centre, scale = train.states.mean(axis=0), float(train.states.std())
    inputs, held = (replace(part, states=(part.states - centre) / scale) for part in (train, dev))
    fit, penalty = best_fit(inputs, held, num_labels, strengths, strongest_within_error)
    weight, bias, of_centre = (torch.from_numpy(value) for value in (*fit, centre))
    return EmbeddingHead(weight, bias, of_centre, torch.tensor(scale), layer), penalty


def best_fit(
    train: Vectors, dev: Vectors, num_labels: int, strengths: Sequence[float], choose: Choice
) -> tuple[Fit, Penalty]:
    """The fit on all training examples with the penalty to choose. Raises `DataError` for one label alone."""
    if len(set(train.gold)) < 2:
        raise DataError("all training examples have one label; give examples of at least two")
    fits: dict[Penalty, Fit] = {}
    for strength in strengths:
        fit = _logistic(train, num_labels, strength)
        fits[Penalty(strength, *_judged(train, dev, num_labels, strength, fit))] = fit
    best = choose(list(fits), len(dev.gold) + sum(map(len, train.folds)))
    return fits[best], best


def _judged(train: Vectors, dev: Vectors, num_labels: int, strength: float, fit: Fit) -> tuple[float, float]:
    """Accuracy and loss on dev examples; where there are folds, the means of those on dev examples and on the folds."""
    if not train.folds:
        return accuracy_and_loss(_log_probabilities(dev, fit), dev.gold, dev.weights)
    of_dev, of_folds = list[tuple[float, float]](), list[tuple[float, float]]()
    for fold in train.folds:
        rest = np.setdiff1d(np.arange(len(train.gold)), fold).tolist()
        fit, held = _logistic(train.some(rest), num_labels, strength), train.some(fold)
        of_folds.append(accuracy_and_loss(_log_probabilities(held, fit), held.gold))
        if dev.gold:
            of_dev.append(accuracy_and_loss(_log_probabilities(dev, fit), dev.gold))
    shares = [len(fold) for fold in train.folds]
    accuracy, loss = np.mean([np.average(part, axis=0, weights=shares) for part in (of_dev, of_folds) if part], axis=0)
    return float(accuracy), float(loss)


def _log_probabilities(part: Vectors, fit: Fit) -> NDArray[np.float64]:
    return _log_softmax(part.states @ fit[0].T + fit[1])


def _logistic(train: Vectors, num_labels: int, strength: float) -> Fit:
    """A softmax over all labels."""
    # A second to import, which is half of what torch takes, and few runs fit anything.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the best of what was tried is good enough
        fitted: Any = LogisticRegression(C=strength, max_iter=2000)
        fitted.fit(train.states, np.asarray(train.gold), sample_weight=train.weights)
    weight, bias = np.zeros((num_labels, train.states.shape[1])), np.full(num_labels, NO_EXAMPLE)
    rows = fitted.classes_
    # Of two labels scikit-learn gives the second one's score alone, against 0.
    weight[rows[-len(fitted.coef_) :]], bias[rows] = fitted.coef_, 0.0
    bias[rows[-len(fitted.coef_) :]] = fitted.intercept_
    return weight, bias


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def mean_vector(
    backbone: Backbone, clozes: Sequence[Cloze], prefix: Prefix | None, layer: int, batch_size: int
) -> Float[Tensor, " hidden"]:
    """The mean of texts' vectors, by which `EmbeddingHead.with_centre` moves a language."""
    return torch.from_numpy(vectors_of(backbone, clozes, prefix, layer, batch_size).mean(axis=0))


# ---------------------------------------------------------------------------------------------------------------
# Ridge regression in closed form: a map from the vectors of target sentences to those of their translations, which a
# linear head takes in. It learns how a translation's vector differs from the sentence's own, each less the mean of its
# side: with an infinite penalty no map is left, and the head is centred by the pairs.

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""In units of the mean eigenvalue of the target vectors' Gram matrix; held-out pairs choose one."""

_Pairs = Float[NDArray[np.float32], "pair hidden"]


@dataclass(frozen=True)
class PairVectors:
    """Sentence vectors of translations: row by row the same sentence."""

    source: _Pairs
    target: _Pairs


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
        head_of_source = EmbeddingHead(
            weight @ matrix.T, bias + weight @ (source - centre) / scale, target, scale, head.layer
        )
        return head_of_source.to(head.weight.device)


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
