"""Losses of both stages, in parts that sum to the mean over the batch: for accumulation and data parallelism."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.module import Module
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.batches import MaskedBatch
from glotprompt.training.objectives.cloze import Cloze, Words, weights_of
from glotprompt.training.objectives.scoring import LabelHead, label_scores, label_states


def masked_token_losses(
    backbone: Backbone, module: Module, batch: MaskedBatch, micro_batch: MicroBatch
) -> Generator[tuple[Tensor, int]]:
    """Parts of the mean loss over a batch's targets; only the positions that predict them reach the vocabulary."""
    for rows in micro_batch.parts(len(batch.input_ids)):
        part = batch.part(rows, backbone.device)
        if not len(part.targets):  # unknown tokens alone
            continue
        with module.attached(backbone) as prefix:  # around the yield: the backward pass belongs inside
            loss = backbone.masked_token_loss(part.states(backbone, prefix), part.targets)
            mask = part.attention_mask
            yield loss / max(1, len(batch.targets)), part.input_ids.numel() if mask is None else int(mask.sum())


def label_losses(
    backbone: Backbone,
    module: Module,
    clozes: Sequence[Cloze],
    gold: Tensor,
    head: LabelHead,
    loss_over: Literal["labels", "vocabulary"],
    micro_batch: MicroBatch,
) -> Generator[tuple[Tensor, int]]:
    """Parts of a batch's mean cross-entropy, over the labels or over the whole vocabulary (equation 1). The sum of
    weighted losses is divided by the number of examples, not by their weights, so that an epoch's mean does not depend
    on how the examples are batched."""
    for rows in micro_batch.parts(len(clozes)):
        targets = gold[rows].to(backbone.device)
        with module.attached(backbone) as prefix:
            if loss_over == "vocabulary" and isinstance(head, Words):
                log_probs = head.log_probabilities(backbone, label_states(backbone, clozes[rows], prefix))
                loss = _weighted_sum(F.nll_loss, log_probs, targets, clozes[rows])
            else:
                scores = label_scores(backbone, clozes[rows], prefix, head)
                loss = _weighted_sum(F.cross_entropy, scores, targets, clozes[rows])
            yield loss / len(clozes), sum(len(cloze.input_ids) for cloze in clozes[rows])


def _weighted_sum(
    loss: Callable[..., Tensor], scores: Float[Tensor, "batch label"], targets: Tensor, clozes: Sequence[Cloze]
) -> Float[Tensor, ""]:
    weights = weights_of(clozes)
    if weights is None:
        return loss(scores, targets, reduction="sum")
    return loss(scores, targets, reduction="none") @ torch.tensor(weights, dtype=scores.dtype, device=scores.device)
