"""What stage 1 starts from: noise, real tokens, saved prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import glotprompt as gp
from glotprompt.data.characters import CharacterMap, Rewriting
from glotprompt.errors import ConfigError, DataError
from glotprompt.model.modules.real_tokens import key_values_of_text
from glotprompt.stages.initial import Initial
from glotprompt.training.objectives.inputs import masking_corpus
from glotprompt.training.objectives.scoring import evaluation_batches, score_masked_tokens

from .toys import QUIET, SOURCE, TOY

Make = Callable[[str], gp.Backbone]
ADAPT = gp.AdaptConfig(
    steps=2, batch_size=8, max_length=16, learning_rate=1.0, init_std=0.5, eval_every=1, held_out_share=0.2
)


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Make) -> gp.Backbone:
    return tiny_backbone("xlm-roberta")


def adapted(backbone: gp.Backbone, initial: Initial | None = None, **settings: Any) -> gp.LanguagePrompt:
    made = gp.adapt(backbone, TOY, SOURCE, "xxx", ADAPT.replace(**settings), QUIET, initial=initial)
    assert isinstance(made, gp.LanguagePrompt)
    return made


@pytest.fixture(scope="module")
def two(backbone: gp.Backbone) -> tuple[gp.LanguagePrompt, gp.LanguagePrompt]:
    """Prompts of two languages, of length 4."""
    one, other = (adapted(backbone, prompt_length=4, seed=seed) for seed in (1, 2))
    return replace(one, language="aaa"), replace(other, language="bbb")


def first_loss(prompt: gp.LanguagePrompt) -> float:
    step, metadata = prompt.training.to_json()["evaluations"][0]
    assert step == 0
    return metadata["held_out_loss"]


def loss_of(backbone: gp.Backbone, key_values: Tensor, positions: Any = "plain") -> float:
    """The loss on held-out text behind these vectors."""
    _, (held_out, _), _ = masking_corpus(backbone, TOY, SOURCE, ADAPT)
    batches = evaluation_batches(held_out, backbone, ADAPT.mask_rate, QUIET.eval_batch_size)
    prompt = gp.LanguagePrompt(key_values, "xxx", {}, positions)
    return score_masked_tokens(backbone, batches, prompt.prefix(backbone)).loss


# --- a saved prompt, or several


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["plain", "shifted"])
def test_it_starts_with_the_prompt_itself(backbone: gp.Backbone, positions: Any) -> None:
    start = adapted(backbone, prompt_length=3, seed=3, positions=positions)
    made = adapted(backbone, start)
    assert first_loss(made) == loss_of(backbone, start.key_values, positions)
    assert abs(first_loss(made) - first_loss(adapted(backbone, prompt_length=3, positions=positions))) > 1e-2
    assert (made.prompt_length, made.positions) == (3, positions), "length and positions follow from the prompt"
    assert made.training.config["prompt_length"] == 3
    assert made.training.config["initialise"] == "prompt"
    assert made.training.to_json()["initial"][0]["language"] == "xxx"


@pytest.mark.slow
def test_it_starts_with_the_weighted_sum(backbone: gp.Backbone, two: tuple[gp.LanguagePrompt, ...]) -> None:
    one, other = two
    made = adapted(backbone, [(one, 0.25), (other, 0.75)])
    assert first_loss(made) == loss_of(backbone, 0.25 * one.key_values + 0.75 * other.key_values)
    found = made.training.initial
    assert [(one.language, one.weight) for one in found or ()] == [("aaa", 0.25), ("bbb", 0.75)]
    assert len({one.digest for one in found or ()}) == 2
    whole = adapted(backbone, [(one, 1.0)])
    assert torch.equal(whole.key_values, adapted(backbone, one).key_values)


def test_the_start_stays_as_it_was(backbone: gp.Backbone, two: tuple[gp.LanguagePrompt, ...]) -> None:
    before = two[0].key_values.clone()
    made = adapted(backbone, two[0], steps=1)
    assert torch.equal(two[0].key_values, before)
    assert not torch.equal(made.key_values, before)


def test_what_it_is_written_from_is_saved(
    backbone: gp.Backbone, two: tuple[gp.LanguagePrompt, ...], tmp_path: Path
) -> None:
    made = adapted(backbone, two[0])
    assert gp.LanguagePrompt.load(made.save(tmp_path / "p")).training.initial == made.training.initial
    assert adapted(backbone).training.initial is None


@pytest.mark.slow
def test_every_start_has_its_own_checkpoint(
    backbone: gp.Backbone, two: tuple[gp.LanguagePrompt, ...], tmp_path: Path
) -> None:
    """Else a run that was killed would be gone on with by one that starts elsewhere."""
    runtime = QUIET.replace(checkpoint_dir=tmp_path, checkpoint_every=0)
    nearly = replace(two[0], key_values=two[0].key_values + 1e-6)
    text = {"initialise": "text", "prompt_length": 4}
    starts: list[tuple[Initial | None, dict[str, Any]]] = [
        (two[0], {}), (nearly, {}), (list(zip(two, (0.5, 0.5), strict=True)), {}), (None, text), (None, {})
    ]  # fmt: skip
    files: list[set[Path]] = []
    made: list[Any] = []
    for initial, settings in starts:
        made.append(gp.adapt(backbone, TOY, SOURCE, "xxx", ADAPT.replace(**settings), runtime, initial=initial))
        files.append(set(tmp_path.iterdir()))
    assert [len(found) for found in files] == [1, 2, 3, 4, 5]
    again = gp.adapt(backbone, TOY, SOURCE, "xxx", ADAPT, runtime, initial=two[0])
    assert set(tmp_path.iterdir()) == files[-1], "the same words find their own"
    assert torch.equal(again.key_values, made[0].key_values)  # pyright: ignore[reportAttributeAccessIssue]


def test_other_methods_with_prompts_start_from_one_too(
    backbone: gp.Backbone, two: tuple[gp.LanguagePrompt, ...]
) -> None:
    for method in ("source-prompt", "soft-prompt+task-adapter"):
        assert adapted(backbone, two[0], method=method).training.to_json()["initial"][0]["language"] == "aaa"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"prompt_length": 5}, "has prompt_length 4, not 5; leave prompt_length out"),
        ({"positions": "shifted"}, "has positions plain, not shifted; leave positions out"),
        ({"initialise": "text"}, "has initialise prompt, not text"),
        ({"method": "mad-x"}, "mad-x trains no prompt in stage 1"),
        ({"method": "fine-tuning-mlm"}, "fine-tuning-mlm trains no prompt in stage 1"),
        ({"method": "prompt-tuning"}, "prompt-tuning has no stage 1"),
    ],
)
def test_a_config_that_says_otherwise(
    backbone: gp.Backbone, two: tuple[gp.LanguagePrompt, ...], settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        adapted(backbone, two[0], **settings)
    assert "\n" not in str(caught.value)


def test_prompts_that_cannot_be_started_from(backbone: gp.Backbone, two: tuple[gp.LanguagePrompt, ...]) -> None:
    one, other = two
    foreign = replace(one, backbone={"name": "other", "fingerprint": "x"})
    shorter = replace(other, key_values=other.key_values[:, :, :, :3])
    for initial, says in (
        (foreign, "is for 'other' \\(fingerprint x\\), the loaded backbone is 'tiny xlm-roberta'"),
        ([(one, 0.5), (shorter, 0.5)], "prompts of aaa and bbb differ in shape"),
        ([], "holds no prompt"),
    ):
        with pytest.raises(ConfigError, match=says):
            adapted(backbone, initial)
    with pytest.raises(ConfigError, match='initialise="prompt" needs a saved prompt; give it as initial='):
        adapted(backbone, initialise="prompt")


# --- real tokens


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["xlm-roberta", "modernbert"])
def test_it_starts_with_tokens_of_the_source_text(tiny_backbone: Make, kind: str) -> None:
    backbone = tiny_backbone(kind)
    made = adapted(backbone, initialise="text", prompt_length=6, learning_rate=1e-30)
    corpus, *_ = masking_corpus(backbone, TOY, SOURCE, ADAPT)
    special = torch.tensor(backbone.tokenizer.all_special_ids)
    of_text = [key_values_of_text(backbone, [torch.from_numpy(part)], special, 6) for part in corpus.source]
    assert any(torch.equal(made.key_values, found) for found in of_text)
    assert first_loss(made) == loss_of(backbone, made.key_values)
    other = adapted(backbone, initialise="text", prompt_length=6, learning_rate=1e-30, seed=1)
    assert not torch.equal(other.key_values, made.key_values), "the seed draws them"


def test_a_prompt_longer_than_a_sequence_takes_several(backbone: gp.Backbone) -> None:
    assert adapted(backbone, initialise="text", prompt_length=40).prompt_length == 40


def test_without_source_text_the_target_s_tokens_serve(backbone: gp.Backbone) -> None:
    config = ADAPT.replace(initialise="text", source_share=0, prompt_length=4)
    made = gp.adapt(backbone, TOY, [], "xxx", config, QUIET)
    assert made.training.config["initialise"] == "text"


def test_too_few_tokens(backbone: gp.Backbone) -> None:
    with pytest.raises(DataError, match=r"the text has \d+ tokens, too few for a prompt of 5000; give more") as caught:
        adapted(backbone, initialise="text", prompt_length=5000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["mad-x", "fine-tuning-mlm", "lora"])
def test_real_tokens_are_for_prompts(backbone: gp.Backbone, method: str) -> None:
    config = ADAPT.replace(method=method, initialise="text")
    with pytest.raises(ConfigError, match="trains no prompt in stage 1"):
        gp.adapt(backbone, TOY, SOURCE, "xxx", config, QUIET)


# --- with the rest of stage 1


def test_a_saved_prompt_stands_above_the_presets_start(
    backbone: gp.Backbone, two: tuple[gp.LanguagePrompt, ...]
) -> None:
    pairs = [(f"{text} day", text) for text in SOURCE]
    config = gp.AdaptConfig(steps=1, max_length=16, learning_rate=1e-12)
    made = gp.adapt(backbone, language="xxx", parallel=pairs, config=config, runtime=QUIET, initial=two[0])
    assert isinstance(made, gp.LanguagePrompt)
    assert made.training.config["initialise"] == "prompt"
    assert torch.allclose(made.key_values, two[0].key_values)


def test_the_trials_of_rates_start_there_too(backbone: gp.Backbone, two: tuple[gp.LanguagePrompt, ...]) -> None:
    rates = (1e-12, 2e-12)
    made = adapted(backbone, two[0], learning_rate="auto", auto_rates=rates, auto_steps=2)
    for trial in made.training.rates_tried:
        assert trial.loss == pytest.approx(loss_of(backbone, two[0].key_values), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["cosine", "constant", "wsd"])
def test_a_schedule_is_felt(backbone: gp.Backbone, schedule: str) -> None:
    settings: dict[str, Any] = {"steps": 8, "eval_every": 8, "prompt_length": 2}
    assert first_loss(adapted(backbone, schedule=schedule, **settings)) == first_loss(adapted(backbone, **settings))
    losses = [adapted(backbone, schedule=name, **settings).training.losses[-1] for name in (schedule, "linear")]
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_without_source_text_the_start_is_the_targets(backbone: gp.Backbone) -> None:
    """Whatever source text is handed over beside it."""
    settings: dict[str, Any] = {"initialise": "text", "source_share": 0.0, "prompt_length": 4, "learning_rate": 1e-12}
    config = ADAPT.replace(**settings)
    made = [gp.adapt(backbone, TOY, source, "xxx", config, QUIET) for source in (SOURCE, ["night " * 9] * 9, [])]
    values = [prompt.key_values for prompt in made if isinstance(prompt, gp.LanguagePrompt)]
    assert len(values) == 3
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])


def test_a_saved_prompt_brings_its_character_map(backbone: gp.Backbone, two: tuple[Any, Any]) -> None:
    characters = CharacterMap((Rewriting("ǃ", "k", "letter", False),))
    known, unknown = (replace(prompt, characters=characters) for prompt in two)
    assert adapted(backbone, known).characters == characters
    assert adapted(backbone, [(known, 0.5), (unknown, 0.5)]).characters == characters
    with pytest.raises(ConfigError, match="rewrite characters differently"):
        adapted(backbone, [(known, 0.5), (two[1], 0.5)])
