"""What training through the frozen model does and does not change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glotprompt.config import AdaptConfig, RuntimeConfig
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.protocol import adapt

from ..conftest import TINY_KINDS

QUIET = RuntimeConfig(progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["plain", "shifted"])
@pytest.mark.parametrize("tiny", ["xlm-roberta", "bert", "modernbert"])
def test_frozen_weights_stay_to_the_bit(
    tiny: str, positions: str, own_backbone: Callable[[str], Backbone], english_lines: list[str],
    invented_lines: list[str],
) -> None:  # fmt: skip
    backbone = own_backbone(tiny)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    config = AdaptConfig(
        prompt_length=4, steps=6, batch_size=8, max_length=24, learning_rate=0.05, eval_every=3, positions=positions
    )
    runtime = QUIET.replace(gradient_checkpointing=positions == "shifted")
    prompt = adapt(backbone, invented_lines, english_lines, "zxx", config, runtime)
    after = backbone.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert all(parameter.grad is None for parameter in backbone.model.parameters())
    assert not any(module.training for module in backbone.model.modules())
    held_out = [metadata["held_out_loss"] for _, metadata in prompt.training.evaluations]
    assert len(set(held_out)) == len(held_out) == 3, "the prompt itself was not trained"


def masked_tokens(backbone: Backbone, lines: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Eight sentences with every seventh word piece masked: ids, mask, and the pieces that were there."""
    packed = backbone.tokenizer(lines[:8], padding=True, return_tensors="pt")
    ids, mask = packed["input_ids"], packed["attention_mask"]
    masked = torch.zeros_like(mask, dtype=torch.bool)
    masked[:, 2::7] = mask[:, 2::7] == 1
    targets = ids[masked]
    return torch.where(masked, int(backbone.tokenizer.mask_token_id), ids), mask, targets


def loss_and_gradient(backbone: Backbone, prompt: SoftPrompt, lines: list[str]) -> tuple[float, Tensor]:
    ids, mask, targets = masked_tokens(backbone, lines)
    hidden = backbone.hidden_states(ids, mask, prompt.prefix(backbone.dtype))
    loss = backbone.masked_token_loss(hidden[ids == backbone.tokenizer.mask_token_id], targets) / len(targets)
    (gradient,) = torch.autograd.grad(loss, [prompt.trained])
    assert gradient.dtype == torch.float32
    assert loss.dtype == torch.float32
    return loss.item(), gradient.flatten()


def assert_close(backbone: Backbone, in_bf16: Backbone, std: float, lines: list[str]) -> None:
    prompt = SoftPrompt.initialise(backbone.prompt_shape(16), std, seed=0)
    loss, gradient = loss_and_gradient(backbone, prompt, lines)
    low_loss, low_gradient = loss_and_gradient(in_bf16, prompt, lines)
    assert low_loss == pytest.approx(loss, rel=0.005)
    assert F.cosine_similarity(gradient, low_gradient, dim=0).item() >= 0.998
    assert low_gradient.norm().item() == pytest.approx(gradient.norm().item(), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("std", [0.02, 0.3])
def test_bf16_is_close_to_fp32_on_the_mini(
    std: float, mini: Backbone, mini_bf16: Backbone, english_lines: list[str]
) -> None:
    assert_close(mini, mini_bf16, std, english_lines)


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_bf16_is_close_to_fp32(
    kind: str,
    tiny_backbone: Callable[[str], Backbone],
    own_backbone: Callable[[str], Backbone],
    english_lines: list[str],
) -> None:
    low = own_backbone(kind)
    low.use_precision("bf16")
    for std in (0.02, 0.3):
        assert_close(tiny_backbone(kind), low, std, english_lines)
