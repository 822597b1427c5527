"""The MLM loss is the cross-entropy over the whole vocabulary, though it never holds all logits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from glotprompt.model import heads
from glotprompt.model.backbone import Backbone
from glotprompt.model.heads import masked_token_loss

NUM_MASKED, HIDDEN, VOCAB = 23, 16, 37


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    targets = torch.randint(0, VOCAB, (NUM_MASKED,), generator=torch.Generator().manual_seed(3))
    return normal(NUM_MASKED, HIDDEN, seed=0), normal(VOCAB, HIDDEN, seed=1), normal(VOCAB, seed=2), targets


def plain_loss(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum")


@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("rows", [1, 5, 8, 1000])
def test_equals_cross_entropy_in_chunks_of_any_size(
    inputs: tuple[Tensor, ...], rows: int, with_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, weight, bias, targets = inputs
    monkeypatch.setattr(heads, "CACHED_LOGITS_BUDGET", rows * VOCAB * 4)
    found, expected = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    mine = masked_token_loss(found, weight, bias if with_bias else None, targets)
    theirs = plain_loss(expected, weight, bias if with_bias else None, targets)
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-5)
    (3.5 * mine).backward()
    (3.5 * theirs).backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wanted", [(0, 1, 2), (1,), (2,), (0, 2), (1, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rows", [1, 8, 1000])
def test_gradients_of_weight_and_bias_equal_those_of_cross_entropy(
    inputs: tuple[Tensor, ...], rows: int, dtype: torch.dtype, wanted: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of hidden (0), weight (1) and bias (2) are trained; summed over the chunks."""
    *values, targets = inputs
    monkeypatch.setattr(heads, "CACHED_LOGITS_BUDGET", rows * VOCAB * 4)
    found = [value.to(dtype, copy=True).requires_grad_(i in wanted) for i, value in enumerate(values)]
    expected = [value.double().requires_grad_(i in wanted) for i, value in enumerate(values)]
    (3.5 * masked_token_loss(found[0], found[1], found[2], targets)).backward()
    (3.5 * plain_loss(expected[0], expected[1], expected[2], targets)).backward()
    for i in range(3):
        one, two = found[i].grad, expected[i].grad
        assert (one is not None) == (two is not None) == (i in wanted)
        if one is not None and two is not None:
            assert one.dtype == dtype
            torch.testing.assert_close(one.double(), two, rtol=1e-5, atol=2e-5)


def test_gradients_of_a_weight_without_bias(inputs: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, _, targets = inputs
    monkeypatch.setattr(heads, "CACHED_LOGITS_BUDGET", 5 * VOCAB * 4)
    found, expected = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    masked_token_loss(hidden, found, None, targets).backward()
    plain_loss(hidden, expected, None, targets).backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-5, atol=1e-5)


def test_a_tied_weight_gets_the_gradients_of_both_its_uses(inputs: tuple[Tensor, ...]) -> None:
    """Words read and words predicted share one matrix; whole-model training needs the sum."""
    _, weight, bias, targets = inputs
    rows = torch.arange(NUM_MASKED)
    found, expected = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    masked_token_loss(found[rows].tanh(), found, bias, targets).backward()
    plain_loss(expected[rows].tanh(), expected, bias, targets).backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-5, atol=1e-5)


def test_no_more_words_than_the_budget_at_a_time(inputs: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    linear = F.linear

    def listening(hidden: Tensor, weight: Tensor, *rest: Tensor) -> Tensor:
        sizes.append(len(weight))
        return linear(hidden, weight, *rest)

    monkeypatch.setattr(heads.F, "linear", listening)
    monkeypatch.setattr(heads, "CACHED_LOGITS_BUDGET", 8 * NUM_MASKED * 4)
    masked_token_loss(*inputs)
    assert sizes == [8, 8, 8, 8, 5]
    sizes.clear()
    monkeypatch.setattr(heads, "CACHED_LOGITS_BUDGET", 1)
    masked_token_loss(*inputs)
    assert sizes == [1] * VOCAB, "one word at a time when not even one fits"


def test_logits_beyond_what_exp_can_hold_give_finite_loss_and_gradients(inputs: tuple[Tensor, ...]) -> None:
    hidden, weight, bias, targets = inputs
    hidden = (200 * hidden).requires_grad_()
    loss = masked_token_loss(hidden, weight, bias, targets)
    torch.testing.assert_close(loss, plain_loss(hidden, weight, bias, targets), rtol=1e-6, atol=1e-3)
    loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_bf16_stays_close_to_fp32(inputs: tuple[Tensor, ...]) -> None:
    hidden, weight, bias, targets = inputs
    low = hidden.bfloat16().requires_grad_()
    loss = masked_token_loss(low, weight.bfloat16(), bias.bfloat16(), targets)
    assert loss.dtype == torch.float32
    high = hidden.clone().requires_grad_()
    expected = plain_loss(high, weight, bias, targets)
    assert loss.item() == pytest.approx(expected.item(), rel=0.01)
    loss.backward()
    expected.backward()
    assert low.grad is not None
    assert high.grad is not None
    assert F.cosine_similarity(low.grad.float().flatten(), high.grad.flatten(), dim=0) > 0.999


def test_nothing_masked_is_no_loss(inputs: tuple[Tensor, ...]) -> None:
    hidden, weight, bias, targets = inputs
    none = hidden[:0].clone().requires_grad_()
    loss = masked_token_loss(none, weight, bias, targets[:0])
    loss.backward()
    assert loss.item() == 0
    assert none.grad is not None
    assert none.grad.shape == (0, HIDDEN)


@pytest.mark.slow
def test_scores_and_loss_are_those_of_the_stock_model(
    kind: str,
    backbone: Backbone,
    stock: Callable[[str], PreTrainedModel],
    make_batch: Callable[..., tuple[Tensor, Tensor]],
) -> None:
    ids, mask = make_batch(backbone, [12, 7])
    with torch.no_grad():
        expected = stock(kind)(input_ids=ids, attention_mask=mask).logits[mask == 1]
        hidden = backbone.hidden_states(ids, mask)[mask == 1]
        torch.testing.assert_close(backbone.token_logits(hidden), expected, rtol=1e-5, atol=1e-5)
        some = torch.tensor([7, 300, 11])
        torch.testing.assert_close(backbone.token_logits(hidden, some), expected[:, some], rtol=1e-5, atol=1e-5)
        targets = torch.arange(20, 20 + len(hidden))
        loss = backbone.masked_token_loss(hidden, targets)
    torch.testing.assert_close(loss, F.cross_entropy(expected, targets, reduction="sum"), rtol=1e-5, atol=1e-5)
