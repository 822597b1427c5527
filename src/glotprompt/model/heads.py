"""The masked-word head: which rows of the model's own head are needed, and its loss without keeping the logits."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from glotprompt.model.delta import Delta

if TYPE_CHECKING:
    from glotprompt.model.encoder import Encoder

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
    """Sum of cross-entropies of `hidden @ weight.T + bias`. All gradients are computed chunk by chunk in the forward
    pass, those of weight and bias only where they are wanted, so no logits outlive their chunk."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        rows = max(1, LOGITS_BUDGET // (4 * weight.shape[0]))
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden)
        _, of_weight, of_bias, _ = ctx.needs_input_grad
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if of_weight else None
        bias_gradient = torch.zeros_like(bias, dtype=torch.float32) if of_bias and bias is not None else None
        for start in range(0, hidden.shape[0], rows):
            piece = slice(start, start + rows)
            logits = F.linear(hidden[piece], weight, bias).float()
            log_sum = logits.logsumexp(dim=-1, keepdim=True)
            wanted = targets[piece, None]
            total += (log_sum - logits.gather(1, wanted)).sum()
            probabilities = logits.sub_(log_sum).exp_()
            probabilities.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=torch.float32))
            gradient[piece] = probabilities.to(weight.dtype) @ weight
            if weight_gradient is not None:
                weight_gradient += probabilities.to(weight.dtype).T @ hidden[piece]
            if bias_gradient is not None:
                bias_gradient += probabilities.sum(dim=0)
        ctx.save_for_backward(gradient, weight_gradient, bias_gradient)
        ctx.dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> tuple[Tensor | None, ...]:
        gradients = (None if saved is None else saved * outputs[0] for saved in ctx.saved_tensors)
        return (*(None if gradient is None else gradient.to(ctx.dtype) for gradient in gradients), None)


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


class LinearHead(Delta):
    """A classification head on the first token's state, dense, tanh, projection: what RoBERTa's fine-tuning puts in
    the place of template and verbalizer (Liu et al. 2019)."""

    kind = "linear head"

    def __init__(self, hidden_size: int, num_labels: int, seed: int = 0) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.projection = nn.Linear(hidden_size, num_labels)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in (self.dense, self.projection):
                layer.bias.zero_()
                if not layer.weight.is_meta:
                    layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * 0.02)

    @property
    def num_labels(self) -> int:
        return self.projection.out_features

    def scores(self, encoder: Encoder, hidden: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch label"]:
        """A score for every label, fp32."""
        return self.projection(torch.tanh(self.dense(hidden.float())))

    @contextmanager
    def attached(self, encoder: Encoder) -> Generator[None]:
        """It reads what the encoder gives and changes nothing on it."""
        yield None

    def settings(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.named_parameters())

    @classmethod
    def restore(cls, encoder: Encoder, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LinearHead:
        made = cls(tensors["dense.weight"].shape[0], tensors["projection.weight"].shape[0])
        made.load_state_dict(dict(tensors))
        return made
