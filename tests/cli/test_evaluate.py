"""What `evaluate` says of a classifier: its interval, the majority class, and the difference to another one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from glotprompt.data.readers.files import read_examples
from glotprompt.report.significance import compare_predictions
from glotprompt.storage import artifact

from .conftest import TOPICS, Outcome, Program

TUNE = "--train train.tsv --task task.toml --batch-size 8 --max-length 24 --precision fp32"
EVALUATE = "evaluate --data test.tsv --precision fp32 --classifier"


@pytest.fixture
def typed(here: Path, tiny_folder: Path, glotprompt: Program) -> Program:
    """The program in a folder with `one.st`, a classifier."""

    def run(words: str) -> Outcome:
        return glotprompt(*words.split())

    made = run(f"tune --model {tiny_folder} {TUNE} --epochs 1 --set prompt_length=3 --output one.st")
    assert made.status == 0, made.err
    assert (here / "one.st").is_file()
    return run


def figures_of(path: str) -> dict[str, Any]:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_table(path: str, *labels: str) -> None:
    rows = [f"{TOPICS[label]} {number}\t{label}" for number, label in enumerate(labels)]
    Path(path).write_text("\n".join(["text\tlabel", *rows]), encoding="utf-8")


def test_accuracy_comes_with_interval_majority_and_macro_f1(typed: Program) -> None:
    outcome = typed(f"{EVALUATE} one.st --json one.json")
    found = figures_of("one.json")
    low, high = found["interval"]
    assert 0 <= low < found["accuracy"] < high <= 100
    assert (found["majority"], found["majority_label"]) == (pytest.approx(100 / 3), "sports")
    assert found["labels"] == ["sports", "health", "business"]
    assert found["against"] is None
    first, second, third, *_ = (" ".join(line.split()) for line in outcome.out.splitlines())
    assert first == f"accuracy {found['accuracy']:.1f} %, 95 % interval {low:.1f} to {high:.1f}, 21 examples"
    assert second == "majority class 33.3 %, by answering 'sports' every time"
    assert third.startswith(f"macro-F1 {found['macro_f1']:.1f} % over the 3 labels that occur,")


@pytest.mark.slow
def test_a_result_below_the_majority_class_is_named(typed: Program) -> None:
    write_table("mixed.tsv", "sports", "sports", "health")
    words = "evaluate --data mixed.tsv --classifier one.st"
    below = typed(f"{words} --labels health,business")
    assert "! below the majority class: answering 'sports' every time is right more often" in below.out
    always = typed(f"{words} --labels sports")
    assert "accuracy        66.7 %" in always.out
    assert "! below" not in always.out
    assert "! collapse: 100 % of the examples were labelled 'sports'" in always.out


@pytest.mark.slow
def test_one_label_alone_is_no_collapse(typed: Program) -> None:
    write_table("alone.tsv", "sports", "sports", "sports")
    outcome = typed("evaluate --data alone.tsv --classifier one.st --labels sports")
    assert "! collapse" not in outcome.out
    assert "! only one label, 'sports', occurs among the examples" in outcome.out
    other = typed("evaluate --data alone.tsv --classifier one.st --labels health")
    assert "! only one label" in other.out
    assert "! collapse: 100 % of the examples were labelled 'health'" in other.out


# --- against another classifier


def shown(difference: dict[str, Any], num: int) -> str:
    low, high = difference["low"], difference["high"]
    return (
        f"against {difference['file']}: {difference['accuracy']:.1f} %; difference {difference['difference']:+.1f} "
        f"points, 95 % interval {low:+.1f} to {high:+.1f} (paired bootstrap over {num} examples)"
    )


@pytest.mark.slow
def test_against_another_method_on_the_same_backbone(typed: Program, tiny_folder: Path) -> None:
    made = typed(
        f"tune --model {tiny_folder} {TUNE} --method fine-tuning --learning-rate 0.01 --epochs 8 --output other.st"
    )
    assert made.status == 0, made.err
    alone = {name: typed(f"{EVALUATE} {name}.st --json {name}.json") for name in ("one", "other")}
    outcome = typed(f"{EVALUATE} one.st --against other.st --json both.json")
    assert outcome.err.count("backbone: ") == 1
    one, other, both = (figures_of(f"{name}.json") for name in ("one", "other", "both"))
    assert other["accuracy"] > one["accuracy"] + 20, "alike, they prove little"
    assert both["predictions"] == one["predictions"]
    expected = compare_predictions(
        [example.label for example in read_examples("test.tsv")], one["predictions"], other["predictions"]
    )
    assert both["against"] == {
        "file": "other.st",
        "accuracy": pytest.approx(other["accuracy"]),
        "difference": pytest.approx(one["accuracy"] - other["accuracy"]),
        "low": expected.low,
        "high": expected.high,
    }
    assert shown(both["against"], 21) in outcome.out
    assert "zero is outside the interval: worse than other.st on examples like these" in outcome.out
    assert outcome.out.startswith(alone["one"].out.rstrip("\n")), "nothing else changes"

    turned = typed(f"{EVALUATE} other.st --against one.st")
    assert "zero is outside the interval: better than one.st on examples like these" in turned.out
    kept = typed(f"{EVALUATE} one.st --against other.json --json again.json")
    assert figures_of("again.json")["against"] == {**both["against"], "file": "other.json"}
    assert shown(figures_of("again.json")["against"], 21) in kept.out


@pytest.mark.slow
def test_against_itself_nothing_is_told_apart(typed: Program) -> None:
    outcome = typed(f"{EVALUATE} one.st --against one.st")
    assert "difference +0.0 points, 95 % interval +0.0 to +0.0" in outcome.out
    assert "zero is within the interval: these examples do not tell which one is better" in outcome.out


@pytest.mark.slow
def test_offsets_are_fitted_for_the_classifier_alone(typed: Program) -> None:
    typed(f"{EVALUATE} one.st --json one.json")
    typed(f"{EVALUATE} one.st --prior-text nya.txt --against one.st --json both.json")
    assert figures_of("both.json")["predictions"] != figures_of("one.json")["predictions"]
    assert figures_of("both.json")["against"]["accuracy"] == pytest.approx(figures_of("one.json")["accuracy"])


@pytest.mark.slow
def test_against_a_classifier_of_another_backbone(
    typed: Program,
    here: Path,
    stock: Callable[[str], PreTrainedModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    stock("bert").save_pretrained(here / "bert")
    tiny_tokenizer.save_pretrained(here / "bert")
    typed(f"tune --model {here / 'bert'} {TUNE} --epochs 1 --set prompt_length=3 --output bert.st")
    typed(f"{EVALUATE} bert.st --json bert.json")
    outcome = typed(f"{EVALUATE} one.st --against bert.st --json both.json")
    assert outcome.err.count("backbone: ") == 2
    assert figures_of("both.json")["against"]["accuracy"] == pytest.approx(figures_of("bert.json")["accuracy"])
    (here / "bert").rename(here / "moved")
    assert "give that file to --against" in typed(f"{EVALUATE} one.st --against bert.st").error
    typed(f"{EVALUATE} bert.st --model {here / 'moved'} --json moved.json")
    assert typed(f"{EVALUATE} one.st --against moved.json").status == 0


@pytest.mark.slow
def test_what_cannot_be_compared(typed: Program, here: Path, tiny_folder: Path) -> None:
    write_table("two.tsv", *["sports", "health"] * 8)
    task = re.sub("business.*\n", "", (here / "task.toml").read_text(encoding="utf-8"))
    (here / "two.toml").write_text(task, encoding="utf-8")
    two = f"tune --model {tiny_folder} --train two.tsv --task two.toml --epochs 1 --set prompt_length=3 --output two.st"
    assert typed(two).status == 0
    labels = "its labels are sports, health, not sports, health, business"
    assert f"--against two.st: {labels}" in typed(f"{EVALUATE} one.st --against two.st").error

    typed("evaluate --data two.tsv --classifier one.st --json other-examples.json")
    assert "are of other examples (two.tsv)" in typed(f"{EVALUATE} one.st --against other-examples.json").error
    typed(f"{EVALUATE} one.st --labels sports,health --json fewer.json")
    assert f"--against fewer.json: {labels}" in typed(f"{EVALUATE} one.st --against fewer.json").error
    assert typed(f"{EVALUATE} one.st --labels health,sports --against fewer.json").status == 0
    (here / "none.json").write_text("{}", encoding="utf-8")
    assert "none.json holds no evaluation" in typed(f"{EVALUATE} one.st --against none.json").error
    assert "missing.st does not exist" in typed(f"{EVALUATE} one.st --against missing.st").error


# --- recorded in the classifier's file


@pytest.mark.slow
def test_a_recorded_accuracy_is_said_wherever_the_classifier_is_used(typed: Program, here: Path) -> None:
    before = artifact.describe("one.st", ["classifier"])
    assert "not measured" in typed("show one.st").out
    outcome = typed(f"{EVALUATE} one.st --record --language lug --json one.json")
    found = figures_of("one.json")
    low, high = found["interval"]
    said = f"{found['accuracy']:.0f} % [{low:.0f}, {high:.0f}] of 21 texts in Luganda"
    assert f"recorded in one.st: {said} (lug;" in outcome.err
    assert f"accuracy: {said}\n" in typed("predict --classifier one.st play").err
    assert said in typed("show one.st").out
    after = artifact.describe("one.st", ["classifier"])
    (kept,) = after.pop("measurements")
    assert after == before, "the classifier is the same"
    assert (kept["language"], kept["content"], kept["num_examples"]) == ("lug", found["content"], 21)
    assert not list(here.glob("*.checkpoints"))


@pytest.mark.slow
def test_what_is_recorded_is_what_the_file_does(typed: Program) -> None:
    write_table("other.tsv", "sports", "health", "health", "business")
    for data in ("test.tsv", "test.tsv", "other.tsv"):
        assert typed(f"evaluate --classifier one.st --data {data} --record --language lug").status == 0
    kept = artifact.describe("one.st", ["classifier"])["measurements"]
    assert [one["num_examples"] for one in kept] == [21, 4]
    evaluate = "evaluate --classifier one.st --data test.tsv"
    assert "which language is test.tsv in? Say it with --language CODE" in typed(f"{evaluate} --record").error
    assert "--language is for --record" in typed(f"{evaluate} --language lug").error
    assert "leave --labels out" in typed(f"{evaluate} --record --language lug --labels sports").error
    assert "give --save-offsets FILE" in typed(f"{evaluate} --record --language lug --prior-text nya.txt").error
    both = typed(f"{evaluate} --record --language lug --prior-text nya.txt --save-offsets two.st")
    assert "recorded in two.st" in both.err
    assert len(artifact.describe("two.st", ["classifier"])["measurements"]) == 1
    assert "accuracy:" not in typed("predict --classifier one.st --labels sports,health play").err


@pytest.mark.slow
def test_what_it_was_trained_on_is_not_recorded(typed: Program) -> None:
    evaluate = "evaluate --classifier one.st --language lug --record --data"
    assert typed(f"{evaluate} train.tsv").error.endswith(
        "one.st was trained or chosen on 30 of 30 examples, so its accuracy there is none of new texts; leave them out,"
        " or leave --record out"
    )
    noted = typed("evaluate --classifier one.st --precision fp32 --data train.tsv")
    assert "note: one.st was trained or chosen on 30 of 30 examples; figures are fairer" in noted.err
    assert "measurements" not in artifact.describe("one.st", ["classifier"])
    few = typed(f"{evaluate} test.tsv")
    assert (few.status, "on 1 of 21 examples;" in few.err) == (0, True), "by chance there is one in both"
    assert len(artifact.describe("one.st", ["classifier"])["measurements"]) == 1
    made = typed("tune --train train.tsv --task task.toml --method tf-idf --output two.st --no-samples")
    assert made.status == 0, made.err
    assert artifact.describe("two.st", ["classifier"])["seen"] == "", "digests say of a guess whether it is right"


@pytest.mark.slow
def test_texts_that_are_cut_are_counted(typed: Program) -> None:
    assert (
        "1 of 2 texts is longer than 24 tokens; the end is not read"
        in typed(f"predict --classifier one.st play {'-'.join(['play'] * 60)}").err
    )
