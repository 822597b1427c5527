"""Vectors before the word embeddings: exact against concatenation in plain torch, and gone when taken away."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from glotprompt.errors import ArtifactError, ConfigError
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.input_prompt import InputPrompt

MakeBatch = Callable[..., tuple[Tensor, Tensor]]


def felt(backbone: Backbone, length: int = 5) -> InputPrompt:
    return InputPrompt.initialise(backbone, length, 1.0, 0)


@torch.no_grad()
def states(backbone: Backbone, prompt: InputPrompt, ids: Tensor, mask: Tensor | None) -> Tensor:
    with prompt.attached(backbone) as prefix:
        return backbone.hidden_states(ids, mask, prefix)


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    difference = (found.double() - expected.double()).abs().max() / expected.abs().max()
    assert difference <= tolerance, f"largest relative difference {float(difference):.2e}"


def test_equals_concatenated_embeddings_in_plain_torch(
    kind: str, backbone: Backbone, stock: Callable[[str], PreTrainedModel], make_batch: MakeBatch,
    reference: Callable[..., Tensor],
) -> None:  # fmt: skip
    """Texts of different lengths, padded further than the longest, and without a mask."""
    lengths, prompt = [23, 9, 1], felt(backbone)
    ids, mask = make_batch(backbone, lengths, width=31)
    found = states(backbone, prompt, ids, mask)
    assert found.shape[1] == 31, "only states of the text come back"
    for row, length in enumerate(lengths):
        text = ids[row, :length]
        expected = reference(stock(kind), text, None, vectors=prompt.vectors)
        assert_near(found[row, :length], expected)
        assert_near(states(backbone, prompt, text[None], None)[0], expected)
        assert (expected - reference(stock(kind), text, None)).abs().max() > 0.1


def test_every_way_to_read_states_agrees(backbone: Backbone, make_batch: MakeBatch) -> None:
    ids, mask = make_batch(backbone, [12, 7])
    prompt, places = felt(backbone), torch.tensor([3, 12 + 6])
    whole = states(backbone, prompt, ids, mask)
    texts = [row[: int(own.sum())].numpy() for row, own in zip(ids, mask, strict=True)]
    with torch.no_grad(), prompt.attached(backbone):
        assert torch.equal(backbone.states_at(ids, mask, None, places), whole.flatten(0, 1)[places])
        lower = backbone.pooled_states(texts, None, 1)
        pooled = backbone.pooled_states(texts, None)
    assert_near(pooled, torch.stack([whole[0].mean(dim=0), whole[1, :7].mean(dim=0)]))
    assert lower.shape == pooled.shape
    assert not torch.allclose(lower, pooled, atol=1e-3)


def test_gradients_are_those_of_the_loss(own_backbone: Callable[[str], Backbone], make_batch: MakeBatch) -> None:
    """By central differences; gradients that are computed again are the same, and the model gets none."""
    backbone = own_backbone("xlm-roberta")
    backbone.model.double()
    prompt = felt(backbone, 2).double()
    ids, mask = make_batch(backbone, [7, 4])

    def loss() -> Tensor:
        return (backbone.hidden_states(ids, mask) ** 3 * mask[:, :, None]).sum()

    def gradient() -> Tensor:
        prompt.zero_grad()
        with prompt.attached(backbone):
            loss().backward()
        assert prompt.vectors.grad is not None
        return prompt.vectors.grad.clone()

    found = gradient()
    for place in ((0, 0), (1, 5), (1, 47)):
        ends: list[Tensor] = []
        for step in (1e-4, -1e-4):
            with torch.no_grad(), prompt.attached(backbone):
                prompt.vectors[place] += step
                ends.append(loss())
                prompt.vectors[place] -= step
        assert float(ends[0] - ends[1]) / 2e-4 == pytest.approx(float(found[place]), rel=1e-5, abs=1e-6)
    backbone.checkpoint_gradients(True)
    assert_near(gradient(), found, 1e-6)
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


def test_off_it_leaves_no_trace(backbone: Backbone, make_batch: MakeBatch) -> None:
    ids, mask = make_batch(backbone, [9, 6])
    with torch.no_grad():
        before = backbone.hidden_states(ids, mask)
    assert not torch.allclose(states(backbone, felt(backbone), ids, mask), before, atol=0.01)
    with pytest.raises(KeyboardInterrupt), felt(backbone).attached(backbone):
        raise KeyboardInterrupt
    with torch.no_grad():
        assert torch.equal(backbone.hidden_states(ids, mask), before)


def test_the_start_is_real_tokens_or_noise(tiny_backbone: Callable[[str], Backbone]) -> None:
    backbone = tiny_backbone("xlm-roberta")
    start = InputPrompt.initialise(backbone, 20, None, 3).vectors
    rows = [torch.nonzero((backbone.input_embeddings == row).all(dim=1)).tolist() for row in start]
    assert all(rows)
    assert len({row[0][0] for row in rows}) == 20, "different tokens"
    assert torch.equal(start, InputPrompt.initialise(backbone, 20, None, 3).vectors)
    assert not torch.equal(start, InputPrompt.initialise(backbone, 20, None, 4).vectors)
    assert float(InputPrompt.initialise(backbone, 20, 0.5, 3).vectors.detach().std()) == pytest.approx(0.5, rel=0.1)


def test_what_does_not_fit_is_refused(tiny_backbone: Callable[[str], Backbone]) -> None:
    backbone = tiny_backbone("xlm-roberta")
    with pytest.raises(ConfigError, match="prompt_length is 513; tiny xlm-roberta has 512 positions for an input"):
        InputPrompt.initialise(backbone, 513, 1.0, 0)
    for shape in ((0, 48), (513, 48), (5, 47), (5,)):
        with pytest.raises(ArtifactError, match="an input prompt: vectors is"):
            InputPrompt.restore(backbone, {}, {"vectors": torch.zeros(shape)})
    with pytest.raises(ArtifactError, match="lacks vectors"):
        InputPrompt.restore(backbone, {}, {})
