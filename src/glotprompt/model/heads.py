"""The masked-word head: which rows of the model's own head are needed, and its loss without keeping the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

LOGITS_BUDGET = 64 * 2**20
"""Bytes that one chunk of fp32 logits may take in `masked_word_loss`."""


def head_transform(model: PreTrainedModel) -> Callable[[Tensor], Tensor] | None:
    """What the model does between its last layer and its vocabulary matrix; None for a layout we do not know."""
    parts: Any = model
    if hasattr(model, "lm_head") and hasattr(parts.lm_head, "dense"):  # XLM-R, XLM-R XL
        head = parts.lm_head
        return lambda hidden: head.layer_norm(F.gelu(head.dense(hidden)))
    if hasattr(model, "cls") and hasattr(parts.cls, "predictions"):  # BERT
        return getattr(parts.cls.predictions, "transform", None)
    if hasattr(model, "head") and hasattr(model, "decoder"):  # ModernBERT
        return parts.head
    if isinstance(getattr(model, "lm_head", None), nn.Linear):  # EuroBERT
        return lambda hidden: hidden
    return None


class _MaskedWordLoss(torch.autograd.Function):
    """Sum of cross-entropies of `hidden @ weight.T + bias`. The gradient with respect to `hidden` is computed chunk
    by chunk in the forward pass (the head is frozen, nothing else is wanted), so no logits outlive their chunk."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        rows = max(1, LOGITS_BUDGET // (4 * weight.shape[0]))
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden)
        for start in range(0, hidden.shape[0], rows):
            piece = slice(start, start + rows)
            logits = F.linear(hidden[piece], weight, bias).float()
            log_sum = logits.logsumexp(dim=-1, keepdim=True)
            wanted = targets[piece, None]
            total += (log_sum - logits.gather(1, wanted)).sum()
            probabilities = logits.sub_(log_sum).exp_()
            probabilities.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=torch.float32))
            gradient[piece] = probabilities.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0].to(gradient.dtype), None, None, None


def masked_word_loss(
    hidden: Float[Tensor, "masked hidden"],
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, " vocab"] | None,
    targets: Int[Tensor, " masked"],
) -> Float[Tensor, ""]:
    """Sum over the masked positions of -log softmax(hidden @ weight.T + bias)[target], natural log, in fp32.

    `hidden` has passed the head's transform. Memory beyond the inputs: one chunk of logits (`LOGITS_BUDGET`)
    and one copy of `hidden`, however large the vocabulary.
    """
    loss: Tensor = _MaskedWordLoss.apply(hidden, weight, bias, targets)  # pyright: ignore[reportAssignmentType]
    return loss
