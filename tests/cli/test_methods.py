"""`glotprompt methods`: tables and figures of all methods on a backbone that is not there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from glotprompt.cli import methods
from glotprompt.estimate.costs import MethodCost, method_cost
from glotprompt.methods import METHODS
from glotprompt.model.shapes import Shell

from .conftest import Program

LARGE = "FacebookAI/xlm-roberta-large"


@pytest.fixture
def adapters_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two methods are counted; each takes half a second on the layers of a real model."""

    def some(shell: Shell, *settings: Any) -> list[MethodCost]:
        return [method_cost(shell, METHODS[name], *settings) for name in ("mad-x", "soft-prompt+task-adapter")]

    monkeypatch.setattr(methods, "method_costs", some)


@pytest.mark.slow
def test_figures_of_xlm_r_large(glotprompt: Program) -> None:
    outcome = glotprompt("methods", "--model", LARGE, "--json", "-", "--batch-size", 2, "--max-length", 32)
    found = json.loads(outcome.out)
    rows = {row["method"]: row for row in found["methods"]}
    assert list(rows) == list(METHODS)
    assert (found["model"]["num_parameters"], found["model"]["num_parameters_paper"]) == (560_142_482, 816_144_530)
    assert found["settings"] == {
        "batch_size": 2, "max_length": 32, "prompt_length": 32, "precision": "fp32", "device": "cpu",
    }  # fmt: skip
    prompt, mad_x, tuned = rows["soft-prompt"], rows["mad-x"], rows["fine-tuning"]
    assert prompt["adapt"]["trained_parameters"] == 1_572_864
    assert prompt["tune"]["trained_parameters"] == 1_179_648
    assert prompt["tune"]["trained_layers"] == [6, 24]
    assert prompt["language_bytes"] == 6_291_456
    assert round(100 * prompt["adapt"]["share"], 3) == 0.281
    assert mad_x["adapt"]["trained_parameters"] == 25_728_512
    assert mad_x["adapt"]["trained_parameters_paper"] == 26_780_160
    assert mad_x["language_bytes"] == 102_914_048
    assert mad_x["adapt"]["file_bytes"] == 2 * 102_914_048  # with the source's
    assert mad_x["tune"]["trained_parameters"] == mad_x["tune"]["trained_parameters_paper"] == 3_171_840
    assert mad_x["tune"]["file_bytes"] == 102_914_048 + 4 * 3_171_840
    assert tuned["adapt"] is None
    assert tuned["tune"]["trained_parameters"] == 560_142_482
    assert tuned["tune"]["trained_parameters_paper"] == 816_144_530
    assert tuned["tune"]["file_bytes"] == 2_240_569_928
    parts = ("backbone", "copies", "optimiser", "gradient", "activation")
    assert tuned["tune"]["memory_bytes"] == sum(tuned["tune"][f"{part}_bytes"] for part in parts)


@pytest.mark.slow
def test_tables(glotprompt: Program, tiny_folder: Path, stock: Callable[[str], PreTrainedModel]) -> None:
    outcome = glotprompt("methods", "--model", tiny_folder, "--length", 16)
    assert outcome.status == 0
    rows = [line.split() for line in outcome.out.splitlines() if line.startswith(("soft-prompt ", "fine-tuning "))]
    assert rows[0][:5] == ["soft-prompt", "prompts", "of", "all", "layers"]
    assert "prompts of the top 2 of 3 layers" in outcome.out
    assert "Chen and Chen 2024, section 3" in outcome.out
    values = sum(value.numel() for value in stock("xlm-roberta").parameters())
    assert rows[2][:4] == ["soft-prompt", "9,216", "6,144", "9,216"]
    assert rows[3] == ["fine-tuning", "-", f"{values:,}", f"{values + 418 * 48:,}", "100", "%"]
    assert rows[4][1:5] == ["36.9", "kB", "36.9", "kB"]
    assert "32 x 16 tokens, fp32, cpu" in outcome.out
    assert f"{values:,} parameters" in outcome.err
    assert all(outcome.out.count(f"\n{name} ") >= 2 for name in METHODS)


@pytest.mark.slow
@pytest.mark.usefixtures("adapters_alone")
def test_mini_is_the_default(glotprompt: Program) -> None:
    mini = json.loads(glotprompt("methods", "--json", "-", "--length", 16).out)
    assert (mini["model"]["name"], mini["model"]["num_parameters"]) == ("mini", 48_628_434)


@pytest.mark.slow
def test_a_folder_needs_no_weights(glotprompt: Program, tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_folder / "config.json", tmp_path)
    tiny = json.loads(glotprompt("methods", "--model", tmp_path, "--json", "-", "--prompt-length", 4).out)
    assert tiny["methods"][0]["adapt"]["trained_parameters"] == 3 * 2 * 48 * 4
    assert [row["method"] for row in tiny["methods"] if row["refusal"] is not None] == ["tf-idf"]


@pytest.mark.slow
@pytest.mark.usefixtures("adapters_alone")
def test_what_a_backbone_does_not_allow_is_a_dash_with_its_reason(glotprompt: Program) -> None:
    model = "jhu-clsp/mmBERT-small"
    outcome = glotprompt("methods", "--model", model, "--length", 16)
    assert outcome.status == 0
    figures = [line.split() for line in outcome.out.splitlines() if line.startswith("mad-x ")]
    assert figures[1:] == [["mad-x", *"-" * 4], ["mad-x", *"-" * 5]]
    assert "mad-x, soft-prompt+task-adapter: jhu-clsp/mmBERT-small: adapters are not defined" in outcome.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model FacebookAI/xlm-roberta-lage", "Did you mean 'FacebookAI/xlm-roberta-large'?"),
        ("--model nowhere", "or one of mini, mini-sentence, FacebookAI/xlm-roberta-base"),
        ("--length 4000", "is more than mini reads (512 tokens)"),
        ("--batch-size 0", "Invalid value for '--batch-size'"),
        ("--precision fp16", "Invalid value for '--precision'"),
    ],
)
def test_a_mistake_is_one_line(words: str, message: str, glotprompt: Program) -> None:
    outcome = glotprompt("methods", *words.split())
    assert message in outcome.error
    assert outcome.status == 2
    assert outcome.out == ""


@pytest.mark.slow
def test_help_needs_no_tensors() -> None:
    script = (
        "import sys; from glotprompt.cli import main; main(['methods', '--help']);"
        " print('heavy:', sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
