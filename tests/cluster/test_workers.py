"""Steps on workers of Ray: the same bits as in this process, also when a worker is killed."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError, RayTaskError

from glotprompt.cluster import workers
from glotprompt.cluster.machines import Share
from glotprompt.cluster.workers import RayEngine
from glotprompt.config import RuntimeConfig
from glotprompt.errors import ConfigError, MissingExtraError
from glotprompt.grid import work
from glotprompt.grid.steps import AdaptStep, Step, TuneStep, Workplace
from glotprompt.grid.store import ADAPTED, CLASSIFIER, Store
from glotprompt.grid.work import Outcome, SerialEngine
from glotprompt.storage import artifact

from ..grid.test_engine import planned, results


def told(step: Step, outcome: Outcome | None) -> None:
    pass


def test_an_address_where_nobody_listens(experiment_file: Path, place: Workplace) -> None:
    steps = list(planned(experiment_file, place, 'methods=["prompt-tuning"]').steps.values())
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
    with pytest.raises(ConfigError, match=f"no Ray cluster answers at --address {address}"):
        RayEngine(address=address).run(steps, place, told)
    with pytest.raises(ConfigError, match="cannot join a Ray cluster at --address nowhere"):
        RayEngine(address="nowhere").run(steps, place, told)
    with pytest.raises(ConfigError, match="Ray chooses the GPU"):
        RayEngine().run(steps, replace(place, device="cuda:1"), told)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, workers.__name__)
    with pytest.raises(MissingExtraError, match=r'pip install "glotprompt\[ray\]"'):
        import glotprompt.cluster.workers  # noqa: F401  # pyright: ignore[reportUnusedImport]


class Promise:
    """What an actor's method gives at once."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call


class Actors:
    """Stands for ray: actors in this process, whose calls end in any order."""

    def __init__(self, seed: int) -> None:
        self.draw, self.most = random.Random(seed), 0

    def remote(self, kind: type) -> Any:
        def made(*arguments: Any) -> Any:
            actor = kind(*arguments)
            calls = {
                name: SimpleNamespace(remote=lambda *words, name=name: Promise(partial(getattr(actor, name), *words)))
                for name in ("sees", "attempt")
            }
            return SimpleNamespace(**calls)

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=made))

    def wait(self, promises: list[Promise], num_returns: int) -> tuple[list[Promise], list[Promise]]:
        self.most = max(self.most, len(promises))
        return [self.draw.choice(promises)], []

    def get(self, promise: Promise) -> Any:
        return promise.call()

    def kill(self, worker: Any) -> None:
        pass


@pytest.mark.parametrize("seed", range(5))
def test_no_step_begins_before_what_it_waits_for(
    seed: int, experiment_file: Path, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(experiment_file, place)
    steps, over, actors = list(plan.steps.values()), set[str](), Actors(seed)
    dead = next(step for step in steps if isinstance(step, TuneStep))

    def attempt(step: Step, place: Workplace) -> Outcome:
        if step is dead:
            raise RayActorError(error_msg="The actor died")
        assert over.issuperset(need.name for need in step.needs if need is not dead)
        after = step.after if isinstance(step, AdaptStep) else None
        assert after is None or after.name in over
        over.add(step.name)
        return Outcome(step.name, "done")

    monkeypatch.setattr(workers, "ray", actors)
    monkeypatch.setattr(work, "attempt", attempt)
    outcomes = workers._Pool(Share(3, 1, 0), place, told).run(steps)
    assert Counter(outcome.status for outcome in outcomes) == {"done": len(steps) - 1, "failed": 1}
    assert actors.most == 3
    (failure,) = place.store.failures()
    assert failure["step"] == dead.name
    assert "The actor died (its worker was started 4 times" in failure["error"]


def test_a_store_that_fails_is_no_step_that_failed(
    experiment_file: Path, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with the serial engine; Ray wraps what a worker raises."""
    steps = list(planned(experiment_file, place, 'methods=["prompt-tuning"]').steps.values())

    def attempt(step: Step, place: Workplace) -> Outcome:
        cause = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), "tune.lock")
        raise RayTaskError("attempt", "Traceback ...", cause).as_instanceof_cause()

    monkeypatch.setattr(workers, "ray", Actors(0))
    monkeypatch.setattr(work, "attempt", attempt)
    with pytest.raises(OSError, match=r"No locks available: 'tune\.lock'") as caught:
        workers._Pool(Share(1, 1, 0), place, told).run(steps)
    assert not isinstance(caught.value, RayTaskError)
    assert place.store.failures() == []


def test_an_interruption_leaves_who_is_at_a_step_to_ray(
    experiment_file: Path, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which ends with the connection; a worker killed at a step would make it say that the step will be tried again."""
    steps = list(planned(experiment_file, place, 'methods=["prompt-tuning"]').steps.values())
    actors, killed = Actors(0), list[Any]()
    waits = iter([actors.wait])

    def wait(promises: list[Promise], num_returns: int) -> tuple[list[Promise], list[Promise]]:
        for first in waits:
            return first(promises, num_returns)
        raise KeyboardInterrupt

    monkeypatch.setattr(actors, "wait", wait)
    monkeypatch.setattr(actors, "kill", killed.append)
    monkeypatch.setattr(workers, "ray", actors)
    pool = workers._Pool(Share(2, 1, 0), place, told)
    with pytest.raises(KeyboardInterrupt):
        pool.run(steps)
    ((at_work, step),) = pool.busy.values()
    assert step is steps[0]
    assert killed == [worker for worker in pool.workers if worker is not at_work]
    assert list((place.store.root / "work").glob("shared-*")) == []


def test_a_worker_that_does_not_see_the_store(
    experiment_file: Path, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(experiment_file, place, 'methods=["prompt-tuning"]')
    monkeypatch.setattr(workers, "ray", Actors(0))
    monkeypatch.setattr(workers._Worker, "sees", lambda self, store, sign: False)
    with pytest.raises(ConfigError, match="must be a folder or URL that all machines share"):
        workers._Pool(Share(1, 1, 0), place, told).run(list(plan.steps.values()))

    def sees(self: object, store: Store, sign: str) -> bool:
        reason = ConfigError("the driver for s3:// is not installed: pip install s3fs")
        raise RayTaskError("sees", "Traceback ...", reason).as_instanceof_cause()  # as ray.get does

    monkeypatch.setattr(workers._Worker, "sees", sees)
    with pytest.raises(ConfigError, match=r"^a worker of Ray cannot use the store: the driver .* pip install s3fs$"):
        workers._Pool(Share(1, 1, 0), place, told).run(list(plan.steps.values()))


def locks() -> list[list[str]]:
    """Who holds which lock on this machine, word by word."""
    return [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line]


def kill_a_worker(store: Store, killed: list[int]) -> None:
    """Kill the process that works on a step of stage 1, once it has left a checkpoint."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for lock in (store.root / "work").glob("adapt-*.lock"):
            if list(lock.with_suffix("").glob("*.checkpoint")):
                held = next(line for line in locks() if line[5].endswith(f":{lock.stat().st_ino}"))
                assert b"ray::" in Path(f"/proc/{held[4]}/cmdline").read_bytes()
                killed.append(int(held[4]))
                os.kill(killed[0], signal.SIGKILL)
                return
        time.sleep(0.01)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker in /proc/locks")
def test_two_workers_one_of_them_killed_give_the_bits_of_one_process(
    experiment_file: Path, place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in this process (conftest.py): sums depend on it
    plan = planned(experiment_file, place, 'methods=["soft-prompt", "mad-x"]', "adapt.steps=40")
    steps = plan.missing(place.store.finished())
    assert {outcome.status for outcome in SerialEngine().run(steps, place, told)} == {"done"}

    elsewhere = replace(place, store=Store(tmp_path / "ray"), runtime=RuntimeConfig(checkpoint_every=0))
    said: Counter[tuple[str, bool]] = Counter()
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(elsewhere.store, killed))
    killer.start()
    monkeypatch.chdir(tmp_path)
    outcomes = RayEngine(workers=2).run(
        steps, replace(elsewhere, store=Store("ray")), lambda step, outcome: said.update([(step.name, outcome is None)])
    )
    killer.join()

    assert killed
    assert os.getpid() not in killed
    assert [outcome for outcome in outcomes if outcome.status != "done"] == []
    assert said == Counter({(step.name, begun): 1 for step in steps for begun in (True, False)})
    for step in steps:
        if isinstance(step, AdaptStep | TuneStep):
            file = ADAPTED if isinstance(step, AdaptStep) else CLASSIFIER
            one, two = (at.store.folder(step.name) / file for at in (place, elsewhere))
            kind = artifact.describe(one, ("language prompt", "language module", "classifier"))["kind"]
            expected, found = artifact.read(one, kind)[0], artifact.read(two, kind)[0]
            assert all((expected[name] == found[name]).all() for name in expected)
    for one, two in zip(results(plan, place), results(plan, elsewhere), strict=True):
        for part in ("scores", "predictions", "prompt_change"):
            assert one[part] == two[part]
        assert one["train_info"]["tune"]["losses"] == two["train_info"]["tune"]["losses"]
    assert list((elsewhere.store.root / "work").glob("shared-*")) == []


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "kill"])
def test_a_grid_that_is_told_to_stop_says_one_line(
    number: signal.Signals, experiment_file: Path, toy_data: Path
) -> None:
    """SIGTERM is what a scheduler sends at the time limit."""
    output = experiment_file.parent / "stopped"
    words = [str(experiment_file), "--output", str(output), "--data-dir", str(toy_data), "--set", "adapt.steps=20000"]
    line = [sys.executable, "-m", "glotprompt", "grid", *words, "--engine", "ray", "--workers", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        before = list(takewhile(lambda said: not said.startswith("adapt soft-prompt"), process.stderr))
        process.send_signal(number)
        after = process.stderr.read().splitlines()
    assert process.returncode == 130, before + after
    assert [said for said in after if not said.startswith(("adapt", "tune"))] == [
        f"interrupted: rerun the same command to resume; what is finished lies in {output}"
    ]
