"""`--no-samples`: example texts in what is saved, and none where the text is private."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glotprompt.storage import artifact

from .conftest import Program

ADAPT = "--target nya=nya.txt --source eng.txt --steps 1 --batch-size 4 --max-length 24 --prompt-length 4"
TUNE = "--train train.tsv --task task.toml --epochs 1 --max-length 24"


@pytest.mark.slow
def test_samples_are_kept_unless_they_are_not_wanted(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    adapt = f"adapt --model {tiny_folder} {ADAPT} --precision fp32 --output nya.st --json nya.json".split()
    tune = f"tune --prompt nya.st {TUNE} --precision fp32 --output topic.st --json topic.json".split()
    for words in (adapt, tune):
        made = glotprompt(*words)
        assert made.status == 0
        assert "holds 3 example texts in plain words" in made.err
    metadata = artifact.describe("topic.st", ("classifier",))
    assert metadata["samples"]["side"] == "target"
    lines = Path("nya.txt").read_text(encoding="utf-8").splitlines()
    assert set(metadata["samples"]["texts"]) <= set(lines)
    figures = Path("nya.json").read_text() + Path("topic.json").read_text()
    assert not [line for line in lines if json.dumps(line) in figures]

    # A second thought: what was trained stays, the texts go.
    for words, file in ((adapt, "nya.st"), (tune, "topic.st")):
        again = glotprompt(*words, "--no-samples")
        assert again.status == 0
        assert "already what these words make" in again.err
        assert f"took the example texts out of {file}" in again.err
        assert not [line for line in lines if line.encode() in Path(file).read_bytes()]
    assert glotprompt("predict", "--classifier", "topic.st", "king").status == 0
    shown = " ".join(glotprompt("tune", "--help-all").out.split())
    assert "--no-samples" in shown
    assert "private" in shown
