"""The interface of a family of backbones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from glotprompt.model.prefix import Prefix
from glotprompt.model.tokens import Objective


@dataclass(frozen=True)
class DecoderInput:
    """What the decoder of an encoder-decoder model reads."""

    ids: Int[Tensor, "row target"]
    of_row: Int[Tensor, " row"] | None = None
    """The example, by its row of the encoder's batch, of each row; None: one row for each."""


class Family(ABC):
    """A loaded model as one of a family; sizes come from its config."""

    objective: ClassVar[Objective]
    classes: ClassVar[Any]
    """transformers' mapping from configs to classes with an LM head."""
    auto_class: ClassVar[str]
    """The class of transformers that opens a saved model."""
    sizes: ClassVar[tuple[str, ...]] = (
        "num_hidden_layers",
        "num_attention_heads",
        "hidden_size",
        "vocab_size",
        "max_position_embeddings",
    )
    """What a config must have."""
    has_decoder: ClassVar[bool] = False
    """Whether a decoder reads what an encoder made."""

    @classmethod
    def takes(cls, config: Any) -> bool:
        """Whether a config is of this family."""
        return config.is_encoder_decoder == cls.has_decoder and all(getattr(config, name, None) for name in cls.sizes)

    def __init__(self, model: PreTrainedModel) -> None:
        config: Any = model.config
        self.model = model
        self.has_lm_head = model.base_model is not model
        self.num_layers: int = config.num_hidden_layers
        """Layers that a prompt has vectors for."""
        self.num_state_layers = self.num_layers
        """Layers whose output can be pooled, the first of them."""
        self.num_heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        """Key/value heads, as in the shape of a prompt."""
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.num_positions: int = config.max_position_embeddings
        """Longest input in tokens, before what RoBERTa-like models leave out."""

    @abstractmethod
    def encode(
        self, input_ids: Int[Tensor, "batch seq"], attention_mask: Tensor | None, prefix: Prefix | None, **more: Any
    ) -> Any:
        """The model's output, of which text is pooled; `more` are arguments of its forward pass."""

    def read(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Tensor | None,
        prefix: Prefix | None,
        decoder: DecoderInput | None = None,
        **more: Any,
    ) -> Float[Tensor, "row _ hidden"]:
        """Last-layer states from which the LM head predicts tokens."""
        return self.encode(input_ids, attention_mask, prefix, **more).last_hidden_state

    def key_values(self, input_ids: Int[Tensor, "1 seq"]) -> Float[Tensor, "layer 2 head seq dim"]:
        """Keys and values of every layer's self-attention, of one text read without a prompt."""
        noted: dict[int, Tensor] = {}
        self.encode(input_ids, None, None, noted=noted)
        return in_order(noted)

    def logits(self, input_ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
        """The whole model's own logits, to compare with."""
        return self.model(input_ids=input_ids).logits

    def is_exact(self) -> bool:
        """Whether a prompt is known to act as it should, where that must be tried out."""
        return True


def in_order(noted: dict[int, Tensor]) -> Float[Tensor, "layer 2 head seq dim"]:
    """What `attend` noted, layer by layer."""
    return torch.stack([noted[layer] for layer in range(len(noted))])
