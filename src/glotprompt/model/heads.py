"""The LM head: its transform, and the masked-token loss without storing all logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

LOGITS_BUDGET = 64 * 2**20
"""Bytes for one piece of fp32 logits in `masked_token_loss` on a GPU."""

CACHED_LOGITS_BUDGET = 2 * 2**20
"""The same on a CPU, where a piece should stay in the cache."""


def head_transform(model: PreTrainedModel) -> Callable[[Tensor], Tensor] | None:
    """The function between the last layer and the vocabulary matrix; None for an unknown layout."""
    parts: Any = model
    if hasattr(model, "lm_head") and hasattr(parts.lm_head, "dense"):  # XLM-R, XLM-R XL
        head = parts.lm_head
        return lambda hidden: head.layer_norm(F.gelu(head.dense(hidden)))
    if hasattr(model, "cls") and hasattr(parts.cls, "predictions"):  # BERT
        return getattr(parts.cls.predictions, "transform", None)
    if hasattr(model, "head") and hasattr(model, "decoder"):  # ModernBERT
        return parts.head
    decoder = getattr(model, "lm_head", None) or getattr(getattr(model, "pred_layer", None), "proj", None)
    if isinstance(decoder, nn.Linear):  # EuroBERT, XLM, decoders, T5
        config: Any = model.config
        scales = config.model_type == "umt5" or getattr(config, "scale_decoder_outputs", False)
        return (lambda hidden: hidden * config.d_model**-0.5) if scales else (lambda hidden: hidden)
    return None


def is_the_models_own(ours: Tensor, own: Tensor) -> bool:
    """Whether our logits equal those of the whole model."""
    same_shape = ours.shape == own.shape
    return same_shape and (ours.is_meta or torch.allclose(ours, own, rtol=1e-3, atol=1e-3 * float(own.std())))


class _MaskedTokenLoss(torch.autograd.Function):
    """Sum of cross-entropies of `hidden @ weight.T + bias`, by pieces of the vocabulary.

    d(loss)/d(hidden) is a mean of vocabulary rows weighted by exp(logits), less the target's row. Both the weighted sum
    and the sum of the weights are built up piece by piece around the highest logit so far, as in FlashAttention (Dao et
    al. 2022), so every piece of the vocabulary is read once and its logits never leave the cache. Gradients of weight
    and bias, if required, need the finished sums and a second pass over the pieces.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        highest = torch.full((len(hidden), 1), -torch.inf, dtype=torch.float32, device=hidden.device)
        weights_sum, of_targets = torch.zeros_like(highest), torch.zeros_like(highest)
        rows_sum = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
        for piece in _pieces(len(hidden), weight):
            logits = _logits(hidden, weight, bias, piece)
            # From the same logits as the sum: with bf16 rounding on one side only, a loss could fall below 0.
            places = targets[:, None] - piece.start
            inside = (places >= 0) & (places < logits.shape[1])
            target_logits = logits.gather(1, places.clamp(0, logits.shape[1] - 1))
            of_targets = torch.where(inside, target_logits, of_targets)
            higher = torch.maximum(highest, logits.amax(dim=-1, keepdim=True))
            shrunk = (highest - higher).exp_()
            exponentials = logits.sub_(higher).exp_()
            weights_sum.mul_(shrunk).add_(exponentials.sum(dim=-1, keepdim=True))
            rows_sum.mul_(shrunk).add_(exponentials.to(weight.dtype) @ weight[piece])
            highest = higher
        log_sum = weights_sum.log().add_(highest)
        gradient = rows_sum.div_(weights_sum).sub_(weight[targets]).to(hidden.dtype)
        ctx.save_for_backward(gradient, *_of_head(ctx, hidden, weight, bias, targets, log_sum))
        ctx.dtype = weight.dtype
        return (log_sum - of_targets).sum()

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> tuple[Tensor | None, ...]:
        gradients = (None if saved is None else saved * outputs[0] for saved in ctx.saved_tensors)
        return (*(None if gradient is None else gradient.to(ctx.dtype) for gradient in gradients), None)


def _pieces(rows: int, weight: Tensor) -> Iterator[slice]:
    """Slices of the vocabulary whose fp32 logits fit in the budget."""
    budget = CACHED_LOGITS_BUDGET if weight.device.type == "cpu" else LOGITS_BUDGET
    size = max(1, budget // (4 * max(1, rows)))
    for start in range(0, weight.shape[0], size):
        yield slice(start, start + size)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, piece: slice) -> Tensor:
    """fp32 logits of one piece of the vocabulary, in new memory."""
    return F.linear(hidden, weight[piece], None if bias is None else bias[piece]).float()


def _of_head(
    ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, log_sum: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of weight and bias, fp32; None for one that is not required."""
    _, wants_weight, wants_bias, _ = ctx.needs_input_grad
    if not wants_weight and not wants_bias:
        return None, None
    of_weight = torch.empty(weight.shape, dtype=torch.float32, device=weight.device) if wants_weight else None
    of_bias = torch.empty(weight.shape[0], dtype=torch.float32, device=weight.device) if wants_bias else None
    for piece in _pieces(len(hidden), weight):
        probabilities = _logits(hidden, weight, bias, piece).sub_(log_sum).exp_()
        if of_weight is not None:
            of_weight[piece] = probabilities.to(weight.dtype).T @ hidden
        if of_bias is not None:
            of_bias[piece] = probabilities.sum(dim=0)
    if of_weight is not None:
        of_weight.index_add_(0, targets, hidden.float(), alpha=-1)
    if of_bias is not None:
        of_bias.index_add_(0, targets, torch.ones_like(targets, dtype=torch.float32), alpha=-1)
    return of_weight, of_bias


def masked_token_loss(
    hidden: Float[Tensor, "masked hidden"],
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, " vocab"] | None,
    targets: Int[Tensor, " masked"],
) -> Float[Tensor, ""]:
    """Sum over the masked positions of -log softmax(hidden @ weight.T + bias)[target], natural log, in fp32.

    `hidden` has passed the head's transform. Memory beyond the inputs: one piece of the logits (`CACHED_LOGITS_BUDGET`)
    and one fp32 copy of `hidden`, however large the vocabulary.
    """
    loss: Tensor = _MaskedTokenLoss.apply(hidden, weight, bias, targets)  # pyright: ignore[reportAssignmentType]
    return loss
