"""The store: folders that appear whole, locks that die with their process, failures that are kept."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from glotprompt.errors import DataError
from glotprompt.grid.store import RESULT, Cell, Store


def test_a_step_appears_when_it_is_published(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.outcome("tune-1")
    (folder / RESULT).write_text('{"format": 1}', encoding="utf-8")
    (store.work("tune-1") / "a.checkpoint").write_text("", encoding="utf-8")
    cell: Cell = {"method": "m", "dataset": None, "target": None, "seed": 0, "varied": {}, "result": "tune-1"}
    assert not store.has("tune-1")
    assert store.result(cell) is None
    store.publish("tune-1")
    assert store.result(cell) == {"format": 1}
    assert not store.work("tune-1").exists()
    assert store.result({**cell, "result": None}) is None


def test_who_comes_second_is_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for text in ("1", "2"):
        (store.outcome("tune-1") / RESULT).write_text(text, encoding="utf-8")
        store.publish("tune-1")
    assert (store.folder("tune-1") / RESULT).read_text(encoding="utf-8") == "1"
    assert not store.work("tune-1").exists()


def test_failures_count_attempts_until_the_step_is_made_good(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for _ in range(2):
        store.keep_failure("tune-1", "it broke", "Traceback ...")
    (failure,) = store.failures()
    assert (failure["step"], failure["error"], failure["attempts"]) == ("tune-1", "it broke", 2)
    store.outcome("tune-1")
    store.publish("tune-1")
    assert store.failures() == []
    store.keep_failure("tune-1", "it broke", "Traceback ...")  # as a kill between the two would leave it
    assert store.failures() == []


@pytest.mark.slow
def test_one_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys, time; from glotprompt.grid.store import Store\n"
        "with Store(sys.argv[1]).claimed('x'):\n"
        "    for word in ('in', 'out'):\n"
        "        with open(sys.argv[1] + '/log', 'a') as log: log.write(word + ' ')\n"
        "        time.sleep(0.05)"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, tmp_path]) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert (tmp_path / "log").read_text(encoding="utf-8") == "in out " * 3
    assert not list((tmp_path / "work").glob("*.lock"))


@pytest.mark.slow
def test_grids_that_begin_at_one_instant(tmp_path: Path) -> None:
    """Each writes the same plan and asks for the same claims; the files beside and the locks come and go."""
    code = (
        "import sys; from pathlib import Path; from glotprompt.grid.store import Store\n"
        "here, store = Path(sys.argv[1]), Store(Path(sys.argv[1]))\n"
        "(here / f'ready-{sys.argv[2]}').touch()\n"
        "while len(list(here.glob('ready-*'))) < 3: pass\n"
        "for _ in range(200): store.write_experiment({'name': 'x'})"
    )
    grids = [subprocess.Popen([sys.executable, "-c", code, tmp_path, str(number)]) for number in range(3)]
    assert [grid.wait() for grid in grids] == [0, 0, 0]
    assert [file.name for file in (tmp_path / "experiments").iterdir()] == ["x.json"]


def test_a_lock_that_goes_while_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who had it before removes the file just after this claim has its lock."""
    real, times = fcntl.flock, []

    def flock(file: IO[str], how: int) -> None:
        real(file, how)
        times.append(how)
        if len(times) == 1:
            (tmp_path / "work" / "x.lock").unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    with Store(tmp_path).claimed("x"):
        assert len(times) == 2
        assert (tmp_path / "work" / "x.lock").is_file()


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    code = (
        "import sys, time; from glotprompt.grid.store import Store\n"
        "with Store(sys.argv[1]).claimed('x'): print('claimed', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        process.kill()
    with Store(tmp_path).claimed("x"):
        pass


def test_readers_share_and_keep_others_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.claimed("x", shared=True):
        with store.claimed("x", shared=True, wait=False):
            pass
        with pytest.raises(BlockingIOError), store.claimed("x", wait=False):
            pass
    with store.claimed("x", wait=False):
        pass
    assert list((tmp_path / "work").iterdir()) == []


def test_a_folder_without_experiments_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no experiment"):
        Store(tmp_path).experiments()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "a.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="is damaged"):
        Store(tmp_path).experiments()


@pytest.mark.parametrize("text", ["{}", "[]", '{"format": 99, "cells": []}', '{"format": 1}'])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "toy.json").write_text(text, encoding="utf-8")
    for asked in (Store(tmp_path).experiments, lambda: Store(tmp_path).experiment("toy")):
        with pytest.raises(DataError, match=r"toy\.json is no plan"):
            asked()


def test_the_precision_is_settled_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "grid")
    assert store.precision() is None
    assert not (tmp_path / "grid").exists()
    assert store.settle_precision(lambda: "bf16") == "bf16"
    assert Store(tmp_path / "grid").settle_precision(lambda: "fp32") == store.precision() == "bf16"
    for text in ("[]", '{"auto": "fp64"}', "{"):
        (tmp_path / "grid" / "precision.json").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=r"precision.json is damaged"):
            store.precision()


def test_the_store_needs_no_torch() -> None:
    code = "import sys, glotprompt.grid.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
