"""`self-train`, and `tune` with labels of the target language, on a tiny backbone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from glotprompt.cli.files import label_prior
from glotprompt.cli.self_train import _warnings
from glotprompt.errors import DataError
from glotprompt.records import SelfTrainingReport, SelfTrainingRound

from .conftest import TOPICS, Outcome, Program

TUNE = "tune --method embedding --task task.toml --precision fp32 --max-length 24"
SELF_TRAIN = "self-train --classifier a.st --train train.tsv --precision fp32"


@pytest.fixture
def typed(here: Path, tiny_folder: Path, glotprompt: Program) -> Program:
    """The program in a folder with `a.st`, a classifier of Chichewa, and unlabelled text."""
    lines = [f"{words} {words.split()[0]} {number}" for words in TOPICS.values() for number in range(8)]
    (here / "unlabelled.txt").write_text("\n".join(lines), encoding="utf-8")

    def run(words: str) -> Outcome:
        return glotprompt(*words.split())

    made = run(f"{TUNE} --model {tiny_folder} --language nya --train train.tsv --output a.st")
    assert made.status == 0, made.err
    return run


def figures_of(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_what_happened_is_said_and_done_once(typed: Program, here: Path) -> None:
    (here / "held.txt").write_text((here / "unlabelled.txt").read_text(encoding="utf-8").splitlines()[0], "utf-8")
    words = f"{SELF_TRAIN} --unlabelled unlabelled.txt --held-out held.txt --output b.st --json b.json"
    outcome = typed(words)
    assert outcome.status == 0, outcome.err
    found = figures_of(here / "b.json")
    said = found["self_training"]
    assert (said["texts"], said["stopped"], found["language"]) == (23, None, "nya")
    (first,) = said["rounds"]
    kept = ", ".join(f"{label} {first['kept'][label]}" for label in ("sports", "health", "business"))
    assert f"kept {kept}; {first['agreement']:.1f} % of the texts kept their label" in outcome.out
    assert found["decontamination"]["target"]["removed"] == 1
    assert "next: glotprompt evaluate --classifier b.st" in outcome.err
    shown = typed("show b.st").out
    assert "self-training  1 round on 23 unlabelled texts" in shown
    assert "not measured in Chichewa" in shown
    assert "# It was self-trained since" in typed("show b.st --toml").out
    again = typed(words)
    assert "b.st is already what these words make" in again.err
    assert again.out == outcome.out
    other = typed(f"{words} --keep 0.9")
    assert "already" not in other.err


@pytest.mark.slow
def test_text_beside_what_is_scored_is_left_out(typed: Program, here: Path) -> None:
    lines = (here / "unlabelled.txt").read_text(encoding="utf-8").splitlines()
    (here / "nya").mkdir()
    (here / "nya" / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    (here / "nya" / "test.txt").write_text("\n".join(lines[:2]), encoding="utf-8")
    words = f"{SELF_TRAIN} --unlabelled nya/train.txt --output b.st --json b.json"
    assert typed(words).status == 0
    assert figures_of(here / "b.json")["self_training"]["texts"] == 22
    unchecked = typed(f"{words} --no-overlap-check")
    found = figures_of(here / "b.json")
    assert unchecked.status == 0
    assert found["self_training"]["texts"] == 24
    assert found["decontamination"] == {"switches": ["--no-overlap-check"]}


@pytest.mark.slow
def test_collapsed_predictions_leave_the_classifier(typed: Program, here: Path) -> None:
    (here / "alike.txt").write_text("\n".join(["win play field"] * 40), encoding="utf-8")
    outcome = typed(f"{SELF_TRAIN} --unlabelled alike.txt --label-prior sports=0.8,health=0.2 --output b.st")
    assert outcome.status == 0, outcome.err
    assert "! stopped: predictions collapsed (" in outcome.out
    assert "; the classifier is unchanged" in outcome.out
    before, after = ((typed(f"predict --classifier {name} --input test.tsv").out) for name in ("a.st", "b.st"))
    assert before == after


@pytest.mark.slow
def test_what_it_refuses(typed: Program, here: Path) -> None:
    words = f"{SELF_TRAIN} --unlabelled unlabelled.txt"
    assert "--output a.st is what --classifier reads; give another name" in typed(f"{words} --output a.st").error
    assert "error: --keep: Input should be" in typed(f"{words} --keep 2 --output b.st").error
    assert "no label 'weather'" in typed(f"{words} --label-prior weather=1 --output b.st").error
    assert "give one of them" in typed(f"{words} --no-overlap-check --held-out nya.txt --output b.st").error
    assert not (here / "b.st").exists()


def test_a_collapse_is_said() -> None:
    one = SelfTrainingRound(kept={"sports": 1}, agreement=50.0)
    found = SelfTrainingReport(rounds=[], texts=9, keep=0.5, prior={}, stopped="no text was taken for 'health'")
    (said,) = _warnings(found)
    assert said == ("stopped: predictions collapsed (no text was taken for 'health'); the classifier is unchanged")
    assert "that of round 1" in _warnings(found.replace(rounds=[one]))[0]
    assert _warnings(found.replace(stopped=None)) == []


def test_a_prior_may_be_typed(tmp_path: Path) -> None:
    assert label_prior("a=0.4, b=0.6", ["a", "b"]) == {"a": 0.4, "b": 0.6}
    (tmp_path / "a=b.toml").write_text("a = 1", encoding="utf-8")
    assert label_prior(str(tmp_path / "a=b.toml"), ["a", "b"]) == {"a": 1.0}
    for wrong in ("a=much", "a=nan", "a=-1"):
        with pytest.raises(DataError, match="expected one number of 0 or more per label"):
            label_prior(wrong, ["a", "b"])


# --- tune


@pytest.mark.slow
def test_labels_of_several_languages(typed: Program, here: Path, tiny_folder: Path) -> None:
    rows = [f"{words} {number}\t{label}" for label, words in TOPICS.items() for number in range(6)]
    for name in ("fra.tsv", "target.tsv"):
        (here / name).write_text("\n".join(["text\tlabel", *(f"{name} {row}" for row in rows)]), encoding="utf-8")
    words = f"{TUNE} --model {tiny_folder} --train train.tsv --train fra.tsv --output b.st --json b.json"
    outcome = typed(words)
    assert "train.tsv: 30 examples; fra.tsv: 18 examples" in outcome.err
    assert figures_of(here / "b.json")["train_sources"] == {"train.tsv": 30, "fra.tsv": 18}
    outcome = typed(f"{words} --target-labels target.tsv --set target_weight=2")
    found = figures_of(here / "b.json")
    assert (found["target_examples"], found["target_dev_examples"], found["target_weight"]) == (18, 18, 2.0)
    assert "18 in training, judged in 5 folds; one weighs 2 source examples" in outcome.out
    assert re.search(r"of \d+ examples of both languages", outcome.out)
    assert "--train names a file twice" in typed(words.replace("fra.tsv", "train.tsv")).error
    assert "target_weight" in typed(f"{words} --set target_weight=2").error


@pytest.mark.slow
def test_from_a_prompt(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    small = "--batch-size 4 --max-length 24 --precision fp32"
    for words in (
        f"adapt --model {tiny_folder} --target nya=nya.txt --source eng.txt {small} --steps 2 --output nya.st",
        f"tune --prompt nya.st --train train.tsv --task task.toml {small} --epochs 1 --output a.st",
    ):
        assert glotprompt(*words.split()).status == 0
    words = f"{SELF_TRAIN} --unlabelled nya.txt --output b.st".split()
    assert "give it as --prompt FILE" in glotprompt(*words).error
    outcome = glotprompt(*words, "--prompt", "nya.st")
    assert outcome.status == 0, outcome.err
    assert "unlabelled texts" in outcome.out
    assert not list(here.glob("*.checkpoints"))
