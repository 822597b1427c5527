"""What training through the frozen model does and does not change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glotprompt.config import AdaptConfig, RuntimeConfig
from glotprompt.model.encoder import Encoder
from glotprompt.model.soft_prompt import SoftPrompt
from glotprompt.run import adapt

from ..conftest import TINY_KINDS

QUIET = RuntimeConfig(progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["plain", "shifted"])
@pytest.mark.parametrize("tiny", ["xlm-roberta", "bert", "modernbert"])
def test_frozen_weights_stay_to_the_bit(
    tiny: str, positions: str, own_encoder: Callable[[str], Encoder], english_lines: list[str],
    invented_lines: list[str],
) -> None:  # fmt: skip
    encoder = own_encoder(tiny)
    before = {name: value.clone() for name, value in encoder.model.state_dict().items()}
    config = AdaptConfig(
        prompt_length=4, steps=6, batch_size=8, max_length=24, learning_rate=0.05, eval_every=3, positions=positions
    )
    runtime = QUIET.replace(gradient_checkpointing=positions == "shifted")
    prompt = adapt(encoder, invented_lines, english_lines, "zxx", config, runtime)
    after = encoder.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert all(parameter.grad is None for parameter in encoder.model.parameters())
    assert not any(module.training for module in encoder.model.modules())
    held_out = [facts["held_out_loss"] for _, facts in prompt.training.evaluations]
    assert len(set(held_out)) == len(held_out) == 3, "the prompt itself was not trained"


def masked_words(encoder: Encoder, lines: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Eight sentences with every seventh word piece masked: ids, mask, and the pieces that were there."""
    packed = encoder.tokenizer(lines[:8], padding=True, return_tensors="pt")
    ids, mask = packed["input_ids"], packed["attention_mask"]
    masked = torch.zeros_like(mask, dtype=torch.bool)
    masked[:, 2::7] = mask[:, 2::7] == 1
    targets = ids[masked]
    return torch.where(masked, int(encoder.tokenizer.mask_token_id), ids), mask, targets


def loss_and_gradient(encoder: Encoder, prompt: SoftPrompt, lines: list[str]) -> tuple[float, Tensor]:
    ids, mask, targets = masked_words(encoder, lines)
    hidden = encoder.hidden_states(ids, mask, prompt.prefix(encoder.dtype))
    loss = encoder.masked_word_loss(hidden[ids == encoder.tokenizer.mask_token_id], targets) / len(targets)
    (gradient,) = torch.autograd.grad(loss, [prompt.trained])
    assert gradient.dtype == torch.float32
    assert loss.dtype == torch.float32
    return loss.item(), gradient.flatten()


def assert_close(encoder: Encoder, in_bf16: Encoder, std: float, lines: list[str]) -> None:
    prompt = SoftPrompt.initialise(encoder.prompt_shape(16), std, seed=0)
    loss, gradient = loss_and_gradient(encoder, prompt, lines)
    low_loss, low_gradient = loss_and_gradient(in_bf16, prompt, lines)
    assert low_loss == pytest.approx(loss, rel=0.005)
    assert F.cosine_similarity(gradient, low_gradient, dim=0).item() >= 0.998
    assert low_gradient.norm().item() == pytest.approx(gradient.norm().item(), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("std", [0.02, 0.3])
def test_bf16_is_close_to_fp32_on_the_mini(
    std: float, mini: Encoder, mini_bf16: Encoder, english_lines: list[str]
) -> None:
    assert_close(mini, mini_bf16, std, english_lines)


@pytest.mark.parametrize("kind", TINY_KINDS)
def test_bf16_is_close_to_fp32(
    kind: str, tiny_encoder: Callable[[str], Encoder], own_encoder: Callable[[str], Encoder], english_lines: list[str]
) -> None:
    low = own_encoder(kind)
    low.use_precision("bf16")
    for std in (0.02, 0.3):
        assert_close(tiny_encoder(kind), low, std, english_lines)
