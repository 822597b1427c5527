"""Keys and values at real tokens, against the same in plain torch, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.real_tokens import key_values_of_text
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.prefix import ATTENTION

SEQUENCE = torch.tensor([0, 11, 25, 2, 40, 17, 93, 2])
SPECIAL = torch.tensor([0, 1, 2])
TEXT = [1, 2, 4, 5, 6]


@torch.no_grad()
def plain_keys_and_values(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """[layer, 2, head, seq, dim]: the stock model's own projections of what enters each layer (rotated by place, for
    ModernBERT)."""
    body: Any = model.base_model
    states = body(input_ids=ids[None], output_hidden_states=True).hidden_states
    found: list[Tensor] = []
    if model.config.model_type != "modernbert":
        for layer, entering in zip(body.encoder.layer, states, strict=False):
            part = layer.attention.self
            heads = part.num_attention_heads
            both = [linear(entering[0]).unflatten(-1, (heads, -1)).transpose(0, 1) for linear in (part.key, part.value)]
            found.append(torch.stack(both))
        return torch.stack(found)
    config = model.config
    heads, dim = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    for index, layer in enumerate(model.base_model.layers):
        packed = layer.attn.Wqkv(layer.attn_norm(states[index][0])).unflatten(-1, (3, heads, dim))
        _, key, value = packed.permute(1, 2, 0, 3)
        base = config.rope_parameters[config.layer_types[index]]["rope_theta"]
        angles = torch.arange(len(ids))[:, None] / base ** (torch.arange(0, dim, 2) / dim)
        first, second = key.chunk(2, dim=-1)
        turned = [first * angles.cos() - second * angles.sin(), first * angles.sin() + second * angles.cos()]
        found.append(torch.stack([torch.cat(turned, dim=-1), value]))
    return torch.stack(found)


@pytest.mark.parametrize("name", ["xlm-roberta", "bert", "modernbert"])
def test_they_are_the_model_s_own(
    name: str, tiny_backbone: Callable[[str], Backbone], stock: Callable[[str], PreTrainedModel]
) -> None:
    backbone = tiny_backbone(name)
    found = key_values_of_text(backbone, [SEQUENCE], SPECIAL, 4)
    assert found.shape == backbone.prompt_shape(4)
    assert found.dtype == torch.float32
    own = plain_keys_and_values(stock(name), SEQUENCE)
    assert torch.allclose(found, own[:, :, :, TEXT[:4]], atol=1e-5)
    assert not torch.allclose(found, own[:, :, :, :4], atol=1e-1), "special tokens are left out"


def test_several_sequences_are_read_until_there_are_enough(tiny_backbone: Callable[[str], Backbone]) -> None:
    backbone = tiny_backbone("xlm-roberta")
    other = torch.tensor([0, 60, 61, 2])
    read: list[int] = []

    def sequences() -> object:
        for number, sequence in enumerate((SEQUENCE, other, SEQUENCE)):
            read.append(number)
            yield sequence

    found = key_values_of_text(backbone, sequences(), SPECIAL, 6)  # pyright: ignore[reportArgumentType]
    assert read == [0, 1]
    first, second = (key_values_of_text(backbone, [part], SPECIAL, 9) for part in (SEQUENCE, other))
    assert (first.shape[3], second.shape[3]) == (5, 2), "as many as there are"
    assert torch.equal(found, torch.cat([first, second[:, :, :, :1]], dim=3))


def test_the_backbone_is_as_it_was(own_backbone: Callable[[str], Backbone]) -> None:
    backbone = own_backbone("xlm-roberta")
    prefix = SoftPrompt.initialise(backbone.prompt_shape(3), 1.0, 0).prefix(backbone.dtype)
    before = backbone.hidden_states(SEQUENCE[None], None, prefix)
    key_values_of_text(backbone, [SEQUENCE], SPECIAL, 3)
    with pytest.raises(RuntimeError, match="stop"):
        key_values_of_text(backbone, (_stop() for _ in range(1)), SPECIAL, 3)
    assert backbone.model.config._attn_implementation == ATTENTION
    assert torch.equal(backbone.hidden_states(SEQUENCE[None], None, prefix), before)


def _stop() -> Tensor:
    raise RuntimeError("stop")
