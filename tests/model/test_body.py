"""Layers called by hand against the model's own forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from glotprompt.model.backbone import Backbone
from glotprompt.model.body import ReadPositions
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.prefix import Prefix

KINDS = ["xlm-roberta", "bert"]


def batch(backbone: Backbone, padded: bool) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, backbone.vocab_size, (4, 9), generator=generator)
    if not padded:
        return ids, None
    mask = torch.ones_like(ids)
    for row, length in enumerate((9, 3, 7, 5)):
        mask[row, length:] = 0
    padding = int(str(backbone.tokenizer.pad_token_id))
    return ids.masked_fill(mask == 0, padding), mask


def by_transformers(backbone: Backbone, ids: Tensor, mask: Tensor | None, prefix: Prefix | None) -> Tensor:
    return backbone.model.base_model(input_ids=ids, attention_mask=mask, prefix=prefix).last_hidden_state


def prompt_of(backbone: Backbone, layers: range | None = None) -> SoftPrompt:
    return SoftPrompt.initialise(backbone.prompt_shape(3), 0.5, 1, layers)


POSITIONS = [
    pytest.param([1, 2, 10, 11, 20, 21, 30, 31], id="two in every row"),
    pytest.param([0, 9, 11, 29, 30, 31], id="unequal, none in one row"),
    pytest.param([35], id="a single one"),
    pytest.param([30, 3, 12, 4], id="in any order"),
    pytest.param([33, 20, 5, 14], id="one in every row, in any order"),
    pytest.param([20, 5, 5, 5], id="some more than once"),
]


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_read_positions_have_the_whole_passes_states_and_gradients(
    tiny_backbone: Callable[[str], Backbone], kind: str, padded: bool, positions: list[int]
) -> None:
    backbone = tiny_backbone(kind)
    ids, mask = batch(backbone, padded)
    places = torch.tensor(positions)
    found: list[Tensor] = []
    for whole in (True, False):
        prompt = prompt_of(backbone)
        prefix = prompt.prefix(torch.float32)
        if whole:
            states = by_transformers(backbone, ids, mask, prefix).flatten(0, 1)[places]
        else:
            states = backbone.states_at(ids, mask, prefix, places)
        (gradient,) = torch.autograd.grad(states.square().sum(), [prompt.trained])
        found += [states, gradient]
    torch.testing.assert_close(found[2], found[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[3], found[1], rtol=1e-4, atol=1e-5)
    assert found[1].abs().min() > 0, "every layer's vectors have gradients"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_pass_can_be_cut_in_two_at_any_layer(tiny_backbone: Callable[[str], Backbone], kind: str, layer: int) -> None:
    backbone = tiny_backbone(kind)
    ids, mask = batch(backbone, padded=True)
    prefix, places = prompt_of(backbone).prefix(torch.float32), torch.tensor([2, 10, 20, 30])
    whole = backbone.states_at(ids, mask, prefix, places)
    below = backbone.states_below(layer, ids, mask, prefix)
    torch.testing.assert_close(backbone.states_from(layer, below, mask, prefix, places), whole, rtol=1e-6, atol=1e-6)


def test_nothing_below_the_lowest_trained_layer_is_differentiated(tiny_backbone: Callable[[str], Backbone]) -> None:
    backbone = tiny_backbone("xlm-roberta")
    ids, mask = batch(backbone, padded=True)
    top = range(1, backbone.num_layers)
    prefix = prompt_of(backbone, top).prefix(torch.float32)
    assert not backbone.states_below(1, ids, mask, prefix).requires_grad
    assert backbone.states_below(backbone.num_layers, ids, mask, prefix).requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_recomputed_activations_give_the_same_gradients_at_read_positions(
    own_backbone: Callable[[str], Backbone], kind: str
) -> None:
    backbone = own_backbone(kind)
    ids, mask = batch(backbone, padded=True)
    gradients: list[Tensor] = []
    for recompute in (False, True):
        backbone.checkpoint_gradients(recompute)
        prompt = prompt_of(backbone)
        states = backbone.states_at(ids, mask, prompt.prefix(torch.float32), torch.tensor([2, 10, 20, 30]))
        gradients += torch.autograd.grad(states.square().sum(), [prompt.trained])
    assert torch.equal(gradients[0], gradients[1])


def test_the_last_layer_works_on_the_read_positions_alone(own_backbone: Callable[[str], Backbone]) -> None:
    backbone = own_backbone("xlm-roberta")
    ids, _ = batch(backbone, padded=False)
    widths: list[int] = []
    body: Any = backbone.model.base_model
    for layer in body.encoder.layer:
        layer.intermediate.register_forward_hook(lambda module, inputs, output: widths.append(inputs[0].shape[1]))
    backbone.states_at(ids, None, None, torch.tensor([1, 10, 11, 20, 30]))
    assert widths == [9] * (backbone.num_layers - 1) + [2]


def test_rows_with_fewer_positions_are_filled_up_and_the_filling_dropped() -> None:
    read = ReadPositions(torch.tensor([1, 2, 4, 11]), batch=3, length=4)
    states = torch.arange(12.0).view(3, 4, 1)
    picked = read.pick(states)
    assert picked.shape == (3, 2, 1)
    assert read.drop_filling(picked).flatten().tolist() == [1, 2, 4, 11]


def test_with_dropout_on_the_model_runs_as_its_library_does(own_backbone: Callable[[str], Backbone]) -> None:
    backbone = own_backbone("xlm-roberta")
    ids, mask = batch(backbone, padded=True)
    places = torch.tensor([2, 10, 20, 30])
    calm = backbone.states_at(ids, mask, None, places)
    found: list[Tensor] = []
    for whole in (True, False):
        with backbone.dropping_out(True, (0,)):
            assert not backbone.is_layered
            if whole:
                found.append(by_transformers(backbone, ids, mask, None).flatten(0, 1)[places])
            else:
                found.append(backbone.states_at(ids, mask, None, places))
    torch.testing.assert_close(found[1], found[0])
    assert not torch.allclose(found[1], calm), "values are dropped"


def test_other_architectures_take_the_models_own_pass(tiny_backbone: Callable[[str], Backbone]) -> None:
    backbone = tiny_backbone("modernbert")
    assert not backbone.is_layered
    ids, mask = batch(backbone, padded=True)
    places = torch.tensor([2, 10, 20, 30])
    expected = by_transformers(backbone, ids, mask, None).flatten(0, 1)[places]
    torch.testing.assert_close(backbone.states_at(ids, mask, None, places), expected)
