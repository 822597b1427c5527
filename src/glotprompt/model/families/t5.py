"""Encoder-decoders of the T5 family: T5, mT5, umT5, and ByT5, which reads bytes.

A prompt has vectors for the self-attention of every encoder layer, then for that of every decoder layer; so the top K
layers are first of all the decoder's. Cross-attention has none. T5 adds a bias for relative positions to the scores
instead of counting positions: the bias of prompt keys is 0, and positions cannot be shifted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, PreTrainedModel

from glotprompt.model.families.family import DecoderInput, Family, in_order
from glotprompt.model.prefix import Prefix

KINDS = ("t5", "mt5", "umt5")
"""Model types; ByT5 is a T5."""
PRETRAINING_LENGTH = 1024
"""Tokens of a sequence in the pre-training of mT5 and ByT5; relative positions set no limit."""


class T5(Family):
    """An encoder-decoder whose decoder generates what a sentinel stands for."""

    objective = "spans"
    classes = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    auto_class = "AutoModelForSeq2SeqLM"
    sizes = ("num_layers", "num_decoder_layers", "num_heads", "d_kv", "hidden_size", "vocab_size")
    has_decoder = True

    def __init__(self, model: PreTrainedModel) -> None:
        config: Any = model.config
        self.model = model
        self.has_lm_head = hasattr(model, "lm_head")
        self.num_state_layers: int = config.num_layers
        self.num_layers: int = config.num_layers + config.num_decoder_layers
        self.num_heads: int = config.num_heads
        self.head_dim: int = config.d_kv
        self.num_positions = PRETRAINING_LENGTH
        self._parts: Any = model

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None, prefix: Prefix | None, **more: Any) -> Any:
        of_encoder = None if prefix is None else prefix.of_layers(0, self.num_state_layers)
        return self._parts.encoder(input_ids=input_ids, attention_mask=attention_mask, prefix=of_encoder, **more)

    def read(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        prefix: Prefix | None,
        decoder: DecoderInput | None = None,
        **more: Any,
    ) -> Tensor:
        hidden = self.encode(input_ids, attention_mask, prefix, **more).last_hidden_state
        decoder = decoder or DecoderInput(input_ids)
        if decoder.of_row is not None:
            hidden = hidden[decoder.of_row]
            attention_mask = None if attention_mask is None else attention_mask[decoder.of_row]
            prefix = None if prefix is None else prefix.of_rows(decoder.of_row)
        # Rows are padded on the right, behind all that a causal mask lets real tokens see.
        return self._parts.decoder(
            input_ids=decoder.ids,
            encoder_hidden_states=hidden,
            encoder_attention_mask=attention_mask,
            prefix=None if prefix is None else prefix.of_layers(self.num_state_layers, self.num_layers),
            use_cache=False,
        ).last_hidden_state

    def key_values(self, input_ids: Tensor) -> Tensor:
        """Those of the encoder, then those of the decoder, which reads the same text."""
        of_encoder, of_decoder = dict[int, Tensor](), dict[int, Tensor]()
        hidden = self.encode(input_ids, None, None, noted=of_encoder).last_hidden_state
        self._parts.decoder(input_ids=input_ids, encoder_hidden_states=hidden, use_cache=False, noted=of_decoder)
        return torch.cat([in_order(of_encoder), in_order(of_decoder)])

    def logits(self, input_ids: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, decoder_input_ids=input_ids, use_cache=False).logits
