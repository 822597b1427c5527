"""A classification head on a text's characters, which needs no backbone: tf-idf of n-grams, and a linear layer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from glotprompt.errors import ArtifactError
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.classification import Head
from glotprompt.model.modules.module import check_shapes
from glotprompt.model.tokens import Sequences


def ngrams_of(text: str, lengths: Sequence[int]) -> Iterator[str]:
    """The character n-grams of a text in lower case, over the edges of words; white space counts as one space."""
    text = re.sub(r"\s+", " ", text.lower())
    return (text[start : start + length] for length in lengths for start in range(len(text) - length + 1))


class NgramHead(Head):
    """Logistic regression on tf-idf of character n-grams: (1 + log count) * idf, of unit length.

    It is fitted in `training.objectives.ngrams`, and stays on the CPU."""

    kind = "n-gram head"

    def __init__(
        self,
        ngrams: Sequence[str],
        idf: Float[Tensor, " ngram"],
        weight: Float[Tensor, "label ngram"],
        bias: Float[Tensor, " label"],
    ) -> None:
        super().__init__()
        self.ngrams = list(ngrams)
        self._index = {ngram: index for index, ngram in enumerate(ngrams)}
        self._lengths = sorted({len(ngram) for ngram in ngrams})
        self.idf, self.weight, self.bias = (nn.Parameter(value.detach().float()) for value in (idf, weight, bias))
        self.idf.requires_grad_(False)

    @property
    def num_labels(self) -> int:
        return len(self.bias)

    def read(self, text: str) -> Int[NDArray[np.int64], " n"]:
        """The indices of a text's known n-grams."""
        indices = (self._index.get(ngram) for ngram in ngrams_of(text, self._lengths))
        return np.array([index for index in indices if index is not None], dtype=np.int64)

    def features(self, texts: Sequences) -> Float[Tensor, "batch ngram"]:
        """The vectors of texts, sparse, from what `read` gives."""
        return tfidf(texts, self.idf.detach())

    def scores(self, backbone: Backbone, hidden: Float[Tensor, "batch ngram"]) -> Float[Tensor, "batch label"]:
        """A score for every label, fp32; `hidden` are `features`, and the backbone is not used."""
        return torch.sparse.mm(hidden, self.weight.T) + self.bias

    def settings(self) -> dict[str, Any]:
        return {"ngrams": self.ngrams}

    @classmethod
    def restore(cls, backbone: Backbone, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> NgramHead:
        ngrams, bias = settings["ngrams"], tensors.get("bias")
        labels = 0 if bias is None or bias.ndim == 0 else len(bias)
        check_shapes("the head", tensors, {"idf": (len(ngrams),), "weight": (labels, len(ngrams)), "bias": (labels,)})
        if len(set(ngrams)) < len(ngrams):
            raise ArtifactError("its vocabulary names an n-gram twice; create it again")
        return cls(ngrams, tensors["idf"], tensors["weight"], tensors["bias"])


def tfidf(texts: Sequences, idf: Float[Tensor, " ngram"]) -> Float[Tensor, "batch ngram"]:
    """Sparse vectors of unit length (0 where no n-gram is known) of texts as indices of n-grams. Counts enter by their
    logarithm: a text is short, and what it repeats says little more."""
    rows, columns, values = [torch.zeros(0, dtype=torch.long)], [torch.zeros(0, dtype=torch.long)], [torch.zeros(0)]
    for row, ids in enumerate(texts):
        different, counts = (torch.from_numpy(part) for part in np.unique(ids, return_counts=True))
        weights = (1 + counts.log()) * idf[different]
        rows.append(torch.full_like(different, row))
        columns.append(different)
        values.append(weights / weights.norm() if len(weights) else weights)
    indices = torch.stack([torch.cat(rows), torch.cat(columns)])
    return torch.sparse_coo_tensor(
        indices, torch.cat(values), (len(texts), len(idf)), check_invariants=False, is_coalesced=True
    )
