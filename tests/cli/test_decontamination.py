"""Evaluation text in what is trained on: found, removed, refused, and recorded in what is saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glotprompt.storage import artifact

from .conftest import Outcome, Program

ADAPT = "--source eng.txt --steps 1 --batch-size 2 --max-length 16 --prompt-length 2 --precision fp32"
TUNE = "--task task.toml --epochs 1 --batch-size 8 --max-length 16 --top-k 1 --precision fp32"


Adapt = Callable[..., Outcome]


@pytest.fixture
def adapt(here: Path, tiny_folder: Path, glotprompt: Program) -> Adapt:
    """adapt("--target nya=nya.txt") -> its outcome; it writes `x.st`."""

    def _adapt(words: str, output: str = "x.st") -> Outcome:
        return glotprompt(*f"adapt --model {tiny_folder} {words} {ADAPT} --output {output}".split())

    return _adapt


def training_of(path: str, kind: str = "language prompt") -> dict[str, Any]:
    return artifact.describe(path, (kind,))["training"]


@pytest.mark.slow
def test_text_that_will_be_scored_is_removed_and_recorded(here: Path, adapt: Adapt, invented_lines: list[str]) -> None:
    (here / "test.csv").write_text(f'text,label\n"{invented_lines[3].upper()}",sports\nunheard of words,health\n')
    outcome = adapt("--target nya=nya.txt --held-out test.csv --json x.json")
    num = len(invented_lines)
    assert (
        f"nya, target text: 1 of {num} texts removed after a check against 1 evaluation set (test.csv: 1 the same"
        in (outcome.err)
    )
    assert f"nya: {num - 1} target lines" in outcome.err
    counts = {"same": 1, "shared": 0}
    expected = {"ngram": 13, "kept": num - 1, "removed": 1, "held_out": {"test.csv": counts}}
    decontamination = training_of("x.st")["decontamination"]
    assert decontamination["target"] == expected
    assert decontamination["source"]["removed"] == 0
    assert json.loads((here / "x.json").read_text())["prompts"][0]["decontamination"] == decontamination

    assert "already what these words make" in adapt("--target nya=nya.txt --held-out test.csv").err
    again = adapt("--target nya=nya.txt --no-overlap-check")
    assert "already" not in again.err, "a line more is read"
    assert training_of("x.st")["decontamination"] == {"switches": ["--no-overlap-check"]}
    plain = adapt("--target nya=nya.txt")
    assert "already what these words make" in plain.err, "the same is read"
    assert "x.st now says how its text was checked this time" in plain.err
    assert "not checked against evaluation text" in plain.err
    assert "decontamination" not in training_of("x.st")
    assert "now says" not in adapt("--target nya=nya.txt").err


@pytest.mark.slow
def test_held_out_tables_are_read_as_the_command_says(here: Path, adapt: Adapt, invented_lines: list[str]) -> None:
    (here / "test.csv").write_text(f"text;label\n{invented_lines[3]};sports\nunheard of words;health\n")
    words = "--target nya=nya.txt --held-out test.csv"
    error = adapt(words).error
    assert "test.csv: one column only, whose name 'text;label' looks like several" in error
    assert "Pass --read 'delimiter=;', or name the one column" in error
    assert "--read columns=text." in error
    outcome = adapt(f"{words} --read delimiter=;")
    assert "(test.csv: 1 the same" in outcome.err
    (here / "test.csv").write_text(f'text,label\n"{invented_lines[3]}",sports\nalone\n')
    assert "line 3: 1 column where 2 were expected. Fix the row, or pass --on-bad-row skip." in adapt(words).error
    assert "(test.csv: 1 the same" in adapt(f"{words} --on-bad-row skip").err


@pytest.mark.slow
def test_evaluation_text_beside_the_training_text_is_found(here: Path, adapt: Adapt, invented_lines: list[str]) -> None:
    (here / "train.quy").write_text("\n".join(invented_lines), encoding="utf-8")
    (here / "dev.quy").write_text("\n".join(invented_lines[:2]), encoding="utf-8")
    # How it is read may be said, though nobody named it.
    outcome = adapt("--target quy=train.quy --read encoding=utf-8")
    assert f"quy, target text: 2 of {len(invented_lines)} texts removed" in outcome.err
    (here / "dev.quy").write_text("\n".join(invented_lines), encoding="utf-8")
    error = adapt("--target quy=train.quy").error
    assert "quy, target text: all of it is evaluation text" in error
    assert "--no-overlap-check" in error


@pytest.mark.slow
def test_evaluation_text_beside_the_source_text_counts_for_the_target(
    here: Path, adapt: Adapt, invented_lines: list[str]
) -> None:
    (here / "hau").mkdir()
    (here / "hau" / "train.txt").write_bytes((here / "eng.txt").read_bytes())
    (here / "hau" / "test.txt").write_text("\n".join(invented_lines[:5]), encoding="utf-8")
    assert "nya, target text: 5 of" in adapt("--target nya=nya.txt --source hau/train.txt").err


@pytest.mark.slow
def test_a_reference_names_what_will_be_scored(
    here: Path, adapt: Adapt, invented_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = here / "masakhanews" / "lin" / "test.tsv"
    path.parent.mkdir(parents=True)
    path.write_text(f"category\theadline\ttext\turl\nsports\tnkoma te\t{invented_lines[0]}\tu\n", encoding="utf-8")
    monkeypatch.setenv("GLOTPROMPT_DATA", str(here))
    outcome = adapt("--target lin=nya.txt --held-out masakhanews:lin:test")
    assert "texts removed after a check against 1 evaluation set (masakhanews:lin:test: 1 the same" in outcome.err
    assert "which split?" in adapt("--target lin=nya.txt --held-out masakhanews:lin").error
    assert "evaluation text by its path" in adapt("--target lin=masakhanews:lin:test").error


@pytest.mark.slow
def test_evaluation_text_is_refused_by_its_place(here: Path, adapt: Adapt, invented_lines: list[str]) -> None:
    folder = here / "aymara-spanish"
    folder.mkdir()
    (folder / "dev.aym").write_text("\n".join(invented_lines), encoding="utf-8")
    words = "--target aym=aymara-spanish/dev.aym"
    assert "pass --allow-evaluation-text" in adapt(words).error
    outcome = adapt(f"{words} --allow-evaluation-text")
    assert "aymara-spanish/dev.aym: evaluation text, read all the same (--allow-evaluation-text)" in outcome.err
    assert training_of("x.st")["decontamination"] == {"switches": ["--allow-evaluation-text"]}


@pytest.mark.slow
def test_xnli_is_refused_for_a_language_of_americasnli(
    here: Path, adapt: Adapt, tiny_folder: Path, glotprompt: Program
) -> None:
    assert adapt("--target quy=nya.txt").status == 0
    folder = here / "xnli"
    folder.mkdir()
    (folder / "dev-en.tsv").write_bytes((here / "train.tsv").read_bytes())
    words = f"tune --prompt x.st --train xnli/dev-en.tsv {TUNE} --output topic.st"
    assert (
        "those of AmericasNLI in another language, and the target language is quy" in glotprompt(*words.split()).error
    )
    assert glotprompt(*words.split(), "--allow-evaluation-text").status == 0
    assert training_of("topic.st", "classifier")["decontamination"] == {"switches": ["--allow-evaluation-text"]}
    words = f"tune --model {tiny_folder} --train xnli/dev-en.tsv {TUNE} --output plain.st"
    assert "do not score the classifier on AmericasNLI" in glotprompt(*words.split()).err
    assert "the target language is quy" in glotprompt(*words.split(), "--language", "quy").error
    words = "compare --language quy --train xnli/dev-en.tsv --task task.toml --output folder"
    assert "the target language is quy" in glotprompt(*words.split()).error
    words = "self-train --classifier topic.st --train xnli/dev-en.tsv --unlabelled nya.txt --output again.st"
    assert "the target language is quy" in glotprompt(*words.split()).error


@pytest.mark.slow
def test_of_a_large_text_lines_are_drawn(here: Path, adapt: Adapt, invented_lines: list[str]) -> None:
    num = len(invented_lines)
    outcome = adapt("--target nya=nya.txt --max-lines 20")
    assert f"nya, target text: 20 of {num} lines are read, sampled by seed 0; --max-lines sets how many" in outcome.err
    assert "nya: 20 target lines, 20 source lines" in outcome.err
    metadata = training_of("x.st")
    assert metadata["target_lines"] == 20
    assert metadata["drawn_from_lines"] == {"target": num, "source": len((here / "eng.txt").read_text().splitlines())}
    assert "already what these words make" in adapt("--target nya=nya.txt --max-lines 20").err
    first = (here / "x.st").read_bytes()
    assert "already" not in adapt("--target nya=nya.txt --max-lines 20 --seed 1").err
    (here / "nya.txt").write_text("\n".join([*invented_lines, "one more"]), encoding="utf-8")
    assert "already" not in adapt("--target nya=nya.txt --max-lines 20").err
    assert (here / "x.st").read_bytes() != first
    assert "lines are read" not in adapt(f"--target nya=nya.txt --max-lines {10 * num}").err
    assert "drawn_from_lines" not in training_of("x.st")


@pytest.mark.slow
def test_a_share_of_cleaned_text(here: Path, adapt: Adapt, glotprompt: Program, invented_lines: list[str]) -> None:
    (here / "wide.txt").write_text("\n".join(f"\u00a0{line}\u200b" for line in invented_lines), encoding="utf-8")
    assert "nya: 15 target lines" in adapt("--target nya=wide.txt --normalise --text-share 0.25").err
    metadata = training_of("x.st")
    assert (metadata["normalised"], metadata["text_share"]) == (True, 0.25)
    assert "expected a number above 0, up to 1" in adapt("--target nya=nya.txt --text-share 25").error

    words = f"tune --prompt x.st --train train.tsv --normalise {TUNE} --output topic.st"
    assert glotprompt(*words.split()).status == 0
    assert training_of("topic.st", "classifier")["normalised"] is True
    predict = "predict --classifier topic.st --input wide.txt"
    outcome = glotprompt(*predict.split())
    assert "tuned on normalised text; give --normalise here, too" in outcome.err
    assert "--normalise" not in glotprompt(*predict.split(), "--normalise").err


@pytest.mark.slow
def test_bad_rows(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    with (here / "train.tsv").open("a") as file:
        file.write("\nalone\nwords\tweather\n")
    words = f"tune --model {tiny_folder} --train train.tsv {TUNE} --output topic.st"
    error = glotprompt(*words.split()).error
    assert "train.tsv, line 32: 1 column where 2 were expected. Fix the row, or pass --on-bad-row skip." in error
    err = glotprompt(*words.split(), "--on-bad-row", "skip").err
    assert "train.tsv, line 33: unknown label 'weather'; expected one of sports, health, business; skipped" in err
    assert "train.tsv: 2 bad rows skipped" in err
    quoted = here / "quoted.tsv"
    quoted.write_text('text\tlabel\nan "odd quote" here\thealth\n"open\tsports\n' * 2, encoding="utf-8")
    assert "pass --read quoting=none" in glotprompt(*words.split(), "--on-bad-row", "skip", "--train", quoted).err
    assert "write --on-bad-row skip" in glotprompt(*words.split(), "--read", "on_bad_row=skip").error
    evaluated = glotprompt("evaluate", "--classifier", "topic.st", "--data", "train.tsv", "--on-bad-row", "skip")
    assert "30 examples" in evaluated.out
