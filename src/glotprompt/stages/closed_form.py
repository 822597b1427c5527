"""Stage 2 in closed form: logistic regression on sentence vectors, which a ridge map may move, or on n-grams."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from glotprompt.config import AdaptConfig, RuntimeConfig
from glotprompt.data.readers.records import Example
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.classification import EmbeddingHead
from glotprompt.model.modules.module import Module
from glotprompt.model.modules.ngrams import NgramHead
from glotprompt.model.prefix import Prefix
from glotprompt.model.tokens import Sequences
from glotprompt.stages.stage1_objectives import SentencePairs
from glotprompt.stages.stage2_data import Stage2
from glotprompt.training.loop import History
from glotprompt.training.objectives.alignment import split_pairs
from glotprompt.training.objectives.cloze import Cloze, encode_without_mask, weights_of
from glotprompt.training.objectives.embedding import (
    PairVectors,
    Penalty,
    RidgeMap,
    Vectors,
    best_head,
    fit_ridge,
    layer_read,
    vectors_of,
)
from glotprompt.training.objectives.inputs import characters_of, rewritten_fields
from glotprompt.training.objectives.ngrams import Texts, fit_ngram_head
from glotprompt.training.watch import Watch


def fit_vectors(
    backbone: Backbone, body: Module, stage2: Stage2, runtime: RuntimeConfig, identity: str
) -> tuple[EmbeddingHead, History, Penalty]:
    """Logistic regression on the vectors behind a frozen body, by dev accuracy; and what was chosen."""
    began = time.perf_counter()
    config, task = stage2.config, stage2.task

    def read(part: Sequence[Example]) -> list[Cloze]:
        fields = rewritten_fields([one.fields for one in part], stage2.characters)
        return encode_without_mask(fields, task, backbone.tokenizer, config.max_length)

    learned, judged = stage2.learned, stage2.dev if stage2.folds else stage2.judged
    to_train, to_judge = stage2.weighted(read(learned)), read(judged)
    if not stage2.folds:
        to_judge = stage2.weighted(to_judge, judged=True)
    layer = layer_read(backbone, config)
    with torch.no_grad(), body.attached(backbone) as prefix:
        train, dev = (
            Vectors(
                vectors_of(backbone, clozes, prefix, layer, runtime.eval_batch_size), gold, weights_of(clozes), folds
            )
            for clozes, gold, folds in (
                (to_train, stage2.gold(learned), stage2.folds),
                (to_judge, stage2.gold(judged), ()),
            )
        )
        head, penalty = best_head(layer, train, dev, len(task.labels), stage2.strengths)
    head = head.to(backbone.device)
    if stage2.pairs:
        head = _ridge(backbone, body, stage2, runtime).folded(head)
    tokens = sum(len(cloze.input_ids) for cloze in (*to_train, *to_judge))
    return head, _closed(began, tokens, penalty, runtime, identity), penalty


def _closed(began: float, tokens: int, penalty: Penalty, runtime: RuntimeConfig, identity: str) -> History:
    """The history of a fit in closed form, told to what follows a training."""
    figures = {"dev_accuracy": penalty.dev_accuracy, "dev_loss": penalty.dev_loss}
    watch = Watch("logistic regression", 0, runtime, identity)
    watch.begin(0)
    watch.evaluated(0, figures)
    watch.finish()
    return History(seconds=time.perf_counter() - began, tokens=tokens, evaluations=[(0, figures)])


def fit_characters(stage2: Stage2, runtime: RuntimeConfig, identity: str) -> tuple[NgramHead, History, Penalty]:
    """Logistic regression on n-grams of characters."""
    began = time.perf_counter()

    def read(part: Sequence[Example], weights: Sequence[float]) -> Texts:
        return Texts([characters_of(one.fields, stage2.task) for one in part], stage2.gold(part), weights)

    train = replace(read(stage2.learned, stage2.weights()), folds=stage2.folds)
    held = () if stage2.folds else stage2.judged or stage2.learned  # too few to judge by: what fits them best
    head, penalty = fit_ngram_head(train, read(held, ()), len(stage2.task.labels), stage2.strengths)
    return head, _closed(began, 0, penalty, runtime, identity), penalty


def _ridge(backbone: Backbone, body: Module, stage2: Stage2, runtime: RuntimeConfig) -> RidgeMap:
    """The map from the pairs' target side to their source side, by the vectors that the head reads."""
    config = stage2.config

    def read(pairs: SentencePairs) -> PairVectors:
        sides = [rewritten_fields([{"text": pair[side]} for pair in pairs], stage2.characters) for side in (0, 1)]
        layer, most = layer_read(backbone, config), runtime.eval_batch_size
        how: dict[str, Any] = {"layer": layer, "max_length": config.max_length, "batch_size": most}
        return PairVectors(*(backbone.embed([row["text"] for row in side], body, **how) for side in sides))

    train, held = split_pairs(stage2.pairs, AdaptConfig(seed=config.seed))
    return fit_ridge(read(train), read(held))


class ReadOnce(Backbone):
    """A backbone that keeps the sentence vectors of all texts that it has read: folds and candidates read the same
    ones. To be used behind one frozen stage 1."""

    def __init__(self, backbone: Backbone) -> None:
        vars(self).update(vars(backbone))  # the same model
        self._kept: dict[Any, torch.Tensor] = {}

    def pooled_states(self, sequences: Sequences, prefix: Prefix | None, layer: int | None = None) -> torch.Tensor:
        keys = [(layer, row.tobytes()) for row in sequences]
        new = {key: row for key, row in zip(keys, sequences, strict=True) if key not in self._kept}
        if new:
            with torch.inference_mode():
                self._kept.update(zip(new, super().pooled_states(list(new.values()), prefix, layer), strict=True))
        return torch.stack([self._kept[key] for key in keys])
