"""Decoder-only language models: Llama, Qwen3, Gemma 3, and others that pass the check at load.

Attention is causal over the text, and every position sees the whole prompt, also beyond a sliding window. The keys of a
prompt are used as they are: no rotary embedding is applied to them. Nothing is cached.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from glotprompt.model.families.family import Family, in_order
from glotprompt.model.prefix import ATTENTION, Prefix


class Decoder(Family):
    """A decoder whose LM head predicts the next token."""

    objective = "clm"
    classes = MODEL_FOR_CAUSAL_LM_MAPPING
    auto_class = "AutoModelForCausalLM"

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None, prefix: Prefix | None, **more: Any) -> Any:
        # Without a mask transformers looks for packed sequences in the position ids, which the meta device cannot do.
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return self.model.base_model(input_ids=input_ids, attention_mask=mask, prefix=prefix, use_cache=False, **more)

    @torch.no_grad()
    def is_exact(self) -> bool:
        """Whether our attention without a prompt is the model's own, and whether the model's own keys and values at the
        first tokens of a text, as a prompt, stand in for these tokens."""
        if self.model.device.type == "meta":
            return True
        ids = torch.arange(4, device=self.model.device)[None]
        self.model.set_attn_implementation("eager")
        own = self.read(ids, None, None)
        self.model.set_attn_implementation(ATTENTION)
        noted: dict[int, Tensor] = {}
        whole = self.read(ids, None, None, noted=noted)
        key_values = in_order(noted)[:, :, :, :2]
        positions = torch.arange(2, 4, device=ids.device)[None]
        behind = self.read(ids[:, 2:], None, Prefix.shared(key_values, self.model.dtype), position_ids=positions)
        tolerance = (1e-3 if own.dtype == torch.float32 else 5e-2) * float(own.float().std())
        pairs = ((whole, own), (behind, own[:, 2:]))
        return all(bool(((one - other).abs() <= tolerance).all()) for one, other in pairs)
