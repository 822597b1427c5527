"""Families of backbones: how prompts reach attention, which mask it has, and how positions count."""

from __future__ import annotations

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, PreTrainedConfig

from glotprompt.model.families.decoder import Decoder
from glotprompt.model.families.encoder import Encoder
from glotprompt.model.families.family import DecoderInput, Family
from glotprompt.model.families.t5 import KINDS, T5

__all__ = ("DecoderInput", "Family", "family_of")


def family_of(config: PreTrainedConfig) -> type[Family]:
    """The family of a config; of models that none fits, that of masked encoders, which refuses them."""
    if config.model_type in KINDS:
        return T5
    # BERT and its kin are in both mappings.
    generates = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    return Decoder if generates and not config.is_encoder_decoder else Encoder
