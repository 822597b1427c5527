"""`adapt --map-characters`, and what the later commands make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import glotprompt as gp

from .conftest import Program

ADAPT = "--target nya=nya.txt --source eng.txt --steps 2 --batch-size 4 --max-length 24 --prompt-length 4"
TUNE = "--train train.tsv --task task.toml --epochs 1 --batch-size 8 --max-length 24 --top-k 2"


@pytest.fixture
def here(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    text = (files / "nya.txt").read_text(encoding="utf-8")
    (files / "nya.txt").write_text(text.replace("w", "ɬ"), encoding="utf-8")
    monkeypatch.chdir(files)
    return files


def test_from_text_to_predictions(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    words = ["adapt", "--model", tiny_folder, *ADAPT.split(), "--output", "nya.st", "--map-characters", "auto"]
    made = glotprompt(*words)
    assert made.status == 0, made.err
    assert "LATIN SMALL LETTER L WITH BELT becomes 'lh'" in made.err
    assert ", 0 of " in made.err.split("unknown tokens: ")[1].splitlines()[0]
    assert "is already what these words make" in glotprompt(*words).err
    without = glotprompt(*words[:-2])
    assert "is already" not in without.err
    assert gp.load_adapted("nya.st").characters is None

    assert glotprompt(*words).status == 0
    tune = ["tune", "--prompt", "nya.st", *TUNE.split(), "--output", "topic.st", "--model", tiny_folder]
    assert glotprompt(*tune).status == 0
    predict = ["predict", "--classifier", "topic.st", "--model", tiny_folder, "--json"]
    shown, rewritten = map(json.loads, glotprompt(*predict, "ɬa you", "lha you").out.splitlines())
    assert shown["text"] == "ɬa you"
    assert shown["scores"] == rewritten["scores"]


def test_a_table_of_ones_own(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    (here / "own.toml").write_text('"ɬ" = "th"\n', encoding="utf-8")
    words = ["adapt", "--model", tiny_folder, *ADAPT.split(), "--output", "nya.st"]
    made = glotprompt(*words, "--map-characters", "own.toml")
    assert "becomes 'th' (given" in made.err
    found = gp.load_adapted(here / "nya.st").characters
    assert found is not None
    assert [(entry.character, entry.spelling) for entry in found.rewritings] == [("ɬ", "th")]
    assert glotprompt(*words, "--map-characters", "none.toml").error == (
        "error: none.toml: no such file; expected a TOML or JSON file of character = spelling"
    )


def test_nothing_to_rewrite(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    (here / "nya.txt").write_text((here / "eng.txt").read_text(encoding="utf-8"), encoding="utf-8")
    words = ["adapt", "--model", tiny_folder, *ADAPT.split(), "--output", "nya.st", "--map-characters", "auto"]
    made = glotprompt(*words)
    assert "every character is known" in made.err
    assert gp.load_adapted(here / "nya.st").characters is None
