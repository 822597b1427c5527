"""The programs on a GPU, each in processes of its own: killed and started again, under torchrun, serving."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

import glotprompt as gp
from glotprompt.cli import main
from glotprompt.model.modules.soft_prompt import SoftPrompt

from ..conftest import ASSETS
from ..toys import TASK

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

COMMON = "--batch-size 8 --max-length 32 --learning-rate 0.01 --checkpoint-every 0"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with texts, in which the programs run."""
    for name, asset in (("nya.txt", "invented.txt"), ("eng.txt", "english.txt")):
        (tmp_path / name).write_text((ASSETS / asset).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(line: str, *launcher: str) -> list[str]:
    return [sys.executable, *launcher, "-m", "glotprompt", *line.split()]


def losses(path: Path) -> list[float]:
    return [loss for _, loss in json.loads(path.read_text())["prompts"][0]["losses"]]


@pytest.mark.slow
def test_a_killed_run_and_one_under_torchrun_as_one_undisturbed(here: Path, tiny_folder: Path, card: str) -> None:
    """On a GPU to rounding alone: its backward passes add in any order."""
    line = f"adapt --model {tiny_folder} --target nya=nya.txt --source eng.txt --steps 200 --device {card} {COMMON}"
    assert main(f"{line} --output whole.st --json whole.json".split()) == 0
    process = subprocess.Popen(words(f"{line} --output killed.st"), stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(here.glob("killed.st*/**/*.checkpoint")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert main(f"{line} --output killed.st --json killed.json".split()) == 0
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    shared = words(f"{line} --output shared.st --json shared.json", *launcher)
    ended = subprocess.run(shared, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for name in ("killed.json", "shared.json"):
        assert losses(here / name)[:20] == pytest.approx(losses(here / "whole.json")[:20], rel=0.02)


@pytest.mark.slow
def test_doctor_times_steps(here: Path, tiny_folder: Path, card: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"doctor --model {tiny_folder} --text nya.txt --device {card}".split()) in (0, 3)
    assert "s per step, timed over" in " ".join(capsys.readouterr().out.split())


def test_serve_answers_what_predict_says(
    here: Path, tiny_folder: Path, tiny_backbone: Callable[[str], gp.Backbone], card: str
) -> None:
    prompt = SoftPrompt.initialise(tiny_backbone("xlm-roberta").prompt_shape(4), 1.0, 0)
    classifier = gp.PromptClassifier(tiny_backbone("xlm-roberta"), prompt, TASK, "nya", 48)
    classifier.save("nya.safetensors")
    (expected,) = classifier.predict(["water day"])
    line = f"serve nya.safetensors --model {tiny_folder} --device {card} --precision fp32 --port 0"
    with subprocess.Popen(words(line), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "http://" in line)
        address = "http://" + said.split("http://")[1].split()[0].rstrip("/.,")
        asked = json.dumps({"items": [{"classifier": "nya", "text": "water day"}]}).encode()
        request = urllib.request.Request(f"{address}/v1/predict", asked, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                (found,) = json.load(answer)["results"]
        finally:
            process.send_signal(signal.SIGINT)
    scores = {score["label"]: score["score"] for score in found["scores"]}
    assert scores == pytest.approx(expected.scores, abs=1e-3)
