"""The Manx scenario from data to saved files, on a tiny encoder; and a second start computes nothing again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glotprompt import demo_verses
from glotprompt.classifier import PromptClassifier
from glotprompt.model.encoder import Encoder
from glotprompt.verses import VerseExperiment


@pytest.mark.slow
def test_every_piece_is_kept(
    verse_data: Path, tmp_path: Path, tiny_encoder: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny_encoder("xlm-roberta")
    monkeypatch.setattr(demo_verses.Encoder, "load", lambda *_, **__: encoder)
    output = tmp_path / "out"

    def run() -> dict[str, object]:
        return demo_verses.run_verses(data_dir=verse_data, seeds=(0, 1), steps=2, output=output)

    first = run()
    rows = first["rows"]
    assert isinstance(rows, list)
    assert [row["method"] for row in rows] == ["majority", *["embedding", "soft-prompt-aligned", "lora-aligned"] * 2]
    assert all(row["source_test_accuracy"] is not None for row in rows)
    saved = first["saved"]
    assert isinstance(saved, dict)
    assert PromptClassifier.load(saved["classifier"], encoder).method
    monkeypatch.setattr(VerseExperiment, "adapted", None)
    monkeypatch.setattr(VerseExperiment, "scores", None)
    second = run()
    for name in ("rows", "alignment", "conclusion"):
        assert second[name] == first[name]
