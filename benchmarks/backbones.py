"""Backbones with random weights in the shapes of real ones: speed and memory do not depend on what a model knows."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerFast, XLMRobertaConfig

from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import MINI, folder_of
from glotprompt.model.tokens import SpecialIds


@dataclass(frozen=True)
class Shape:
    """Sizes of a backbone of XLM-R's kind, without its vocabulary."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int


SHAPES = {
    "tiny": Shape(48, 3, 4, 96),
    "mini": Shape(384, 12, 12, 1536),
    "base": Shape(768, 12, 12, 3072),
    "large": Shape(1024, 24, 16, 4096),
}
"""By name: tiny is for tests, mini has the body of the bundled random, base and large are XLM-R's."""

XLMR_WORDS = 250_002
"""Size of XLM-R's vocabulary."""
BUNDLED_WORDS = 70_098
"""Of the bundled backbones', the least that a benchmark can have."""


class WideTokenizer(PreTrainedTokenizerFast):
    """The bundled backbone's tokenizer, said to belong to a vocabulary of `num_words`: texts are cut as they are there,
    and both sides draw random words (a tenth of the masked ones) from all of it."""

    num_words: int | None = None

    def __len__(self) -> int:
        return self.num_words or self.num_pieces

    @property
    def num_pieces(self) -> int:
        """How many tokens it really has."""
        return super().__len__()


def wide_tokenizer(num_words: int) -> WideTokenizer:
    """A tokenizer for a model of `num_words`, at least as many as the bundled backbone has."""
    tokenizer = WideTokenizer.from_pretrained(folder_of(MINI))
    least = tokenizer.num_pieces
    if num_words < least:
        raise SystemExit(f"--vocabulary {num_words} is smaller than that of the tokenizer; give at least {least}")
    tokenizer.num_words = num_words
    return tokenizer


@dataclass(frozen=True)
class RandomModel:
    """A shape with a vocabulary, and its weights, which all models of one dtype share."""

    shape: Shape
    vocabulary: int
    tokenizer: WideTokenizer
    device: torch.device
    _models: dict[torch.dtype, PreTrainedModel]

    @classmethod
    def of(cls, shape: str, vocabulary: int, device: str = "cpu") -> RandomModel:
        return cls(SHAPES[shape], vocabulary, wide_tokenizer(vocabulary), torch.device(device), {})

    def model(self, dtype: torch.dtype) -> PreTrainedModel:
        """A fresh transformers model (sdpa, as it comes) around weights that are made once for each dtype. Whoever
        trains the weights themselves changes them for all."""
        if dtype not in self._models:
            self._models[dtype] = _random_model(self, dtype)
        first = self._models[dtype]
        shared: dict[int, Any] = {id(parameter): nn.Parameter(parameter.detach()) for parameter in first.parameters()}
        return copy.deepcopy(first, shared)

    def backbone(self, dtype: torch.dtype) -> Backbone:
        """The product's backbone around the same weights."""
        return Backbone(self.model(dtype), self.tokenizer, "random weights")


def _random_model(model: RandomModel, dtype: torch.dtype) -> PreTrainedModel:
    shape, special = model.shape, SpecialIds.of(model.tokenizer)
    config = XLMRobertaConfig(
        vocab_size=model.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=special.pad,
        bos_token_id=special.front[0],
        eos_token_id=special.separator,
    )
    with torch.random.fork_rng(), model.device:
        torch.manual_seed(0)
        return AutoModelForMaskedLM.from_config(config, dtype=dtype)
