"""XLM (Lample and Conneau 2019), whose attention in transformers calls no registered function.

`speak_interface` gives the body and attention of a model classes that do, so that prompts reach every layer as they
reach those of other models (`prefix`). Weights and their names stay. No language embeddings are added: a language that
the model does not know has none (`langs` is None, as transformers allows; XLM-17 and XLM-100 have none at all).
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.models.xlm import modeling_xlm

from glotprompt.model.prefix import additive_mask


class _Attention(modeling_xlm.MultiHeadAttention):
    """Attention by the function that the body hands over for a pass."""

    attend: Any = None

    @property
    def layer_idx(self) -> int:
        """Number of the layer, as other models call it."""
        return self.layer_id

    def forward(self, input: Tensor, *arguments: Any, **options: Any) -> tuple[Tensor]:
        query, key, value = (
            linear(input).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for linear in (self.q_lin, self.k_lin, self.v_lin)
        )
        context, _ = self.attend(self, query, key, value, dropout=self.dropout if self.training else 0.0)
        return (self.out_lin(context.flatten(2)),)


class XLMModel(modeling_xlm.XLMModel):
    """transformers' body, under its name, with the keyword arguments of attention functions such as `prefix`."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # called by keyword
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **options: Any,
    ) -> Any:
        read = cast(Tensor, inputs_embeds if input_ids is None else input_ids)
        batch, length = read.shape[:2]
        function = AttentionInterface()[cast(Any, self.config)._attn_implementation]
        # Once, not by every layer.
        attend = partial(function, attention_mask=additive_mask(attention_mask, self.dtype), **options)
        attentions = cast(list[_Attention], list(self.attentions))
        for attention in attentions:
            attention.attend = attend
        try:
            return super().forward(
                input_ids=input_ids,
                # Its own would be made of lengths, and those of the padding id.
                attention_mask=torch.ones(batch, length, device=read.device)
                if attention_mask is None
                else attention_mask,
                position_ids=None if position_ids is None else position_ids.expand(batch, -1),
                inputs_embeds=inputs_embeds,
                output_hidden_states=output_hidden_states,
                lengths=torch.full((batch,), length, device="cpu"),  # read only in a check, which would wait for a GPU
            )
        finally:
            for attention in attentions:
                del attention.attend


def speak_interface(model: PreTrainedModel) -> None:
    """Let an XLM model's attention call the function registered with transformers; any other model stays as it is, and
    so does a causal one."""
    body: Any = model.base_model
    if isinstance(body, modeling_xlm.XLMModel) and not body.causal:
        body.__class__ = XLMModel
        for attention in body.attentions:
            attention.__class__ = _Attention
        # transformers looks for the interface in its own source.
        cast(Any, model)._can_set_attn_implementation = lambda: True
