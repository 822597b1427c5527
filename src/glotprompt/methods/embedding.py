"""A classifier on frozen sentence vectors: it trains nothing of the model."""

from __future__ import annotations

from glotprompt import model
from glotprompt.config import TuneConfig
from glotprompt.method_registry import Look
from glotprompt.methods.method import Method, Parts


def _frozen(backbone: model.Backbone, parts: Parts, config: TuneConfig) -> model.Module:
    return parts["language"].requires_grad_(False) if parts else model.ModuleStack({})


EMBEDDING = Method(
    name="embedding",
    citation="Artetxe and Schwenk 2019: a classifier on frozen sentence vectors",
    look=Look(name="Embedding + logistic regression", colour="#4f8a10", marker="d", place=1),
    stage2="logistic regression on sentence vectors",
    begin_tune=_frozen,
    reads_vectors=True,
    tunes_once=True,
)
