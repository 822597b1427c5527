"""A prompt on a GPU: the same loss and gradients as on the CPU in fp32, by every kernel of attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.prefix import Prefix

from ..conftest import TINY_KINDS, make_tiny_backbone
from .pretend import PRETEND, moved, pretending

LENGTHS = (5, 9)
KERNELS = [
    pytest.param(SDPBackend.MATH, "fp32", id="math"),
    pytest.param(SDPBackend.EFFICIENT_ATTENTION, "fp32", id="efficient"),
    pytest.param(SDPBackend.FLASH_ATTENTION, "bf16", id="flash"),
]
TOLERANCE = {"fp32": 1e-3, "bf16": 0.1}
"""Of losses, and of gradients relative to the largest."""


def random_batch(backbone: Backbone, padded: bool) -> tuple[Tensor, Tensor | None]:
    """Three rows of random tokens."""
    ids = torch.randint(4, backbone.vocab_size - 1, (3, 16), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([16, 7, 11] if padded else [16] * 3)
    mask = (torch.arange(16) < lengths[:, None]).long()
    return torch.where(mask == 1, ids, int(backbone.tokenizer.pad_token_id)), mask if padded else None


def loss_and_gradients(backbone: Backbone, mixed: bool, batch: tuple[Tensor, Tensor | None]) -> list[Tensor]:
    """Of the third token of each row, behind one prompt or behind two of different lengths; on the CPU."""
    shapes = [backbone.prompt_shape(length) for length in LENGTHS]
    prompts = [SoftPrompt.initialise(shape, 1.0, seed).to(backbone.device) for seed, shape in enumerate(shapes)]
    ids, mask = (None if part is None else part.to(backbone.device) for part in batch)
    assert ids is not None
    if mixed:
        rows = torch.tensor([1, 0, 1], device=backbone.device)
        key_values = [prompt.key_values() for prompt in prompts]
        prefix = Prefix.per_row(key_values, rows, backbone.dtype, ["plain", "shifted"])
    else:
        prompts = prompts[:1]
        prefix = prompts[0].prefix(backbone.dtype)
    places = torch.arange(3, device=backbone.device) * ids.shape[1] + 2
    loss = backbone.masked_token_loss(backbone.states_at(ids, mask, prefix, places), places)
    gradients = torch.autograd.grad(loss, [prompt.trained for prompt in prompts])
    return [loss.detach().cpu().float(), *(gradient.cpu().float() for gradient in gradients)]


def compare(here: Backbone, there: Backbone, precision: Any, padded: bool, mixed: bool) -> None:
    """Hold a backbone in some precision against one on the CPU in fp32."""
    batch = random_batch(here, padded)
    expected = loss_and_gradients(here, mixed, batch)
    there.use_precision(precision)
    found = loss_and_gradients(there, mixed, batch)
    torch.testing.assert_close(found[0], expected[0], rtol=TOLERANCE[precision], atol=0)
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert (one - other).abs().max() <= TOLERANCE[precision] * other.abs().max()


@pytest.mark.parametrize("kind", TINY_KINDS)
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "full"])
@pytest.mark.parametrize("mixed", [True, False], ids=["two prompts", "one prompt"])
def test_loss_and_gradients_are_those_of_the_cpu(
    there: Callable[[str], Backbone], tiny_backbone: Callable[[str], Backbone],
    kind: str, precision: str, padded: bool, mixed: bool,
) -> None:  # fmt: skip
    compare(tiny_backbone(kind), there(kind), precision, padded, mixed)


@pytest.mark.gpu
@pytest.mark.parametrize(("kernel", "precision"), KERNELS)
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "full"])
def test_every_kernel_of_attention(
    card: str, tiny_backbone: Callable[[str], Backbone], kernel: SDPBackend, precision: str, padded: bool
) -> None:
    """Flash attention takes no mask: were one passed on where nothing is padded, it would refuse."""
    backbone = moved(make_tiny_backbone("xlm-roberta"), torch.device(card))
    with sdpa_kernel(SDPBackend.MATH if padded and kernel is SDPBackend.FLASH_ATTENTION else kernel):
        compare(tiny_backbone("xlm-roberta"), backbone, precision, padded, mixed=padded)


@pytest.mark.parametrize("kind", ["xlm-roberta", "bert"])
@pytest.mark.parametrize("ones", [False, True], ids=["no mask", "a mask of ones"])
def test_flash_attention_gets_no_mask_where_nothing_is_padded(
    kind: str, ones: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its kernel asks for: no mask, one dtype, equal head sizes, the last dimension contiguous, no dropout."""
    backbone = make_tiny_backbone(kind)
    backbone.use_precision("bf16")
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def attention(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> Any:
        assert mask is None
        assert (options["dropout"], options["is_causal"]) == (0.0, False)
        seen.append((query, key, value))
        return torch.zeros_like(query).transpose(1, 2), None

    monkeypatch.setattr("glotprompt.model.prefix.sdpa_attention_forward", attention)
    monkeypatch.setattr("glotprompt.model.prefix._has_fast_sdpa", lambda device: True)
    if not ones:  # whether a mask is one of ones cannot be asked there
        backbone.model.to("meta")  # pyright: ignore[reportArgumentType]
    prompt = SoftPrompt.initialise(backbone.prompt_shape(5), 0.1, 0).to(backbone.device)
    ids = torch.full((2, 16), 7, device=backbone.device)
    backbone.hidden_states(ids, torch.ones_like(ids) if ones else None, prompt.prefix(backbone.dtype))
    assert len(seen) == backbone.num_layers
    for parts in seen:
        assert {part.dtype for part in parts} == {torch.bfloat16}
        assert {(part.shape[-1], part.stride(-1)) for part in parts} == {(backbone.head_dim, 1)}
        assert [part.shape[2] for part in parts] == [16, 21, 21]


def test_the_pretended_device_refuses_what_a_gpu_refuses() -> None:
    with pretending():
        there, here = torch.ones(3, device=PRETEND), torch.ones(3)
        for wrong in (lambda: there + here, lambda: here[there.long()], lambda: torch.where(here > 0, there, 0)):
            with pytest.raises(RuntimeError, match="a tensor of the CPU"):
                wrong()
        with pytest.raises(RuntimeError, match="a generator of the CPU"):
            torch.randn(3, generator=torch.Generator(), device=PRETEND)
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
        assert (there + torch.tensor(1.0)).device.type == there[torch.tensor([0, 1])].device.type == PRETEND.type
        assert (there + 1).cpu().tolist() == [2, 2, 2]
