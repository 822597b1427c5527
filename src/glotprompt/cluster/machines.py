"""Ray on this machine or on a cluster: joined for as long as something needs it, and its CPUs and GPUs divided."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

# Whoever imports this file says what is wrong where Ray is not installed.
import ray

from glotprompt.errors import ConfigError, in_a_line

# Workers import this file before their environment is set: nothing here may import torch or transformers.

_PASSED_ON = ("GLOTPROMPT_DATA", "GLOTPROMPT_CACHE", "HF_HOME", "HF_HUB_OFFLINE")
_ANSWERS_WITHIN = 10.0
"""Seconds to wait for a connection to a cluster; Ray itself would wait for many minutes."""
_OBJECTS = 10**8
"""Bytes of Ray's shared memory on this machine; only kilobytes travel through it."""


@dataclass(frozen=True)
class Share:
    """Number of workers, and the resources of each."""

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


def passed_on() -> dict[str, str]:
    """The variables that workers on other machines get from this process."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def check_device(device: str) -> None:
    """Raises `ConfigError` for one GPU among several."""
    if device.startswith("cuda:"):
        raise ConfigError(f"--device {device}: Ray chooses the GPU; give auto, cuda or cpu")


def share_of_all(workers: int | None, device: str, *, option: str, here: bool) -> Share:
    """What each worker is given of the cluster that is joined. `OMP_NUM_THREADS` says how many CPUs. `option` is what
    the number of workers is called on the command line; `here`: the cluster is this machine, which grows no further.
    Raises `ConfigError` where there is no room."""
    machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
    threads = os.environ.get("OMP_NUM_THREADS", "")
    share = shares(machines, workers, device, int(threads) if threads.isdecimal() else None)
    if here and share.workers * share.cpus > machines[0]["CPU"]:
        raise ConfigError(
            f"{share.workers} {option.removeprefix('--')} of {share.cpus} CPUs do not fit on the"
            f" {int(machines[0]['CPU'])} CPUs here; give fewer {option}, or set OMP_NUM_THREADS lower"
        )
    return share


@contextmanager
def connected(address: str | None, *, show_logs: bool = False) -> Generator[None]:
    """Ray inside this block; one that is there already stays. Without an `address` it is started on this machine and
    ends with the block. SIGTERM (`kill`, a scheduler's time limit) is a `KeyboardInterrupt` inside it. `show_logs`:
    what workers write is written here, too. Raises `ConfigError` where nobody answers."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECTS} if address is None else {}
    if address is not None:
        _refuse_deaf(address)
    try:
        ray.init(address=address or "local", log_to_driver=show_logs, logging_level=logging.ERROR, **here)
    except Exception as error:  # Ray has no exception class for these errors
        if address is None:
            raise ConfigError(f"Ray cannot be started here: {in_a_line(error)}") from None
        raise ConfigError(
            f"cannot join a Ray cluster at --address {address}: {in_a_line(error)} (one that asks for a token needs"
            " RAY_AUTH_MODE=token here, too)"
        ) from None
    try:
        with _terminated_as_interrupted():
            yield
    finally:
        ray.shutdown()


@contextmanager
def _terminated_as_interrupted() -> Generator[None]:
    """To be entered when Ray is there: its own handler of SIGTERM writes a stack trace."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse_deaf(address: str) -> None:
    """Raise `ConfigError` where no server listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # "auto", or a mistake: Ray says so at once
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWERS_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster answers at --address {address} ({error}); is `ray start --head` running there?"
        ) from None
