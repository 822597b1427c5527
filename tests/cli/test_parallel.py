"""adapt --parallel: from translations to a classifier, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glotprompt.storage import artifact

from .conftest import Program

FP32 = "--precision fp32 --batch-size 4"
ADAPT = f"adapt --language nya --steps 3 --max-length 24 {FP32}"
TUNE = "tune --train train.tsv --task task.toml --max-length 24 --precision fp32"


@pytest.fixture
def model(tiny_folder: Path, here: Path) -> str:
    """The tiny backbone's option; beside it pairs.tsv, thirty pairs of two columns without names."""
    english = (here / "eng.txt").read_text(encoding="utf-8").splitlines()
    other = (here / "nya.txt").read_text(encoding="utf-8").splitlines()
    pairs = list(zip(english, other, strict=False))[:30]
    (here / "pairs.tsv").write_text("".join(f"{one}\t{two}\n" for one, two in pairs), encoding="utf-8")
    (here / "one.txt").write_text("".join(f"{one}\n" for one, _ in pairs), encoding="utf-8")
    (here / "two.txt").write_text("".join(f"{two}\n" for _, two in pairs), encoding="utf-8")
    return f"--model {tiny_folder}"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["soft-prompt", "lora", "fine-tuning-mlm"])
def test_from_translations_to_a_classifier(method: str, model: str, here: Path, glotprompt: Program) -> None:
    words = f"{ADAPT} {model} --parallel pairs.tsv --method {method} --output nya.st --json adapt.json"
    outcome = glotprompt(*words.split())
    assert outcome.status == 0, outcome.err
    assert "translations found" in outcome.out
    assert "30 of 30 pairs kept" in outcome.err
    (figures,) = json.loads((here / "adapt.json").read_text())["prompts"]
    assert (figures["method"], figures["config"]["objective"]) == (method, "alignment")
    assert f"{figures['retrieval_before']:.1f} % before, {figures['retrieval_after']:.1f} % after" in outcome.out
    assert figures["decontamination"]["parallel"]["kept"] == 30
    assert "already what these words make" in glotprompt(*words.split()).err

    outcome = glotprompt(*f"{TUNE} --prompt nya.st --method embedding --output topic.st --json tune.json".split())
    assert outcome.status == 0, outcome.err
    assert "behind layer 3" in outcome.out, "an aligned prompt is read at the last layer"
    assert (
        glotprompt(*["evaluate", "--classifier", "topic.st", "--precision", "fp32", "--data", "test.tsv"]).status == 0
    )
    assert artifact.read("topic.st", "classifier")[1]["language"] == "nya"


@pytest.mark.slow
def test_two_files_line_by_line_are_the_same_pairs(model: str, here: Path, glotprompt: Program) -> None:
    for source, output in (("pairs.tsv", "a.st"), ("one.txt --parallel two.txt", "b.st")):
        outcome = glotprompt(*f"{ADAPT} {model} --parallel {source} --output {output}".split())
        assert outcome.status == 0, outcome.err
    (one, _), (two, _) = (artifact.read(here / name, "language prompt") for name in ("a.st", "b.st"))
    assert one["key_values"].equal(two["key_values"])


@pytest.mark.slow
def test_what_is_scored_is_taken_out_of_both_sides(model: str, here: Path, glotprompt: Program) -> None:
    one = (here / "one.txt").read_text(encoding="utf-8").splitlines()
    two = (here / "two.txt").read_text(encoding="utf-8").splitlines()
    (here / "scored.txt").write_text(f"{one[3]}\n{two[7]}\n", encoding="utf-8")
    words = f"{ADAPT} {model} --parallel pairs.tsv --held-out scored.txt --output nya.st"
    outcome = glotprompt(*words.split())
    assert outcome.status == 0, outcome.err
    assert "28 of 30 pairs kept; removed: 2 for evaluation text" in outcome.err


@pytest.mark.slow
def test_target_text_centres_the_vectors(
    model: str, here: Path, glotprompt: Program, invented_lines: list[str]
) -> None:
    tune = f"{TUNE} {model} --method embedding --output topic.st"
    outcome = glotprompt(*f"{tune} --target-text nya.txt".split())
    assert outcome.status == 0, outcome.err
    lines = len((here / "nya.txt").read_text(encoding="utf-8").splitlines())
    assert artifact.read("topic.st", "classifier")[1]["training"]["centred_on"] == lines
    assert "--train and --task (task), --target-text" in glotprompt("show", "topic.st", "--toml").out
    outcome = glotprompt(*f"{TUNE} {model} --epochs 1 --target-text nya.txt --output x.st".split())
    assert "--target-text is for --method embedding alone" in outcome.error
    (here / "train.txt").write_bytes((here / "nya.txt").read_bytes())
    (here / "test.txt").write_text("\n".join(invented_lines[:2]), encoding="utf-8")
    outcome = glotprompt(*f"{tune} --target-text train.txt".split())
    assert f"target text: 2 of {lines} texts removed after a check against" in outcome.err, "test.txt lies beside it"
    checked = artifact.read("topic.st", "classifier")[1]["training"]["decontamination"]
    assert checked["target"]["removed"] == 2
    assert glotprompt(*f"{tune} --target-text train.txt --no-overlap-check".split()).status == 0
    assert artifact.read("topic.st", "classifier")[1]["training"]["centred_on"] == lines
    for words, message in (
        ("--target-text nya.txt --held-out nya.txt --no-overlap-check", "give one of them"),
        ("--target-text sib200:nya:test", "evaluation text by its path"),
    ):
        assert message in glotprompt(*f"{tune} {words}".split()).error


@pytest.mark.slow
def test_text_and_translations_together(model: str, here: Path, glotprompt: Program) -> None:
    words = f"adapt --target nya=nya.txt --source eng.txt --steps 2 --max-length 24 {FP32} {model} --preset paper"
    words += (
        " --parallel nya=pairs.tsv --set objective=mlm+alignment --set alignment_weight=0.5 --output nya.st --json -"
    )
    outcome = glotprompt(*words.split())
    assert outcome.status == 0, outcome.err
    (figures,) = json.loads(outcome.out)["prompts"]
    assert {"mlm_loss_after", "top1_after", "retrieval_after", "loss_after", "num_pairs"} <= figures.keys()
    assert (figures["held_out_pairs"], figures["pairs"]) == (2, 26), "without two whose sides the text holds out"
    assert figures["decontamination"]["parallel"]["kept"] == 30
    shown = glotprompt("show", "nya.st")
    assert "MLM and alignment loss" in shown.out
    assert "--target, --source and --parallel" in glotprompt("show", "nya.st", "--toml").out
    for more in ("", " --source eng.txt"):
        words = (
            f"{ADAPT} {model} --parallel one.txt --parallel two.txt --set objective=mlm+alignment --output x.st{more}"
        )
        assert "needs unlabelled text" in glotprompt(*words.split()).error


@pytest.mark.slow
def test_translations_map_the_vectors_of_tune(model: str, here: Path, glotprompt: Program) -> None:
    (here / "scored.txt").write_text((here / "one.txt").read_text(encoding="utf-8").splitlines()[3])
    words = f"tune --train train.tsv --task task.toml {model} --precision fp32 --method embedding --language nya"
    words += " --parallel pairs.tsv --held-out scored.txt --output topic.st --json -"
    outcome = glotprompt(*words.split())
    assert outcome.status == 0, outcome.err
    assert "29 of 30 pairs kept; removed: 1 for evaluation text" in outcome.err
    told = json.loads(outcome.out)
    assert (told["pairs"], told["decontamination"]["parallel"]["kept"]) == (29, 29)
    assert "already what these words make" in glotprompt(*words.split()).err
    evaluate = "evaluate --classifier topic.st --precision fp32 --data test.tsv"
    assert glotprompt(*evaluate.split()).status == 0
    assert "--train and --task (task), --parallel" in glotprompt("show", "topic.st", "--toml").out
    tune = f"{TUNE} {model} --output x.st"
    for more, message in (
        ("--parallel pairs.tsv", "--parallel is for --method embedding alone"),
        ("--method embedding --held-out scored.txt", "--held-out is for --parallel"),
        ("--method embedding --no-overlap-check", "--no-overlap-check is for --parallel"),
        (
            "--method embedding --parallel pairs.tsv --target-labels test.tsv",
            "--parallel (a ridge map) and --target-labels do not go together",
        ),
        ("--method embedding --set target_weight=2", "there are no --target-labels"),
    ):
        assert message in glotprompt(*f"{tune} {more}".split()).error, more


@pytest.mark.slow
def test_a_mistake_is_one_line(model: str, here: Path, glotprompt: Program) -> None:
    (here / "short.txt").write_text("one line\n", encoding="utf-8")
    for words, message in (
        (
            f"{ADAPT} {model} --parallel pairs.tsv --target nya.txt --output x.st",
            "parallel text is aligned by itself; leave",
        ),
        (f"{ADAPT} {model} --parallel one.txt --output x.st", "one.txt"),
        (f"{ADAPT} {model} --parallel one.txt --parallel short.txt --output x.st", "30"),
        (f"{ADAPT} {model} --parallel none.tsv --output x.st", "none.tsv"),
        (f"{ADAPT} {model} --parallel pairs.tsv --method source-prompt --output x.st", "is not trained by alignment"),
        (f"{ADAPT} {model} --parallel pairs.tsv --set objective=mlm --output x.st", "objective"),
        (f"{ADAPT} {model} --output x.st", "--target FILE, or translations with --parallel FILE"),
        (f"adapt {model} --parallel pairs.tsv --output x.st", "which language is pairs.tsv in"),
        (f"{ADAPT} {model} --parallel pairs.tsv --max-lines 5 --output x.st", "--max-lines is for unlabelled text"),
    ):
        assert message in glotprompt(*words.split()).error, words
    assert not list(here.glob("x.st*"))
