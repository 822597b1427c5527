"""What every family of backbones promises (masked, decoder-only, T5), held against each of them: prompts are exact,
padding changes nothing, gradients are right, a resumed run has the same bits, files go there and back, mixed batches
answer as each classifier alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import OPTConfig, OPTForCausalLM

import glotprompt as gp
from glotprompt.errors import ConfigError, ModelError
from glotprompt.model.families import DecoderInput
from glotprompt.model.modules.real_tokens import key_values_of_text
from glotprompt.model.prefix import ATTENTION, Prefix, attend
from glotprompt.model.shapes import Shell
from glotprompt.model.tokens import SpecialIds, byte_tokenizer, is_byte_level
from glotprompt.records import NextTokenScores
from glotprompt.training.objectives.batches import MaskedBatch, mask_spans, token_batch
from glotprompt.training.objectives.cloze import label_words
from glotprompt.training.objectives.inputs import encode
from glotprompt.training.objectives.scoring import label_states, score_masked_tokens

from .tiny_backbones import CONFIGS, random_model, save, tokenizer_of
from .toys import QUIET, SOURCE, TASK, TOY
from .variants import ADAPT, EXAMPLES, TUNE

DECODERS = ("llama", "qwen3", "gemma3")
T5_KINDS = ("mt5", "umt5", "byt5")
FAST = ("qwen3", "byt5")
"""One kind of each new family; the others are slow tests."""
KINDS = [pytest.param(kind, marks=[] if kind in FAST else pytest.mark.slow) for kind in CONFIGS]
MULTI = gp.Task("multi", "{mask} : {text}", {"a": ["kilimba", "water"], "b": "kilimbo", "c": "king king", "d": "play"})
"""Label words of one token and of several, two of which begin alike."""


@cache
def backbone_of(kind: str) -> gp.Backbone:
    """Shared, not to be changed."""
    tokenizer: Any = byte_tokenizer() if kind == "byt5" else tokenizer_of(kind)
    return gp.Backbone(random_model(kind), tokenizer, f"tiny {kind}")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def backbone(kind: str) -> gp.Backbone:
    return backbone_of(kind)


def draw_prompt(backbone: gp.Backbone, length: int, seed: int = 0) -> Tensor:
    return torch.randn(backbone.prompt_shape(length), generator=torch.Generator().manual_seed(seed))


def draw_batch(backbone: gp.Backbone, lengths: list[int], width: int | None = None) -> tuple[Tensor, Tensor]:
    """Random ids without special ones, and their mask."""
    mask = (torch.arange(width or max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, 250, mask.shape, generator=torch.Generator().manual_seed(3))
    return torch.where(mask == 1, ids, SpecialIds.of(backbone.tokenizer).pad), mask


@torch.no_grad()
def read(
    backbone: gp.Backbone, ids: Tensor, mask: Tensor | None, prefix: Prefix | None, decoded: Tensor | None = None
) -> Tensor:
    """All states that the LM head reads, [batch, seq, hidden]; T5's decoder reads `decoded`, or the ids again."""
    decoded = ids if decoded is None else decoded
    decoder = DecoderInput(decoded) if backbone.objective == "spans" else None
    rows = decoded if decoder else ids
    places = torch.arange(rows.numel())
    return backbone.states_at(ids, mask, prefix, places, decoder).unflatten(0, rows.shape)


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    difference = (found - expected).abs().max() / expected.abs().max()
    assert difference <= tolerance, f"largest relative difference {float(difference):.2e}"


# --- exactness


@pytest.mark.parametrize("kind", [pytest.param(one, marks=[] if one in FAST else pytest.mark.slow) for one in T5_KINDS])
def test_an_encoder_decoder_s_prompt_starts_from_what_both_parts_read(kind: str, backbone: gp.Backbone) -> None:
    model, ids = random_model(kind), draw_batch(backbone, [6])[0]
    found: dict[str, Tensor] = {}
    for name, part in model.named_modules():
        if re.search(r"SelfAttention\.[kv]$", name):
            part.register_forward_hook(lambda _, __, output, name=name: found.update({name: output[0]}))
    with torch.no_grad():
        model(input_ids=ids, decoder_input_ids=ids)
    keys, values = (
        torch.stack(
            [found[name].unflatten(-1, (backbone.num_heads, -1)).transpose(0, 1) for name in found if name[-1] == one]
        )
        for one in "kv"
    )
    start = key_values_of_text(backbone, [ids[0]], torch.tensor([0]), 6)
    assert start.shape == backbone.prompt_shape(6)
    assert_near(start, torch.stack([keys, values], dim=1))


def plainly(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **more: Any) -> tuple[Tensor, None]:
    """Attention with prefixes in plain torch, one row and head at a time; visibility is told from the module itself."""
    prefix, bias = more.get("prefix"), more.get("position_bias")
    config, length, offset = module.config, query.shape[2], 0
    window = getattr(module, "sliding_window", None)
    crosses = getattr(module, "is_decoder", False) and not module.is_causal
    if prefix is not None and not crosses:
        front = prefix.key_values[module.layer_idx, :, 0]
        key, value = (
            torch.cat([part.expand(len(query), -1, -1, -1), text], dim=2)
            for part, text in zip(front, (key, value), strict=True)
        )
        offset = front.shape[2]
    causal = config.model_type in (*DECODERS, "gemma3_text") or (getattr(module, "is_decoder", False) and not crosses)
    scale = more.get("scaling")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    groups = query.shape[1] // key.shape[1]
    output = torch.empty_like(query)
    for row in range(len(query)):
        for head in range(query.shape[1]):
            for place in range(length):
                scores = (key[row, head // groups] @ query[row, head, place]) * scale
                if bias is not None:
                    scores[offset:] += bias[0, head, place]
                seen = torch.arange(len(scores)) - offset
                hidden = torch.zeros(len(scores), dtype=torch.bool)
                if causal:
                    hidden = seen > place
                if window:
                    hidden |= (seen >= 0) & (seen <= place - window)
                weights = scores.masked_fill(hidden, -math.inf).softmax(dim=0)
                output[row, head, place] = weights @ value[row, head // groups]
    return output.transpose(1, 2), None


@pytest.mark.parametrize("positions", ["plain", "shifted"])
def test_a_prompt_equals_attention_with_prefixes_in_plain_torch(
    kind: str, backbone: gp.Backbone, positions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also beyond a sliding window, which the prompt is always inside of, and with fewer key/value heads."""
    if positions == "shifted" and backbone.objective == "spans":
        pytest.skip("relative positions")
    from transformers import AttentionInterface

    ids, _ = draw_batch(backbone, [14])
    prefix = Prefix.shared(draw_prompt(backbone, 5), torch.float32, positions)
    found, without = read(backbone, ids, None, prefix), read(backbone, ids, None, None)
    body, backbone._body = backbone._body, None  # so that the registered function is called
    monkeypatch.setitem(AttentionInterface._global_mapping, ATTENTION, plainly)
    try:
        expected, bare = read(backbone, ids, None, prefix), read(backbone, ids, None, None)
    finally:
        monkeypatch.undo()
        backbone._body = body
    assert AttentionInterface()[ATTENTION] is attend
    assert_near(found, expected)
    assert_near(without, bare)
    assert (expected - bare).abs().max() > 0.1, "a prompt that is hardly felt proves nothing"


def test_without_a_prompt_it_is_the_stock_model(kind: str, backbone: gp.Backbone) -> None:
    stock = random_model(kind)
    ids, mask = draw_batch(backbone, [13, 6])
    more = {"decoder_input_ids": ids} if backbone.objective == "spans" else {}
    with torch.no_grad():
        expected = stock(input_ids=ids, attention_mask=mask, **more).logits[mask == 1]
        found = backbone.token_logits(read(backbone, ids, mask, None)[mask == 1])
    assert_near(found, expected)


def test_padding_changes_nothing(backbone: gp.Backbone) -> None:
    prefix = Prefix.shared(draw_prompt(backbone, 5), torch.float32)
    ids, mask = draw_batch(backbone, [12, 7], width=31)
    padded = read(backbone, ids, mask, prefix)
    for row, length in enumerate([12, 7]):
        assert_near(padded[row, :length], read(backbone, ids[row : row + 1, :length], None, prefix)[0])


def test_prompts_of_different_lengths_in_one_batch_equal_separate_runs(backbone: gp.Backbone) -> None:
    prompts = [draw_prompt(backbone, length, length) for length in (3, 8)]
    positions = ["plain", "plain" if backbone.objective == "spans" else "shifted"]
    for lengths, padded in (([11, 19, 6], True), ([9, 9, 9], False)):
        ids, mask = draw_batch(backbone, lengths)
        numbers = [1, 0, 1]
        prefix = Prefix.per_row(prompts, torch.tensor(numbers), torch.float32, positions)
        mixed = read(backbone, ids, mask if padded else None, prefix)
        for row, (number, length) in enumerate(zip(numbers, lengths, strict=True)):
            own = Prefix.shared(prompts[number], torch.float32, positions[number])
            assert_near(mixed[row, :length], read(backbone, ids[row : row + 1, :length], None, own)[0])


@pytest.mark.parametrize("trained", [None, 1])
def test_gradients_with_and_without_recomputation_and_of_the_top_layer_alone(
    backbone: gp.Backbone, trained: int | None
) -> None:
    """Against a difference quotient, along the gradient itself."""
    from glotprompt.model.modules.soft_prompt import SoftPrompt

    ids, mask = draw_batch(backbone, [13, 7])
    layers = None if trained is None else range(backbone.num_layers - trained, backbone.num_layers)

    def loss_of(values: Tensor) -> tuple[Tensor, SoftPrompt]:
        prompt = SoftPrompt(values, layers)
        decoder = DecoderInput(ids) if backbone.objective == "spans" else None
        hidden = backbone.states_at(ids, mask, prompt.prefix(torch.float32), torch.tensor([2, 5, 15]), decoder)
        return backbone.masked_token_loss(hidden, torch.tensor([9, 10, 11])), prompt

    start = 0.5 * draw_prompt(backbone, 4)
    loss, prompt = loss_of(start)
    (gradient,) = torch.autograd.grad(loss, [prompt.trained])
    direction = torch.zeros_like(start)
    direction[prompt.trained_layers.start :] = gradient / gradient.norm()
    step = 2e-2
    with torch.no_grad():
        above, below = (loss_of(start + sign * step * direction)[0].double() for sign in (1, -1))
    expected = gradient.norm().item()
    assert ((above - below) / (2 * step)).item() == pytest.approx(expected, rel=0.05)
    backbone.checkpoint_gradients(True)
    try:
        again, prompt = loss_of(start)
        (recomputed,) = torch.autograd.grad(again, [prompt.trained])
    finally:
        backbone.checkpoint_gradients(False)
    assert torch.equal(recomputed, gradient)


def test_layers_that_drop_states_themselves_are_not_recomputed() -> None:
    tokenizer = tokenizer_of("llama")
    sizes: dict[str, Any] = {"hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = OPTConfig(vocab_size=len(tokenizer), word_embed_proj_dim=16, dropout=0.1, pad_token_id=1, **sizes)
    backbone = gp.Backbone(OPTForCausalLM(config), tokenizer, "tiny opt")
    with pytest.raises(ConfigError, match="tiny opt cannot recompute activations"):
        backbone.checkpoint_gradients(True)
    assert not any(module.training for module in backbone.model.modules())


# --- stage 1's batches


def test_a_batch_predicts_what_the_family_was_trained_to(backbone: gp.Backbone) -> None:
    special = SpecialIds.of(backbone.tokenizer)
    texts = ["the king the water day play the king", "night"]
    rows = [np.array(backbone.tokenizer(text)["input_ids"], dtype=np.int64) for text in texts]
    batch = token_batch(rows, backbone.tokenizer, 0.15, (0, 1))
    assert len(batch.targets) == len(batch.positions)
    if backbone.objective == "clm":
        assert batch.targets.tolist() == [*rows[0][1:], *rows[1][1:]]
        flat = batch.input_ids.flatten()[batch.positions]
        assert flat.tolist() == [*rows[0][:-1], *rows[1][:-1]]
        spaces = " " if special.front else ""
        size = sum(len(f"{spaces}{text}") for text in texts)
        first = 0 if special.front else sum(len(backbone.tokenizer.decode(row[:1])) + 1 for row in rows)
        assert batch.num_bytes == size - first + (0 if special.front else 2)
    if backbone.objective == "spans":
        assert batch.decoder_ids is not None
        assert batch.decoder_ids[:, 0].tolist() == [special.pad] * 2
        assert batch.decoder_ids[:, 1].tolist() == [special.mask] * 2
        mark, end = special.mask, special.separator
        inside = batch.input_ids[0].tolist()
        targets = batch.targets.tolist()[: batch.targets.tolist().index(end) + 1]
        (place,) = [i for i, token in enumerate(inside) if token == mark]
        assert targets[0] == mark
        span = targets[1 : next((i for i, token in enumerate(targets) if i and token in (mark - 1, mark + 1)), -1)]
        assert [*inside[:place], *span] == rows[0].tolist()[: place + len(span)], "text and spans give the whole"


def test_the_loss_is_the_stock_models(kind: str, backbone: gp.Backbone) -> None:
    rows = [np.array(backbone.tokenizer(text)["input_ids"], dtype=np.int64) for text in ["the king day " * 4, "water"]]
    batch = token_batch(rows, backbone.tokenizer, 0.3, (0, 1))
    scores = score_masked_tokens(backbone, [batch], None)
    more = {} if batch.decoder_ids is None else {"decoder_input_ids": batch.decoder_ids}
    with torch.no_grad():
        logits = random_model(kind)(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **more).logits
    expected = F.cross_entropy(logits.flatten(0, 1)[batch.positions], batch.targets).item()
    assert scores.loss == pytest.approx(expected, rel=1e-4)
    if backbone.objective == "clm":
        bits = expected * len(batch.targets) / math.log(2)
        assert isinstance(scores, NextTokenScores)
        assert batch.num_bytes
        assert scores.bits_per_byte == pytest.approx(bits / batch.num_bytes, rel=1e-4)


def test_every_masked_span_has_a_sentinel_of_its_own() -> None:
    tokenizer: Any = backbone_of("mt5").tokenizer
    batch = mask_spans([np.array([*[50] * 1023, *SpecialIds.of(tokenizer).back])], tokenizer, 0.35, (0,))
    assert not (batch.input_ids == tokenizer.unk_token_id).any()
    assert int((batch.targets == 50).sum()) == round(0.35 * 1023)


def test_spans_have_the_means_of_their_papers() -> None:
    for kind, mean in (("mt5", 3), ("byt5", 20)):
        tokenizer: Any = backbone_of(kind).tokenizer
        text = np.full(1000, 50, dtype=np.int64)
        back = np.array(SpecialIds.of(tokenizer).back)
        batch = mask_spans([np.concatenate([text, back])] * 4, tokenizer, 0.15, (0,))
        assert batch.decoder_ids is not None
        masked = int((batch.targets == 50).sum())
        sentinels = len(batch.targets) - masked - 4
        assert (masked, sentinels) == (4 * 150, 4 * round(150 / mean))
        assert int((batch.input_ids == 50).sum()) == 4 * 850


# --- label words


def test_scores_are_log_probabilities_of_the_words_behind_the_template(backbone: gp.Backbone) -> None:
    """Word by word through the whole model, against all of them at once; and two examples of other lengths."""
    if backbone.objective == "mlm":
        pytest.skip("tests/training/test_scoring.py")
    tokenizer, special = backbone.tokenizer, SpecialIds.of(backbone.tokenizer)
    words = label_words(MULTI, tokenizer)
    texts = ["the day", "water night the king"]
    clozes = encode([{"text": text} for text in texts], MULTI, tokenizer, 64, words)
    prompts = [draw_prompt(backbone, 4), draw_prompt(backbone, 6, 1)]
    prefix = Prefix.per_row(prompts, torch.tensor([0, 1]), torch.float32)
    with torch.no_grad():
        found = words.scores(backbone, label_states(backbone, clozes, prefix))
    for row, text in enumerate(texts):
        own = Prefix.shared(prompts[row], torch.float32)
        scores: dict[str, float] = {}
        for label, spellings in MULTI.verbalizer.items():
            each: list[float] = []
            for spelling in spellings:
                if backbone.objective == "clm":
                    start = tokenizer(f"{text} :")["input_ids"]
                    whole = tokenizer(f"{text} : {spelling}")["input_ids"]
                    assert whole[: len(start)] == start
                    ids, decoded, word = torch.tensor([whole]), None, whole[len(start) :]
                else:
                    start = [special.pad, special.mask]
                    word = tokenizer(spelling, add_special_tokens=False)["input_ids"]
                    written = tokenizer.convert_tokens_to_ids("<extra_id_0>")
                    template = tokenizer(f"<extra_id_0> : {text}")["input_ids"]
                    ids = torch.tensor([[special.mask if token == written else token for token in template]])
                    decoded = torch.tensor([[*start, *word]])
                logits = backbone.token_logits(read(backbone, ids, None, own, decoded)[0]).log_softmax(dim=-1)
                read_at = logits[len(start) - 1 : len(start) - 1 + len(word)]
                each.append(read_at[torch.arange(len(word)), torch.tensor(word)].mean().item())
            scores[label] = sum(each) / len(each)
        assert found[row].tolist() == pytest.approx(list(scores.values()), abs=1e-4)
    assert words.num_reads > 1


def test_a_decoder_reads_the_template_up_to_the_mask(kind: str) -> None:
    if kind not in DECODERS:
        pytest.skip("decoders alone")
    backbone = backbone_of(kind)
    long = encode([{"text": "the king " * 40}], TASK, backbone.tokenizer, 24)
    assert (len(long[0].input_ids), long[0].truncated, long[0].position) == (24, True, 23)
    assert str(backbone.tokenizer.decode(long[0].input_ids[-3:])).endswith(":")


# --- both stages


def both_stages(backbone: gp.Backbone, runtime: gp.RuntimeConfig = QUIET) -> tuple[Any, gp.PromptClassifier]:
    adapt = ADAPT.replace(learning_rate=0.1, max_length=32, steps=6, eval_every=3)
    prompt = gp.adapt(backbone, TOY, SOURCE, "xxx", adapt, runtime)
    tune = TUNE.replace(learning_rate=0.3, epochs=2, max_length=48)
    return prompt, gp.tune(backbone, prompt, EXAMPLES, TASK, tune, runtime, dev=EXAMPLES)


@cache
def trained(kind: str) -> tuple[Any, gp.PromptClassifier]:
    return both_stages(backbone_of(kind))


@pytest.mark.slow
def test_both_stages_learn(kind: str, backbone: gp.Backbone) -> None:
    prompt, classifier = trained(kind)
    before, after = prompt.training.held_out_before, prompt.training.held_out_after
    assert prompt.training.objective == backbone.objective
    assert after.loss < before.loss - 0.3
    assert hasattr(after, "bits_per_byte") == (backbone.objective == "clm")
    dev = [figures["dev_loss"] or 0.0 for _, figures in classifier.training.evaluations]
    assert min(dev) < dev[0] - 0.05
    top = round(0.75 * backbone.num_layers)
    assert classifier.training.trained_layers == (backbone.num_layers - top, backbone.num_layers)
    bottom = backbone.num_layers - top
    assert torch.equal(classifier.key_values[:bottom], prompt.key_values[:bottom])


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bits(kind: str, backbone: gp.Backbone, tmp_path: Path) -> None:
    from glotprompt.training import loop

    update, steps = loop._Run.update, list[int]()

    def killed_once(run: Any, parts: Any) -> Any:
        steps.append(run.history.step)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return update(run, parts)

    runtime = QUIET.replace(checkpoint_dir=tmp_path, checkpoint_every=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "update", killed_once)
        with pytest.raises(KeyboardInterrupt):
            both_stages(backbone, runtime)
        prompt, classifier = both_stages(backbone, runtime)
    assert steps[:6] == [0, 1, 2, 3, 4, 4]
    assert torch.equal(prompt.key_values, trained(kind)[0].key_values)
    assert torch.equal(classifier.key_values, trained(kind)[1].key_values)


@pytest.mark.slow
def test_files_and_mixed_batches_give_the_same_answers(kind: str, backbone: gp.Backbone, tmp_path: Path) -> None:
    prompt, classifier = trained(kind)
    assert torch.equal(gp.LanguagePrompt.load(prompt.save(tmp_path / "p"), backbone).key_values, prompt.key_values)
    again = gp.PromptClassifier.load(classifier.save(tmp_path / "c"), backbone)
    texts = ["water water", "king", "the king play play day " * 3]
    expected = classifier.log_probabilities(texts)
    assert np.array_equal(again.log_probabilities(texts), expected)
    other = gp.tune(backbone, None, EXAMPLES, MULTI_TOPIC, TUNE.replace(epochs=1, max_length=48), QUIET, dev=EXAMPLES)
    predictor = gp.Predictor(backbone, {"one": again, "two": other})
    items = [(name, text) for text in texts for name in ("one", "two")]
    for (name, text), found in zip(items, predictor.predict(items), strict=True):
        (alone,) = {"one": again, "two": other}[name].predict([text])
        assert found.scores == pytest.approx(alone.scores, abs=1e-5)


MULTI_TOPIC = gp.Task(
    "topics", "{text} . {mask}", {"health": "water water day", "sports": ["play", "playing"], "culture": "king"}
)


@pytest.mark.slow
def test_calibration_self_training_and_language_detection(kind: str, backbone: gp.Backbone) -> None:
    from glotprompt.inference.language import LanguageFinder

    prompt, classifier = trained(kind)
    texts = ["water day", "king king", "play play the"]
    calibrated = classifier.with_label_prior(texts)
    mean = np.mean([list(found.scores.values()) for found in calibrated.predict(texts)], axis=0)
    assert mean == pytest.approx([1 / 3] * 3, abs=0.01)
    taught = gp.self_train(classifier, texts * 2, EXAMPLES, runtime=QUIET, adapted=prompt, dev=EXAMPLES)
    assert taught.language == "xxx"
    finder = LanguageFinder(gp.Predictor(backbone, {"one": classifier, "two": classifier}))
    one, two = finder.losses(finder.read("the king the water", ["one", "two"]))
    assert one.loss == pytest.approx(two.loss, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "fine-tuning-mlm"])
def test_baselines_train_and_leave_the_backbone_as_it_was(kind: str, backbone: gp.Backbone, method: str) -> None:
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    adapt = ADAPT.replace(method=method, learning_rate=3e-3, max_length=32, steps=4)
    module = gp.adapt(backbone, TOY, SOURCE, "xxx", adapt, QUIET)
    assert module.training.held_out_after.loss < module.training.held_out_before.loss
    tune = TUNE.replace(method=method, epochs=1, learning_rate=3e-3, max_length=48)
    gp.tune(backbone, module, EXAMPLES, TASK, tune, QUIET, dev=EXAMPLES)
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())


@pytest.mark.parametrize("kind", T5_KINDS[1:])
def test_fine_tuning_trains_the_bias_for_positions(kind: str) -> None:
    backbone = backbone_of(kind)
    adapt = ADAPT.replace(method="fine-tuning-mlm", learning_rate=1e-2, max_length=32, steps=1, eval_every=1)
    weights = gp.adapt(backbone, TOY, SOURCE, "xxx", adapt, QUIET).parts["language"].tensors
    own = dict(backbone.model.named_parameters())
    for name in [name for name in own if "relative_attention_bias" in name]:
        assert not torch.equal(weights[name], own[name]), name


# --- names, shapes, refusals


@pytest.mark.slow
def test_a_saved_folder_is_opened_and_counted_without_weights(kind: str, tmp_path: Path) -> None:
    folder = save(tmp_path / kind, kind)
    loaded = gp.Backbone.load(folder, precision="fp32", device="cpu")
    assert (loaded.fingerprint, loaded.objective) == (backbone_of(kind).fingerprint, backbone_of(kind).objective)
    assert is_byte_level(loaded.tokenizer) == (kind == "byt5")
    shell = Shell.named(str(folder))
    assert (shell.num_parameters, shell.prompt_shape(3)) == (loaded.num_parameters, loaded.prompt_shape(3))
    loaded.save_pretrained(tmp_path / "again")
    assert gp.Backbone.load(tmp_path / "again", precision="fp32", device="cpu").fingerprint == loaded.fingerprint


def test_vectors_are_those_of_the_text_alone_or_in_a_batch(backbone: gp.Backbone) -> None:
    texts = ["the king", "water day night " * 5]
    for layer in (0, 1, None):
        found = backbone.embed(texts, layer=layer)
        alone = np.concatenate([backbone.embed([text], layer=layer) for text in texts])
        assert np.abs(found - alone).max() < 1e-4


def test_an_empty_text_has_a_vector() -> None:
    """Of a tokenizer that adds nothing to a text, too."""
    backbone = backbone_of("qwen3")
    separator = np.array([SpecialIds.of(backbone.tokenizer).separator])
    expected = backbone.pooled_states([separator], None).detach().numpy()
    np.testing.assert_allclose(backbone.embed(["", "the king"])[:1], expected, atol=1e-5)
    np.testing.assert_allclose(backbone.embed([""]), expected, atol=1e-5)


def test_a_pooled_head_needs_something_trained_below_it() -> None:
    config = TUNE.replace(method="prompt-tuning", head="pooled", top_k_layers=1)
    with pytest.raises(ConfigError, match="begins above it, in layer 3; train lower layers, too: it has 2 to pool"):
        gp.tune(backbone_of("mt5"), None, EXAMPLES, TASK, config, QUIET, dev=EXAMPLES)


def test_what_has_no_meaning_for_a_family_is_refused_in_one_line(kind: str, backbone: gp.Backbone) -> None:
    if backbone.objective == "mlm":
        pytest.skip("all of it has")
    refused: list[tuple[str, Callable[[], object], type[Exception]]] = [
        ("first token", lambda: tuned(head="linear"), ConfigError),
        ("is trained with objective", lambda: adapted(objective="mlm"), ConfigError),
        ("adapters are not defined for", lambda: adapted(method="mad-x"), ModelError),
    ]
    if backbone.objective == "clm":
        refused.append(("leave mask_rate out", lambda: adapted(mask_rate=0.2), ConfigError))
        unknown = gp.Task("t", "{mask} : {text}", {**TASK.verbalizer, "sports": "Sports日"})
        refused.append(('cannot spell .* head="pooled"$', lambda: tuned(task=unknown), ConfigError))
    else:
        refused.append(("leave positions out", lambda: adapted(positions="shifted"), ConfigError))

    def adapted(**changes: Any) -> object:
        return gp.adapt(backbone, TOY, SOURCE, "xxx", ADAPT.replace(**changes), QUIET)

    def tuned(task: gp.Task = TASK, **changes: Any) -> object:
        return gp.tune(backbone, None, EXAMPLES, task, TUNE.replace(**changes), QUIET, dev=EXAMPLES)

    for words, make, error in refused:
        with pytest.raises(error, match=words) as caught:
            make()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["scores that our attention does not compute", "a layer that ignores the prompt"])
def test_a_decoder_that_fails_the_check_at_load_is_refused(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = random_model("llama")
    attention = model.model.layers[1].self_attn
    forward = attention.forward
    if fault.startswith("scores"):  # such as a cap on them, which only the family's own attention knows
        from transformers.models.llama import modeling_llama

        own = modeling_llama.eager_attention_forward
        monkeypatch.setattr(
            modeling_llama,
            "eager_attention_forward",
            lambda module, query, *rest, **more: own(module, 2 * query, *rest, **more),
        )
    else:
        attention.forward = lambda *arguments, prefix=None, **more: forward(*arguments, **more)
    with pytest.raises(ModelError, match=r"does not act as it should|reaches 2 of the 3 layers") as caught:
        gp.Backbone(model, tokenizer_of("llama"), "it")
    assert "\n" not in str(caught.value)


def test_bytes_are_those_of_transformers_own_tokenizer() -> None:
    own, ours = tokenizer_of("byt5"), byte_tokenizer()
    for text in ("aé 한 <extra_id_3> b", "", "  two  spaces ", "\x00\x7f", "ᏣᎳᎩ\n"):
        assert ours(text)["input_ids"] == own(text)["input_ids"]
    assert len(ours) == len(own)
    assert ours.decode(ours("ᏣᎳᎩ")["input_ids"], skip_special_tokens=True) == "ᏣᎳᎩ"


def test_a_byte_level_decoder_is_told_from_byt5_by_its_tokenizer() -> None:
    special = SpecialIds.of(byte_tokenizer(num_sentinels=0))
    assert (special.objective, special.front, special.back, special.separator) == ("clm", (), (), 1)
    assert SpecialIds.of(byte_tokenizer()).objective == "spans"
    with pytest.raises(ModelError, match="special tokens for objective 'spans', the model is for 'clm'"):
        gp.Backbone(random_model("qwen3"), byte_tokenizer(), "it")


def test_special_ids_are_looked_up_once_and_undo_no_truncation() -> None:
    tokenizer: Any = byte_tokenizer()
    special = SpecialIds.of(tokenizer)
    tokenizer("a long text", truncation=True, max_length=4)
    assert SpecialIds.of(tokenizer) == special
    assert tokenizer.backend_tokenizer.truncation is not None, "of another thread that encodes meanwhile"


def test_parts_of_a_batch_make_the_whole() -> None:
    rows = [np.array([*range(5, 5 + length), 2], dtype=np.int64) for length in (9, 4, 12)]
    batch = token_batch(rows, backbone_of("mt5").tokenizer, 0.4, (0,))
    parts: list[MaskedBatch] = [batch.part(slice(row, row + 1), torch.device("cpu")) for row in range(3)]
    assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
    assert [len(part.decoder_ids) for part in parts if part.decoder_ids is not None] == [1, 1, 1]
