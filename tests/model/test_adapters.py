"""MAD-X adapters on their own: attaching, stacking, counts, refusals. Against the library: tests/oracle."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    PreTrainedTokenizerFast,
    XLMRobertaForMaskedLM,
    XLMRobertaXLConfig,
)

from glotprompt.errors import ArtifactError, ModelError, UserError
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.adapters import Adapter, Coupling, HoulsbyAdapter

Tiny = Callable[[str], Backbone]
MakeBatch = Callable[..., tuple[Tensor, Tensor]]
KINDS = ("xlm-roberta", "bert")


def assert_near(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    assert found.shape == wanted.shape
    difference = (found - wanted).abs().max() / wanted.abs().max()
    assert difference <= tolerance, f"largest relative difference {float(difference):.2e}"


def felt(backbone: Backbone, seed: int = 0, **changes: Any) -> Adapter:
    """An adapter whose every value, biases too, is large enough to be felt."""
    settings = {"reduction": 2, "invertible_reduction": 2, **changes}
    adapter = Adapter.initialise(backbone.hidden_size, backbone.num_layers, **settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in adapter.parameters():
            values.copy_(torch.randn(values.shape, generator=generator) * 0.2)
    return adapter.to(backbone.device)


def houlsby(backbone: Backbone) -> HoulsbyAdapter:
    """As `felt`, for a task."""
    adapter = HoulsbyAdapter.initialise(backbone.hidden_size, backbone.num_layers, reduction=4)
    assert isinstance(adapter, HoulsbyAdapter)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for values in adapter.parameters():
            values.copy_(torch.randn(values.shape, generator=generator) * 0.2)
    return adapter


def words(backbone: Backbone, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    return backbone.token_logits(backbone.hidden_states(ids, mask)[:, 1])


def gradients(backbone: Backbone, adapter: Adapter, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
    adapter.zero_grad()
    with adapter.attached(backbone):
        backbone.masked_token_loss(backbone.hidden_states(ids, mask)[:, 1], ids[:, 2]).backward()
    found: dict[str, Any] = {name: values.grad for name, values in adapter.named_parameters()}
    return {name: gradient.clone() for name, gradient in found.items()}


class TestCoupling:
    @pytest.mark.parametrize("size", [48, 7])
    def test_the_inverse_undoes_it(self, size: int) -> None:
        coupling = Coupling(size, 2)
        with torch.no_grad():
            for index, values in enumerate(coupling.parameters()):
                values.copy_(torch.randn(values.shape, generator=torch.Generator().manual_seed(index)))
        states = torch.randn(2, 5, size, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
        moved = coupling(states)
        assert (moved - states).abs().min() > 0
        assert_near(coupling.inverse(moved), states, 1e-12)

    def test_two_languages_are_undone_last_first(self, own_backbone: Tiny) -> None:
        """Behind a norm that hands on what it gets, the words meet the vectors that the embeddings gave."""
        backbone = own_backbone("xlm-roberta")
        embeddings: Any = backbone.model.base_model.embeddings
        given = torch.randn(3, backbone.hidden_size, generator=torch.Generator().manual_seed(0))
        embeddings.forward = lambda states: states
        backbone.model.lm_head.layer_norm.forward = lambda states: states
        with felt(backbone, 0).attached(backbone), felt(backbone, 1).attached(backbone):
            moved = embeddings(given)
            assert (moved - given).abs().max() > 0.1
            assert_near(backbone.model.lm_head.layer_norm(moved), given, 1e-6)


@pytest.mark.parametrize("kind", KINDS)
class TestAttached:
    def test_off_it_leaves_no_trace(self, kind: str, tiny_backbone: Tiny, make_batch: MakeBatch) -> None:
        backbone = tiny_backbone(kind)
        ids, mask = make_batch(backbone, [9, 6])
        before, weights = words(backbone, ids, mask), backbone.model.state_dict()
        weights = {name: value.clone() for name, value in weights.items()}
        adapter = felt(backbone)
        with adapter.attached(backbone) as prefix:
            assert prefix is None
            inside = words(backbone, ids, mask)
        assert (inside - before).abs().max() > 0.1
        assert torch.equal(words(backbone, ids, mask), before)
        with pytest.raises(KeyboardInterrupt), adapter.attached(backbone):
            raise KeyboardInterrupt
        assert torch.equal(words(backbone, ids, mask), before)
        assert all(torch.equal(value, weights[name]) for name, value in backbone.model.state_dict().items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.model.modules())

    def test_zero_up_projections_change_nothing(self, kind: str, tiny_backbone: Tiny, make_batch: MakeBatch) -> None:
        backbone = tiny_backbone(kind)
        ids, mask = make_batch(backbone, [9, 6])
        adapter = felt(backbone)
        with torch.no_grad():
            for name, values in adapter.named_parameters():
                if ".up." in name:
                    values.zero_()
        with adapter.attached(backbone), torch.no_grad():  # a CPU that trains has its own attention
            inside = words(backbone, ids, mask)
        assert torch.equal(inside, words(backbone, ids, mask))

    def test_first_attached_first_applied(self, kind: str, tiny_backbone: Tiny, make_batch: MakeBatch) -> None:
        """Stacked in the last layer alone, by hand: s1 = s + A(norm(s)), s2 = s1 + B(norm(s1)), norm(s2)."""
        backbone = tiny_backbone(kind)
        ids, mask = make_batch(backbone, [9, 6])
        first, second = (felt(backbone, seed, invertible_reduction=None) for seed in (0, 1))
        with torch.no_grad():
            for adapter in (first, second):
                for bottleneck in adapter.bottlenecks[:-1]:
                    for values in bottleneck.parameters():
                        values.zero_()
        body: Any = backbone.model.base_model
        norm = body.encoder.layer[-1].output.LayerNorm
        seen: list[Tensor] = []
        with norm.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0])):
            backbone.hidden_states(ids, mask)
        states = seen[0]
        for adapter in (first, second):
            states = states + adapter.bottlenecks[-1](norm(states))
        with first.attached(backbone), second.attached(backbone):
            stacked = backbone.hidden_states(ids, mask)
        with second.attached(backbone), first.attached(backbone):
            swapped = backbone.hidden_states(ids, mask)
        assert_near(stacked, norm(states), 1e-6)
        assert (stacked - swapped).abs().max() > 1e-3

    def test_drop_last_has_no_bottleneck_in_the_last_layer(
        self, kind: str, tiny_backbone: Tiny, make_batch: MakeBatch
    ) -> None:
        backbone = tiny_backbone(kind)
        ids, mask = make_batch(backbone, [9, 6])
        short, long = felt(backbone, drop_last=True), felt(backbone)
        assert len(short.bottlenecks) == backbone.num_layers - 1
        assert (long.num_trained - short.num_trained) == 2 * 48 * 24 + 48 + 24
        settings = {**short.settings(), "drop_last": False}
        tensors = {name: torch.zeros_like(value) for name, value in long.tensors().items()} | short.tensors()
        filled = Adapter.restore(backbone, settings, tensors)
        results = []
        for adapter in (short, filled, long):
            with adapter.attached(backbone):
                results.append(words(backbone, ids, mask))
        assert torch.equal(results[0], results[1])
        assert not torch.allclose(results[0], results[2])

    def test_gradient_checkpointing(self, kind: str, own_backbone: Tiny, make_batch: MakeBatch) -> None:
        backbone = own_backbone(kind)
        ids, mask = make_batch(backbone, [9, 6])
        adapter = felt(backbone)
        plain = gradients(backbone, adapter, ids, mask)
        calls: list[int] = []
        backbone.checkpoint_gradients(True)
        body: Any = backbone.model.base_model
        with body.encoder.layer[1].output.dense.register_forward_hook(lambda *_: calls.append(1)):
            recomputed = gradients(backbone, adapter, ids, mask)
        assert len(calls) == 2  # it did compute the layer again
        assert all(torch.equal(recomputed[name], value) for name, value in plain.items())
        assert all(value.abs().max() > 0 for value in plain.values())

    def test_a_body_in_bf16(self, kind: str, own_backbone: Tiny, make_batch: MakeBatch) -> None:
        backbone = own_backbone(kind)
        ids, mask = make_batch(backbone, [9, 6])
        adapter = felt(backbone)
        exact = gradients(backbone, adapter, ids, mask)
        backbone.use_precision("bf16")
        rough = gradients(backbone, adapter, ids, mask)
        with adapter.attached(backbone), torch.inference_mode():
            assert backbone.hidden_states(ids, mask).dtype == torch.bfloat16
        assert {values.dtype for values in adapter.parameters()} == {torch.float32}
        assert {value.dtype for value in rough.values()} == {torch.float32}
        ours, theirs = (torch.cat([value.flatten() for value in found.values()]) for found in (rough, exact))
        assert F.cosine_similarity(ours, theirs, dim=0) > 0.99
        assert not torch.equal(ours, theirs)

    def test_inference_mode(self, kind: str, tiny_backbone: Tiny, make_batch: MakeBatch) -> None:
        backbone = tiny_backbone(kind)
        ids, mask = make_batch(backbone, [9, 6])
        adapter = felt(backbone)
        with adapter.attached(backbone):
            with torch.inference_mode():
                inside = words(backbone, ids, mask)
            with torch.no_grad():
                assert torch.equal(inside, words(backbone, ids, mask))

    def test_saved_and_restored(self, kind: str, tiny_backbone: Tiny) -> None:
        backbone = tiny_backbone(kind)
        adapter = felt(backbone, drop_last=True)
        again = Adapter.restore(backbone, json.loads(json.dumps(adapter.settings())), adapter.tensors())
        assert again.settings() == adapter.settings()
        assert list(again.tensors()) == list(adapter.tensors())
        assert all(torch.equal(value, adapter.tensors()[name]) for name, value in again.tensors().items())


@pytest.mark.parametrize("kind", KINDS)
class TestHoulsby:
    def test_equals_bottlenecks_by_hand(self, kind: str, own_backbone: Tiny, make_batch: MakeBatch) -> None:
        """norm(x + h + up(gelu(down(h)))) after attention and feed-forward, in modules of the stock forward pass."""
        backbone = own_backbone(kind)
        ids, mask = make_batch(backbone, [9, 6])
        adapter = houlsby(backbone)
        with torch.no_grad(), adapter.attached(backbone):
            found = backbone.hidden_states(ids, mask)
            places = torch.tensor([3, 9 + 5])
            assert_near(backbone.states_at(ids, mask, None, places), found.flatten(0, 1)[places], 1e-6)
        body: Any = backbone.model.base_model
        for number, layer in enumerate(body.encoder.layer):
            for place, sublayer in enumerate((layer.attention, layer)):
                down, up = (adapter.bottlenecks[2 * number + place].get_submodule(side) for side in ("down", "up"))

                def forward(h: Tensor, x: Tensor, output: Any = sublayer.output, down: Any = down, up: Any = up) -> Any:
                    h = output.dense(h)
                    return output.LayerNorm(x + h + up(F.gelu(down(h))))

                sublayer.output.forward = forward
        with torch.no_grad():
            wanted = body(input_ids=ids, attention_mask=mask).last_hidden_state
        assert_near(found[mask == 1], wanted[mask == 1], 1e-5)

    def test_it_reads_what_a_language_adapter_added(
        self, kind: str, tiny_backbone: Tiny, make_batch: MakeBatch
    ) -> None:
        """In the last layer alone, by hand: s1 = s + A(norm(s)), s2 = s1 + B(s1 - x), norm(s2)."""
        backbone = tiny_backbone(kind)
        ids, mask = make_batch(backbone, [9, 6])
        language, task = felt(backbone, 0, invertible_reduction=None), houlsby(backbone)
        with torch.no_grad():
            for bottleneck in (*language.bottlenecks[:-1], *task.bottlenecks[:-1]):
                for values in bottleneck.parameters():
                    values.zero_()
        body: Any = backbone.model.base_model
        layer = body.encoder.layer[-1]
        seen: list[Tensor] = []
        note = lambda _, arguments: seen.append(arguments[0])  # noqa: E731
        with layer.intermediate.register_forward_pre_hook(note), layer.output.LayerNorm.register_forward_pre_hook(note):
            backbone.hidden_states(ids, mask)
        x, states = seen
        norm = layer.output.LayerNorm
        states = states + language.bottlenecks[-1](norm(states))
        wanted = norm(states + task.bottlenecks[-1](states - x))
        with language.attached(backbone), task.attached(backbone):
            assert_near(backbone.hidden_states(ids, mask), wanted, 1e-6)

    def test_gradients_recomputed_and_a_file(self, kind: str, own_backbone: Tiny, make_batch: MakeBatch) -> None:
        backbone = own_backbone(kind)
        ids, mask = make_batch(backbone, [9, 6])
        adapter = houlsby(backbone)
        plain = gradients(backbone, adapter, ids, mask)
        assert len(plain) == 2 * 4 * backbone.num_layers
        assert all(value.abs().max() > 0 for value in plain.values())
        backbone.checkpoint_gradients(True)
        recomputed = gradients(backbone, adapter, ids, mask)
        assert all(torch.equal(recomputed[name], value) for name, value in plain.items())
        again = HoulsbyAdapter.restore(backbone, json.loads(json.dumps(adapter.settings())), adapter.tensors())
        assert all(torch.equal(value, adapter.tensors()[name]) for name, value in again.tensors().items())
        with pytest.raises(ArtifactError, match="the tensors do not form an adapter"):
            Adapter.restore(backbone, adapter.settings(), adapter.tensors())


class TestInitialise:
    def test_small_noise_and_no_biases(self) -> None:
        adapter = Adapter.initialise(256, 3, 2, 2, seed=5)
        weights = torch.cat([value.flatten() for name, value in adapter.tensors().items() if name.endswith("weight")])
        assert float(weights.std()) == pytest.approx(0.02, rel=0.02)
        assert float(weights.mean()) == pytest.approx(0, abs=2e-4)
        assert all(not value.any() for name, value in adapter.tensors().items() if name.endswith("bias"))

    def test_same_seed_same_values(self) -> None:
        torch.manual_seed(0)
        before = torch.random.get_rng_state()
        one, same, other = (Adapter.initialise(16, 2, 2, 2, seed=seed).tensors() for seed in (1, 1, 2))
        assert torch.equal(torch.random.get_rng_state(), before)  # nor does it disturb anybody else's
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert not any(torch.equal(one[name], other[name]) for name in one if name.endswith("weight"))

    def test_counts_for_xlm_r_large(self) -> None:
        """Table 3 of Chen and Chen (2024): 25.7 M, 103 MB for a language."""
        with torch.device("meta"):
            language = Adapter.initialise(1024, 24, 2, 2)
            task = Adapter.initialise(1024, 24, 16)
            short = Adapter.initialise(1024, 24, 2, 2, drop_last=True)
        assert language.num_trained == 25_728_512
        assert task.num_trained == 3_171_840 == 24 * (1024 * 64 + 64 + 64 * 1024 + 1024)
        assert short.num_trained == 25_728_512 - 1_050_112
        assert all(values.is_meta for values in language.parameters())
        language.requires_grad_(False)
        assert language.num_trained == 0


class TestRefusals:
    def test_other_families(self, tiny_backbone: Tiny, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
        larger = XLMRobertaXLConfig(
            vocab_size=len(tiny_tokenizer), hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
            intermediate_size=64, pad_token_id=1,
        )  # fmt: skip
        pre_norm = Backbone(AutoModelForMaskedLM.from_config(larger), tiny_tokenizer, "XL")
        for backbone in (tiny_backbone("modernbert"), pre_norm):
            with (
                pytest.raises(ModelError, match="adapters are not defined for") as caught,
                felt(backbone).attached(backbone),
            ):
                pass
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("kind", ["roberta", "camembert"])
    def test_kin_of_xlm_r(self, kind: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
        """Same weights, same words as XLM-R with the adapter."""
        shape = {"vocab_size": len(tiny_tokenizer), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = AutoConfig.for_model(kind, **shape, intermediate_size=16, pad_token_id=1)
        model = AutoModelForMaskedLM.from_config(config)
        twin = XLMRobertaForMaskedLM(AutoConfig.for_model("xlm-roberta", **shape, intermediate_size=16, pad_token_id=1))
        twin.load_state_dict(model.state_dict())
        ids = torch.tensor([[0, 50, 60, 2]])
        found = []
        for backbone in (Backbone(model, tiny_tokenizer), Backbone(twin, tiny_tokenizer)):
            with felt(backbone).attached(backbone):
                found.append(words(backbone, ids))
        assert torch.equal(*found)

    def test_another_shape(self, tiny_backbone: Tiny) -> None:
        backbone = tiny_backbone("bert")
        for adapter in (Adapter.initialise(16, 3, 2), Adapter.initialise(48, 2, 2)):
            with pytest.raises(ModelError, match="has 3 of 48"), adapter.attached(backbone):
                pass
            with pytest.raises(ArtifactError, match="has 3 of 48"):
                Adapter.restore(backbone, adapter.settings(), adapter.tensors())

    def test_values_of_something_else(self, tiny_backbone: Tiny) -> None:
        backbone = tiny_backbone("bert")
        adapter = felt(backbone)
        settings, tensors = adapter.settings(), adapter.tensors()
        for wrong in ({**settings, "reduction": 4}, {**settings, "reduction": 0}, {**settings, "more": 1}, {}):
            with pytest.raises(UserError, match="the tensors do not form an adapter") as caught:
                Adapter.restore(backbone, wrong, tensors)
            assert "\n" not in str(caught.value)
        with pytest.raises(ArtifactError, match="the tensors do not form an adapter"):
            Adapter.restore(backbone, settings, dict(list(tensors.items())[1:]))
