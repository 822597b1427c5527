"""The layers of BERT, XLM-R and similar models, called one by one.

transformers runs all layers on all positions. Called separately they can start from stored states, stop early, and skip
unused positions in the last layer: only the masked ones (15 % in stage 1, one in stage 2) need a query, an output
projection and a feed-forward there. Norms and linear layers are called as modules, so their hooks, replaced weights and
replacements work as in transformers. Hooks on the modules around them (whole layers, `attention`, `output`) are not
called, and a hook must not keep the output of a linear layer, because sums are written into it.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from glotprompt.model.prefix import Prefix, additive_mask, attend


class LayeredBody:
    """Embeddings and post-norm layers of a model; computes the same numbers as its own forward pass."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Raises `AttributeError` for a model that is not built like BERT."""
        parts: Any = model.base_model
        self._model = model
        self._embeddings: nn.Module = parts.embeddings
        self._layers: list[Any] = list(parts.encoder.layer)

    @property
    def usable(self) -> bool:
        """Whether the layers may be called separately now: not while the model applies dropout, or while a hook on the
        body, which would not be called, changes what it reads."""
        return not self._model.training and not self._model.base_model._forward_pre_hooks  # pyright: ignore[reportPrivateUsage]

    def embed(
        self, input_ids: Int[Tensor, "batch seq"], position_ids: Tensor | None
    ) -> Float[Tensor, "batch seq hidden"]:
        """Input of the first layer."""
        return self._embeddings(input_ids=input_ids, position_ids=position_ids)

    def run(
        self,
        hidden: Float[Tensor, "batch seq hidden"],
        attention_mask: Int[Tensor, "batch seq"] | None,
        prefix: Prefix | None,
        layers: range,
        positions: ReadPositions | None = None,
    ) -> Float[Tensor, "batch _ hidden"]:
        """Output of the given layers; if `positions` is given, the last layer computes only those."""
        mask = additive_mask(attention_mask, hidden.dtype)
        for index in layers:
            layer = self._layers[index]
            picks = positions if index == layers[-1] else None
            if layer.training and layer.gradient_checkpointing:
                hidden = cast(Tensor, checkpoint(_layer, layer, hidden, mask, prefix, picks, use_reentrant=False))
            else:
                hidden = _layer(layer, hidden, mask, prefix, picks)
        return hidden


def layered_body(model: PreTrainedModel, input_ids: Int[Tensor, "1 seq"]) -> LayeredBody | None:
    """The layers of a model; None where it is not built like BERT, or where a test run gives other numbers than its own
    forward pass. Without weights there are no numbers: one layer tells how all are built."""
    num_layers = 1 if input_ids.is_meta else model.config.num_hidden_layers
    try:
        body = LayeredBody(model)
        with torch.no_grad():
            ours = body.run(body.embed(input_ids, None), None, None, range(num_layers))
            if input_ids.is_meta:
                return body
            own = model.base_model(input_ids=input_ids).last_hidden_state
    except (AttributeError, TypeError):
        return None
    same = ours.shape == own.shape and torch.allclose(ours, own, rtol=1e-3, atol=1e-3)
    return body if same else None


class ReadPositions:
    """Positions of a batch at which states are read, padded to a rectangle: a row with fewer positions is filled up
    with others, whose states are dropped."""

    def __init__(self, positions: Int[Tensor, " n"], batch: int, length: int) -> None:
        """`positions` index the flattened [batch * seq] states, in any order."""
        rows, order = (positions // length).sort(stable=True)
        counts = rows.bincount(minlength=batch)
        self._most = int(counts.max()) if len(positions) else 0
        starts = counts.cumsum(0) - counts
        within = torch.arange(len(positions), device=positions.device) - starts[rows]
        self._slots = torch.empty_like(rows).index_copy_(0, order, rows * self._most + within)
        filled = len(positions) == batch * self._most
        self._as_asked = filled and bool((self._slots[1:] > self._slots[:-1]).all())
        index = torch.arange(batch, device=positions.device)[:, None].expand(-1, self._most) * length
        self._index = index.flatten().index_copy(0, self._slots, positions)

    def pick(self, hidden: Float[Tensor, "batch seq hidden"]) -> Float[Tensor, "batch most hidden"]:
        """The states at the positions."""
        return hidden.flatten(0, 1).index_select(0, self._index).view(hidden.shape[0], self._most, -1)

    def drop_filling(self, hidden: Float[Tensor, "batch most hidden"]) -> Float[Tensor, "n hidden"]:
        """One row per requested position, in the requested order."""
        flat = hidden.flatten(0, 1)
        return flat if self._as_asked else flat.index_select(0, self._slots)


def _layer(
    layer: Any, hidden: Tensor, mask: Tensor | None, prefix: Prefix | None, positions: ReadPositions | None
) -> Tensor:
    """One post-norm layer. Sums are written in place: nothing else needs the output of a linear layer. What lies around
    attention is a function of tensors alone, so that it can be compiled (benchmarks/stage1.py, side "compiled")."""
    attention = layer.attention.self
    asking = hidden if positions is None else positions.pick(hidden)
    query, key, value = _projected(attention, asking, hidden)
    context, _ = attend(attention, query, key, value, mask, scaling=attention.scaling, prefix=prefix)
    return _after_attention(layer, context, asking)


def _projected(attention: Any, asking: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, [batch, head, seq, dim] each."""
    query, key, value = (
        projection(states).unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)
        for projection, states in ((attention.query, asking), (attention.key, hidden), (attention.value, hidden))
    )
    return query, key, value


def _after_attention(layer: Any, context: Tensor, asking: Tensor) -> Tensor:
    """What a layer makes of its attention's output, [batch, seq, head, dim]."""
    summed = layer.attention.output.dense(context.flatten(2))
    summed += asking
    states = layer.attention.output.LayerNorm(summed)
    summed = layer.output.dense(layer.intermediate(states))
    summed += states
    return layer.output.LayerNorm(summed)


def first_position(model: PreTrainedModel) -> int:
    """Position id of the first token: RoBERTa-like models start after the padding id, others at 0."""
    embeddings = getattr(model.base_model, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else padding + 1


def text_positions(
    input_ids: Int[Tensor, "batch seq"], first: int, shift: Int[Tensor, "rows 1"] | int = 0
) -> Int[Tensor, "*_ seq"]:
    """Position ids of a text in a model whose first token has the id `first`, moved by `shift`."""
    if first:  # RoBERTa counts text tokens only, from the padding id + 1; padding keeps its id
        text = (input_ids != first - 1).long()
        return (text.cumsum(dim=1) + shift) * text + first - 1
    return torch.arange(input_ids.shape[1], device=input_ids.device) + shift
