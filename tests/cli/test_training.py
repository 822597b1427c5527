"""From text to predictions with the program's own commands, on a tiny backbone."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from glotprompt.cli.tune import _warnings
from glotprompt.records import TuneReport
from glotprompt.storage import artifact, atomic

from .. import forked
from .conftest import Outcome, Program

ADAPT = "--source eng.txt --steps 3 --batch-size 4 --max-length 24 --prompt-length 4 --precision fp32 --seed 3"
TUNE = "--train train.tsv --task task.toml --epochs 2 --batch-size 8 --max-length 24 --top-k 2 --precision fp32"


class Piped(io.TextIOWrapper):
    """What standard input is when something is piped in."""

    def __init__(self, text: str) -> None:
        super().__init__(io.BytesIO(text.encode()), encoding="utf-8")


@pytest.fixture
def trained(here: Path, tiny_folder: Path, glotprompt: Program) -> dict[str, Outcome]:
    """`nya.st` and `topic.st`, made by the two commands."""
    adapt = f"adapt --model {tiny_folder} --target nya=nya.txt {ADAPT} --output nya.st --json adapt.json"
    tune = f"tune --prompt nya.st {TUNE} --output topic.st --json tune.json"
    return {"adapt": glotprompt(*adapt.split()), "tune": glotprompt(*tune.split())}


@pytest.mark.slow
def test_text_to_figures(trained: dict[str, Outcome], here: Path, glotprompt: Program) -> None:
    for outcome in trained.values():
        assert outcome.status == 0
        assert "wrote " in outcome.err
        assert "next: glotprompt " in outcome.err
    assert "MLM loss" in trained["adapt"].out
    (prompt,) = json.loads((here / "adapt.json").read_text())["prompts"]
    assert prompt["language"] == "nya"
    assert prompt["config"]["steps"] == 3
    assert prompt["file_bytes"] == (here / "nya.st").stat().st_size
    assert {"mlm_loss_before", "mlm_loss_after", "top1_before", "top1_after"} <= prompt.keys()
    classifier = json.loads((here / "tune.json").read_text())
    assert classifier["trained_layers"] == [1, 3]
    assert classifier["task"]["name"] == "task"
    assert not list(here.glob("*.checkpoints"))

    outcome = glotprompt("evaluate", "--classifier", "topic.st", "--data", "test.tsv", "--json", "figures.json")
    figures = json.loads((here / "figures.json").read_text())
    assert figures["num_examples"] == len(figures["predictions"]) == 21
    assert outcome.out.startswith(f"accuracy        {figures['accuracy']:.1f} %, 95 % interval ")
    assert sum(sum(row.values()) for row in figures["confusion"].values()) == 21
    assert ("! collapse" in outcome.out) == (figures["collapsed_label"] is not None)


@pytest.mark.slow
def test_the_same_words_find_their_result_finished(
    trained: dict[str, Outcome], here: Path, glotprompt: Program
) -> None:
    def runs() -> set[str]:
        """The trainings whose steps are in the file of metrics."""
        lines = (here / "topic.metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return {json.loads(line)["run"] for line in lines}

    before, first = (here / "topic.st").stat().st_mtime_ns, runs()
    again = glotprompt(*f"tune --prompt nya.st {TUNE} --output topic.st".split())
    assert "already what these words make" in again.err
    assert again.out == trained["tune"].out
    assert (here / "topic.st").stat().st_mtime_ns == before
    other = glotprompt(*f"tune --prompt nya.st {TUNE} --output topic.st --seed 1".split())
    assert "already" not in other.err
    assert (here / "topic.st").stat().st_mtime_ns != before
    assert len(first) == len(runs()) == 1
    assert first != runs()  # those of the file that was replaced are gone


@pytest.mark.slow
def test_several_languages_share_one_call(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    words = f"adapt --model {tiny_folder} --target nya=nya.txt --target sna=eng.txt {ADAPT} --output many --json m.json"
    assert glotprompt(*words.split()).status == 0
    assert [p["language"] for p in json.loads((here / "m.json").read_text())["prompts"]] == ["nya", "sna"]
    (here / "many/sna.safetensors").unlink()
    first = (here / "many/nya.safetensors").stat().st_mtime_ns
    again = glotprompt(*words.split())
    assert "many/nya.safetensors is already" in again.err
    assert (here / "many/nya.safetensors").stat().st_mtime_ns == first
    assert (here / "many/sna.safetensors").is_file()


@pytest.mark.slow
def test_one_language_is_the_same_alone_or_among_others(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    glotprompt(*f"adapt --model {tiny_folder} --target nya=nya.txt --target sna=eng.txt {ADAPT} --output many".split())
    glotprompt(*f"adapt --model {tiny_folder} --target eng.txt --language sna {ADAPT} --output alone.st".split())
    among, alone = (
        artifact.read(path, "language prompt")[0]["key_values"] for path in ("many/sna.safetensors", "alone.st")
    )
    assert torch.equal(among, alone)


@pytest.mark.slow
def test_tuning_without_a_prompt(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    words = f"tune --model {tiny_folder} {TUNE} --set prompt_length=3 --dev test.tsv --shots 4 --output plain.st"
    outcome = glotprompt(*words.split())
    assert re.search(r"^language +language not named \(und\), prompt-tuning$", outcome.out, re.MULTILINE)
    trained = 2 * 2 * 4 * 3 * 12
    assert re.search(
        rf"^trained parameters +{trained}, prompts of 2 of 3 layers \(2 to 3\)$", outcome.out, re.MULTILINE
    )
    _, metadata = artifact.read("plain.st", "classifier")
    assert metadata["prompt_length"] == 3
    assert metadata["training"]["examples"] == 12
    assert metadata["training"]["dev_examples"] == 21
    named = glotprompt(*words.split(), "--language", "lug")
    assert re.search(r"^language +Luganda \(lug\), prompt-tuning$", named.out, re.MULTILINE)
    assert artifact.read("plain.st", "classifier")[1]["language"] == "lug"
    assert "is already what these words make" in glotprompt(*words.split(), "--language", "lug").err


@pytest.mark.usefixtures("trained")
class TestPredicting:
    """One classifier, all ways to give it text."""

    @pytest.mark.slow
    def test_arguments_as_json_lines(self, glotprompt: Program) -> None:
        outcome = glotprompt("predict", "--classifier", "topic.st", "the bank", "a fe\u0301te", "--json", "-")
        lines = [json.loads(line) for line in outcome.out.splitlines()]
        assert [line["text"] for line in lines] == ["the bank", "a fe\u0301te"]
        for line in lines:
            assert sum(line["scores"].values()) == pytest.approx(1)
            assert line["label"] == max(line["scores"], key=line["scores"].__getitem__)

    @pytest.mark.slow
    def test_table_file_piped(self, glotprompt: Program) -> None:
        outcome = glotprompt("predict", "--classifier", "topic.st", "--input", "test.tsv")
        rows = [line.split("\t") for line in outcome.out.splitlines()]
        assert len(rows) == 21
        for label, probability, text in rows:
            assert label in ("sports", "health", "business")
            assert 1 / 3 <= float(probability) <= 1
            assert text

    @pytest.mark.slow
    @pytest.mark.parametrize("words", [[], ["-"], ["--input", "-"]])
    def test_standard_input(self, words: list[str], glotprompt: Program, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", Piped("the bank\n\nthe field\n"))
        outcome = glotprompt("predict", "--classifier", "topic.st", *words)
        assert [line.split("\t")[2] for line in outcome.out.splitlines()] == ["the bank", "the field"]

    @pytest.mark.slow
    def test_some_labels_only(self, glotprompt: Program) -> None:
        outcome = glotprompt(
            "predict", "--classifier", "topic.st", "--labels", "sports,health", "--json", "-", "the bank"
        )
        assert json.loads(outcome.out)["scores"]["business"] == 0
        outcome = glotprompt("predict", "--classifier", "topic.st", "--labels", "sport", "the bank")
        assert "Did you mean 'sports'" in outcome.error

    @pytest.mark.slow
    @pytest.mark.parametrize(("words", "message"), [([""], "empty"), (["a\udcff"], "not valid UTF-8")])
    def test_text_that_is_none(self, words: list[str], message: str, glotprompt: Program) -> None:
        assert message in glotprompt("predict", "--classifier", "topic.st", *words).error

    @pytest.mark.slow
    def test_a_language_prompt_is_no_classifier(self, glotprompt: Program) -> None:
        assert "expected a classifier" in glotprompt("predict", "--classifier", "nya.st", "text").error

    @pytest.mark.slow
    def test_another_backbone_is_refused(self, here: Path, tiny_folder: Path, glotprompt: Program) -> None:
        shutil.copytree(tiny_folder, here / "other")
        file = here / "other" / "model.safetensors"
        save_file({name: weight * 2 for name, weight in load_file(file).items()}, file, {"format": "pt"})
        outcome = glotprompt("predict", "--classifier", "topic.st", "--model", "other", "text")
        assert "was made for" in outcome.error

    @pytest.mark.slow
    def test_a_backbone_that_moved(self, here: Path, tiny_folder: Path, glotprompt: Program) -> None:
        moved = here / "moved"
        tiny_folder.rename(moved)
        try:
            assert "say where it is with --model" in glotprompt("predict", "--classifier", "topic.st", "text").error
            assert glotprompt("predict", "--classifier", "topic.st", "--model", moved, "text").status == 0
        finally:
            moved.rename(tiny_folder)


@pytest.mark.usefixtures("trained")
class TestOffsets:
    """Label offsets: asked for, fitted on other text, stored when asked."""

    EVALUATE = "evaluate --classifier topic.st --data test.tsv --json figures.json --precision fp32"

    @pytest.mark.slow
    def test_fitted_and_stored(self, here: Path, glotprompt: Program) -> None:
        words = f"{self.EVALUATE} --label-prior uniform --prior-text nya.txt --save-offsets even.st"
        outcome = glotprompt(*words.split())
        assert "wrote even.st" in outcome.err
        figures = json.loads((here / "figures.json").read_text())
        assert figures["label_prior"]["num_texts"] == 60
        assert figures["label_prior"]["num_texts_scored_too"] == 0
        words = "evaluate --classifier even.st --data test.tsv --json stored.json --precision fp32"
        stored = glotprompt(*words.split())
        assert "holds label offsets" in stored.err
        again = json.loads((here / "stored.json").read_text())
        assert again["predictions"] == figures["predictions"]

    @pytest.mark.slow
    def test_the_mean_prediction_meets_the_prior(self, here: Path, glotprompt: Program) -> None:
        (here / "prior.toml").write_text("sports = 2\nhealth = 1\nbusiness = 1\n")
        words = "predict --classifier topic.st --label-prior prior.toml --prior-text nya.txt --input nya.txt --json -"
        outcome = glotprompt(*words.split())
        scores = [json.loads(line)["scores"] for line in outcome.out.splitlines()]
        mean = {label: sum(score[label] for score in scores) / len(scores) for label in scores[0]}
        assert mean == pytest.approx({"sports": 0.5, "health": 0.25, "business": 0.25}, abs=1e-3)
        assert "60 of these texts are among those being scored" in outcome.err

    @pytest.mark.slow
    def test_uniform_over_the_chosen_labels(self, here: Path, glotprompt: Program) -> None:
        glotprompt(*f"{self.EVALUATE} --prior-text nya.txt --labels sports,health".split())
        figures = json.loads((here / "figures.json").read_text())
        assert figures["label_prior"]["prior"] == {"sports": 1.0, "health": 1.0}
        assert set(figures["predictions"]) <= {"sports", "health"}

    @pytest.mark.slow
    def test_a_prior_needs_text(self, glotprompt: Program) -> None:
        assert "--prior-text" in glotprompt(*f"{self.EVALUATE} --label-prior uniform".split()).error


@pytest.mark.slow
def test_tune_speaks_of_labels_and_of_no_gain(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    rows = (here / "train.tsv").read_text(encoding="utf-8").splitlines()
    (here / "one.tsv").write_text("\n".join([rows[0], *(row for row in rows if row.endswith("sports"))]))
    words = f"tune --model {tiny_folder} {TUNE.replace('train.tsv', 'one.tsv')} --output one.st --json one.json"
    outcome = glotprompt(*words.split())
    assert "10 examples of task: sports 10, health 0, business 0" in outcome.err
    assert "! no example of health, business was trained on" in outcome.out
    for which in ("training", "dev"):
        assert f"! only one label, 'sports', occurs among the {which} examples" in outcome.out
    figures = json.loads((here / "one.json").read_text())
    assert figures["labels"] == {"sports": 9, "health": 0, "business": 0}
    assert figures["dev_labels"] == {"sports": 1, "health": 0, "business": 0}
    words = f"tune --model {tiny_folder} {TUNE} --learning-rate 1e-9 --dev test.tsv --output still.st --json still.json"
    outcome = glotprompt(*words.split())
    best = json.loads((here / "still.json").read_text())["best_step"]
    assert ("! no epoch was better than the start" in outcome.out) == (best == 0)
    assert "only one label" not in outcome.out
    assert "no example of" not in outcome.out


@pytest.mark.parametrize("best", [0, 8])
def test_tune_speaks_of_no_gain(best: int) -> None:
    counts: dict[str, Any] = {"labels": {"a": 3, "b": 4}, "dev_labels": {"a": 1, "b": 1}}
    (*said,) = _warnings(TuneReport.model_construct(**counts, best_step=best, steps=8))
    assert [sentence[:33] for sentence in said] == ([] if best else ["no epoch was better than the star"])


def test_adapt_says_when_nothing_was_gained(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    words = f"adapt --model {tiny_folder} --target nya=nya.txt {ADAPT} --output nya.st --json adapt.json"
    outcome = glotprompt(*words.split(), "--learning-rate", "1e-9", "--set", "init_std=3")
    (figures,) = json.loads((here / "adapt.json").read_text())["prompts"]
    assert figures["mlm_loss_after"] >= figures["mlm_loss_before"]
    assert not figures["improved"]
    assert "! held-out text is predicted no better with this soft-prompt" in outcome.out
    assert (here / "nya.st").is_file()


@pytest.mark.slow
def test_pairs(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    (here / "pairs.tsv").write_text(
        "p\thypothesis\tlabel\n" + "the bank is open\tthe bank is new\tentailment\n" * 4
        + "a great day\ta bad day\tcontradiction\n" * 4 + "people walk\tpeople play\tneutral\n" * 4,
        encoding="utf-8",
    )  # fmt: skip
    (here / "nli.toml").write_text(
        'template = "{premise} ? {mask} , {hypothesis}"\n'
        '[verbalizer]\nentailment = "Yes"\nneutral = "Maybe"\ncontradiction = "not"\n'
    )
    words = (
        f"tune --model {tiny_folder} --train pairs.tsv --dev pairs.tsv --task nli.toml --premise-column p --epochs 1"
        " --max-length 24 --precision fp32 --output nli.st"
    )
    assert glotprompt(*words.split()).status == 0
    predict = "predict --classifier nli.st --precision fp32"
    outcome = glotprompt(*predict.split(), "--json", "-", "the bank", "is open")
    found = json.loads(outcome.out)
    assert (found["premise"], found["hypothesis"]) == ("the bank", "is open")
    outcome = glotprompt(*f"{predict} --json - --input pairs.tsv --premise-column p".split())
    assert [json.loads(line)["id"] for line in outcome.out.splitlines()][:2] == ["pairs.tsv:2", "pairs.tsv:3"]
    assert "in turn, not 1 text" in glotprompt(*predict.split(), "the bank").error


@pytest.mark.slow
def test_to_peft_and_back(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    adapt = f"adapt --model {tiny_folder} --target nya=nya.txt {ADAPT}"
    assert glotprompt(*f"{adapt} --set positions=shifted --output there.st".split()).status == 0
    outcome = glotprompt("convert", "to-peft", "there.st", "adapter")
    assert "wrote adapter" in outcome.err
    outcome = glotprompt(*f"convert from-peft adapter back.st --language nya --model {tiny_folder}".split())
    assert "wrote back.st" in outcome.err
    there, back = (artifact.read(path, "language prompt") for path in ("there.st", "back.st"))
    assert torch.equal(there[0]["key_values"], back[0]["key_values"])
    assert back[1]["positions"] == "shifted"
    glotprompt(*f"{adapt} --output plain.st".split())
    assert "--allow-plain" in glotprompt("convert", "to-peft", "plain.st", "other").error
    assert glotprompt("convert", "to-peft", "plain.st", "other", "--allow-plain").status == 0
    assert "does not exist" in glotprompt("convert", "to-peft", "none.st", "other").error


@pytest.mark.slow
def test_identical_commands_at_once(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    """The second waits for the first, and finds its result."""
    words = f"adapt --model {tiny_folder} --target nya=nya.txt {ADAPT} --output nya.st".split()
    with atomic.locked(here / "nya.st.checkpoints" / "nya.st.lock"):
        waiting = forked.start(words, here / "err.txt")
        said = forked.wait_for("^.*another.*$", here / "err.txt", waiting)
        assert said == "another glotprompt is making nya.st; waiting until it is done"
        assert not (here / "nya.st").exists()
    waiting.join()
    assert waiting.exitcode == 0
    assert "is already what these words make" in glotprompt(*words).err
    assert not list(here.glob("nya.st.*"))


@pytest.mark.slow
def test_checkpoints_that_a_kill_left_go(trained: dict[str, Outcome], here: Path, glotprompt: Program) -> None:
    """As a kill in the last clean-up leaves them."""
    folder = here / "topic.st.checkpoints"
    folder.mkdir()
    (folder / "0.checkpoint").write_bytes(b"0")
    outcome = glotprompt(*f"tune --prompt nya.st {TUNE} --output topic.st".split())
    assert "is already what these words make" in outcome.err
    assert not folder.exists()


def test_a_run_that_fails_leaves_no_folder(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    (here / "train.tsv").write_text("text\tlabel\nplay\tsports\n", encoding="utf-8")
    outcome = glotprompt(*f"tune --model {tiny_folder} {TUNE.replace(' --top-k 2', '')} --output topic.st".split())
    assert outcome.status == 2
    assert not list(here.glob("topic*"))


@pytest.mark.slow
def test_reordered_labels_are_another_run(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    line = f"tune --model {tiny_folder} {TUNE} --head linear --output topic.st"
    assert "wrote topic.st" in glotprompt(*line.split()).err
    head, *labels = (here / "task.toml").read_text(encoding="utf-8").rsplit("\n", 4)[0:4]
    (here / "task.toml").write_text("\n".join([head, *reversed(labels)]), encoding="utf-8")
    assert "wrote topic.st" in glotprompt(*line.split()).err
    assert artifact.read(here / "topic.st", "classifier")[1]["labels"] == ["business", "health", "sports"]


@pytest.mark.slow
def test_only_files_are_replaced(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    """Said before any work, and as root too the device stays."""
    for command in ("adapt --target nya=nya.txt --source eng.txt", "tune --train train.tsv --task task.toml"):
        outcome = glotprompt(*f"{command} --model {tiny_folder} --output /dev/null".split())
        assert outcome.error.startswith("error: --output /dev/null is no regular file")
        assert "backbone" not in outcome.err
    assert Path("/dev/null").is_char_device()


@pytest.mark.slow
def test_tfidf_needs_no_backbone(here: Path, glotprompt: Program) -> None:
    words = "tune --method tf-idf --train train.tsv --task task.toml --language nya --output baseline.st"
    outcome = glotprompt(*words.split())
    assert outcome.status == 0, outcome.err
    assert "backbone:" not in outcome.err
    assert "on n-grams, C" in outcome.out
    assert "by cross-validation in 5 folds" in outcome.out
    assert "already what these words make" in glotprompt(*words.split()).err
    outcome = glotprompt(*"evaluate --classifier baseline.st --data test.tsv --record".split())
    assert outcome.status == 0, outcome.err
    assert "accuracy        100.0 %" in outcome.out
    assert "majority class" in outcome.out
    outcome = glotprompt(*"predict --classifier baseline.st win --json -".split())
    told = json.loads(outcome.out)
    assert (told["label"], "unknown" in told) == ("sports", False)
    shown = glotprompt("show", "baseline.st").out
    assert "tf-idf" in shown
    assert "100.0 %" in shown
    assert re.search(r"training +in closed form, ", shown), "there are no steps"
    rows = [f"win {number}\tsports\nhear {number}\thealth" for number in range(6)]
    (here / "few.tsv").write_text("\n".join(["text\tlabel", *rows, "bank\tbusiness", "people\tbusiness"]), "utf-8")
    few = glotprompt(*words.replace("train.tsv", "few.tsv").replace("baseline.st", "few.st").split())
    assert "few training examples of a label (business 2): with fewer than 5 it is" in few.err
    toml = glotprompt("show", "baseline.st", "--toml").out
    (here / "run.toml").write_text(toml, encoding="utf-8")
    again = glotprompt(*"tune --config run.toml --train train.tsv --task task.toml --output baseline.st".split())
    assert "already what these words make" in again.err
    for more, message in (
        ("--model mini", "--model has no effect: tf-idf reads characters, and no backbone"),
        ("--target-labels test.tsv", "give the target labels as --train"),
        ("--epochs 3", "epochs has no effect here: tf-idf is fitted in closed form"),
        ("--max-length 30", "max_length has no effect here: tf-idf reads no tokens"),
    ):
        assert message in glotprompt(*f"{words} {more}".split()).error, more
    refused = glotprompt(*"predict --classifier baseline.st --model mini win".split())
    assert "--model has no effect: baseline.st uses no backbone" in refused.error
