"""Accuracies in a classifier's file: kept beside what it is, checked as strictly, and never another language's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import glotprompt as gp
from glotprompt.cli import main
from glotprompt.errors import ArtifactError
from glotprompt.inference.measurements import MOST, keep, sentence
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.storage import artifact
from glotprompt.storage.metadata import Measurement, check_metadata

from .toys import TASK

KEY = "glotprompt.measurements"


def measured(language: str = "lug", content: int = 0, **changes: Any) -> Measurement:
    said: dict[str, Any] = {"language": language, "content": f"{content:064x}", "num_examples": 150, "accuracy": 70.7,
            "interval": (63.0, 77.4)}  # fmt: skip
    return Measurement(**{**said, **changes})


@pytest.fixture
def classifier(tiny_backbone: Callable[[str], gp.Backbone]) -> gp.PromptClassifier:
    backbone = tiny_backbone("xlm-roberta")
    return gp.PromptClassifier(backbone, SoftPrompt(torch.zeros(backbone.prompt_shape(2))), TASK, "lug", 48)


@pytest.fixture
def saved(classifier: gp.PromptClassifier, tmp_path: Path) -> Path:
    return classifier.save(tmp_path / "a.safetensors")


def digest_of(path: Path) -> str:
    return artifact.describe(path, ["classifier"])["digest"]


def test_a_file_keeps_them_and_stays_the_same(classifier: gp.PromptClassifier, saved: Path) -> None:
    before, values = artifact.describe(saved, ["classifier"]), load_file(saved)
    keep(saved, before["digest"], measured())
    after = artifact.describe(saved, ["classifier"])
    assert [Measurement.of(one, "x") for one in after.pop("measurements")] == [measured()]
    assert after == before
    assert all(torch.equal(value, values[name]) for name, value in load_file(saved).items())
    again = gp.PromptClassifier.load(saved, classifier.backbone)
    assert again.measurements == (measured(),)
    copy = again.save(saved.with_name("copy.safetensors"))
    assert copy.read_bytes() == saved.read_bytes(), "also where the whole is written again"
    assert again.with_label_prior(["the king"]).measurements == (), "another classifier"


def test_the_same_examples_are_kept_once_and_the_newest_stay(saved: Path) -> None:
    digest = digest_of(saved)
    for content in (*range(MOST + 2), 5):
        keep(saved, digest, measured(content=content, num_examples=content + 1))
    kept = [one["num_examples"] - 1 for one in artifact.describe(saved, ["classifier"])["measurements"]]
    assert kept == [*(number for number in range(2, MOST + 2) if number != 5), 5]


def test_another_file_that_took_its_place_gets_none(classifier: gp.PromptClassifier, saved: Path) -> None:
    digest = digest_of(saved)
    replace(classifier, max_length=40).save(saved)
    with pytest.raises(ArtifactError, match="was replaced while it was scored"):
        keep(saved, digest, measured())


def test_a_file_that_comes_between_reading_and_writing_gets_none(
    classifier: gp.PromptClassifier, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, read = digest_of(saved), artifact.read_copy

    def replaced(path: Path, kind: str) -> Any:
        replace(classifier, max_length=40).save(saved)
        return read(path, kind)

    monkeypatch.setattr(artifact, "read_copy", replaced)
    with pytest.raises(ArtifactError, match="was replaced while it was scored"):
        keep(saved, digest, measured())


def test_show_says_the_newest_as_predict_does(
    classifier: gp.PromptClassifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for language, given, said in (
        ("und", ["lug", "eng", "lug"], "22 % [63, 77] of 150 texts in Luganda; 21 % [63, 77] of 150 texts in English"),
        ("swa", ["swh", "swa", "swh"], "22 % [63, 77] of 150 texts in Swahili"),
    ):
        path = replace(classifier, language=language).save(tmp_path / f"{language}.safetensors")
        for number, one in enumerate(given):
            keep(path, digest_of(path), measured(one, number, accuracy=20.0 + number))
        assert main(["show", str(path)]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("accuracy")]
        assert line.split("accuracy")[1].strip().startswith(said), line
        assert ";" not in line or language == "und"


def test_what_is_kept_is_checked_as_the_rest(classifier: gp.PromptClassifier, saved: Path) -> None:
    keep(saved, digest_of(saved), measured())
    with safe_open(saved, framework="pt") as file:
        stored = file.metadata()
    assert stored is not None

    def refused(**changes: str) -> str:
        save_file(load_file(saved), saved.with_name("b.safetensors"), {**stored, **changes})
        texts: list[str] = []
        for opened in (
            lambda path: artifact.describe(path, ["classifier"]),
            lambda path: gp.PromptClassifier.load(path, classifier.backbone),
            lambda path: artifact.read_copy(path, "classifier"),
        ):
            with pytest.raises(ArtifactError) as caught:
                opened(saved.with_name("b.safetensors"))
            texts.append(str(caught.value))
        assert len(set(texts)) == 1
        return texts[0]

    changed = json.loads(stored[KEY])
    changed["measurements"][0]["accuracy"] = 99.0
    for wrong in (json.dumps(changed), "{}", "[]", "null", "9", '"x"', "{", "[" * 5000):
        assert "what was measured of it has been changed" in refused(**{KEY: wrong})
    assert "has been changed since it was saved" in refused(other="x")
    other = replace(classifier, max_length=40).save(saved.with_name("other.safetensors"))
    keep(other, digest_of(other), measured())
    with safe_open(other, framework="pt") as file:
        assert "another file's" in refused(**{KEY: (file.metadata() or {})[KEY]})


@pytest.mark.parametrize(
    "changes",
    [{"accuracy": 101.0}, {"accuracy": "70"}, {"num_examples": 0}, {"interval": [1.0]}, {"language": ""},
     {"content": "x"}, {"accuracy": None}],
)  # fmt: skip
def test_one_that_makes_no_sense_is_refused(classifier: gp.PromptClassifier, changes: dict[str, Any]) -> None:
    said = {**artifact_metadata(classifier), "measurements": [{**measured().to_json(), **changes}]}
    with pytest.raises(ArtifactError, match=r"^f is intact but invalid \(measurements\."):
        check_metadata("f", said)


def artifact_metadata(classifier: gp.PromptClassifier) -> dict[str, Any]:
    return {"kind": "classifier", **classifier.description()}


def test_a_figure_of_another_language_is_not_the_targets() -> None:
    assert sentence([], "lug") == "not measured in Luganda"
    assert sentence([measured("eng")], "lug") == "not measured in Luganda"
    both = [measured("lug"), measured("eng", accuracy=90.0), measured("lug", 1, num_examples=1)]
    assert sentence(both, "lug") == "71 % [63, 77] of 1 text in Luganda"
    assert sentence(both[:2], "lug") == "71 % [63, 77] of 150 texts in Luganda"
    assert sentence(both[:2], "und") == "90 % [63, 77] of 150 texts in English", "of a classifier of no one language"
    assert sentence([], "und") == "not measured"
    assert sentence([], "nya+lug") == "not measured in Chichewa + Luganda"
