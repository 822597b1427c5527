"""The Manx scenario from data to saved files, on a tiny backbone; and a second start computes nothing again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from glotprompt.demo import verses as demo_verses
from glotprompt.demo.result import DemoResult
from glotprompt.demo.verse_topics import VerseExperiment
from glotprompt.inference.classifier import PromptClassifier
from glotprompt.model.backbone import Backbone


@pytest.mark.slow
def test_every_piece_is_kept(
    verse_data: Path, tmp_path: Path, tiny_backbone: Callable[[str], Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbone("xlm-roberta")
    monkeypatch.setattr(demo_verses.Backbone, "load", lambda *_, **__: backbone)
    output = tmp_path / "out"

    def run() -> DemoResult:
        return demo_verses.run_verses(data_dir=verse_data, seeds=(0, 1), steps=2, output=output)

    first = run()
    assert [row.method for row in first.rows] == ["majority", *["embedding", "soft-prompt-aligned", "lora-aligned"] * 2]
    assert all(row.source_test_accuracy is not None for row in first.rows)
    assert PromptClassifier.load(first.saved.classifier, backbone).method
    assert json.loads((output / "result.json").read_text(encoding="utf-8")) == json.loads(json.dumps(first.to_json()))
    monkeypatch.setattr(demo_verses, "run_stage1", None)
    monkeypatch.setattr(VerseExperiment, "scores", None)
    second = run()
    assert (second.rows, second.alignment, second.conclusion) == (first.rows, first.alignment, first.conclusion)
