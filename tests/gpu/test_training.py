"""Both stages of every method on a GPU, and what stands around them: the losses of the CPU in fp32."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import glotprompt as gp
from glotprompt.model.backbone import Backbone
from glotprompt.training import loop

from ..toys import QUIET, SOURCE, TASK, TOY
from ..variants import ADAPT, VARIANTS, Variant

There = Callable[[str], Backbone]
FEW = {"steps": 3, "eval_every": 3, "learning_rate": 1e-3}
"""At the variants' own rates, which are for learning within a few steps, rounding would grow."""
TEXTS = ["water play king", "play", "the king the day", "water water day the play"]


def history(made: Any) -> list[float]:
    """Losses of all steps, and the figures of all evaluations."""
    found = [value for _, figures in made.training.evaluations for value in figures.values()]
    return [*(loss for _, loss in made.training.losses), *found]


def both_stages(variant: Variant, backbone: Backbone, runtime: gp.RuntimeConfig = QUIET) -> tuple[list[float], Any]:
    adapted = variant.stage_1(backbone, runtime, **FEW)
    classifier = variant.stage_2(backbone, adapted, runtime, epochs=1, learning_rate=1e-3)
    return [*([] if adapted is None else history(adapted)), *history(classifier)], classifier


ELSEWHERE = {
    "soft-prompt, BERT, dropout", "prompt-tuning, reparameterised", "fine-tuning, linear head",
    "fine-tuning-mlm, dropout", "fine-tuning-mlm, aligned, BERT", "mad-x, pooled head", "lora, BERT",
    "soft-prompt, pooled head", "lora, aligned", "input-prompt, linear head", "mad-x",
}  # fmt: skip
"""Variants whose parts (methods, heads, objectives) are all among those of others."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ELSEWHERE])
def test_both_stages_of_every_method(
    name: str, there: There, own_backbone: There, tmp_path: Path, device: torch.device
) -> None:
    # Random numbers of dropout are the device's own.
    without = {"dropout": False}
    variant = replace(
        VARIANTS[name], adapt={**VARIANTS[name].adapt, **without}, tune={**VARIANTS[name].tune, **without}
    )
    expected, alone = both_stages(variant, own_backbone(variant.kind))
    backbone = there(variant.kind)
    found, classifier = both_stages(variant, backbone)
    assert found == pytest.approx(expected, rel=2e-3, abs=2e-3)
    again = gp.PromptClassifier.load(classifier.save(tmp_path / "made.safetensors"), backbone)
    for kept in (classifier, again):
        for one, other in zip(kept.predict(TEXTS), alone.predict(TEXTS), strict=True):
            assert one.scores == pytest.approx(other.scores, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["soft-prompt, BERT, dropout", "fine-tuning-mlm, dropout"])
def test_dropout_runs(name: str, there: There) -> None:
    losses, _ = both_stages(VARIANTS[name], there("bert"))
    assert np.isfinite(losses).all()


@pytest.mark.slow
def test_bf16_and_gradient_checkpointing(there: There, own_backbone: There) -> None:
    variant = VARIANTS["soft-prompt"]
    expected = history(variant.stage_1(own_backbone("xlm-roberta"), **FEW))
    backbone = there("xlm-roberta")
    assert history(variant.stage_1(backbone, QUIET.replace(gradient_checkpointing=True), **FEW)) == pytest.approx(
        expected, rel=2e-3
    )
    backbone.use_precision("bf16")
    assert history(variant.stage_1(backbone, **FEW))[:3] == pytest.approx(expected[:3], rel=0.03)


@contextmanager
def killed_after(steps: int) -> Generator[None]:
    """Context in which a training is interrupted after so many steps, and which ends with that."""
    original, done = loop._Run.update, []

    def update(run: Any, losses: Any) -> Any:
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(run.history.step)
        return original(run, losses)

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(loop._Run, "update", update)
        yield
    assert len(done) == steps


@pytest.mark.slow
def test_a_killed_training_resumes(there: There, tmp_path: Path) -> None:
    variant, backbone = VARIANTS["soft-prompt"], there("xlm-roberta")
    whole = history(variant.stage_1(backbone, **FEW))
    runtime = QUIET.replace(checkpoint_dir=tmp_path, checkpoint_every=0)
    with killed_after(2):
        variant.stage_1(backbone, runtime, **FEW)
    assert history(variant.stage_1(backbone, runtime, **FEW)) == pytest.approx(whole, rel=1e-4)


@contextmanager
def room_for(rows: int, backbone: Backbone, train: Callable[[], Any]) -> Generator[None]:
    """Context in which memory runs out for more rows than about so many: a GPU's own, elsewhere said by us."""
    if backbone.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_reserved()
        train()
        peak, whole = torch.cuda.max_memory_reserved() - before, torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction((before + peak * rows / 64 + 2**22) / whole)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    original = backbone.states_at

    def states_at(input_ids: torch.Tensor, *words: Any) -> torch.Tensor:
        if len(input_ids) > rows and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(input_ids, *words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "states_at", states_at)
        yield


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved(there: There, capsys: pytest.CaptureFixture[str]) -> None:
    backbone = there("xlm-roberta")
    config = ADAPT.replace(**FEW, batch_size=64, max_length=64)

    def train(runtime: gp.RuntimeConfig = QUIET) -> list[float]:
        return history(gp.adapt(backbone, TOY * 20, SOURCE * 20, "xxx", config, runtime))

    whole = train()
    with room_for(40, backbone, train):
        found = train(gp.RuntimeConfig())
    assert "out of memory with 64 sequences at once; continuing with 32" in capsys.readouterr().err
    assert found == pytest.approx(whole, rel=1e-3)


@pytest.mark.slow
def test_languages_and_tasks_mixed_in_one_batch(there: There, tiny_backbone: There) -> None:
    def classifiers(backbone: Backbone) -> dict[str, gp.PromptClassifier]:
        from glotprompt.model.modules.soft_prompt import SoftPrompt

        prompts = [SoftPrompt.initialise(backbone.prompt_shape(length), 1.0, length) for length in (3, 8, 5)]
        return {
            str(place): gp.PromptClassifier(backbone, prompt, TASK, "und", 48) for place, prompt in enumerate(prompts)
        }

    items = [(str(place % 3), text) for place, text in enumerate(TEXTS * 3)]
    backbone = there("xlm-roberta")
    expected, found = (
        gp.Predictor(one, classifiers(one)).predict(items) for one in (tiny_backbone("xlm-roberta"), backbone)
    )
    for one, other in zip(found, expected, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
    vectors = [one.embed(TEXTS) for one in (backbone, tiny_backbone("xlm-roberta"))]
    assert np.allclose(*vectors, atol=1e-4)
