"""What a result says beside scores: the change of the prompts, collapses, short loss curves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from glotprompt.grid.results import MOST_LOSSES, collapse, prompt_change, thinned
from glotprompt.inference.classifier import LanguageModule, LanguagePrompt, PromptClassifier
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.task import Task
from glotprompt.training.objectives.scoring import report

TASK = Task("topic", "{mask} : {text}", {"health": "Health", "sports": "Sports"})


def test_prompt_change(tiny_backbone: Callable[[str], Backbone]) -> None:
    backbone = tiny_backbone("xlm-roberta")
    before = torch.randn(backbone.prompt_shape(4), generator=torch.Generator().manual_seed(0))
    after = before.clone()
    after[1] *= 3
    after[2] *= -1
    adapted = LanguagePrompt(before, "sna", {})
    classifier = PromptClassifier(backbone, SoftPrompt(after), TASK, "sna", 64)
    found = prompt_change(adapted, classifier)
    assert found is not None
    assert [entry.layer for entry in found] == [0, 1, 2]
    assert [entry.relative_l2 for entry in found] == pytest.approx([0, 2, 2])
    changes = (classifier.key_values - adapted.key_values).flatten(1)
    assert [entry.l2 for entry in found] == pytest.approx(changes.norm(dim=1).tolist())
    assert [entry.mean_absolute for entry in found] == pytest.approx(changes.abs().mean(dim=1).tolist())
    assert [entry.cosine for entry in found] == pytest.approx([1, 1, -1])
    assert prompt_change(None, classifier) is None
    assert prompt_change(LanguageModule("mad-x", {}, "sna", {}), classifier) is None


def test_a_collapse_is_told_by_the_predictions() -> None:
    assert collapse(report(["a", "b"] * 10, ["a"] * 19 + ["b"])) == "95 % of the examples were labelled 'a'"
    assert collapse(report(["a", "b"] * 10, ["a", "b"] * 10)) is None


def test_loss_curves_keep_their_end() -> None:
    losses = [(step, 1 / step) for step in range(1, 124)]
    kept = thinned(losses)
    assert len(kept) <= MOST_LOSSES
    assert kept[-1] == [123, round(1 / 123, 4)]
    assert thinned([(1, 0.5)]) == [[1, 0.5]]
    assert thinned([]) == []
