"""`show`: what a trained file is, and the TOML that makes it again."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from glotprompt.storage.artifact import describe

from .conftest import Program

SMALL = "--precision fp32 --device cpu --batch-size 4 --max-length 24".split()
KINDS = ("language prompt", "language module", "classifier")


def identity(path: str) -> str:
    """The run's, with the versions that it ran on."""
    return describe(path, KINDS)["training"]["made_from"]


def toml_of(glotprompt: Program, path: str) -> dict[str, object]:
    """What `show --toml` prints, which is left as run.toml, too."""
    outcome = glotprompt("show", path, "--toml")
    assert outcome.status == 0, outcome.err
    Path("run.toml").write_text(outcome.out, encoding="utf-8")
    return tomllib.loads(outcome.out)


@pytest.mark.slow
def test_the_toml_of_stage_1_makes_the_same_run(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    inputs = ("--target", "nya=nya.txt", "--source", "eng.txt", "--precision", "fp32", "--device", "cpu")
    settings = (
        "--steps",
        4,
        "--prompt-length",
        3,
        "--preset",
        "quick",
        "--set",
        "patience=null",
        "--set",
        "eval_every=2",
    )
    made = glotprompt("adapt", "--model", tiny_folder, *inputs, *SMALL[4:], *settings, "--output", "first.st")
    assert made.status == 0, made.err
    shown = glotprompt("show", "first.st").out
    for line in ("Chichewa (nya)", "soft-prompt", "MLM loss", "trained", "language prompt"):
        assert line in shown
    told = toml_of(glotprompt, "first.st")
    assert {name: told[name] for name in ("steps", "prompt_length", "eval_every", "batch_size", "language")} == {
        "steps": 4, "prompt_length": 3, "eval_every": 2, "batch_size": 4, "language": "nya",
    }  # fmt: skip
    assert told["model"] == str(tiny_folder)
    assert not {"lora_rank", "auto_steps", "patience", "seed"} & told.keys(), "defaults, and what changes nothing"
    again = glotprompt("adapt", "--config", "run.toml", *inputs, "--output", "again.st")
    assert again.status == 0, again.err
    assert identity("again.st") == identity("first.st")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "--target nya=nya.txt --source eng.txt --method mad-x --set invertible_reduction=null",
            "invertible_reduction",
        ),
        ("--target nya=nya.txt --method lora --set source_share=0 --max-length 24 --normalise", "normalise"),
        ("--language nya --parallel nya.txt --parallel eng.txt --method lora --no-overlap-check", "objective"),
    ],
)
def test_the_toml_of_other_methods(words: str, told: str, here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    lines = [(here / name).read_text(encoding="utf-8").splitlines()[:60] for name in ("nya.txt", "eng.txt")]
    for name, some in zip(("nya.txt", "eng.txt"), lines, strict=True):
        (here / name).write_text("\n".join(some), encoding="utf-8")
    common = "--precision fp32 --device cpu"
    made = glotprompt(*f"adapt --model {tiny_folder} {words} {common} --steps 2 --output first.st".split())
    assert made.status == 0, made.err
    assert told in toml_of(glotprompt, "first.st")
    inputs = [*words.split("--method")[0].split(), *common.split()]
    again = glotprompt("adapt", "--config", "run.toml", *inputs, "--output", "again.st")
    assert again.status == 0, again.err
    assert identity("again.st") == identity("first.st")


@pytest.mark.slow
def test_the_toml_of_stage_2_makes_the_same_run(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    inputs = ("--train", "train.tsv", "--task", "task.toml", "--precision", "fp32", "--device", "cpu")
    settings = (
        "--epochs",
        1,
        "--top-k",
        1,
        "--shots",
        4,
        "--learning-rate",
        0.5,
        *"--set prompt_length=3 --language lug".split(),
    )
    made = glotprompt("tune", "--model", tiny_folder, *inputs, *SMALL[4:], *settings, "--output", "first.st")
    assert made.status == 0, made.err
    assert "dev accuracy" in glotprompt("show", "first.st").out
    told = toml_of(glotprompt, "first.st")
    assert (told["top_k_layers"], told["shots_per_class"], told["language"]) == (1, 4, "lug")
    again = glotprompt("tune", "--config", "run.toml", *inputs, "--output", "again.st")
    assert again.status == 0, again.err
    assert identity("again.st") == identity("first.st")


@pytest.mark.slow
def test_what_nobody_trained_has_no_toml(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    common = ("--model", tiny_folder, "--target", "nya=nya.txt", "--source", "eng.txt", *SMALL, "--steps", 1)
    assert glotprompt("adapt", *common, "--output", "one.st").status == 0
    assert glotprompt("combine", "one.st", "one.st", "--weights", "1,-1", "--output", "both.st").status == 0
    assert "1 nya, -1 nya" in glotprompt("show", "both.st").out
    assert "was not trained by glotprompt" in glotprompt("show", "both.st", "--toml").error


def test_a_file_of_another_kind(here: Path, glotprompt: Program) -> None:
    assert "no safetensors file" in glotprompt("show", "eng.txt").error
    assert "gone.st does not exist" in glotprompt("show", "gone.st").error
