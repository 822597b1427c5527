"""The programs on a GPU, each in processes of its own: killed and started again, under torchrun, serving."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from ..conftest import ASSETS

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

COMMON = "--batch-size 8 --max-length 32 --learning-rate 0.01 --checkpoint-every 0"
TASK = 'template = "{mask} : {text}"\n[verbalizer]\nsports = "Sports"\nhealth = "Health"\n'
ROWS = ["text\tlabel", *[f"play field {number}\tsports\nwater day {number}\thealth" for number in range(12)]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with texts, in which the programs run."""
    for name, asset in (("nya.txt", "invented.txt"), ("eng.txt", "english.txt")):
        (tmp_path / name).write_text((ASSETS / asset).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "task.toml").write_text(TASK, encoding="utf-8")
    (tmp_path / "train.tsv").write_text("\n".join(ROWS), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(line: str, *launcher: str) -> list[str]:
    return [sys.executable, *launcher, "-m", "glotprompt", *line.split()]


def done(line: str, *launcher: str) -> str:
    """What the program printed."""
    ended = subprocess.run(words(line, *launcher), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def losses(path: Path) -> list[float]:
    return [loss for _, loss in json.loads(path.read_text())["prompts"][0]["losses"]]


def test_a_killed_run_and_one_under_torchrun_as_one_undisturbed(here: Path, tiny_folder: Path, card: str) -> None:
    """On a GPU to rounding alone: its backward passes add in any order."""
    line = f"adapt --model {tiny_folder} --target nya=nya.txt --source eng.txt --steps 200 --device {card} {COMMON}"
    done(f"{line} --output whole.st --json whole.json")
    process = subprocess.Popen(words(f"{line} --output killed.st"), stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(here.glob("killed.st*/**/*.checkpoint")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done(f"{line} --output killed.st --json killed.json")
    done(
        f"{line} --output shared.st --json shared.json",
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1",
    )  # fmt: skip
    for name in ("killed.json", "shared.json"):
        assert losses(here / name)[:20] == pytest.approx(losses(here / "whole.json")[:20], rel=0.02)


def test_doctor_times_steps(here: Path, tiny_folder: Path, card: str) -> None:
    found = done(f"doctor --model {tiny_folder} --text nya.txt --device {card} --json -")
    assert json.loads(found)


def test_serve_answers_what_predict_says(here: Path, tiny_folder: Path, card: str) -> None:
    for place in ("cpu", card):
        line = f"tune --model {tiny_folder} --train train.tsv --task task.toml --epochs 1 --device {place} {COMMON}"
        done(f"{line} --precision fp32 --output {place}.st")
    (here / "text.txt").write_text("water day\n", encoding="utf-8")
    expected = done(f"predict --classifier {card}.st --input text.txt --device cpu --precision fp32 --json -")
    process = subprocess.Popen(
        words(f"serve {card}.st --device {card} --precision fp32 --port 0"), stderr=subprocess.PIPE, text=True
    )
    try:
        address = ""
        for said in process.stderr or ():
            if "http://" in said:
                address = "http://" + said.split("http://")[1].split()[0].rstrip("/.,")
                break
        asked = json.dumps({"items": [{"classifier": card, "text": "water day"}]}).encode()
        request = urllib.request.Request(f"{address}/v1/predict", asked, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            (found,) = json.load(answer)["results"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    scores = {score["label"]: score["score"] for score in found["scores"]}
    assert scores == pytest.approx(json.loads(expected)["scores"], abs=1e-3)
