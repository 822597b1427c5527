"""The soft prompt on every kind of backbone that works: exact against its definition, and gone when taken away."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.xlm.modeling_xlm import TransformerFFN

from glotprompt.errors import ConfigError
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.prefix import Prefix

Make = Callable[..., Tensor]
MakeBatch = Callable[..., tuple[Tensor, Tensor]]
Reference = Callable[..., Tensor]


def states(backbone: Backbone, ids: Tensor, mask: Tensor | None, prefix: Prefix | None) -> Tensor:
    with torch.no_grad():
        return backbone.hidden_states(ids, mask, prefix)


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Largest difference, relative to the largest value of these states (layer-normalised: of the order of 1)."""
    difference = (found.double() - expected.double()).abs().max() / expected.abs().max()
    assert difference <= tolerance, f"largest relative difference {float(difference):.2e}"


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["plain", "shifted"])
def test_equals_attention_with_prefixes_in_plain_torch(
    kind: str, backbone: Backbone, stock: Callable[[str], PreTrainedModel], make_batch: MakeBatch, make_prompt: Make,
    reference: Reference, positions: str,
) -> None:  # fmt: skip
    lengths = [23, 9, 1]
    ids, mask = make_batch(backbone, lengths)
    prompt = make_prompt(backbone, 5)
    found = states(backbone, ids, mask, Prefix.shared(prompt, torch.float32, positions))
    for row, length in enumerate(lengths):
        expected = reference(stock(kind), ids[row, :length], prompt, 5 if positions == "shifted" else 0)
        assert_near(found[row, :length], expected)
        without = reference(stock(kind), ids[row, :length], None)
        assert (expected - without).abs().max() > 0.1, "a prompt that is hardly felt proves nothing"


def test_full_batch_without_a_mask_equals_the_reference(
    kind: str, backbone: Backbone, stock: Callable[[str], PreTrainedModel], make_batch: MakeBatch, make_prompt: Make,
    reference: Reference,
) -> None:  # fmt: skip
    ids, _ = make_batch(backbone, [17, 17])
    prompt = make_prompt(backbone, 5)
    found = states(backbone, ids, None, Prefix.shared(prompt, torch.float32))
    for row in range(2):
        assert_near(found[row], reference(stock(kind), ids[row], prompt))


@pytest.mark.slow
def test_the_route_taken_on_a_gpu_equals_the_one_taken_here(
    backbone: Backbone, make_batch: MakeBatch, make_prompt: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [make_prompt(backbone, length, seed=length) for length in (3, 8)]
    prefixes = (Prefix.shared(prompts[0], torch.float32), Prefix.per_row(prompts, torch.tensor([1, 0]), torch.float32))
    padded, full = make_batch(backbone, [19, 7]), (make_batch(backbone, [12, 12])[0], None)
    here = [states(backbone, *batch, prefix) for prefix in prefixes for batch in (padded, full)]
    monkeypatch.setattr("glotprompt.model.prefix._has_fast_sdpa", lambda device: True)
    there = [states(backbone, *batch, prefix) for prefix in prefixes for batch in (padded, full)]
    for found, expected, ids in zip(there, here, [padded[0], full[0]] * 2, strict=True):
        text = ids != backbone.tokenizer.pad_token_id
        assert_near(found[text], expected[text])


def test_one_prefix_serves_any_number_of_batches(backbone: Backbone, make_batch: MakeBatch, make_prompt: Make) -> None:
    prompts = [make_prompt(backbone, length, seed=length) for length in (3, 8)]
    rows = torch.tensor([1, 0])
    prefix = Prefix.per_row(prompts, rows, torch.float32)
    batches = [make_batch(backbone, lengths) for lengths in ([9, 4], [9, 9], [4, 9], [5, 5], [3, 14], [9, 4])]
    for ids, mask in batches:
        fresh = Prefix.per_row(prompts, rows, torch.float32)
        assert torch.equal(states(backbone, ids, mask, prefix), states(backbone, ids, mask, fresh))
    assert len(prefix._masks) <= 4, "masks of past batches pile up"


@pytest.mark.parametrize("positions", ["plain", "shifted"])
def test_padding_changes_nothing(backbone: Backbone, make_batch: MakeBatch, make_prompt: Make, positions: str) -> None:
    prefix = Prefix.shared(make_prompt(backbone, 5), torch.float32, positions)
    ids, mask = make_batch(backbone, [12, 7], width=31)
    padded = states(backbone, ids, mask, prefix)
    for row, length in enumerate([12, 7]):
        alone = states(backbone, ids[row : row + 1, :length], None, prefix)
        assert_near(padded[row, :length], alone[0])


@pytest.mark.slow
def test_without_a_prompt_it_is_the_stock_model_to_the_bit(
    kind: str, backbone: Backbone, stock: Callable[[str], PreTrainedModel], make_batch: MakeBatch, make_prompt: Make
) -> None:
    model = stock(kind)
    assert model.config._attn_implementation == ("eager" if kind == "xlm" else "sdpa")
    padded, mask = make_batch(backbone, [23, 9, 1])
    full, _ = make_batch(backbone, [16, 16])
    prefix = Prefix.shared(make_prompt(backbone, 5), torch.float32)
    for _ in range(2):  # before a prompt was used, and after
        for ids, attention in ((padded, mask), (full, None)):
            with torch.no_grad():
                expected = model.base_model(input_ids=ids, attention_mask=attention).last_hidden_state
            found = states(backbone, ids, attention, None)
            text = torch.ones_like(ids, dtype=torch.bool) if attention is None else attention.bool()
            if kind == "xlm":  # transformers has no sdpa for it
                assert_near(found[text], expected[text], 1e-6)
            else:
                assert torch.equal(found[text], expected[text])
            behind = states(backbone, ids, attention, prefix)
            assert not torch.allclose(behind[text], expected[text], atol=0.01)


def test_prompts_of_different_lengths_in_one_batch_equal_separate_runs(
    backbone: Backbone, make_batch: MakeBatch, make_prompt: Make
) -> None:
    prompts = [make_prompt(backbone, length, seed=length) for length in (3, 8, 5)]
    rows = torch.tensor([2, 0, 1, 0])
    lengths = [11, 19, 6, 14]
    padded = make_batch(backbone, lengths)
    full = make_batch(backbone, [13] * 4)[0], None
    for ids, mask in (padded, full):
        mixed = states(backbone, ids, mask, Prefix.per_row(prompts, rows, torch.float32))
        for row, which in enumerate(rows.tolist()):
            length = ids.shape[1] if mask is None else lengths[row]
            prefix = Prefix.shared(prompts[which], torch.float32)
            alone = states(backbone, ids[row : row + 1, :length], None, prefix)
            assert_near(mixed[row, :length], alone[0])


def test_plain_and_shifted_prompts_in_one_batch_equal_separate_runs(
    backbone: Backbone, make_batch: MakeBatch, make_prompt: Make
) -> None:
    prompts = [make_prompt(backbone, length, seed=length) for length in (4, 4, 9)]
    positions = ["shifted", "plain", "shifted"]
    lengths = [11, 19, 6]
    ids, mask = make_batch(backbone, lengths)
    mixed = states(backbone, ids, mask, Prefix.per_row(prompts, torch.tensor([0, 1, 2]), torch.float32, positions))
    for row, length in enumerate(lengths):
        prefix = Prefix.shared(prompts[row], torch.float32, positions[row])
        alone = states(backbone, ids[row : row + 1, :length], None, prefix)
        assert_near(mixed[row, :length], alone[0])


@pytest.mark.slow
def test_full_length_input_has_room_for_a_prompt(
    kind: str, backbone: Backbone, stock: Callable[[str], PreTrainedModel], make_batch: MakeBatch, make_prompt: Make,
    reference: Reference,
) -> None:  # fmt: skip
    assert backbone.max_positions == 512
    ids, _ = make_batch(backbone, [512])
    prompt = make_prompt(backbone, 32)
    found = states(backbone, ids, None, Prefix.shared(prompt, torch.float32))
    assert_near(found[0], reference(stock(kind), ids[0], prompt))


def loss_and_gradient(
    backbone: Backbone, prompt: SoftPrompt, ids: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    hidden = backbone.hidden_states(ids, mask, prompt.prefix(backbone.dtype))
    loss = backbone.masked_token_loss(hidden[:, 2], torch.arange(10, 10 + len(ids), device=ids.device))
    (gradient,) = torch.autograd.grad(loss, [prompt.trained])
    return loss.detach(), gradient


@contextmanager
def recorded_layers(backbone: Backbone) -> Generator[list[Tensor]]:
    """What reaches the last part of the layers, one tensor for every time that a layer is run."""
    found: list[Tensor] = []
    body: Any = backbone.model.base_model
    kinds = (GradientCheckpointingLayer, TransformerFFN)
    layers = [module for module in body.modules() if isinstance(module, kinds)]
    # Hooks on a layer itself stay outside its checkpoint, and a second run stops within the layer's last operation.
    inside = [[part for part in layer.modules() if isinstance(part, (nn.Linear, nn.LayerNorm))][-1] for layer in layers]
    hooks = [part.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0])) for part in inside]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("trained", [None, 1], ids=["all-layers", "top-1"])
def test_gradient_checkpointing_is_exact(
    kind: str, backbone: Backbone, make_batch: MakeBatch, trained: int | None
) -> None:
    if kind == "xlm":
        with pytest.raises(ConfigError, match="tiny xlm cannot recompute activations; leave gradient_checkpointing="):
            backbone.checkpoint_gradients(True)
        return
    ids, mask = make_batch(backbone, [13, 7, 10])
    num_layers = backbone.num_layers
    layers = None if trained is None else range(num_layers - trained, num_layers)
    prompt = SoftPrompt.initialise(backbone.prompt_shape(4), 0.5, 1, layers)
    expected = loss_and_gradient(backbone, prompt, ids, mask)
    backbone.checkpoint_gradients(True)
    try:
        with recorded_layers(backbone) as runs:
            found = loss_and_gradient(backbone, prompt, ids, mask)
    finally:
        backbone.checkpoint_gradients(False)
    assert len(runs) == num_layers + (trained or num_layers), "every trained layer is run a second time, no other"
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert not any(module.training for module in backbone.model.modules())
    assert not backbone.hidden_states(ids, mask).requires_grad, "the embeddings still ask for gradients"


def test_gradients_are_those_of_the_definition(backbone: Backbone, make_batch: MakeBatch) -> None:
    """Against a difference quotient, along a random direction."""
    ids, mask = make_batch(backbone, [13, 7])
    prompt = SoftPrompt.initialise(backbone.prompt_shape(4), 0.5, seed=1)
    _, gradient = loss_and_gradient(backbone, prompt, ids, mask)
    direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(2))
    step = 1e-2 / direction.norm()
    values = []
    for sign in (1, -1):
        moved = SoftPrompt((prompt.trained + sign * step * direction).detach())
        values.append(loss_and_gradient(backbone, moved, ids, mask)[0].double())
    slope = (values[0] - values[1]) / (2 * step)
    assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=0.05)


def test_only_the_trained_layers_have_gradients_and_change() -> None:
    values = torch.randn(6, 2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    prompt = SoftPrompt(values, range(2, 5))
    assert torch.equal(prompt.key_values(), values)
    assert prompt.num_trained == 3 * 2 * 2 * 3 * 4
    assert [name for name, _ in prompt.named_parameters()] == ["trained"]
    with torch.no_grad():
        prompt.trained.add_(1)
    changed = (prompt.key_values() - values).flatten(1)
    assert torch.allclose(changed[2:5], torch.ones_like(changed[2:5]))
    assert not changed[:2].any()
    assert not changed[5:].any()
    assert values[2:5].equal(SoftPrompt(values).key_values()[2:5]), "the given values are copied, not kept"


def test_backward_pass_ends_at_the_lowest_trained_layer(backbone: Backbone, make_batch: MakeBatch) -> None:
    ids, mask = make_batch(backbone, [9, 5])
    shape = backbone.prompt_shape(4)
    lowest = backbone.num_layers - 1
    top = SoftPrompt.initialise(shape, 0.5, 0, range(lowest, backbone.num_layers))
    with recorded_layers(backbone) as runs:
        _, gradient = loss_and_gradient(backbone, top, ids, mask)
    assert [run.requires_grad for run in runs] == [False] * lowest + [True]
    _, whole = loss_and_gradient(backbone, SoftPrompt.initialise(shape, 0.5, 0), ids, mask)
    assert torch.equal(gradient, whole[lowest:])


def test_initial_noise_depends_on_the_seed_alone() -> None:
    shape = (4, 2, 3, 8, 16)
    first, again, other = (SoftPrompt.initialise(shape, 0.02, seed).key_values() for seed in (3, 3, 4))
    assert first.equal(again)
    assert not first.equal(other)
    torch.randn(5)
    assert SoftPrompt.initialise(shape, 0.02, 3, range(1, 2)).key_values().equal(first)
    assert first.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_prefix_first_read_without_gradients_still_leads_them_back(mode: Any) -> None:
    prompt = SoftPrompt.initialise((2, 2, 1, 3, 4), 1.0, 0)
    prefix = prompt.prefix(torch.float32)
    with mode():
        prefix.layer(0)
    keys, values = prefix.layer(1)
    (keys.sum() + 2 * values.sum()).backward()  # pyright: ignore[reportUnknownMemberType]
    assert prompt.trained.grad is not None
    assert prompt.trained.grad[1].abs().sum() == 3 * 3 * 4
    assert prompt.trained.grad[0].abs().sum() == 0


def test_some_rows_of_a_batch_have_a_mask_of_their_own() -> None:
    prompts = [torch.zeros(1, 2, 1, length, 1) for length in (1, 2)]
    prefix = Prefix.per_row(prompts, torch.tensor([0, 1]), torch.float32)
    whole, some = prefix.extend(None, 3), prefix.of_rows(torch.tensor([1, 0, 1])).extend(None, 3)
    assert whole is not None
    assert some is not None
    assert some.equal(whole[[1, 0, 1]])
