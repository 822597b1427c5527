"""The layers below the lowest trained one, run once: the same training, in memory as on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

import glotprompt as gp
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.modules.stack import ModuleStack
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.cloze import Cloze
from glotprompt.training.objectives.inputs import read_inputs
from glotprompt.training.objectives.losses import label_losses
from glotprompt.training.objectives.lower_layers import below_trained_layers

from ..toys import QUIET, TASK, topics

Make = Callable[[str], Backbone]


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Make) -> Backbone:
    return tiny_backbone("xlm-roberta")


def prompt_of(backbone: Backbone, k: int, **settings: Any) -> SoftPrompt:
    layers = range(backbone.num_layers - k, backbone.num_layers)
    return SoftPrompt.initialise(backbone.prompt_shape(4), 0.5, 0, layers, **settings)


def clozes_of(backbone: Backbone) -> list[Cloze]:
    return read_inputs(backbone, [example.fields for example in topics()], TASK, None, 32)[1]


def gradient(backbone: Backbone, prompt: SoftPrompt, clozes: list[Cloze], loss_over: Any = "labels") -> torch.Tensor:
    head = read_inputs(backbone, [], TASK, None, 32)[0]
    gold = torch.arange(len(clozes)) % 3
    prompt.zero_grad()
    for loss, _ in label_losses(backbone, prompt, clozes, gold, head, loss_over, MicroBatch(QUIET)):
        loss.backward()
    assert prompt.trained.grad is not None
    return prompt.trained.grad.clone()


@pytest.mark.parametrize("kind", ["xlm-roberta", "bert"])
@pytest.mark.parametrize("positions", ["plain", "shifted"])
@pytest.mark.parametrize("loss_over", ["labels", "vocabulary"])
def test_losses_and_gradients_are_those_of_the_whole_pass(
    tiny_backbone: Make, kind: str, positions: Any, loss_over: str
) -> None:
    backbone = tiny_backbone(kind)
    prompt = prompt_of(backbone, 1, positions=positions)
    clozes = clozes_of(backbone)
    kept = below_trained_layers(backbone, clozes, prompt, QUIET)
    assert {cloze.entering and cloze.entering.layer for cloze in kept} == {backbone.num_layers - 1}
    whole = gradient(backbone, prompt, clozes, loss_over)
    torch.testing.assert_close(gradient(backbone, prompt, kept, loss_over), whole, rtol=1e-5, atol=1e-6)


def test_the_layers_below_run_once_per_example(backbone: Backbone) -> None:
    prompt = prompt_of(backbone, 1)
    kept = below_trained_layers(backbone, clozes_of(backbone), prompt, QUIET)
    calls: list[int] = []
    body: Any = backbone.model.base_model
    layers = body.encoder.layer
    hooks = [
        layer.intermediate.register_forward_hook(lambda *_, index=index: calls.append(index))
        for index, layer in enumerate(layers)
    ]
    gradient(backbone, prompt, kept)
    for hook in hooks:
        hook.remove()
    assert set(calls) == {backbone.num_layers - 1}


def test_a_file_holds_the_same_bits_and_leaves_nothing_behind(backbone: Backbone, tmp_path: Path) -> None:
    prompt = prompt_of(backbone, 1)
    clozes = clozes_of(backbone)
    in_memory = below_trained_layers(backbone, clozes, prompt, QUIET)
    on_disk = below_trained_layers(
        backbone, clozes, prompt, QUIET.replace(state_cache=1, checkpoint_dir=tmp_path / "w")
    )
    assert list((tmp_path / "w").iterdir()) == []
    for one, two in zip(in_memory, on_disk, strict=True):
        assert one.entering is not None
        assert two.entering is not None
        torch.testing.assert_close(one.entering.states, two.entering.states, rtol=0, atol=0)


def test_where_nothing_is_to_be_kept_the_examples_stay_as_they_are(
    backbone: Backbone, tiny_backbone: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    top, whole = prompt_of(backbone, 1), prompt_of(backbone, backbone.num_layers)
    clozes = clozes_of(backbone)
    assert below_trained_layers(backbone, clozes, whole, QUIET) == clozes
    assert below_trained_layers(backbone, clozes, top, QUIET.replace(state_cache=0)) == clozes
    assert below_trained_layers(tiny_backbone("modernbert"), clozes, top, QUIET) == clozes
    assert below_trained_layers(backbone, [], top, QUIET) == []
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    with patch("shutil.disk_usage", return_value=full):
        talking = gp.RuntimeConfig(state_cache=1, checkpoint_dir=tmp_path)
        assert below_trained_layers(backbone, clozes, top, talking) == clozes
    assert "computed again in every epoch" in capsys.readouterr().err


def test_the_lowest_layer_of_several_deltas_counts(backbone: Backbone) -> None:
    two = ModuleStack({"one": prompt_of(backbone, 1), "other": prompt_of(backbone, 2)})
    assert two.first_layer == backbone.num_layers - 2
    assert ModuleStack({}).first_layer is None


@pytest.mark.slow
@pytest.mark.parametrize("head", ["cloze", "linear"])
def test_stage_2_learns_the_same_with_and_without(backbone: Backbone, head: Any) -> None:
    start = gp.LanguagePrompt(
        prompt_of(backbone, 1).key_values().detach(),
        "xxx",
        backbone.reference,
        "plain",
        None,
        "soft-prompt",
        None,
    )
    config = gp.TuneConfig(epochs=2, batch_size=8, max_length=24, learning_rate=0.1, top_k_layers=1, head=head)
    made = [gp.tune(backbone, start, topics(), TASK, config, QUIET.replace(state_cache=size)) for size in (2**30, 0)]
    losses = [[loss for _, loss in classifier.training.losses] for classifier in made]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    dropping = gp.tune(backbone, start, topics(), TASK, config.replace(dropout=True), QUIET)
    assert dropping.training.losses != made[0].training.losses
