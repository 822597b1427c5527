"""Methods that no black-box run tries (`tests/blackbox`) answer to the same words: adapt, tune, evaluate, predict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from glotprompt import model
from glotprompt.method_registry import DESCRIPTIONS
from glotprompt.methods import METHODS, Look, Method, register
from glotprompt.storage import artifact

from .conftest import Outcome, Program

ADAPT = "--target nya=nya.txt --source eng.txt --steps 2 --batch-size 4 --max-length 24"
TASK = "--train train.tsv --task task.toml --max-length 24"
TUNE = f"{TASK} --epochs 1 --batch-size 8"
FP32 = "--precision fp32"


@pytest.fixture
def typed(here: Path, glotprompt: Program) -> Program:
    def run(words: str, *more: str) -> Outcome:
        return glotprompt(*words.split(), *more)

    return run


def trained(outcome: Outcome) -> int:
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("trained parameters")]
    return int(line.split()[2].strip(",").replace(",", ""))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fine-tuning-mlm", "input-prompt", "source-prompt", "soft-prompt+task-adapter"])
def test_adapt_tune_evaluate_predict(method: str, here: Path, tiny_folder: Path, typed: Program) -> None:
    start, words = METHODS[method].start, f"--model {tiny_folder} --method {method} {FP32}"
    if start.stage1 is None:
        assert f"{method} has no stage 1" in typed(f"adapt {words} {ADAPT} --output nya.st").error
        begin = words
    else:
        outcome = typed(f"adapt {words} {ADAPT} --output nya.st --json adapt.json")
        assert outcome.status == 0, outcome.err
        assert f"Chichewa (nya), {start.name}" in outcome.out
        (figures,) = json.loads((here / "adapt.json").read_text())["prompts"]
        assert (figures["method"], figures["language"]) == (start.name, "nya")
        assert figures["file_bytes"] == (here / "nya.st").stat().st_size
        begin = f"--prompt nya.st {FP32}" + ("" if start.name == method else f" --method {method}")
    tune = f"tune {begin} {TASK if METHODS[method].reads_vectors else TUNE} --output topic.st"
    outcome = typed(f"{tune} --json tune.json")
    assert outcome.status == 0, outcome.err
    figures = json.loads((here / "tune.json").read_text())
    assert figures["config"]["method"] == method
    assert figures["trained_parameters"] == trained(outcome)
    assert figures["file_bytes"] == (here / "topic.st").stat().st_size
    assert (figures["trained_layers"] is not None) == METHODS[method].has_prompt
    assert f"{'language not named (und)' if start.stage1 is None else 'Chichewa (nya)'}, {method}" in outcome.out
    assert artifact.read("topic.st", "classifier")[1]["method"] == method
    assert not list(here.glob("*.checkpoints"))

    assert typed(f"evaluate --classifier topic.st {FP32} --data test.tsv --json figures.json").status == 0
    figures = json.loads((here / "figures.json").read_text())
    predicted = typed(f"predict --classifier topic.st {FP32} --input test.tsv --json -").out.splitlines()
    assert [json.loads(line)["label"] for line in predicted] == figures["predictions"]
    again = typed(tune)
    assert "already what these words make" in again.err


@pytest.mark.slow
def test_mad_x_trains_the_source_s_adapter_once_for_all_targets(here: Path, tiny_folder: Path, typed: Program) -> None:
    words = f"adapt --model {tiny_folder} --method mad-x {ADAPT} --target sna=eng.txt {FP32} --output many"
    outcome = typed(words)
    assert outcome.status == 0, outcome.err
    one, other = (artifact.read(here / f"many/{code}.safetensors", "language module") for code in ("nya", "sna"))
    # A second training would take other seconds.
    assert one[1]["training"]["source_training"]["seconds"] == other[1]["training"]["source_training"]["seconds"]
    assert one[1]["training"]["seconds"] != other[1]["training"]["seconds"]
    assert sorted(path.name for path in (here / "many").iterdir()) == [
        f"{language}.{ending}" for language in ("nya", "sna") for ending in ("metrics.jsonl", "safetensors")
    ]


@pytest.mark.slow
def test_a_linear_head_by_its_option(tiny_folder: Path, typed: Program) -> None:
    words = f"tune --model {tiny_folder} --method fine-tuning --head linear {TUNE} {FP32} --output topic.st"
    outcome = typed(words)
    assert outcome.status == 0, outcome.err
    assert trained(outcome) == trained(typed(words.replace("--head linear", "--head cloze"))) + 49 * 48 + 49 * 3
    assert typed(f"predict --classifier topic.st {FP32}", "the bank").status == 0


@pytest.fixture
def saved(here: Path, tiny_folder: Path, typed: Program) -> None:
    """What two methods left: prompt.st, prompt-topic.st, mad.st."""
    assert typed(f"adapt --model {tiny_folder} {ADAPT} {FP32} --output prompt.st").status == 0
    assert typed(f"adapt --model {tiny_folder} --method mad-x {ADAPT} {FP32} --output mad.st").status == 0
    assert typed(f"tune --prompt prompt.st {TUNE} {FP32} --output prompt-topic.st").status == 0


@pytest.mark.slow
@pytest.mark.usefixtures("saved")
def test_what_one_method_left_is_refused_where_another_is_meant(tiny_folder: Path, typed: Program) -> None:
    model, tune, end = f"--model {tiny_folder} {FP32}", f"tune {TUNE} {FP32}", "--output x.st"
    for words, message in (
        (f"{tune} --prompt prompt.st --method mad-x {end}", "mad-x starts from what adapt with method mad-x made"),
        (f"{tune} --prompt mad.st --method soft-prompt {end}", "one of mad-x was given"),
        (f"{tune} --prompt mad.st --method fine-tuning {end}", "fine-tuning has no stage 1"),
        (f"{tune} --prompt mad.st --top-k 2 {end}", "mad-x trains no prompts"),
        (f"{tune} --prompt prompt-topic.st {end}", "is a classifier; expected a language prompt"),
        (f"{tune} {model} --method mad-x {end}", "nothing was given"),
        (f"{tune} {model} --method fine-tuning --bottom-k 1 {end}", "fine-tuning trains no prompts"),
        (f"{tune} {model} --method finetuning {end}", "--method: "),
        (f"predict --classifier mad.st {FP32} text", "is a language module; expected a classifier"),
        (f"evaluate --classifier prompt.st {FP32} --data test.tsv", "is a language prompt; expected a classifier"),
        ("convert to-peft mad.st other", "is a language module; expected a language prompt"),
        (f"combine prompt.st mad.st {end}", "is a language module; expected a language prompt"),
        (f"combine prompt.st none.st {end}", "none.st does not exist"),
        (f"combine prompt.st prompt.st --weights 0.5,half {end}", "for each prompt, here 2, such as 0.5,0.5"),
        (f"combine prompt.st prompt.st --weights 0.5 {end}", "--weights 0.5: expected a number for each prompt"),
        (f"combine prompt.st --weights nan {end}", "--weights nan: expected a number for each prompt"),
    ):
        assert message in typed(words).error, words


@pytest.mark.slow
@pytest.mark.usefixtures("saved")
def test_combine(tiny_folder: Path, typed: Program) -> None:
    words = f"adapt --model {tiny_folder} {ADAPT} {FP32} --seed 1 --output two.st"
    assert typed(words).status == 0
    for more, language, weights in (
        ("--weights -0.5,1.5", "nya", [-0.5, 1.5]),
        ("--language sna", "sna", [0.5, 0.5]),
    ):
        outcome = typed(f"combine prompt.st two.st {more} --output both.st")
        assert outcome.status == 0, outcome.err
        tensors, metadata = artifact.read("both.st", "language prompt")
        assert (metadata["method"], metadata["language"]) == ("soft-prompt", language)
        assert [entry["weight"] for entry in metadata["training"]["combined"]] == weights
    one, two = (artifact.read(name, "language prompt")[0]["key_values"] for name in ("prompt.st", "two.st"))
    assert tensors["key_values"].equal(0.5 * one + 0.5 * two)
    outcome = typed(f"tune --prompt both.st {TUNE} {FP32} --output topic.st")
    assert outcome.status == 0, outcome.err
    assert "Shona (sna), soft-prompt" in outcome.out


@pytest.mark.slow
@pytest.mark.usefixtures("saved")
def test_mad_x_modules_travel_through_adapter_hub(here: Path, tiny_folder: Path, typed: Program) -> None:
    assert typed("convert to-adapter-hub mad.st target").status == 0
    assert typed("convert to-adapter-hub mad.st source --source").status == 0
    back = typed(f"convert from-adapter-hub target source back.st --language nya --model {tiny_folder}")
    assert back.status == 0, back.err
    sent, got = (artifact.read(name, "language module")[0] for name in ("mad.st", "back.st"))
    assert sorted(sent) == sorted(got)
    assert all(sent[name].equal(got[name]) for name in sent)
    assert typed(f"tune --prompt back.st {TUNE} {FP32} --output x.st").status == 0
    assert "holds no adapter alone" in typed("convert to-adapter-hub prompt.st other").error


@pytest.mark.slow
@pytest.mark.usefixtures("saved")
def test_mad_x_takes_a_ready_source_adapter(
    here: Path, tiny_folder: Path, typed: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder, or from the hub's cache."""
    assert typed("convert to-adapter-hub mad.st source --source").status == 0
    adapt = f"adapt --model {tiny_folder} --method mad-x {ADAPT.replace('--source eng.txt', '')} {FP32}"
    outcome = typed(f"{adapt} --source-adapter source --output ready.st")
    assert outcome.status == 0, outcome.err
    trained_one, ready = (artifact.read(name, "language module") for name in ("mad.st", "ready.st"))
    assert all(ready[0][name].equal(tensor) for name, tensor in trained_one[0].items())
    assert "source_training" not in ready[1]["training"]
    assert typed(f"tune --prompt ready.st {TUNE} {FP32} --output x.st").status == 0
    assert "--target and --source-adapter" in typed("show ready.st --toml").out

    cache = here / "cache" / "models--AdapterHub--eng" / "snapshots" / ("0" * 40)
    shutil.copytree(here / "source", cache)
    (cache.parents[1] / "refs").mkdir()
    (cache.parents[1] / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here / "cache"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(here / "cache"), raising=False)
    outcome = typed(f"{adapt} --source-adapter AdapterHub/eng --output hub.st")
    assert outcome.status == 0, outcome.err
    assert artifact.read("hub.st", "language module")[0].keys() == ready[0].keys()
    for words, message in (
        (f"{adapt} --source-adapter nowhere", "nowhere is neither a folder with adapter_config.json nor on the hub"),
        (f"{adapt} --source-adapter source --source eng.txt", "no source text is read with --source-adapter"),
        (
            f"{adapt.replace('mad-x', 'lora')} --source eng.txt --source-adapter source",
            "lora has no source language adapter",
        ),
        (f"{adapt.replace('mad-x', 'lora')} --source eng.txt --source-adapter nobody/has-it", "leave --source-adapter"),
    ):
        assert message in typed(f"{words} --output y.st").error, words


EXPERIMENT = """
title = "a method of another package"
source = "eng"
targets = ["nya"]
methods = ["one-rank", "prompt-tuning"]
train = ["train.tsv"]
source_texts = ["eng.txt"]
task = "task.toml"
seeds = [0]
precision = "fp32"
tests = { nya = "other.tsv" }
texts = { nya = "nya.txt" }
adapt = { steps = 2, batch_size = 4, max_length = 24 }
tune = { epochs = 1, batch_size = 8, max_length = 24 }
"""


@pytest.mark.slow
def test_a_method_of_another_package(
    here: Path, tiny_folder: Path, typed: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is registered, commands, grid and report know it."""
    monkeypatch.setattr(DESCRIPTIONS, "_methods", dict(METHODS.items()))
    register(
        Method(
            name="one-rank",
            citation="Nobody 2099",
            look=Look(name="LoRA of a single rank", colour="#123456", marker="8"),
            stage1="LoRA of rank 1",
            stage2="LoRA of rank 1",
            kinds=("lora",),
            rates={"adapt": 0.02, "tune": 0.01},
            begin_adapt=lambda backbone, config: model.Lora(backbone, 1, 1.0, seed=config.seed),
        )
    )
    words = f"--model {tiny_folder} --method one-rank {FP32}"
    outcome = typed(f"adapt {words} {ADAPT} --output nya.st --json adapt.json")
    assert outcome.status == 0, outcome.err
    assert "Chichewa (nya), one-rank" in outcome.out
    assert "one-rank trains no prompt in stage 1" in typed(f"adapt {words} {ADAPT} --prompt-length 3 --output x").error
    outcome = typed(f"tune --prompt nya.st {FP32} {TUNE} --output topic.st --json tune.json")
    assert outcome.status == 0, outcome.err
    figures = json.loads((here / "tune.json").read_text())["config"]
    assert (figures["method"], figures["learning_rate"]) == ("one-rank", 0.01)
    outcome = typed(f"evaluate --classifier topic.st --data test.tsv {FP32}")
    assert outcome.status == 0, outcome.err
    listed = typed(f"methods --model {tiny_folder} --length 16")
    assert "Nobody 2099" in listed.out
    assert "prompt-tuning: prefix tuning without adaptation (the paper's prompt tuning" in listed.out
    rows = (here / "test.tsv").read_text(encoding="utf-8").replace("\t", " day\t").replace("text day", "text")
    (here / "other.tsv").write_text(rows, encoding="utf-8")
    (here / "own.toml").write_text(EXPERIMENT + f'model = "{tiny_folder}"\n', encoding="utf-8")
    outcome = typed("grid own.toml --output grid")
    assert outcome.status == 0, outcome.err
    outcome = typed("report grid --output page")
    assert outcome.status == 0, outcome.err
    assert "\n| LoRA of a single rank | " in (here / "page" / "results.md").read_text()
    assert "#123456" in (here / "page" / "index.html").read_text()
