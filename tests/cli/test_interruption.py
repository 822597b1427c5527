"""`kill -9` at random moments, also in the middle of writing a checkpoint: the same words, started again, go on and
end with the bits of a run that nobody disturbed.

The processes are real and really killed. They are `forked`, so that each starts in a moment and dozens of kills fit
into seconds; one test starts the installed program itself.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from glotprompt.storage import artifact

from .. import forked

PROGRAM = Path(sys.executable).with_name("glotprompt")
KINDS = {"adapt": "language prompt", "tune": "classifier"}
MOMENTS = ("starting", "writing", "training")
Words = Callable[[str, Path], list[str]]


@pytest.fixture
def words(files: Path, tiny_folder: Path) -> Words:
    """From a stage and an output to a command line, with a checkpoint after every step."""

    def line(stage: str, output: Path) -> list[str]:
        common = f"--precision fp32 --checkpoint-every 0 --batch-size 4 --max-length 24 --output {output}"
        return {
            "adapt": f"adapt --model {tiny_folder} --target nya={files}/nya.txt --source {files}/eng.txt --steps 40"
            f" --learning-rate 0.05 --set eval_every=7 {common}",
            "tune": f"tune --model {tiny_folder} --train {files}/train.tsv --task {files}/task.toml --epochs 6"
            f" --learning-rate 0.05 {common}",
        }[stage].split()

    return line


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other make a busy machine crawl, and the tiny backbone needs none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture
def start(files: Path) -> Callable[[list[str]], ForkServerProcess]:
    """Start a command in a process of its own."""
    return lambda line: forked.start(line, files / "err.txt")


def trained(output: Path, kind: str) -> tuple[torch.Tensor, dict[str, Any]]:
    """The weights, and the history of training without what a clock tells."""
    tensors, metadata = artifact.read(output, kind)
    return tensors["key_values"], {
        name: metadata["training"][name] for name in ("steps", "losses", "evaluations", "tokens")
    }


def kill_at(process: ForkServerProcess, folder: Path, moment: str, draw: random.Random) -> bool:
    """Kill a process once, if it does not end before; returns whether that left a half-written checkpoint behind."""
    known, strays = newest(folder), being_written(folder)
    while moment != "starting" and process.exitcode is None and newest(folder) <= known:
        time.sleep(1e-4)
    process.join(draw.uniform(0, 0.1))
    while moment == "writing" and process.exitcode is None and not being_written(folder) - strays:
        time.sleep(1e-4)
    process.kill()
    process.join()
    return bool(being_written(folder) - strays)


def being_written(folder: Path) -> set[int]:
    """When unfinished checkpoints were last touched: what an earlier kill left keeps its time."""
    times: set[int] = set()
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # it may have got its name in between
            times.add(path.stat().st_mtime_ns)
    return times


def newest(folder: Path) -> int:
    """When the last checkpoint was put in place."""
    return max((path.stat().st_mtime_ns for path in folder.glob("*.checkpoint")), default=0)


@pytest.mark.long
@pytest.mark.parametrize("stage", ["adapt", "tune"])
def test_killed_again_and_again(
    stage: str, words: Words, start: Callable[[list[str]], ForkServerProcess], files: Path
) -> None:
    undisturbed, killed = files / "undisturbed.st", files / "killed.st"
    process = start(words(stage, undisturbed))
    process.join()
    assert process.exitcode == 0
    draw, folder = random.Random(stage), files / "killed.st.checkpoints"
    kills, half_written = 0, 0
    while not killed.is_file():
        assert kills < 200, "it does not get on"
        process = start(words(stage, killed))
        half_written += kill_at(process, folder, MOMENTS[kills % len(MOMENTS)], draw)
        kills += process.exitcode == -signal.SIGKILL
    print(f"{stage}: {kills} kills, {half_written} of them while a checkpoint was being written")
    assert kills >= 3
    expected, history = trained(undisturbed, KINDS[stage])
    found, course_found = trained(killed, KINDS[stage])
    assert torch.equal(found, expected)
    assert course_found == history


@pytest.mark.long
@pytest.mark.parametrize("stage", ["adapt", "tune"])
def test_the_installed_program(stage: str, words: Words, files: Path) -> None:
    undisturbed, killed, folder = files / "undisturbed.st", files / "killed.st", files / "killed.st.checkpoints"
    subprocess.run([PROGRAM, *words(stage, undisturbed)], check=True)
    for _ in range(3):
        process = subprocess.Popen([PROGRAM, *words(stage, killed)])
        known = newest(folder)
        while process.poll() is None and newest(folder) == known:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run([PROGRAM, *words(stage, killed)], check=True)
    assert torch.equal(trained(killed, KINDS[stage])[0], trained(undisturbed, KINDS[stage])[0])
    assert not folder.exists()


@pytest.mark.slow
def test_ctrl_c(words: Words, start: Callable[[list[str]], ForkServerProcess], files: Path) -> None:
    """The real key: a line, status 130, and a checkpoint to go on from."""
    output = files / "stopped.st"
    # Steps enough that the key comes before the end.
    process = start([*words("adapt", output), "--steps", "2000"])
    folder = files / "stopped.st.checkpoints"
    while process.exitcode is None and not newest(folder):
        time.sleep(0.001)
    forked.interrupt(process)
    assert process.exitcode == 130
    err = (files / "err.txt").read_text(encoding="utf-8")
    assert err.splitlines()[-1].startswith("interrupted: rerun the same command to resume from the last checkpoint")
    assert newest(folder)
