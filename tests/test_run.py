"""The protocol on tiny backbones and toy text of our own: what it promises of every run, whatever the backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import glotprompt as gp
from glotprompt.data.characters import CharacterMap
from glotprompt.errors import ArtifactError, ConfigError, DataError
from glotprompt.methods import METHODS
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.protocol import run_stage1
from glotprompt.records import LabelPrior
from glotprompt.spec import done_or_train
from glotprompt.stages import stage1_objectives
from glotprompt.stages.stage1 import Stage1
from glotprompt.stages.stage2_data import Stage2
from glotprompt.training.objectives.inputs import halves, masking_corpus
from glotprompt.training.objectives.scoring import evaluation_batches, score_masked_tokens

from .toys import QUIET, SOURCE, TASK, TOY, TRANSLATIONS, topics

Make = Callable[[str], gp.Backbone]
PAIRS = gp.Task("pair", "{premise} ? {mask} , {hypothesis}", {"same": "Yes", "other": "No"})
ADAPT = gp.AdaptConfig(
    prompt_length=4,
    steps=8,
    batch_size=8,
    max_length=16,
    learning_rate=1.0,
    init_std=0.5,
    eval_every=4,
    held_out_share=0.2,
)
TUNE = gp.TuneConfig(
    epochs=4, batch_size=8, max_length=24, learning_rate=1.0, init_std=0.5, clip_norm=100, prompt_length=4
)


def pairs(count: int = 12) -> list[gp.Example]:
    return [
        gp.Example.of((f"the day {i}", f"the {'day' if same else 'king'} {i}"), "same" if same else "other")
        for i in range(count)
        for same in (True, False)
    ]


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Make) -> gp.Backbone:
    return tiny_backbone("xlm-roberta")


def adapted(backbone: gp.Backbone, target: Sequence[str], source: Sequence[str], **settings: Any) -> gp.LanguagePrompt:
    made = gp.adapt(backbone, target, source, "xxx", ADAPT.replace(**settings), QUIET)
    assert isinstance(made, gp.LanguagePrompt)
    return made


def tuned(backbone: gp.Backbone, prompt: gp.LanguagePrompt | None = None, **settings: Any) -> gp.PromptClassifier:
    return gp.tune(backbone, prompt, topics(), TASK, TUNE.replace(**settings), QUIET)


@pytest.fixture(scope="module")
def prompt(backbone: gp.Backbone) -> gp.LanguagePrompt:
    return adapted(backbone, TOY, SOURCE)


@pytest.fixture(scope="module")
def classifier(backbone: gp.Backbone, prompt: gp.LanguagePrompt) -> gp.PromptClassifier:
    made = gp.tune(backbone, prompt, topics(), TASK, TUNE, QUIET, dev=topics())
    assert made.training.best_step > 0, "the start is the best: the tests below would prove little"
    return made


# --- one text


def test_one_text_in_many_rows_is_said_to_be_one(backbone: gp.Backbone) -> None:
    with pytest.raises(DataError, match="the target text has 16 lines, 1 different text; stage 1 needs"):
        adapted(backbone, ["the king"] * 16, SOURCE)
    with pytest.raises(DataError, match="16 labelled examples, 1 different text: too few"):
        gp.tune(backbone, None, [gp.Example.of("the king", "sports")] * 16, TASK, TUNE, QUIET)
    with pytest.raises(DataError, match=r"label 'law', which task 'topic' does not know.* Give a task with"):
        gp.tune(backbone, None, [gp.Example.of("the king", "law")], TASK, TUNE, QUIET)


# --- label words of several tokens


@pytest.mark.slow
@pytest.mark.parametrize("loss_over", ["labels", "vocabulary"])
def test_label_words_of_several_tokens_from_tune_to_a_file(
    backbone: gp.Backbone, prompt: gp.LanguagePrompt, tmp_path: Path, loss_over: Any
) -> None:
    task = gp.Task("several", TASK.template, {"health": "Health", "sports": "bad Sports", "culture": "Cultured"})
    made = gp.tune(backbone, prompt, topics(), task, TUNE.replace(loss_over=loss_over), QUIET, dev=topics())
    losses = [loss for _, loss in made.training.to_json()["losses"]]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    assert gp.evaluate(made, topics()).accuracy == pytest.approx(made.training.dev_accuracy)
    texts = [example.fields["text"] for example in topics()]
    opened = gp.PromptClassifier.load(made.save(tmp_path / "c.safetensors"), backbone)
    assert opened.predict(texts) == made.predict(texts)
    even = np.mean([list(one.scores.values()) for one in made.with_label_prior(texts).predict(texts)], axis=0)
    assert even == pytest.approx(1 / 3, abs=1e-3)


# --- the promise

PROMISED: list[str] = vars(gp)["__all__"]


def test_every_promised_name_is_there() -> None:
    for name in PROMISED:
        assert getattr(gp, name) is not None
    assert sorted(PROMISED) == sorted(set(PROMISED))
    with pytest.raises(AttributeError, match="attribute adpat"):
        _ = gp.adpat  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "name",
    [
        "Backbone.load", "adapt", "AdaptConfig", "tune", "TuneConfig", "evaluate", "PromptClassifier.predict",
        "LanguagePrompt.save", "LanguagePrompt.load", "PromptClassifier.save", "PromptClassifier.load", "Prediction",
        "Task.load", "read_examples", "read_texts",
    ],
)  # fmt: skip
def test_the_public_names_of_the_design(name: str) -> None:
    """What docs/design.md calls stable."""
    found: Any = gp
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)
    assert name.split(".")[0] in PROMISED


# --- stage 1


@pytest.mark.parametrize("kind", ["xlm-roberta", "bert", "modernbert"])
def test_stage_1_lowers_the_loss_and_leaves_the_model_alone(own_backbone: Make, kind: str) -> None:
    backbone = own_backbone(kind)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    metadata = adapted(backbone, TOY, SOURCE).training.to_json()
    assert metadata["held_out_after"]["loss"] < metadata["held_out_before"]["loss"] - 1
    assert metadata["held_out_after"]["loss"] < metadata["evaluations"][0][1]["held_out_loss"] - 1
    losses = [loss for _, loss in metadata["losses"]]
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.5
    for name, value in backbone.model.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} has moved"
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


def test_what_stage_1_says_of_itself_is_true(backbone: gp.Backbone, prompt: gp.LanguagePrompt) -> None:
    metadata = prompt.training.to_json()
    assert prompt.key_values.shape == (3, 2, 4, 4, 12)
    assert prompt.key_values.dtype == torch.float32
    assert not prompt.key_values.requires_grad
    assert prompt.prompt_length == 4
    assert prompt.language == "xxx"
    assert prompt.backbone == backbone.reference
    assert metadata["trained_parameters"] == prompt.key_values.numel() == 3 * 2 * 4 * 4 * 12
    assert metadata["config"] == ADAPT.model_dump(mode="json")
    assert (metadata["target_lines"], metadata["source_lines"]) == (len(TOY), len(SOURCE))
    assert metadata["target_sequences"] == metadata["source_sequences"], "equal amounts"
    assert metadata["steps"] == 8
    assert metadata["tokens"] == 8 * 8 * 16
    assert metadata["best_step"] in (4, 8), "the start is not the best, or the tests below prove little"
    assert metadata["held_out_before"]["num_masked"] == metadata["held_out_after"]["num_masked"] > 0
    assert metadata["precision"] == "fp32"
    assert metadata["seconds"] > 0
    assert metadata["peak_memory_bytes"] > 0


def test_one_half_of_the_held_out_text_chooses_and_the_other_reports(
    backbone: gp.Backbone, prompt: gp.LanguagePrompt
) -> None:
    seen = dict(prompt.training.to_json()["evaluations"])
    best = min(seen.values(), key=lambda metadata: metadata["held_out_loss"])
    assert seen[prompt.training.best_step] == best
    _, parts, _ = masking_corpus(backbone, TOY, SOURCE, ADAPT)
    loss = [
        score_masked_tokens(backbone, evaluation_batches(half, backbone, 0.15, 32), prompt.prefix(backbone)).loss
        for half in parts
    ]
    assert loss[0] == pytest.approx(best["held_out_loss"], rel=1e-6)
    assert loss[1] == pytest.approx(prompt.training.held_out_after.loss, rel=1e-6)
    assert loss[0] != pytest.approx(loss[1], rel=1e-3)
    assert prompt.training.improved


def test_held_out_lines_in_halves() -> None:
    one, other = halves(["a", "b", "a ", "c", "b", "d"])
    assert (one, other) == (["a", "a ", "c"], ["b", "b", "d"])
    assert halves(["a", "a"]) == (["a", "a"], ["a", "a"]), "nothing can be split"


def test_a_stage_1_that_is_no_gain_says_so_and_gives_its_best_step(backbone: gp.Backbone) -> None:
    worse = adapted(backbone, TOY, SOURCE, steps=2, eval_every=1, learning_rate=1e-6, init_std=3.0)
    assert not worse.training.improved
    assert worse.training.held_out_after.loss >= worse.training.held_out_before.loss
    assert worse.key_values.shape == (3, 2, 4, 4, 12)


@pytest.mark.slow
def test_stage_1_same_seed_same_bits(backbone: gp.Backbone, prompt: gp.LanguagePrompt) -> None:
    torch.manual_seed(99)
    np.random.seed(99)
    again = adapted(backbone, TOY, SOURCE)
    assert torch.equal(again.key_values, prompt.key_values)
    other = adapted(backbone, TOY, SOURCE, seed=1)
    assert not torch.equal(other.key_values, prompt.key_values)


@pytest.mark.slow
def test_micro_batches_and_recomputation_change_no_more_than_rounding(
    backbone: gp.Backbone, prompt: gp.LanguagePrompt
) -> None:
    runtime = gp.RuntimeConfig(progress=False, micro_batch_size=3, gradient_checkpointing=True, eval_batch_size=5)
    again = gp.adapt(backbone, TOY, SOURCE, "xxx", ADAPT, runtime)
    # One gradient is compared closely in tests/training/test_loop.py; AdamW's first steps make much of small ones.
    losses = [[loss for _, loss in made.training.losses] for made in (again, prompt)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert again.training.tokens == prompt.training.tokens
    assert not any(module.training for module in backbone.model.modules()), "recomputation is taken back"


@pytest.mark.parametrize("packing", ["full", "none"])
@pytest.mark.parametrize("share", [0, 1])
def test_one_language_alone(backbone: gp.Backbone, share: int, packing: str) -> None:
    made = adapted(backbone, TOY, SOURCE if share else [], source_share=share, packing=packing, steps=2, eval_every=1)
    assert made.training.steps == 2


@pytest.mark.slow
def test_shifted_positions_are_another_prompt(backbone: gp.Backbone, prompt: gp.LanguagePrompt, tmp_path: Path) -> None:
    shifted = adapted(backbone, TOY, SOURCE, positions="shifted")
    assert (prompt.positions, shifted.positions) == ("plain", "shifted")
    assert not torch.equal(shifted.key_values, prompt.key_values)
    assert gp.LanguagePrompt.load(shifted.save(tmp_path / "p")).positions == "shifted"
    classifier = tuned(backbone, shifted, epochs=1)
    assert classifier.prompt is not None
    assert classifier.prompt.positions == "shifted"
    unmoved = SoftPrompt(classifier.key_values, positions="plain")
    plain = replace(classifier, body=unmoved).log_probabilities(["the day"])
    moved = SoftPrompt(classifier.key_values, positions="shifted")
    assert np.array_equal(
        replace(classifier, body=moved).log_probabilities(["the day"]), classifier.log_probabilities(["the day"])
    )
    assert not np.allclose(plain, classifier.log_probabilities(["the day"]), atol=1e-4)


@pytest.mark.slow
def test_automatic_learning_rate(backbone: gp.Backbone) -> None:
    rates = (1e-7, 5e-1, 1e-5)
    settings: dict[str, Any] = {"eval_every": 4, "steps": 12}
    found = adapted(backbone, TOY, SOURCE, learning_rate="auto", auto_rates=rates, auto_steps=12, **settings)
    assert found.training.learning_rate == 5e-1
    tried = found.training.rates_tried
    assert [(trial.rate, trial.steps) for trial in tried] == [
        (1e-7, 4), (1e-5, 4), (5e-1, 4), (5e-1, 6), (tried[4].rate, 6)
    ]  # fmt: skip
    alone = adapted(backbone, TOY, SOURCE, learning_rate=5e-1, **{**settings, "steps": 6})
    assert tried[3].loss == alone.training.evaluations[-1][1]["held_out_loss"], "a trial is a run of its own"
    whole = adapted(backbone, TOY, SOURCE, learning_rate=5e-1, **settings)
    assert torch.equal(found.key_values, whole.key_values), "the trials leave no trace"


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, 9, 19])
def test_interrupted_trials_of_rates_go_on(
    backbone: gp.Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    config = ADAPT.replace(learning_rate="auto", auto_rates=(1e-3, 1e-1, 5e-1), auto_steps=9, steps=4)
    whole = gp.adapt(backbone, TOY, SOURCE, "xxx", config, QUIET)
    runtime = QUIET.replace(checkpoint_dir=tmp_path, checkpoint_every=0)
    steps = 0
    losses = stage1_objectives.masked_token_losses

    def counted(*words: Any) -> Any:
        nonlocal steps
        if steps == stop:
            steps += 1
            raise KeyboardInterrupt
        steps += 1
        return losses(*words)

    monkeypatch.setattr(stage1_objectives, "masked_token_losses", counted)
    with pytest.raises(KeyboardInterrupt):
        gp.adapt(backbone, TOY, SOURCE, "xxx", config, runtime)
    again = gp.adapt(backbone, TOY, SOURCE, "xxx", config, runtime)
    assert isinstance(whole, gp.LanguagePrompt)
    assert isinstance(again, gp.LanguagePrompt)
    assert torch.equal(again.key_values, whole.key_values)
    assert again.training.rates_tried == whole.training.rates_tried
    assert steps == 3 * 3 + 2 * 4 + 4 + 1, "no step is made twice"
    files = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    assert len(files) == 6
    assert files[-2].stat().st_size < backbone.num_layers * 2 * 4 * backbone.hidden_size * 4, "trials keep no values"
    assert again.training.seconds > 0


@pytest.mark.parametrize(
    ("target", "source", "settings", "says"),
    [
        ([], ["the day"], {}, "0 line"),
        (["a day"], ["the day"], {}, "1 line"),
        (["a day", "a  day "], ["the day"], {}, "at least two different"),
        (["a day", "a king"], [], {}, "no source-language text"),
        (["a day", "a king"], ["", " "], {}, "no source-language text"),
        (["a day", ""], ["the day"], {}, "text"),
    ],
)
def test_too_little_text(
    backbone: gp.Backbone, target: list[str], source: list[str], settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        adapted(backbone, target, source, **settings)


def test_two_lines_are_enough(backbone: gp.Backbone) -> None:
    assert adapted(backbone, ["the day", "a king"], ["good water"], steps=1).training.target_sequences == 1


def test_longer_than_the_model_reads(backbone: gp.Backbone, prompt: gp.LanguagePrompt) -> None:
    assert backbone.max_positions == 512
    with pytest.raises(ConfigError, match=r"max_length 513 is more than this model reads \(512 tokens\)"):
        adapted(backbone, TOY, SOURCE, max_length=513)
    with pytest.raises(ConfigError, match=r"\(508 tokens\)"):
        adapted(backbone, TOY, SOURCE, max_length=509, positions="shifted")
    with pytest.raises(ConfigError, match=r"max_length 513 is more than this model reads \(512 tokens\)"):
        tuned(backbone, None, max_length=513)
    with pytest.raises(ConfigError, match=r"\(508 tokens\)"):
        tuned(backbone, replace(prompt, positions="shifted"), max_length=509)
    long = [(f"{source} {'day ' * 600}", f"{target} {'king ' * 600}") for source, target in TRANSLATIONS]
    with pytest.raises(ConfigError, match="max_length 600 is more than this model reads"):
        gp.adapt(backbone, language="xxx", parallel=long, config=gp.AdaptConfig(max_length=600), runtime=QUIET)


# --- stage 2


def test_fine_tuning_starts_from_weights_in_the_precision_of_its_run(
    own_backbone: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run gets the precision that it was started in, whatever the machine would choose now."""
    config = gp.TuneConfig(method="fine-tuning", epochs=2, batch_size=8, max_length=16, learning_rate=1e-3)
    started, resumed = own_backbone("xlm-roberta"), own_backbone("xlm-roberta")
    started.use_precision("bf16")
    expected = gp.tune(started, None, topics(4), TASK, config, QUIET).training.losses
    monkeypatch.setattr("glotprompt.stages.stage2.same_precision", lambda backbone, _: backbone.use_precision("bf16"))
    assert gp.tune(resumed, None, topics(4), TASK, config, QUIET).training.losses == expected


@pytest.mark.slow
def test_stage_2_learns_the_task(backbone: gp.Backbone) -> None:
    config = TUNE.replace(epochs=12, prompt_length=8)
    made = gp.tune(backbone, None, topics(), TASK, config, QUIET, dev=topics(20)[36:])
    losses = [loss for _, loss in made.training.to_json()["losses"]]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
    assert made.training.dev_accuracy >= 60
    assert gp.evaluate(made, topics()).accuracy > 60
    assert made.language == "und"
    assert gp.tune(backbone, None, topics(), TASK, TUNE.replace(epochs=1), QUIET, language="lug").language == "lug"


@pytest.mark.slow
@pytest.mark.parametrize("loss_over", ["labels", "vocabulary"])
def test_both_losses_fall(backbone: gp.Backbone, loss_over: str) -> None:
    losses = [loss for _, loss in tuned(backbone, loss_over=loss_over, epochs=6).training.to_json()["losses"]]
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - (0.4 if loss_over == "vocabulary" else 0.05)


def changed_layers(classifier: gp.PromptClassifier, prompt: gp.LanguagePrompt) -> list[bool]:
    pairs = zip(classifier.key_values, prompt.key_values, strict=True)
    return [not torch.equal(now, before) for now, before in pairs]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"top_k_layers": 1}, [False, False, True]),
        ({"top_k_layers": 2}, [False, True, True]),
        ({"top_k_layers": 3}, [True, True, True]),
        ({"bottom_k_layers": 1}, [True, False, False]),
        ({"bottom_k_layers": 2}, [True, True, False]),
        ({}, [False, True, True]),
    ],
)
def test_only_the_chosen_layers_are_trained(
    backbone: gp.Backbone, prompt: gp.LanguagePrompt, settings: dict[str, int], changed: list[bool]
) -> None:
    made = gp.tune(backbone, prompt, topics(), TASK, TUNE.replace(**settings), QUIET, dev=topics())
    assert made.training.best_step > 0, "the start was the best: nothing is seen"
    assert changed_layers(made, prompt) == changed
    assert made.training.trained_parameters == sum(changed) * 2 * 4 * 4 * 12
    assert made.training.trained_layers is not None
    first, stop = made.training.trained_layers
    assert [first <= layer < stop for layer in range(3)] == changed


@pytest.mark.parametrize(
    ("layers", "from_prompt", "trained"), [(24, True, 18), (12, True, 9), (3, True, 2), (3, False, 3)]
)
def test_three_quarters_of_the_layers_by_default(
    backbone: gp.Backbone, layers: int, from_prompt: bool, trained: int
) -> None:
    class Deep:
        num_layers = layers
        name, device = "deep", torch.device("cpu")

        def prompt_shape(self, prompt_length: int) -> tuple[int, int, int, int, int]:
            return (layers, 2, 2, prompt_length, 3)

    deep: Any = Deep()
    given = {"language": SoftPrompt(torch.zeros(layers, 2, 2, 4, 3))} if from_prompt else {}
    method = METHODS["soft-prompt" if from_prompt else "prompt-tuning"]
    start = method.begin_tune(deep, given, gp.TuneConfig())
    assert isinstance(start, SoftPrompt)
    assert start.trained_layers == range(layers - trained, layers)
    assert start.key_values().shape[3] == (4 if from_prompt else 32)


@pytest.mark.parametrize("settings", [{"top_k_layers": 0}, {"bottom_k_layers": 0}])
def test_no_layer_at_all(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(settings))}: .* greater than or equal to 1, not 0"):
        gp.TuneConfig(**settings)


@pytest.mark.parametrize("settings", [{"top_k_layers": 4}, {"bottom_k_layers": 4}])
def test_layers_that_the_model_does_not_have(backbone: gp.Backbone, settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(settings))} is .*; this model has 3 layers, give 1 to 3"):
        tuned(backbone, None, **settings)


def test_a_prompt_of_another_shape(backbone: gp.Backbone, prompt: gp.LanguagePrompt) -> None:
    with pytest.raises(gp.UserError, match="the backbone needs"):
        tuned(backbone, replace(prompt, key_values=prompt.key_values[:2]))


@pytest.mark.slow
def test_stage_2_same_seed_same_bits(
    backbone: gp.Backbone, prompt: gp.LanguagePrompt, classifier: gp.PromptClassifier
) -> None:
    torch.manual_seed(99)
    again = gp.tune(backbone, prompt, topics(), TASK, TUNE, QUIET, dev=topics())
    assert torch.equal(again.key_values, classifier.key_values)
    first, second = (tuned(backbone, None, seed=seed, epochs=1) for seed in (0, 1))
    assert not torch.equal(first.key_values, second.key_values)


@pytest.mark.slow
def test_stage_2_leaves_model_and_prompt_alone(own_backbone: Make, prompt: gp.LanguagePrompt) -> None:
    backbone = own_backbone("xlm-roberta")
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    key_values = prompt.key_values.clone()
    tuned(backbone, prompt, epochs=2)
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())
    assert torch.equal(prompt.key_values, key_values)


def test_dev_examples_given_or_held_out(backbone: gp.Backbone) -> None:
    held_out = tuned(backbone, None, epochs=1, dev_share=0.25)
    assert (held_out.training.examples, held_out.training.dev_examples) == (27, 9)
    given = gp.tune(backbone, None, topics(), TASK, TUNE.replace(epochs=1), QUIET, dev=topics(3))
    assert (given.training.examples, given.training.dev_examples) == (36, 9)
    assert given.training.steps == 5, "the last batch is a smaller one"


@pytest.mark.slow
def test_the_dev_accuracy_is_that_of_what_was_kept(backbone: gp.Backbone) -> None:
    dev = topics(20)[30:]
    made = gp.tune(backbone, None, topics(), TASK, TUNE.replace(epochs=6), QUIET, dev=dev)
    assert gp.evaluate(made, dev).accuracy == pytest.approx(made.training.dev_accuracy)
    assert made.training.dev_accuracy == max(metadata["dev_accuracy"] for _, metadata in made.training.evaluations)


def test_an_epoch_without_a_loss_is_neither_kept_nor_reported(
    backbone: gp.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = iter([(40.0, 1.0), (90.0, float("nan")), (50.0, 1.0)])
    monkeypatch.setattr("glotprompt.stages.stage2.accuracy_and_loss", lambda *_: next(judged))
    made = gp.tune(backbone, None, topics(2), TASK, TUNE.replace(epochs=2), QUIET, dev=topics(2))
    assert made.training.dev_accuracy == 50


def test_few_shots(backbone: gp.Backbone) -> None:
    made = gp.tune(backbone, None, topics(), TASK, TUNE.replace(shots_per_class=2, epochs=1), QUIET, dev=topics(2))
    assert made.training.examples == 6
    with pytest.raises(DataError, match="99 per class were asked for"):
        tuned(backbone, None, shots_per_class=99)


@pytest.mark.parametrize("label", ["helth", None, ""])
@pytest.mark.parametrize("where", ["train", "dev"])
def test_a_label_that_the_task_lacks(backbone: gp.Backbone, label: str | None, where: str) -> None:
    bad = [*topics(2), gp.Example.of("the day", label)]
    train, dev = (bad, None) if where == "train" else (topics(2), bad)
    with pytest.raises(
        DataError, match=rf"label {label!r}, which task 'topic' does not know; it has health, sports, culture"
    ):
        gp.tune(backbone, None, train, TASK, TUNE, QUIET, dev=dev)


@pytest.mark.parametrize("examples", [[], topics(1)[:1]])
def test_too_few_examples(backbone: gp.Backbone, examples: list[gp.Example]) -> None:
    with pytest.raises(DataError, match="too few"):
        gp.tune(backbone, None, examples, TASK, TUNE, QUIET)


def test_the_way_back_ends_at_the_lowest_trained_layer(
    backbone: gp.Backbone, prompt: gp.LanguagePrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies below need not be remembered: that is where top K saves time and memory."""
    remembered: list[list[bool]] = []
    body: Any = backbone.model.base_model
    layers = body.encoder.layer
    hooks = [
        layer.output.LayerNorm.register_forward_hook(
            lambda _, __, output, i=i: remembered[-1].append(bool(output.requires_grad))
        )
        for i, layer in enumerate(layers)
    ]
    original = backbone.states_at

    def watched(*arguments: Any) -> Any:
        remembered.append([])
        return original(*arguments)

    monkeypatch.setattr(backbone, "states_at", watched)
    config = TUNE.replace(top_k_layers=1, epochs=1)
    gp.tune(backbone, prompt, topics(), TASK, config, QUIET.replace(state_cache=0))
    for hook in hooks:
        hook.remove()
    in_training = [found for found in remembered if any(found)]
    assert in_training
    assert all(found == [False, False, True] for found in in_training)


# --- checkpoints


def test_a_run_s_identity_moves_with_whatever_moves_its_numbers(
    backbone: gp.Backbone, prompt: gp.LanguagePrompt
) -> None:
    def stage1(*words: Any, **named: Any) -> str:
        return Stage1.of(backbone, *words, **named).spec(backbone).identity

    def stage2(adapted: Any, examples: Any, task: gp.Task, config: gp.TuneConfig, **named: Any) -> str:
        return Stage2.of(backbone, adapted, examples, task, config, **named).spec(backbone).identity

    lines, pairs, mapped = ["the day", "a king", "good water"], TRANSLATIONS[:8], CharacterMap.fitted({"k": "c"}, [])
    adapts = [
        stage1(lines, lines, "xxx", ADAPT), stage1(lines[:2], lines, "xxx", ADAPT),
        stage1(lines, lines[:2], "xxx", ADAPT), stage1(lines, lines, "yyy", ADAPT),
        stage1(lines, lines, "xxx", ADAPT.replace(seed=1)), stage1(lines, lines, "xxx", ADAPT, mapped),
        stage1(lines, lines, "xxx", ADAPT.replace(prompt_length=4), initial=prompt),
        stage1((), (), "xxx", ADAPT, parallel=pairs), stage1((), (), "xxx", ADAPT, parallel=pairs[:7]),
        stage1((), (), "xxx", ADAPT, parallel=[(target, source) for source, target in pairs]),
        stage1((), (), "yyy", ADAPT, parallel=pairs), stage1((), (), "xxx", ADAPT.replace(seed=1), parallel=pairs),
    ]  # fmt: skip
    moved = replace(prompt, key_values=prompt.key_values + 1)
    other = gp.Task("topic", "{text} {mask}", TASK.verbalizer)
    turned = gp.Task("topic", TASK.template, dict(reversed(TASK.verbalizer.items())))
    tunes = [
        stage2(prompt, topics(), TASK, TUNE), stage2(None, topics(), TASK, TUNE), stage2(moved, topics(), TASK, TUNE),
        stage2(replace(prompt, positions="shifted"), topics(), TASK, TUNE), stage2(prompt, topics(9), TASK, TUNE),
        stage2(prompt, topics(), other, TUNE), stage2(prompt, topics(), turned, TUNE),
        stage2(prompt, topics(), TASK, TUNE.replace(epochs=3)), stage2(prompt, topics(), TASK, TUNE, dev=topics(2)),
        stage2(None, topics(), TASK, TUNE, language="yyy"),
    ]  # fmt: skip
    assert len({*adapts, *tunes}) == len(adapts) + len(tunes)
    unread = stage1(lines, lines, "xxx", ADAPT.replace(lora_rank=2, adapter_reduction=4))
    assert unread == adapts[0], "settings that the method does not read"
    alone = ADAPT.replace(source_share=0.0)
    assert stage1(lines, lines, "xxx", alone) == stage1(lines, lines[:1], "xxx", alone), "text that is not read"
    renamed = gp.Task("renamed", TASK.template, TASK.verbalizer)
    assert stage2(prompt, topics(), renamed, TUNE) == tunes[0], "a task's name"
    dev_share = TUNE.replace(dev_share=0.3)
    assert stage2(prompt, topics(), TASK, dev_share, dev=topics(2)) == tunes[8], "dev examples are given"


def test_a_run_is_done_once(backbone: gp.Backbone, tmp_path: Path) -> None:
    stage1 = Stage1.of(backbone, TOY, SOURCE, "xxx", ADAPT.replace(steps=2))
    spec, output, seen = stage1.spec(backbone), tmp_path / "p.safetensors", list[set[str]]()

    def train(folder: Path) -> Any:
        runtime = gp.RuntimeConfig(checkpoint_dir=folder, checkpoint_every=0, progress=False)
        made = run_stage1(backbone, stage1, runtime)
        seen.append({path.name for path in folder.iterdir()})
        return made

    def load(path: Path) -> Any:
        return gp.load_adapted(path, backbone)

    made, was_there = done_or_train(spec, output, load, train)
    assert not was_there
    assert f"{spec.identity}.checkpoint" in seen[0], "its checkpoint has the run's name"
    assert [path.name for path in tmp_path.iterdir()] == [output.name], "checkpoints and lock are gone"
    again, was_there = done_or_train(spec, output, load, train)
    assert was_there
    assert torch.equal(again.key_values, made.key_values)
    output.write_bytes(b"damaged")
    assert not done_or_train(spec, output, load, train)[1]
    assert not done_or_train(replace(spec, language="yyy"), output, load, train)[1], "another run's file"
    assert len(seen) == 3


@pytest.mark.slow
def test_a_result_that_was_not_saved_is_not_trained_again(
    backbone: gp.Backbone, prompt: gp.LanguagePrompt, classifier: gp.PromptClassifier,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Killed between the last step and the save: the checkpoint of the last step is all there is."""
    runtime = gp.RuntimeConfig(checkpoint_dir=tmp_path, checkpoint_every=1000, progress=False)
    gp.adapt(backbone, TOY, SOURCE, "xxx", ADAPT, runtime)
    gp.tune(backbone, prompt, topics(), TASK, TUNE, runtime, dev=topics())

    def train(*_: object) -> None:
        raise AssertionError("a step was trained again")

    monkeypatch.setattr("glotprompt.training.loop._Run.update", train)
    again: Any = gp.adapt(backbone, TOY, SOURCE, "xxx", ADAPT, runtime)
    assert torch.equal(again.key_values, prompt.key_values)
    both = gp.tune(backbone, prompt, topics(), TASK, TUNE, runtime, dev=topics())
    assert torch.equal(both.key_values, classifier.key_values)


# --- predict and evaluate


def test_predict_and_evaluate_agree(classifier: gp.PromptClassifier) -> None:
    examples = topics(5)
    predictions = classifier.predict([example.fields["text"] for example in examples])
    report = gp.evaluate(classifier, examples)
    assert report.predictions == [prediction.label for prediction in predictions]
    right = [p.label == example.label for p, example in zip(predictions, examples, strict=True)]
    assert report.accuracy == pytest.approx(100 * np.mean(right))
    assert report.num_examples == 15
    assert classifier.predict(examples) == predictions, "an example's label is not looked at"
    for prediction in predictions:
        assert list(prediction.scores) == list(TASK.labels)
        assert sum(prediction.scores.values()) == pytest.approx(1)
        assert prediction.label == max(prediction.scores, key=lambda name: prediction.scores[name])


def test_predictions_do_not_depend_on_their_neighbours(classifier: gp.PromptClassifier) -> None:
    texts = [f"{'the king ' * (i % 7)}day {i}" for i in range(20)]
    together = classifier.log_probabilities(texts, batch_size=7)
    alone = np.concatenate([classifier.log_probabilities([text]) for text in texts])
    assert np.allclose(together, alone, atol=1e-4)
    assert classifier.predict([]) == []


def test_labels_restrict_the_choice(classifier: gp.PromptClassifier) -> None:
    examples = topics(5)
    for prediction in classifier.predict(examples, labels=["culture", "health"]):
        assert prediction.label != "sports"
        assert prediction.scores["sports"] == 0
        assert sum(prediction.scores.values()) == pytest.approx(1)
    assert "sports" not in gp.evaluate(classifier, examples, labels=["culture", "health"]).predictions
    with pytest.raises(ConfigError, match=r"no label 'sport'; it has health, sports, culture. Did you mean 'sports'\?"):
        classifier.predict(examples, labels=["sport"])
    with pytest.raises(ConfigError, match="no label to choose from; give some of health, sports, culture"):
        classifier.predict(examples, labels=[])


def test_pairs(backbone: gp.Backbone, tmp_path: Path) -> None:
    made = gp.tune(backbone, None, pairs(), PAIRS, TUNE.replace(epochs=2), QUIET)
    predictions = made.predict([("the day 1", "the king 1"), ("the day 2", "the day 2")])
    assert [set(prediction.scores) for prediction in predictions] == [{"same", "other"}] * 2
    assert gp.evaluate(made, pairs(2)).num_examples == 4
    swapped = made.predict([("the king 1", "the day 1")])[0]
    assert swapped.scores != predictions[0].scores
    with pytest.raises(ConfigError, match="needs premise, hypothesis, the example has text"):
        made.predict(["the day"])


def test_a_pair_for_a_task_with_one_text(classifier: gp.PromptClassifier) -> None:
    with pytest.raises(ConfigError, match="needs text, the example has hypothesis, premise"):
        classifier.predict([("the day", "the king")])


def test_evaluate_needs_labels_and_examples(classifier: gp.PromptClassifier) -> None:
    with pytest.raises(DataError, match="has no label; evaluate needs them, predict does not"):
        gp.evaluate(classifier, [gp.Example.of("the day")])
    with pytest.raises(DataError, match="no example to evaluate"):
        gp.evaluate(classifier, [])


# --- offsets


def mean_scores(classifier: gp.PromptClassifier, texts: list[str]) -> list[float]:
    rows = [list(prediction.scores.values()) for prediction in classifier.predict(texts)]
    return np.mean(rows, axis=0).tolist()


def test_offsets_meet_the_prior_and_are_recorded(classifier: gp.PromptClassifier, english_lines: list[str]) -> None:
    texts = english_lines[:20]
    uniform = classifier.with_label_prior(texts)
    assert mean_scores(uniform, texts) == pytest.approx([1 / 3] * 3, abs=1e-4)
    assert uniform.training.label_prior == LabelPrior(prior=dict.fromkeys(TASK.labels, 1.0), num_texts=20)
    assert classifier.offsets is None, "the first one is as it was"
    assert classifier.training.label_prior is None
    half = classifier.with_label_prior(texts, {"sports": 3.0, "culture": 1.0})
    assert mean_scores(half, texts) == pytest.approx([0, 0.75, 0.25], abs=1e-4)
    with pytest.raises(ConfigError, match=r"Did you mean 'culture'\?"):
        classifier.with_label_prior(texts, {"cultur": 1.0})
    with pytest.raises(DataError, match="at least one unlabelled text"):
        classifier.with_label_prior([])


def test_evaluate_fits_offsets_on_other_text(
    classifier: gp.PromptClassifier, english_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = gp.evaluate(classifier, topics(4), prior_text=english_lines[:20], label_prior={"health": 1.0})
    assert set(found.predictions) == {"health"}
    assert found.collapsed_label == "health"
    expected = gp.evaluate(classifier.with_label_prior(english_lines[:20]), topics(4))
    assert gp.evaluate(classifier, topics(4), prior_text=english_lines[:20]) == expected
    sizes, read = list[int](), gp.PromptClassifier.log_probabilities

    def sized(self: gp.PromptClassifier, inputs: Any, batch_size: int = 32) -> Any:
        sizes.append(batch_size)
        return read(self, inputs, batch_size)

    monkeypatch.setattr(gp.PromptClassifier, "log_probabilities", sized)
    gp.evaluate(classifier, topics(4), prior_text=english_lines[:20], batch_size=3)
    assert sizes == [3, 3]
    with pytest.raises(ConfigError, match="label_prior needs prior_text"):
        gp.evaluate(classifier, topics(4), label_prior={"health": 1.0})


# --- saved and loaded


@pytest.mark.slow
def test_a_prompt_saved_and_loaded_is_the_same(
    backbone: gp.Backbone, prompt: gp.LanguagePrompt, classifier: gp.PromptClassifier, tmp_path: Path
) -> None:
    again = gp.LanguagePrompt.load(prompt.save(tmp_path / "p.safetensors"), backbone)
    assert torch.equal(again.key_values, prompt.key_values)
    assert (again.language, again.backbone, again.positions) == ("xxx", prompt.backbone, "plain")
    assert again.training.held_out_after == prompt.training.held_out_after
    retuned = gp.tune(backbone, again, topics(), TASK, TUNE, QUIET, dev=topics())
    assert torch.equal(retuned.key_values, classifier.key_values)
    assert again.save(tmp_path / "q").stat().st_size == (tmp_path / "p.safetensors").stat().st_size


@pytest.mark.parametrize("offsets", [False, True])
def test_a_classifier_saved_and_loaded_predicts_the_same(
    backbone: gp.Backbone, classifier: gp.PromptClassifier, english_lines: list[str], tmp_path: Path, offsets: bool
) -> None:
    saved = classifier.with_label_prior(english_lines[:9], {"sports": 1.0, "culture": 2.0}) if offsets else classifier
    again = gp.PromptClassifier.load(saved.save(tmp_path / "c.safetensors"), backbone)
    assert again.predict(english_lines) == saved.predict(english_lines)
    assert again.offsets == saved.offsets
    assert (again.offsets is not None) == offsets
    assert (again.task, again.language, again.max_length) == (TASK, "xxx", 24)
    assert again.task.labels == saved.task.labels == ("health", "sports", "culture"), "not in alphabetical order"
    assert again.report == saved.report


def test_a_classifier_shortens_texts_as_in_training(classifier: gp.PromptClassifier) -> None:
    assert classifier.max_length == TUNE.max_length
    long = "the king " * 400
    assert classifier.predict([long])[0].scores == pytest.approx(classifier.predict(["the king " * 300])[0].scores)


def test_another_backbone_is_refused(
    tiny_backbone: Make, prompt: gp.LanguagePrompt, classifier: gp.PromptClassifier, tmp_path: Path
) -> None:
    other = tiny_backbone("bert")
    with pytest.raises(ArtifactError, match="was made for 'tiny xlm-roberta'"):
        gp.PromptClassifier.load(classifier.save(tmp_path / "c"), other)
    with pytest.raises(ArtifactError, match="was made for 'tiny xlm-roberta'"):
        gp.LanguagePrompt.load(prompt.save(tmp_path / "p"), other)
    with pytest.raises(ArtifactError, match="is a classifier; expected a language prompt"):
        gp.LanguagePrompt.load(tmp_path / "c")
    with pytest.raises(ArtifactError, match="is a language prompt; expected a classifier"):
        gp.PromptClassifier.load(tmp_path / "p", other)
