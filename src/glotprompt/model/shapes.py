"""Backbones without weights: well-known models by name, to count a method's parameters before any download.

Sources of the shapes: XLM-R from Conneau et al. 2020, with 250,002 tokens; XLM-R XL from the defaults of transformers'
XLMRobertaXLConfig, which are those of this model (Goyal et al. 2021); XLM-V as XLM-R base with 901,629 tokens (Liang et
al. 2023); mBERT from transformers' BertConfig, whose defaults are BERT base, with 119,547 tokens; mmBERT from the
architecture table of its repository, github.com/JHU-CLSP/mmBERT, and the small model's config.json. Counts published by
others are tested in tests/test_costs.py.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import logging as transformers_logging

from glotprompt.errors import ModelError, in_a_line, nearest
from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import (
    BUNDLED,
    WORKING,
    folder_of,
    has_lm_head,
    model_class,
    read_config,
    unsupported,
    without_pooler,
)
from glotprompt.model.prefix import ATTENTION


def _roberta(vocab_size: int, hidden_size: int, num_layers: int, num_heads: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": 4 * hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "layer_norm_eps": 1e-5,
    }


def _modernbert(hidden_size: int, num_heads: int) -> dict[str, Any]:
    return {
        "vocab_size": 256_000,
        "hidden_size": hidden_size,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": num_heads,
        "max_position_embeddings": 8192,
        "local_attention": 128,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "cls_token_id": 1,
        "sep_token_id": 1,
    }


BUILT_IN: dict[str, tuple[str, dict[str, Any]]] = {
    "FacebookAI/xlm-roberta-base": ("xlm-roberta", _roberta(250_002, 768, 12, 12)),
    "FacebookAI/xlm-roberta-large": ("xlm-roberta", _roberta(250_002, 1024, 24, 16)),
    "facebook/xlm-roberta-xl": ("xlm-roberta-xl", _roberta(250_880, 2560, 36, 32)),
    "facebook/xlm-v-base": ("xlm-roberta", _roberta(901_629, 768, 12, 12)),
    "google-bert/bert-base-multilingual-cased": (
        "bert",
        {**_roberta(119_547, 768, 12, 12), "max_position_embeddings": 512, "type_vocab_size": 2, "pad_token_id": 0},
    ),
    "jhu-clsp/mmBERT-small": ("modernbert", _modernbert(384, 6)),
    "jhu-clsp/mmBERT-base": ("modernbert", _modernbert(768, 12)),
}
"""Hub name -> model type, and the config values that differ from the defaults of that type."""


class Shell(Backbone):
    """A backbone on the meta device, without tokenizer: its parameters can be counted, but it reads no text."""

    fingerprint = "none"

    def __init__(self, config: PreTrainedConfig, name: str, lm_head: bool = True) -> None:
        """Raise `ModelError` for an architecture that `Backbone` would refuse."""
        try:
            kind = model_class(config, lm_head)
            with torch.device("meta"):
                model = kind._from_config(config, dtype=torch.float32, **without_pooler(kind))  # pyright: ignore[reportPrivateUsage]  # what AutoModel.from_config calls; it passes no arguments on
        except ValueError:
            raise ModelError(f"{name}: a {config.model_type!r} model is no known language model; {WORKING}") from None
        self._take(model, name)
        try:
            self._attach(0)
        except RuntimeError:  # the model needs the value of a weight
            raise ModelError(
                f"{name}: a {config.model_type!r} model cannot be counted without weights; {WORKING}"
            ) from None

    @classmethod
    def of(cls, backbone: Backbone) -> Shell:
        """The shape of an opened backbone, in its precision."""
        shell = _Trusted(backbone.model.config, backbone.name, backbone.has_lm_head)
        shell.use_precision(backbone.precision)
        return shell

    @classmethod
    def named(cls, name: str) -> Shell:
        """The shape of a backbone by name: built in, bundled, a folder, or a hub name with a config.json. No weights
        are read. Raises `ModelError` if there is no config."""
        if name in BUILT_IN:
            return _built_in(name)
        loudness = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()
        try:
            config = read_config(folder_of(name))
        except ModelError:
            raise
        except Exception as error:  # foreign files: anything can be raised
            if message := unsupported(name, error):
                raise ModelError(message) from None
            names = [*BUNDLED, *BUILT_IN]
            raise ModelError(
                f"cannot load the config.json of {name!r} ({' '.join(str(error).split())[:120]}); give a folder, a hub"
                f" name that is reachable or in the cache, or one of {', '.join(names)}.{nearest(name, names)}"
            ) from None
        finally:
            transformers_logging.set_verbosity(loudness)
        has_head = BUNDLED[name].has_lm_head if name in BUNDLED else has_lm_head(config)
        try:
            return cls(config, name, has_head)
        except ModelError:
            raise
        except Exception as error:  # a config may hold anything
            raise ModelError(f"{name} cannot be used: {in_a_line(repr(error))}; {WORKING}") from None


class _Trusted(Shell):
    """One that is known to pass the checks, which take longer on the meta device than with weights."""

    def _refuse_out_of_reach(self, ids: Tensor) -> None:
        self.model.set_attn_implementation(ATTENTION)


@cache  # seconds for a large one, and a grid's costs are counted method by method
def _built_in(name: str) -> Shell:
    kind, values = BUILT_IN[name]
    return _Trusted(AutoConfig.for_model(kind, **values), name)
