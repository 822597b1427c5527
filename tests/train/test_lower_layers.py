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
from glotprompt.model.deltas import Together
from glotprompt.model.encoder import Encoder
from glotprompt.model.soft_prompt import SoftPrompt
from glotprompt.train.cloze import Cloze
from glotprompt.train.inputs import read_inputs
from glotprompt.train.losses import label_losses
from glotprompt.train.lower_layers import below_trained_layers
from glotprompt.train.micro_batch import MicroBatch

from ..toys import QUIET, TASK, topics

Make = Callable[[str], Encoder]


@pytest.fixture(scope="module")
def encoder(tiny_encoder: Make) -> Encoder:
    return tiny_encoder("xlm-roberta")


def prompt_of(encoder: Encoder, k: int, **settings: Any) -> SoftPrompt:
    layers = range(encoder.num_layers - k, encoder.num_layers)
    return SoftPrompt.initialise(encoder.prompt_shape(4), 0.5, 0, layers, **settings)


def clozes_of(encoder: Encoder) -> list[Cloze]:
    return read_inputs(encoder, [example.fields for example in topics()], TASK, None, 32)[1]


def gradient(encoder: Encoder, prompt: SoftPrompt, clozes: list[Cloze], loss_over: Any = "labels") -> torch.Tensor:
    head = read_inputs(encoder, [], TASK, None, 32)[0]
    gold = torch.arange(len(clozes)) % 3
    prompt.zero_grad()
    for loss, _ in label_losses(encoder, prompt, clozes, gold, head, loss_over, MicroBatch(QUIET)):
        loss.backward()
    assert prompt.trained.grad is not None
    return prompt.trained.grad.clone()


@pytest.mark.parametrize("kind", ["xlm-roberta", "bert"])
@pytest.mark.parametrize("positions", ["plain", "shifted"])
@pytest.mark.parametrize("loss_over", ["labels", "vocabulary"])
def test_losses_and_gradients_are_those_of_the_whole_pass(
    tiny_encoder: Make, kind: str, positions: Any, loss_over: str
) -> None:
    encoder = tiny_encoder(kind)
    prompt = prompt_of(encoder, 1, positions=positions)
    clozes = clozes_of(encoder)
    kept = below_trained_layers(encoder, clozes, prompt, QUIET)
    assert {cloze.entering and cloze.entering.layer for cloze in kept} == {encoder.num_layers - 1}
    whole = gradient(encoder, prompt, clozes, loss_over)
    torch.testing.assert_close(gradient(encoder, prompt, kept, loss_over), whole, rtol=1e-5, atol=1e-6)


def test_the_layers_below_run_once_per_example(encoder: Encoder) -> None:
    prompt = prompt_of(encoder, 1)
    kept = below_trained_layers(encoder, clozes_of(encoder), prompt, QUIET)
    calls: list[int] = []
    body: Any = encoder.model.base_model
    layers = body.encoder.layer
    hooks = [
        layer.intermediate.register_forward_hook(lambda *_, index=index: calls.append(index))
        for index, layer in enumerate(layers)
    ]
    gradient(encoder, prompt, kept)
    for hook in hooks:
        hook.remove()
    assert set(calls) == {encoder.num_layers - 1}


def test_a_file_holds_the_same_bits_and_leaves_nothing_behind(encoder: Encoder, tmp_path: Path) -> None:
    prompt = prompt_of(encoder, 1)
    clozes = clozes_of(encoder)
    in_memory = below_trained_layers(encoder, clozes, prompt, QUIET)
    on_disk = below_trained_layers(encoder, clozes, prompt, QUIET.replace(state_cache=1, checkpoint_dir=tmp_path / "w"))
    assert list((tmp_path / "w").iterdir()) == []
    for one, two in zip(in_memory, on_disk, strict=True):
        assert one.entering is not None
        assert two.entering is not None
        torch.testing.assert_close(one.entering.states, two.entering.states, rtol=0, atol=0)


def test_where_nothing_is_to_be_kept_the_examples_stay_as_they_are(
    encoder: Encoder, tiny_encoder: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    top, whole = prompt_of(encoder, 1), prompt_of(encoder, encoder.num_layers)
    clozes = clozes_of(encoder)
    assert below_trained_layers(encoder, clozes, whole, QUIET) == clozes
    assert below_trained_layers(encoder, clozes, top, QUIET.replace(state_cache=0)) == clozes
    assert below_trained_layers(tiny_encoder("modernbert"), clozes, top, QUIET) == clozes
    assert below_trained_layers(encoder, [], top, QUIET) == []
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    with patch("shutil.disk_usage", return_value=full):
        talking = gp.RuntimeConfig(state_cache=1, checkpoint_dir=tmp_path)
        assert below_trained_layers(encoder, clozes, top, talking) == clozes
    assert "computed anew in every epoch" in capsys.readouterr().err


def test_the_lowest_layer_of_several_deltas_counts(encoder: Encoder) -> None:
    two = Together({"one": prompt_of(encoder, 1), "other": prompt_of(encoder, 2)})
    assert two.first_layer == encoder.num_layers - 2
    assert Together({}).first_layer is None


@pytest.mark.slow
@pytest.mark.parametrize("head", ["words", "linear"])
def test_stage_2_learns_the_same_with_and_without(encoder: Encoder, head: Any) -> None:
    start = gp.LanguagePrompt(
        prompt_of(encoder, 1).key_values().detach(),
        "xxx",
        {"name": encoder.name, "fingerprint": encoder.fingerprint},
        "plain",
        None,
        "soft-prompt",
        None,
    )
    config = gp.TuneConfig(epochs=2, batch_size=8, max_length=24, learning_rate=0.1, top_k_layers=1, head=head)
    made = [gp.tune(encoder, start, topics(), TASK, config, QUIET.replace(state_cache=size)) for size in (2**30, 0)]
    losses = [[loss for _, loss in classifier.training.losses] for classifier in made]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    dropping = gp.tune(encoder, start, topics(), TASK, config.replace(dropout=True), QUIET)
    assert dropping.training.losses != made[0].training.losses
