"""What the tests of the model room share: backbones by name, batches, and attention with prefixes in plain torch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.soft_prompt import SoftPrompt


@pytest.fixture(params=["xlm-roberta", "bert", "modernbert", "xlm", pytest.param("mini", marks=pytest.mark.slow)])
def kind(request: pytest.FixtureRequest) -> str:
    """Every backbone on which the properties of the soft prompt are checked."""
    return request.param


@pytest.fixture
def backbone(kind: str, tiny_backbone: Callable[[str], Backbone], request: pytest.FixtureRequest) -> Backbone:
    """The backbone of that kind in fp32; not to be changed."""
    return request.getfixturevalue("mini") if kind == "mini" else tiny_backbone(kind)


Batch = tuple[Tensor, Tensor]


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """Random words of the given lengths, padded to the longest (or further): ids and mask."""

    def make(backbone: Backbone, lengths: Sequence[int], width: int | None = None, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        shape = (len(lengths), width or max(lengths))
        mask = (torch.arange(shape[1]) < torch.tensor(lengths)[:, None]).long()
        words = torch.randint(4, backbone.vocab_size - 1, shape, generator=generator)
        words[:, 0] = backbone.tokenizer.cls_token_id
        return torch.where(mask == 1, words, int(backbone.tokenizer.pad_token_id)), mask

    return make


@pytest.fixture
def make_prompt() -> Callable[..., Tensor]:
    """A prompt large enough to be felt: standard deviation 1."""

    def make(backbone: Backbone, length: int, seed: int = 0) -> Tensor:
        return SoftPrompt.initialise(backbone.prompt_shape(length), 1.0, seed).key_values().detach()

    return make


# ---------------------------------------------------------------------------------------------------------------
# The reference: one example at a time, so without padding or mask, in float64. It takes linear maps, norms and
# embeddings from the stock model, and writes out where queries meet keys.


@pytest.fixture
def reference() -> Callable[..., Tensor]:
    """Last-layer states [seq, hidden] of one example [seq] behind `key_values`, its position ids moved by `shift`, or
    behind `vectors` [prompt, hidden] before the word embeddings."""

    def states(
        model: PreTrainedModel, ids: Tensor, key_values: Tensor | None, shift: int = 0, vectors: Tensor | None = None
    ) -> Tensor:
        body: Any = _in_float64(model)
        vectors = torch.zeros(0, model.config.hidden_size) if vectors is None else vectors
        places = torch.cat([torch.arange(len(vectors)), torch.arange(len(ids)) + shift])
        follow = {"modernbert": _modernbert, "xlm": _xlm}.get(model.config.model_type, _bert)
        with torch.no_grad():
            embed: Any = body.get_input_embeddings()
            words = torch.cat([vectors.double(), embed(ids)])
            prefix = None if key_values is None else key_values.double()
            return follow(body, words, places, prefix)[len(vectors) :]

    return states


@cache
def _in_float64(model: PreTrainedModel) -> torch.nn.Module:
    return copy.deepcopy(model.base_model).double()


def _attend(query: Tensor, key: Tensor, value: Tensor, prefix: Tensor | None, reach: int | None = None) -> Tensor:
    """[head, seq, dim] each; a word sees the whole prompt, and words at most `reach` away."""
    visible = torch.ones(query.shape[1], key.shape[1], dtype=torch.bool)
    if reach is not None:
        places = torch.arange(query.shape[1])
        visible = (places[:, None] - places).abs() <= reach
    if prefix is not None:
        visible = torch.cat([torch.ones(query.shape[1], prefix.shape[2], dtype=torch.bool), visible], dim=1)
        key, value = torch.cat([prefix[0], key], dim=1), torch.cat([prefix[1], value], dim=1)
    scores = torch.einsum("hqd,hkd->hqk", query, key) / math.sqrt(query.shape[-1])
    weights = torch.exp(scores - scores.max()) * visible
    weights = weights / weights.sum(dim=-1, keepdim=True)
    mixed = torch.einsum("hqk,hkd->hqd", weights, value)
    return mixed.transpose(0, 1).flatten(1)


def _bert(body: Any, words: Tensor, places: Tensor, key_values: Tensor | None) -> Tensor:
    """BERT and XLM-R: norms after the residuals, learned positions (XLM-R counts them from 2)."""
    first = 2 if body.config.model_type == "xlm-roberta" else 0
    table = body.embeddings
    states = words + table.position_embeddings(places + first)
    states = table.LayerNorm(states + table.token_type_embeddings.weight[0])
    for index, layer in enumerate(body.encoder.layer):
        part = layer.attention.self
        split = [
            linear(states).unflatten(-1, (part.num_attention_heads, -1)).transpose(0, 1)
            for linear in (part.query, part.key, part.value)
        ]
        mixed = _attend(*split, None if key_values is None else key_values[index])
        states = layer.attention.output.LayerNorm(layer.attention.output.dense(mixed) + states)
        widened = torch.nn.functional.gelu(layer.intermediate.dense(states))
        states = layer.output.LayerNorm(layer.output.dense(widened) + states)
    return states


def _modernbert(body: Any, words: Tensor, places: Tensor, key_values: Tensor | None) -> Tensor:
    """ModernBERT: norms before, rotary positions, gated feed-forward, and some layers that look 8 words far."""
    config = body.config
    states = body.embeddings.norm(words)
    dim = config.hidden_size // config.num_attention_heads
    for index, layer in enumerate(body.layers):
        local = config.layer_types[index] == "sliding_attention"
        base = config.rope_parameters[config.layer_types[index]]["rope_theta"]
        angles = places[:, None] / base ** (torch.arange(0, dim, 2).double() / dim)
        turn = torch.polar(torch.ones_like(angles), angles)

        def rotated(part: Tensor, turn: Tensor = turn) -> Tensor:
            halves = torch.complex(*part.chunk(2, dim=-1)) * turn
            return torch.cat([halves.real, halves.imag], dim=-1)

        packed = layer.attn.Wqkv(layer.attn_norm(states)).unflatten(-1, (3, config.num_attention_heads, dim))
        query, key, value = packed.permute(1, 2, 0, 3)
        prefix = None if key_values is None else key_values[index]
        mixed = _attend(rotated(query), rotated(key), value, prefix, config.local_attention // 2 if local else None)
        states = states + layer.attn.Wo(mixed)
        first, gate = layer.mlp.Wi(layer.mlp_norm(states)).chunk(2, dim=-1)
        states = states + layer.mlp.Wo(torch.nn.functional.gelu(first) * gate)
    return body.final_norm(states)


def _xlm(body: Any, words: Tensor, places: Tensor, key_values: Tensor | None) -> Tensor:
    """XLM: norms after the residuals, learned positions from 0, no language embeddings."""
    states = body.layer_norm_emb(words + body.position_embeddings(places))
    for index, part in enumerate(body.attentions):
        split = [
            linear(states).unflatten(-1, (part.n_heads, -1)).transpose(0, 1)
            for linear in (part.q_lin, part.k_lin, part.v_lin)
        ]
        mixed = _attend(*split, None if key_values is None else key_values[index])
        states = body.layer_norm1[index](part.out_lin(mixed) + states)
        widened = torch.nn.functional.gelu(body.ffns[index].lin1(states))
        states = body.layer_norm2[index](body.ffns[index].lin2(widened) + states)
    return states
