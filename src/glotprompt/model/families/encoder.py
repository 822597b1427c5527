"""Masked language models and sentence encoders: XLM-R, BERT, ModernBERT, EuroBERT. Attention sees the whole text; a
prompt is in front of every layer; positions are the model's own, or shifted (`Backbone`)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import MODEL_FOR_MASKED_LM_MAPPING

from glotprompt.model.families.family import Family
from glotprompt.model.prefix import Prefix


class Encoder(Family):
    """A bidirectional encoder."""

    objective = "mlm"
    classes = MODEL_FOR_MASKED_LM_MAPPING
    auto_class = "AutoModelForMaskedLM"

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None, prefix: Prefix | None, **more: Any) -> Any:
        return self.model.base_model(input_ids=input_ids, attention_mask=attention_mask, prefix=prefix, **more)
