"""The engine that hands steps to workers of Ray, on this machine or on a cluster: the only importer of ray.

A worker is a process (an actor) that keeps one backbone loaded and is given one step at a time, with CPUs and a GPU of
its own. This process knows what each step waits for and gives a free worker the next one that is ready. What steps find
goes through the store, a folder that all machines share: nothing but steps and outcomes travels through Ray.

A worker that dies is started again by Ray, and so is its step, which goes on from its checkpoint.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glotprompt import atomic
from glotprompt.errors import ConfigError, MissingExtraError
from glotprompt.grid.store import Store

try:
    import ray
    from ray.exceptions import RayError
except ImportError:
    raise MissingExtraError("--engine ray", "ray") from None

# A worker imports this file before its environment is set: nothing here may import torch or transformers.
if TYPE_CHECKING:
    from glotprompt.grid.engine import Tell
    from glotprompt.grid.steps import Step, Workplace
    from glotprompt.grid.work import Outcome

RETRIES = 3
"""How often a step is begun again whose worker died; one that takes more memory than there is would kill it forever."""
_PASSED_ON = ("GLOTPROMPT_DATA", "GLOTPROMPT_CACHE", "HF_HOME", "HF_HUB_OFFLINE")
"""Variables that workers on other machines get from this process."""
_ANSWERS_WITHIN = 10.0
"""Seconds a cluster has to take a connection; Ray itself would wait for many minutes."""
_OBJECTS = 10**8
"""Bytes of Ray's shared memory on this machine; steps and outcomes take a few kilobytes."""


@dataclass(frozen=True)
class Share:
    """How many workers there are, and what each is given."""

    workers: int
    cpus: int
    """Also the threads of torch in it: sums of floats, and so bits, depend on them."""
    gpus: float


def shares(machines: Sequence[Mapping[str, float]], workers: int | None, device: str, threads: int | None) -> Share:
    """Divide machines, each with its "CPU" and "GPU" in Ray's words, between workers.

    Without a number of `workers` there is one for each GPU, without GPUs one for each machine. `threads`: CPUs for
    each; None: the machine's, divided. Raises `ConfigError` where there is nothing to work on.
    """
    able = [machine for machine in machines if machine.get("CPU", 0) >= 1]
    gpus = 0 if device == "cpu" else int(sum(machine.get("GPU", 0) for machine in able))
    if gpus:
        able = [machine for machine in able if machine.get("GPU", 0)]
    elif device != "cpu" and device != "auto":
        raise ConfigError(f"--device {device}: the Ray cluster has no GPU; give auto or cpu")
    if not able:
        raise ConfigError("the Ray cluster has no machine with a CPU to work on; start workers with `ray start`")
    workers = workers or gpus or len(able)
    on_a_machine = math.ceil(workers / len(able))
    cpus = threads or max(1, int(min(machine["CPU"] for machine in able)) // on_a_machine)
    return Share(workers, cpus, 1 / math.ceil(workers / gpus) if gpus else 0.0)


class RayEngine:
    """See `Engine`. With an `address` the workers are on that cluster, else on this machine."""

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        self.workers, self.address = workers, address

    def run(self, steps: Sequence[Step], place: Workplace, tell: Tell) -> list[Outcome]:
        """See `Engine.run`. Raises `ConfigError` where the cluster does not answer or does not share the store."""
        if not steps:
            return []
        if place.device.startswith("cuda:"):
            raise ConfigError(f"--device {place.device}: Ray chooses the GPU; give auto, cuda or cpu")
        folders = {"output": place.output.absolute(), "data_dir": place.data_dir and place.data_dir.absolute()}
        place = replace(place, **folders, runtime=place.runtime.replace(progress=False))
        with _connected(self.address):
            machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
            threads = os.environ.get("OMP_NUM_THREADS", "")
            share = shares(machines, self.workers, place.device, int(threads) if threads.isdecimal() else None)
            if self.address is None and share.workers * share.cpus > machines[0]["CPU"]:
                raise ConfigError(
                    f"{share.workers} workers of {share.cpus} CPUs do not fit on the {int(machines[0]['CPU'])} CPUs"
                    " here; give fewer --workers, or set OMP_NUM_THREADS lower"
                )
            return _Pool(share, place, tell).run(steps)


class _Worker:
    """What runs in a worker."""

    def __init__(self, environment: Mapping[str, str], folder: str, threads: int) -> None:
        os.environ.update(environment)
        with suppress(OSError):  # relative paths mean the same as where the grid was started
            os.chdir(folder)
        import torch

        torch.set_num_threads(threads)

    def sees(self, path: Path) -> bool:
        return path.is_file()

    def attempt(self, step: Step, place: Workplace) -> Outcome:
        from glotprompt.grid import work

        return work.attempt(step, place)


class _Pool:
    """Workers, and the steps they are at."""

    def __init__(self, share: Share, place: Workplace, tell: Tell) -> None:
        self.place, self.tell = place, tell
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        kind: Any = ray.remote(_Worker).options(  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
            num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=-1, max_task_retries=RETRIES
        )
        self.workers: list[Any] = [kind.remote(environment, os.getcwd(), share.cpus) for _ in range(share.workers)]
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, Step]] = {}
        """From what Ray promises to the worker and its step."""

    def run(self, steps: Sequence[Step]) -> list[Outcome]:
        """See `Engine.run`."""
        sign = self.place.output / "work" / f"shared-{uuid.uuid4().hex}"
        atomic.write(sign, "")
        coming = {worker.sees.remote(sign): worker for worker in self.workers}
        waiting = {step.name: step for step in steps}
        outcomes: list[Outcome] = []
        try:
            while waiting or self.busy:
                self._hand_out(waiting)
                (ready,), _ = ray.wait([*coming, *self.busy], num_returns=1)
                if ready in coming:
                    self._welcome(ready, coming.pop(ready))
                else:
                    outcomes.append(self._take(ready))
        finally:
            sign.unlink(missing_ok=True)
            for worker in self.workers:
                ray.kill(worker)
        return outcomes

    def _hand_out(self, waiting: dict[str, Step]) -> None:
        """Give idle workers the first steps that wait for nothing."""
        unfinished = {*waiting, *(step.name for _, step in self.busy.values())}
        for step in list(waiting.values()):
            if not self.idle:
                return
            if unfinished.isdisjoint(before.name for before in _before(step)):
                worker = self.idle.pop()
                del waiting[step.name]
                self.tell(step, None)
                self.busy[worker.attempt.remote(step, self.place)] = worker, step

    def _welcome(self, ready: Any, worker: Any) -> None:
        try:
            sees = ray.get(ready)
        except RayError as error:
            raise ConfigError(f"a worker of Ray cannot start: {_in_a_line(error)}") from None
        if not sees:
            raise ConfigError(
                f"a worker does not see {self.place.output}; --output must be a folder that all machines share"
            )
        self.idle.append(worker)

    def _take(self, ready: Any) -> Outcome:
        """What became of a step."""
        from glotprompt.grid.work import Outcome

        worker, step = self.busy.pop(ready)
        try:
            outcome: Outcome = ray.get(ready)
        except RayError as error:
            line = f"{_in_a_line(error)} (its worker was started {1 + RETRIES} times; perhaps memory ran out)"
            Store(self.place.output).keep_failure(step.name, line, str(error))
            outcome = Outcome(step.name, "failed", error=line)
        self.idle.append(worker)
        self.tell(step, outcome)
        return outcome


def _before(step: Step) -> list[Step]:
    """What must be over before a step begins."""
    after: Step | None = getattr(step, "after", None)
    return [*step.needs] if after is None else [*step.needs, after]


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def _connected(address: str | None) -> Generator[None]:
    """Ray, for as long as a grid runs; one that is there already stays."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECTS} if address is None else {}
    if address is not None:
        _refuse_deaf(address)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        if address is None:
            raise ConfigError(f"Ray cannot be started here: {_in_a_line(error)}") from None
        raise ConfigError(
            f"cannot join a Ray cluster at --address {address}: {_in_a_line(error)} (one that asks for a token needs"
            " RAY_AUTH_MODE=token here, too)"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_deaf(address: str) -> None:
    """Raise `ConfigError` where nobody listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # "auto", or a mistake: Ray says so at once
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWERS_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster answers at --address {address} ({error}); is `ray start --head` running there?"
        ) from None
