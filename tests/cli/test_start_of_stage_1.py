"""`adapt --init` and `--init-prompt`: where the prompt starts from, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Outcome, Program

ADAPT = "--source eng.txt --steps 1 --batch-size 4 --max-length 24 --precision fp32 --target nya=nya.txt"


@pytest.fixture
def adapt(here: Path, tiny_folder: Path, glotprompt: Program) -> Any:
    """Run adapt with more words; what it made is <name>.st."""

    def run(name: str, words: str = "") -> Outcome:
        line = f"adapt --model {tiny_folder} {ADAPT} {words} --output {name}.st --json {name}.json"
        return glotprompt(*line.split())

    return run


def figures(name: str) -> dict[str, Any]:
    (found,) = json.loads(Path(f"{name}.json").read_text())["prompts"]
    return found


@pytest.mark.slow
def test_from_other_prompts(adapt: Any) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        assert adapt(name, f"--prompt-length 4 --seed {seed}").status == 0
    for words, weights in (
        ("--init-prompt one.st", [1.0]),
        ("--init-prompt one.st --init-prompt two.st", [0.5, 0.5]),
        ("--init-prompt one.st=0.9 --init-prompt two.st=0.1", [0.9, 0.1]),
    ):
        outcome = adapt("three", words)
        assert outcome.status == 0, outcome.err
        assert "already" not in outcome.err, "another start is another result"
        assert [entry["weight"] for entry in figures("three")["initial"]] == weights
    assert figures("three")["config"]["initialise"] == "prompt"
    assert figures("three")["config"]["prompt_length"] == 4
    assert "already what these words make" in adapt("three", words).err


@pytest.mark.slow
def test_from_text(adapt: Any) -> None:
    assert adapt("text", "--init text --prompt-length 4").status == 0
    assert figures("text")["config"]["initialise"] == "text"
    assert adapt("text", "--init noise --prompt-length 4").status == 0
    assert figures("text")["config"]["initialise"] == "noise"


@pytest.mark.slow
def test_words_that_do_not_fit(adapt: Any) -> None:
    assert adapt("one", "--prompt-length 4").status == 0
    for words, message in (
        ("--init-prompt one.st --prompt-length 5", "has prompt_length 4, not 5"),
        ("--init-prompt one.st --init text", "leave initialise out"),
        ("--init-prompt one.st=half", "--init-prompt one.st=half: expected FILE=WEIGHT"),
        ("--init-prompt none.st", "none.st does not exist"),
        ("--init-prompt one.st --method mad-x", "mad-x trains no prompt in stage 1"),
        ("--init prompt", "give it as --init-prompt FILE"),
        ("--init noisy", "--init: "),
        ("--init text --set initialise=noise", "initialise is given twice"),
        ("--set schedule=step", "--set schedule: "),
    ):
        assert message in adapt("other", words).error, words
    assert not Path("other.st").exists()


@pytest.mark.slow
def test_a_prompt_for_another_backbone(adapt: Any, glotprompt: Program) -> None:
    assert adapt("one").status == 0
    words = f"adapt --model mini {ADAPT} --init-prompt one.st --output other.st"
    assert "one.st was made for" in glotprompt(*words.split()).error
