"""The masked-word head: which rows of the model's own head are needed, and its loss without keeping the logits."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
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
"""Bytes that one piece of fp32 logits may take in `masked_word_loss` on a GPU."""

CACHED_LOGITS_BUDGET = 2 * 2**20
"""The same on a CPU, where a piece is worked on in the cache."""


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
    """Sum of cross-entropies of `hidden @ weight.T + bias`, by pieces of the vocabulary.

    d(loss)/d(hidden) is a mean of vocabulary rows weighted by exp(logits), less the target's row. Both the weighted sum
    and the sum of the weights are built up piece by piece around the highest logit so far, as in FlashAttention (Dao et
    al. 2022), so every piece of the vocabulary is read once and its logits never leave the cache. Gradients of weight
    and bias, where they are wanted, need the finished sums and take a second pass over the pieces.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        highest = torch.full((len(hidden), 1), -torch.inf, dtype=torch.float32, device=hidden.device)
        weights_sum, of_targets = torch.zeros_like(highest), torch.zeros_like(highest)
        rows_sum = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
        for piece in _pieces(len(hidden), weight):
            logits = _logits(hidden, weight, bias, piece)
            # From the very logits of the sum: with bf16's rounding on one side alone a loss could fall below 0.
            places = targets[:, None] - piece.start
            inside = (places >= 0) & (places < logits.shape[1])
            found = logits.gather(1, places.clamp(0, logits.shape[1] - 1))
            of_targets = torch.where(inside, found, of_targets)
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
    """fp32, in memory of their own."""
    return F.linear(hidden, weight[piece], None if bias is None else bias[piece]).float()


def _of_head(
    ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, log_sum: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of weight and bias, fp32, each None where it is not wanted."""
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


def masked_word_loss(
    hidden: Float[Tensor, "masked hidden"],
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, " vocab"] | None,
    targets: Int[Tensor, " masked"],
) -> Float[Tensor, ""]:
    """Sum over the masked positions of -log softmax(hidden @ weight.T + bias)[target], natural log, in fp32.

    `hidden` has passed the head's transform. Memory beyond the inputs: one piece of the logits (`CACHED_LOGITS_BUDGET`)
    and one fp32 copy of `hidden`, however large the vocabulary.
    """
    loss: Tensor = _MaskedWordLoss.apply(hidden, weight, bias, targets)  # pyright: ignore[reportAssignmentType]
    return loss


class EmbeddingHead(Delta):
    """Logistic regression on sentence vectors: pooled states of one layer, less a centre, divided by one scale.

    It is fitted in closed form (`train.embedding`), not by gradients. Texts of the target language may have a centre of
    their own, so that a language that lies beside the source's is moved onto it."""

    kind = "embedding head"

    def __init__(
        self,
        weight: Float[Tensor, "label hidden"],
        bias: Float[Tensor, " label"],
        centre: Float[Tensor, " hidden"],
        scale: Float[Tensor, ""],
        layer: int,
    ) -> None:
        """`layer`: the states behind so many layers are read."""
        super().__init__()
        self.layer = layer
        self.weight, self.bias, self.centre, self.scale = (
            nn.Parameter(value.detach().float()) for value in (weight, bias, centre, scale)
        )
        self.centre.requires_grad_(False)
        self.scale.requires_grad_(False)

    @property
    def num_labels(self) -> int:
        return len(self.bias)

    @property
    def first_layer(self) -> None:
        return None

    @classmethod
    def empty(cls, hidden_size: int, num_labels: int) -> EmbeddingHead:
        """One of that size, for counting."""
        zeros = torch.zeros(num_labels, hidden_size)
        return cls(zeros, zeros[:, 0], zeros[0], torch.ones(()), 0)

    def with_centre(self, centre: Float[Tensor, " hidden"]) -> EmbeddingHead:
        """The same head for texts whose vectors have this mean."""
        return EmbeddingHead(self.weight, self.bias, centre.to(self.bias.device), self.scale, self.layer)

    def scores(self, encoder: Encoder, hidden: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch label"]:
        """A score for every label, fp32; `hidden` are pooled states."""
        return F.linear((hidden.float() - self.centre) / self.scale, self.weight, self.bias)

    @contextmanager
    def attached(self, encoder: Encoder) -> Generator[None]:
        """It reads what the encoder gives and changes nothing on it."""
        yield None

    def settings(self) -> dict[str, Any]:
        return {"layer": self.layer}

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.named_parameters())

    @classmethod
    def restore(cls, encoder: Encoder, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> EmbeddingHead:
        return cls(tensors["weight"], tensors["bias"], tensors["centre"], tensors["scale"], settings["layer"])


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

    @property
    def first_layer(self) -> None:
        return None

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
