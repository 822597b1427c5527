"""Two processes, as `torchrun --nproc-per-node 2` starts them, train what one trains: the same losses from half of each
batch, one file, one voice."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from glotprompt import processes
from glotprompt.config import RuntimeConfig
from glotprompt.errors import ConfigError
from glotprompt.storage import artifact
from glotprompt.training import checkpoint

from .. import forked
from .conftest import Program

# What torchrun tells a process stands in its environment.
PROCESS = """
import os, sys
os.environ.update({environment!r})
sys.stdout, sys.stderr = open("out{rank}.txt", "w"), open("err{rank}.txt", "w")
from glotprompt.cli import main
for line in {lines!r}:
    if status := main(line.split()):
        sys.exit(status)
from accelerate import PartialState
open("met{rank}.txt", "w").write(str(PartialState().num_processes))
"""


def run_together(*lines: str) -> None:
    """Run command lines, one after the other, in two processes side by side."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in (0, 1):
        environment = {
            "LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        code = PROCESS.format(environment=environment, rank=rank, lines=lines)
        started.append(forked.context().Process(target=exec, args=(code,)))
        started[-1].start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0], Path("err0.txt").read_text()


def history(figures: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Losses of every step, and all that evaluations found."""
    found = [value for _, metadata in figures["evaluations"] for value in metadata.values()]
    return [loss for _, loss in figures["losses"]], found


@pytest.mark.slow
@pytest.mark.timeout(600)  # on a busy machine
def test_both_stages_as_in_one_process(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    common = "--precision fp32 --batch-size 7 --max-length 24 --learning-rate 0.4 --device cpu"
    adapt = f"adapt --model {tiny_folder} --target nya=nya.txt --source eng.txt {common} --steps 12 --set eval_every=3"
    tune = f"tune --train train.tsv --task task.toml --epochs 3 --top-k 2 {common}"
    line = "{} --output {}.st --json {}.json"
    for words in (line.format(adapt, "prompt1", "adapt1"), line.format(f"{tune} --prompt prompt1.st", "1", "tune1")):
        assert glotprompt(*words.split()).status == 0
    stage2 = line.format(f"{tune} --prompt prompt2.st", "2", "tune2")
    run_together(line.format(adapt, "prompt2", "adapt2"), stage2, stage2)

    # Else each trained alone, on whole batches.
    assert (here / "met0.txt").read_text() == (here / "met1.txt").read_text() == "2"
    for stage in ("adapt", "tune"):
        one, two = (json.loads((here / f"{stage}{count}.json").read_text()) for count in (1, 2))
        if stage == "adapt":
            one, two = one["prompts"][0], two["prompts"][0]
        assert len(one["losses"]) == 12
        assert one["best_step"] == two["best_step"]
        assert one["tokens"] == two["tokens"]
        for alone, shared in zip(history(one), history(two), strict=True):
            assert shared == pytest.approx(alone, abs=1e-4)
    artifact.read("2.st", "classifier")  # whole
    assert not list(here.glob("*.checkpoints"))
    # The first process has said everything once, the other nothing.
    said = (here / "err0.txt").read_text()
    assert said.count("wrote prompt2.st") == said.count("wrote 2.st") == 1
    assert "2.st is already what these words make" in said
    assert (here / "out0.txt").read_text().count("MLM loss") == 1
    assert (here / "out1.txt").read_text() == (here / "err1.txt").read_text() == ""


def test_commands_that_are_for_one_process_say_so(monkeypatch: pytest.MonkeyPatch, glotprompt: Program) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    assert not processes.is_first()
    error = glotprompt("methods").error
    assert "adapt and tune" in error
    assert "without torchrun" in error


def test_processes_that_do_not_see_the_same_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = checkpoint.Checkpoint(RuntimeConfig(checkpoint_dir=tmp_path), "run")
    assert alone.value_at_start("precision", "bf16") == "bf16"
    monkeypatch.setattr(checkpoint, "of_first", lambda value: "fp32")
    assert alone.value_at_start("precision", "bf16") == "fp32"
    monkeypatch.setattr(checkpoint, "same_everywhere", lambda value: False)
    with pytest.raises(ConfigError, match=r"run\.checkpoint; the output must lie in a folder that all machines share"):
        alone.load()
