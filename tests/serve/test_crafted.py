"""Classifiers with a right digest over content that makes no sense, in serve and predict alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import glotprompt as gp
from glotprompt.errors import ArtifactError, ModelError
from glotprompt.inference.predictor import NotFinite
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.serve.registry import Registry
from glotprompt.storage import artifact

from .conftest import make_classifier

TEXT = "the king water day"


@pytest.fixture
def folder(tmp_path: Path, backbone: gp.Backbone) -> Path:
    """A classifier that is as it should be."""
    make_classifier(backbone, 1).save(tmp_path / "nya.safetensors")
    return tmp_path


def test_right_digests_over_wrong_content_are_kept_out(folder: Path, backbone: gp.Backbone) -> None:
    """And refused by predict in the same words."""
    tensors, metadata = artifact.read_copy(folder / "nya.safetensors", "classifier")
    shape = tensors["key_values"].shape
    crafted = {
        "one head": ({"key_values": tensors["key_values"][:, :, :1].clone()}, {}),
        "no vectors": ({"key_values": tensors["key_values"][:, :, :, :0].clone()}, {}),
        "no number": ({"key_values": torch.full(shape, float("nan"))}, {}),
        "infinity": ({"key_values": torch.full(shape, float("inf"))}, {}),
        "other dtype": ({"key_values": tensors["key_values"].double()}, {}),
        "more": ({**tensors, "x": torch.ones(1)}, {}),
        "no task": (tensors, {"task": None}),
        "other labels": (tensors, {"labels": ["a", "b", "c"]}),
        "a label twice": (tensors, {"labels": [metadata["labels"][0]] * 3}),
        "offsets": (tensors, {"offsets": [0.0, float("nan"), 0.0]}),
        "fewer offsets": (tensors, {"offsets": [0.0]}),
        "length": (tensors, {"max_length": 100_000}),
        "no length": (tensors, {"max_length": 0}),
        "backbone": (tensors, {"backbone": []}),
        "training": (tensors, {"training": {"dev_accuracy": "x"}}),
        "characters": (tensors, {"characters": {"rewritings": [["", "x", "given", True]], "left": []}}),
        "no kind": (tensors, {"module": {"kind": "x", "positions": "plain"}}),
    }
    for name, (values, changes) in crafted.items():
        path = artifact.write(folder / f"{name}.safetensors", "classifier", values, {**metadata, **changes})
        with pytest.raises(ArtifactError) as caught:
            gp.PromptClassifier.load(path, backbone)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    registry = Registry(folder, backbone)
    assert registry.names() == ["nya"]
    assert {Path(path).stem for path in registry.errors()} == set(crafted)
    assert not any("cannot be used: " in error for error in registry.errors().values())


def test_scores_that_are_no_numbers_are_an_error(folder: Path, backbone: gp.Backbone) -> None:
    """Finite values may be too large to compute with. Others of the batch are not touched by it."""
    huge = SoftPrompt(torch.full(backbone.prompt_shape(4), 3e38))
    path = replace(make_classifier(backbone, 1), body=huge).save(folder / "huge.safetensors")
    with pytest.raises(ModelError, match="NaN or infinity instead of probabilities"):
        gp.PromptClassifier.load(path, backbone).predict([TEXT])
    predictor = gp.Predictor(backbone, Registry(folder, backbone))
    with pytest.raises(NotFinite, match="classifier 'huge' gives NaN"):
        predictor.predict([("nya", TEXT), ("huge", TEXT)])
