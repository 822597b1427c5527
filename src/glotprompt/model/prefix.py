"""Key/value vectors in front of every layer's attention, for one batch.

Only this file knows how the vectors reach the model. transformers lets a caller register an attention function with its
mask function; ours prepends the layer's vectors to the keys and values. The vectors
travel as one keyword argument, `prefix`, through the model's forward, so nothing is stored on the model: without the
argument it is the base model. `past_key_values` is not used, because it changes from release to release.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import bidirectional_mask_function, eager_mask

from glotprompt.model.devices import require_onednn

ATTENTION = "glotprompt"
"""Name under which the attention function and its mask are registered with transformers."""

Positions = Literal["plain", "shifted"]


@dataclass
class Prefix:
    """The prompt vectors of one batch for every layer: one prompt for all rows, or one per row."""

    key_values: Float[Tensor, "layer 2 count head prompt dim"]
    """One prompt, or several that `rows` indexes; in the dtype of the body."""
    rows: Int[Tensor, " batch"] | None = None
    """Index of each row's prompt; None: all rows share one."""
    bias: Float[Tensor, "batch 1 1 prompt"] | None = None
    """Attention bias: 0, or the lowest number where a row's prompt is shorter than the longest; None: all 0."""
    shift: Int[Tensor, "rows 1"] | None = None
    """Shift of each row's position ids; None: no shift ("plain")."""
    trained_layers: range | None = None
    """Layers whose vectors need gradients; None: all. No activations are stored below the lowest."""
    first_layer: int = 0
    """The layer of the model that layer 0 of `key_values` belongs to."""
    _layers: list[tuple[Tensor, ...]] = field(default_factory=list[tuple[Tensor, ...]], repr=False)
    _masks: list[tuple[Tensor | None, int, Tensor]] = field(
        default_factory=list[tuple[Tensor | None, int, Tensor]], repr=False
    )
    """(mask of the text, length of the text, mask with the prompt's columns in front)."""

    @classmethod
    def shared(
        cls, key_values: Float[Tensor, "layer 2 head prompt dim"], dtype: torch.dtype, positions: Positions = "plain"
    ) -> Prefix:
        """One prompt in front of every row of the batch; differentiable in `key_values`."""
        shift = torch.tensor([[key_values.shape[3]]], device=key_values.device) if positions == "shifted" else None
        return cls(key_values.to(dtype).unsqueeze(2), shift=shift)

    @classmethod
    def per_row(
        cls,
        prompts: Sequence[Float[Tensor, "layer 2 head _ dim"]],
        rows: Int[Tensor, " batch"],
        dtype: torch.dtype,
        positions: Sequence[Positions] | None = None,
    ) -> Prefix:
        """Prompt `prompts[rows[i]]` in front of row i of the batch; they may differ in length and in positions."""
        lengths = torch.tensor([prompt.shape[3] for prompt in prompts], device=rows.device)
        longest = int(lengths.max())
        padded = [_lengthen(prompt.to(dtype), longest) for prompt in prompts]
        bias = None
        if int(lengths.min()) < longest:
            beyond = torch.arange(longest, device=rows.device) >= lengths[rows, None]
            bias = torch.zeros(beyond.shape, dtype=dtype, device=rows.device)
            bias = bias.masked_fill_(beyond, torch.finfo(dtype).min)[:, None, None]
        shift = None
        if positions is not None and "shifted" in positions:
            shifted = torch.tensor([choice == "shifted" for choice in positions], device=rows.device)
            shift = (lengths * shifted)[rows, None]
        return cls(torch.stack(padded, dim=2), rows, bias, shift)

    def of_layers(self, start: int, stop: int) -> Prefix:
        """Those of some layers, for a part of the model that counts its own from 0."""
        first, part = self.first_layer + start, self.key_values[start:stop]
        return replace(self, key_values=part, first_layer=first, _layers=[], _masks=[])

    def of_rows(self, rows: Int[Tensor, " row"]) -> Prefix:
        """The prefix of a batch whose row i is row `rows[i]` of this one's."""
        if self.rows is None:
            return self
        bias, shift = (None if value is None else value[rows] for value in (self.bias, self.shift))
        return replace(self, rows=self.rows[rows], bias=bias, shift=shift, _masks=[])

    @property
    def prompt_length(self) -> int:
        """Length of the longest prompt in the batch."""
        return self.key_values.shape[-2]

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, counted from `first_layer`, each [rows, head, prompt, dim]."""
        # All layers at once: one by one, each would backpropagate a gradient of all layers' size. Again if the first
        # call was without gradients.
        needs_gradient = self.key_values.requires_grad and torch.is_grad_enabled()
        if not self._layers or (needs_gradient and self._layers[0][0].grad_fn is None):
            self._layers = [tuple(pair.unbind(0)) for pair in self.key_values.unbind(0)]
        keys, values = self._layers[index]
        if self.trained_layers is not None and self.first_layer + index not in self.trained_layers:
            keys, values = keys.detach(), values.detach()
        if self.rows is not None:  # layer by layer: all at once would copy shared prompts in memory
            keys, values = (part.index_select(0, self.rows) for part in (keys, values))
        return keys, values

    def extend(self, mask: Tensor | None, length: int) -> Tensor | None:
        """The additive mask of `length` text positions (None: no padding) with the prompt's columns in front; None if
        nothing is masked. Computed once per batch, not per layer."""
        if mask is None and self.bias is None:
            return None
        for own, known_length, extended in self._masks:
            if own is mask and known_length == length:
                return extended
        extended = self._extend(mask, length)
        # One batch needs at most two masks (ModernBERT); older ones are of earlier batches.
        self._masks = [*self._masks[-1:], (mask, length, extended)]
        return extended

    def _extend(self, mask: Tensor | None, length: int) -> Tensor:
        if self.bias is None:
            assert mask is not None
            return F.pad(mask, (self.prompt_length, 0))
        if mask is None:
            return F.pad(self.bias, (0, length))
        rows = max(mask.shape[0], self.bias.shape[0])  # T5's bias for positions is one for all rows
        bias = self.bias.expand(rows, *mask.shape[1:3], -1)
        return torch.cat([bias, mask.expand(rows, -1, -1, -1)], dim=-1)


@runtime_checkable
class Attachable(Protocol):
    """Anything that temporarily changes the states of a backbone: a module, or a result of stage 1."""

    def attached(self, backbone: Any) -> AbstractContextManager[Prefix | None]:
        """Context manager in which the backbone computes with it; yields the prefix to pass on, or None."""
        ...


def _lengthen(prompt: Float[Tensor, "layer 2 head prompt dim"], length: int) -> Tensor:
    missing = length - prompt.shape[3]
    return F.pad(prompt, (0, 0, 0, missing)) if missing else prompt


class _Attention(torch.autograd.Function):
    """softmax(scale * query @ [front, key].T + mask) @ [front, value] by plain matrix products.

    Prompt and text are copied into one buffer in the memory order of the products, which would otherwise copy them. The
    backward pass stores the probabilities but not the scores, and skips gradients of the text's keys and values where
    nothing below is trained (the lowest layer).
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        front_keys: Tensor,
        front_values: Tensor,
        mask: Tensor | None,
        scale: float,
    ) -> Tensor:
        batch, heads, length, dim = query.shape
        num_front = front_keys.shape[2]
        scaled = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        torch.mul(query, scale, out=scaled)  # fewer numbers than the scores
        keys, values = _join(front_keys, key), _join(front_values, value)
        scores = torch.bmm(scaled.flatten(0, 1), keys.flatten(0, 1).transpose(1, 2))
        if mask is not None:
            scores.view(batch, heads, length, -1).add_(mask)
        weights = scores.softmax(dim=-1)
        output = torch.bmm(weights, values.flatten(0, 1)).view(batch, heads, length, dim)
        ctx.save_for_backward(scaled, keys, values, weights)
        ctx.scale, ctx.num_front, ctx.rows = scale, num_front, front_keys.shape[0]
        return output.transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        require_onednn()
        scaled, keys, values, weights = ctx.saved_tensors
        batch, heads, length, dim = scaled.shape
        wants_query, *of_text = ctx.needs_input_grad[:3]
        columns = slice(None) if any(of_text) else slice(ctx.num_front)
        of_output = gradients[0].transpose(1, 2).reshape(batch * heads, length, dim)
        of_values = torch.bmm(weights[:, :, columns].transpose(1, 2), of_output)
        of_weights = torch.bmm(of_output, values.flatten(0, 1).transpose(1, 2))
        of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_keys = torch.bmm(of_scores[:, :, columns].transpose(1, 2), scaled.flatten(0, 1))
        of_query = None
        if wants_query:
            of_query = torch.bmm(of_scores, keys.flatten(0, 1)).mul_(ctx.scale).view(scaled.shape)
        of_keys, of_values = (part.view(batch, heads, -1, dim) for part in (of_keys, of_values))
        text = [
            part[:, :, ctx.num_front :] if needs_gradient else None
            for part, needs_gradient in zip((of_keys, of_values), of_text, strict=True)
        ]
        front = [part[:, :, : ctx.num_front] for part in (of_keys, of_values)]
        if ctx.rows == 1:
            front = [part.sum(dim=0, keepdim=True) for part in front]
        return (of_query, *text, *front, None, None)


def _join(front: Float[Tensor, "rows head prompt dim"], text: Float[Tensor, "batch head seq dim"]) -> Tensor:
    """Concatenate front and text to one contiguous [batch, head, prompt + seq, dim]."""
    batch, heads, length, dim = text.shape
    num_front = front.shape[2]
    joined = torch.empty(batch, heads, num_front + length, dim, dtype=text.dtype, device=text.device)
    joined[:, :, :num_front] = front
    joined[:, :, num_front:] = text
    return joined


def attend(
    module: nn.Module,
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch kv_head seq dim"],
    value: Float[Tensor, "batch kv_head seq dim"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    prefix: Prefix | None = None,
    position_bias: Float[Tensor, "_ head query seq"] | None = None,
    noted: dict[int, Tensor] | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "batch query head dim"], None]:
    """Attention over [prompt, text]. Without a prefix it equals transformers' `sdpa` to the bit, except in training on
    a CPU. `position_bias` (T5) is added to the scores of the text; `noted` gets the first row's keys and values
    [2, kv_head, seq, dim] of self-attention, by layer."""
    require_onednn()
    if noted is not None and not _is_cross_attention(module):
        noted[_layer_index(module)] = torch.stack([key[0], value[0]])
    if position_bias is not None:
        attention_mask = position_bias if attention_mask is None else attention_mask + position_bias
    bias_is_trained = attention_mask is not None and attention_mask.requires_grad
    sdpa = partial(sdpa_attention_forward, module, query, dropout=dropout, scaling=scaling, is_causal=False)
    by_sdpa = _has_fast_sdpa(query.device) or dropout > 0 or bias_is_trained
    if prefix is None or _is_cross_attention(module):
        if by_sdpa or not _leads_back(query, key, value):
            return sdpa(key, value, attention_mask)
        front_keys, front_values = key[:1, :, :0], value[:1, :, :0]
    else:
        front_keys, front_values = prefix.layer(_layer_index(module))
        attention_mask = prefix.extend(attention_mask, key.shape[2])
    if by_sdpa:
        batch = query.shape[0]
        key = torch.cat([front_keys.expand(batch, -1, -1, -1), key], dim=2)
        value = torch.cat([front_values.expand(batch, -1, -1, -1), value], dim=2)
        return sdpa(key, value, attention_mask)
    groups = query.shape[1] // key.shape[1]
    keys_and_values = (repeat_kv(part, groups) for part in (key, value, front_keys, front_values))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return cast(Tensor, _Attention.apply(query, *keys_and_values, attention_mask, scale)), None


def _leads_back(*inputs: Tensor) -> bool:
    """Whether a result of these inputs will need gradients."""
    return torch.is_grad_enabled() and any(part.requires_grad for part in inputs)


def _has_fast_sdpa(device: torch.device) -> bool:
    """Whether to use `sdpa`: on a CPU its flash backward is slow for short keys and small heads; three plain products
    are twice as fast (docs/facts.md, "bf16 on the CPU")."""
    return device.type == "cuda"


def _is_cross_attention(module: nn.Module) -> bool:
    """Whether an attention of a decoder reads what an encoder made (T5's)."""
    return getattr(module, "is_decoder", False) and not getattr(module, "is_causal", True)


def _layer_index(module: nn.Module) -> int:
    index = getattr(module, "layer_idx", None)
    if not isinstance(index, int):
        raise AssertionError(f"{type(module).__name__} does not say which layer it is")
    return index


def _additive_mask(
    *,
    mask_function: Any = bidirectional_mask_function,
    attention_mask: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    **kwargs: Any,
) -> Tensor | None:
    """Additive mask, [batch, 1, 1, kv] for plain bidirectional attention; None for a batch without padding."""
    if mask_function is bidirectional_mask_function:
        return additive_mask(attention_mask, dtype)
    return eager_mask(mask_function=mask_function, attention_mask=attention_mask, dtype=dtype, **kwargs)


def additive_mask(
    attention_mask: Int[Tensor, "batch seq"] | Bool[Tensor, "batch seq"] | None, dtype: torch.dtype
) -> Float[Tensor, "batch 1 1 seq"] | None:
    """Mask to add to the scores: 0 at text, the lowest number at padding; None for a batch without padding."""
    if attention_mask is None or bool(attention_mask.all()):
        return None
    lowest = torch.finfo(dtype).min
    mask = torch.zeros(attention_mask.shape, dtype=dtype, device=attention_mask.device)
    return mask.masked_fill_(attention_mask == 0, lowest)[:, None, None]


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, _additive_mask)


@torch.no_grad()
def layers_reached(run: Callable[[Prefix], object], zeros: Float[Tensor, "layer 2 head prompt dim"]) -> set[int]:
    """Layers whose attention calls the registered function with a prompt of zeros, determined by one forward pass."""
    reached: set[int] = set()

    class Recorder(Prefix):
        def layer(self, index: int) -> tuple[Tensor, Tensor]:
            reached.add(self.first_layer + index)
            return super().layer(index)

    run(Recorder.shared(zeros, zeros.dtype))
    return reached
