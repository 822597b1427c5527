"""Saved prompts as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import glotprompt as gp
from glotprompt.errors import ArtifactError, ConfigError
from glotprompt.records import Combined

from .toys import QUIET, TASK, topics
from .variants import two_prompts


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Callable[[str], gp.Backbone]) -> gp.Backbone:
    return tiny_backbone("xlm-roberta")


@pytest.mark.parametrize("weights", [(0.75, 0.25), (2.0, -0.5), (0.1, 0.2)])
def test_the_weighted_sum(backbone: gp.Backbone, weights: tuple[float, float]) -> None:
    one, two = (prompt.key_values for prompt in two_prompts(backbone))
    made = gp.combine(two_prompts(backbone), weights, language="xxx")
    assert torch.equal(made.key_values, weights[0] * one + weights[1] * two)
    assert (made.method, made.language, made.backbone["name"]) == ("soft-prompt", "xxx", backbone.name)
    found = [(one.language, one.weight) for one in made.report.combined] if isinstance(made.report, Combined) else []
    assert found == [("aaa", weights[0]), ("bbb", weights[1])]


def test_without_weights_the_mean(backbone: gp.Backbone) -> None:
    one, two = two_prompts(backbone)
    assert torch.equal(gp.combine([one, two]).key_values, gp.combine([one, two], [0.5, 0.5]).key_values)
    assert torch.equal(gp.combine([one, two], [1.0, 0.0]).key_values, one.key_values)


def test_what_it_is_called(backbone: gp.Backbone) -> None:
    one, two = two_prompts(backbone)
    assert gp.combine([one, two, one]).language == "aaa+bbb"
    assert gp.combine([one, one]).language == "aaa"
    control = replace(one, method="source-prompt")
    assert gp.combine([control, control]).method == "source-prompt"
    assert gp.combine([control, two]).method == "soft-prompt"


def test_tune_goes_on_from_it(backbone: gp.Backbone, tmp_path: Path) -> None:
    made = gp.LanguagePrompt.load(gp.combine(two_prompts(backbone)).save(tmp_path / "both"), backbone)
    config = gp.TuneConfig(epochs=1, batch_size=8, max_length=24)
    classifier = gp.tune(backbone, made, topics(3), TASK, config, QUIET)
    assert (classifier.method, classifier.language) == ("soft-prompt", "aaa+bbb")


def test_prompts_that_cannot_be_added(backbone: gp.Backbone) -> None:
    one, two = two_prompts(backbone)
    for changed, what in (
        (replace(two, key_values=two.key_values[:, :, :, :3]), "shape"),
        (replace(two, positions="shifted"), "positions"),
        (replace(two, backbone={"fingerprint": "other"}), "backbone"),
    ):
        with pytest.raises(ConfigError, match=f"prompts of aaa and bbb differ in {what}"):
            gp.combine([one, changed])
    with pytest.raises(ConfigError, match=r"weights 3e\+38, 3e\+38 give NaN or infinity; give smaller ones"):
        gp.combine([replace(one, key_values=torch.full_like(one.key_values, 9.0))] * 2, [3e38, 3e38])
    for prompts, weights in (([], []), ([], None), ([one, two], [1.0])):
        with pytest.raises(ConfigError, match="needs prompts and a weight for each"):
            gp.combine(prompts, weights)


@pytest.mark.parametrize(
    ("method", "remedy"), [("prompt-average", "with `glotprompt combine`"), ("x", "create it again")]
)
def test_files_of_a_method_that_is_gone(backbone: gp.Backbone, tmp_path: Path, method: str, remedy: str) -> None:
    prompt = two_prompts(backbone)[0]
    config = gp.TuneConfig(epochs=1, batch_size=8, max_length=24)
    classifier = replace(gp.tune(backbone, prompt, topics(3), TASK, config, QUIET), method=method)
    for load, path in (
        (gp.load_adapted, replace(prompt, method=method).save(tmp_path / "prompt")),
        (gp.PromptClassifier.load, classifier.save(tmp_path / "classifier")),
    ):
        with pytest.raises(ArtifactError, match=remedy) as caught:
            load(path, backbone)
        assert f"{path} was made with the method" in str(caught.value)
        assert "\n" not in str(caught.value)
