"""`adapt --stream`: text through the token cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import glotprompt as gp
from glotprompt.cli import reading

from .conftest import Program

ADAPT = (
    "adapt --target nya=nya.txt --source eng.txt --steps 2 --batch-size 4 --max-length 24 --prompt-length 4 "
    "--precision fp32 --cache-dir cache --output nya.st"
)


def key_values(path: Path) -> torch.Tensor:
    prompt = gp.load_adapted(path)
    assert isinstance(prompt, gp.LanguagePrompt)
    return prompt.key_values


def test_cold_and_warm_give_the_same(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    words = [*ADAPT.split(), "--model", tiny_folder, "--stream", "on", "--map-characters", "auto"]
    text = (here / "nya.txt").read_text(encoding="utf-8")
    (here / "nya.txt").write_text(text.replace("w", "ɬ"), encoding="utf-8")
    assert glotprompt(*words).status == 0
    cold = key_values(here / "nya.st")
    assert gp.load_adapted(here / "nya.st").facts["target_lines"] == len(text.splitlines())
    assert len([path for path in (here / "cache").iterdir() if path.name != "stamps"]) == 2
    assert "is already what these words make" in glotprompt(*words).err
    (here / "nya.st").unlink()
    assert "2 texts" not in glotprompt(*words).err
    assert (key_values(here / "nya.st") == cold).all()
    found = gp.load_adapted(here / "nya.st").characters
    assert found is not None
    assert [entry.spelling for entry in found.rewritings] == ["lh"]


def test_auto_goes_by_size(here: Path, tiny_folder: Path, glotprompt: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*ADAPT.split(), "--model", tiny_folder]
    assert "through the cache" not in glotprompt(*words).err
    assert not (here / "cache").exists()
    (here / "nya.txt").write_text((here / "nya.txt").read_text(encoding="utf-8") * 3, encoding="utf-8")
    monkeypatch.setattr(reading, "STREAM_ABOVE", (here / "eng.txt").stat().st_size)
    shown = glotprompt(*words).err
    assert "nya, target text: " in shown
    assert "source text" not in shown.replace("not checked", "")


def test_evaluation_text_is_removed_from_streamed_text(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    lines = (here / "nya.txt").read_text(encoding="utf-8").splitlines()
    (here / "scored.txt").write_text("\n".join(lines[:7]), encoding="utf-8")
    words = [*ADAPT.split(), "--model", tiny_folder, "--stream", "on", "--held-out", "scored.txt"]
    for _ in range(2):  # from the text, and from the cache
        shown = glotprompt(*words).err
        assert f"nya, target text: {len(lines) - 7} texts" in shown
        assert "; 7 removed as evaluation text" in shown
        record = gp.load_adapted(here / "nya.st").facts["guards"]["target"]
        assert (record["removed"], record["kept"]) == (7, len(lines) - 7)
        (here / "nya.st").unlink()
    facts = json.loads(next((here / "cache").glob("*/facts.json")).read_text())
    assert facts["notes"]["ngram"] == 13


def test_words_that_do_not_go_with_it(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    words = [*ADAPT.split(), "--model", tiny_folder, "--stream", "on"]
    assert "--stream off" in glotprompt(*words, "--text-share", "0.5").error
    standard_input = [word.replace("nya.txt", "-") if isinstance(word, str) else word for word in words]
    assert "write - to a file first" in glotprompt(*standard_input).error
    missing = [word.replace("nya.txt", "none.txt") if isinstance(word, str) else word for word in words]
    assert "none.txt: " in glotprompt(*missing).error
