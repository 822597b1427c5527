"""Logistic regression on tf-idf of character n-grams: what anybody would try first on a few target labels, without a
language model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from glotprompt.model.modules.ngrams import NgramHead, ngrams_of
from glotprompt.training.objectives.embedding import Penalty, Vectors, best_fit, most_accurate

STRENGTHS = (1.0, 10.0, 100.0)
"""scikit-learn's C, inverse strengths of the penalty, of which one is chosen."""
LENGTHS = range(2, 6)
"""Of the n-grams, in characters."""
MOST_PRODUCTS = 5_000
"""Texts up to this many are fitted on their inner products; of more, a matrix of all pairs would take gigabytes."""
_AT_ONCE = 64
"""Texts whose vectors are written out, zeros and all."""


@dataclass(frozen=True)
class Texts:
    """Labelled texts; the fields are those of `Vectors`."""

    texts: Sequence[str]
    gold: Sequence[int]
    weights: Sequence[float]
    folds: Sequence[Sequence[int]] = ()


def fit_ngram_head(
    train: Texts, dev: Texts, num_labels: int, strengths: Sequence[float] = STRENGTHS
) -> tuple[NgramHead, Penalty]:
    """Fit a head for each strength of the penalty, and keep the most accurate on dev texts and folds. The vocabulary is
    that of all training texts. Raises `DataError` for one label alone."""
    counts = Counter(ngram for text in train.texts for ngram in set(ngrams_of(text, LENGTHS)))
    ngrams, num = sorted(counts), len(train.texts)
    idf = torch.tensor([1 + math.log((1 + num) / (1 + counts[ngram])) for ngram in ngrams])
    unfitted = NgramHead(ngrams, idf, torch.zeros(num_labels, len(ngrams)), torch.zeros(num_labels))
    features = unfitted.features([unfitted.read(text) for text in (*train.texts, *dev.texts)]).double()
    root = _root_of_products(features) if len(features) <= MOST_PRODUCTS else None
    states = _as_scipy(features) if root is None else root.numpy()
    (weight, bias), penalty = best_fit(
        Vectors(states[:num], train.gold, np.array(train.weights), train.folds),
        Vectors(states[num:], dev.gold),
        num_labels,
        strengths,
        most_accurate,
    )
    fitted = torch.from_numpy(weight)
    if root is not None:
        shares = torch.linalg.solve_triangular(root.T, torch.from_numpy(weight.T.copy()), upper=True)
        fitted = torch.sparse.mm(features.T, shares).T
    return NgramHead(ngrams, idf, fitted, torch.from_numpy(bias)), penalty


def _root_of_products(features: Float[Tensor, "text ngram"]) -> Float[Tensor, "text text"]:
    """Vectors of texts with the same inner products as `features`."""
    # A linear fit knows texts by their inner products alone. Vectors with as many numbers as there are texts have the
    # same ones, and fitting them takes a thirtieth of the time (tens of thousands of n-grams). 1e-6 is for equal texts.
    blocks = (features.index_select(0, rows).to_dense() for rows in torch.arange(len(features)).split(_AT_ONCE))
    products = torch.cat([torch.sparse.mm(features, block.T) for block in blocks], dim=1)
    return torch.linalg.cholesky(products + 1e-6 * torch.eye(len(products)))


def _as_scipy(features: Float[Tensor, "text ngram"]) -> Any:
    """A sparse matrix as scikit-learn reads it."""
    from scipy.sparse import csr_matrix  # with scikit-learn, which few runs need

    features = features.coalesce()
    return csr_matrix((features.values().numpy(), features.indices().numpy()), features.shape)
