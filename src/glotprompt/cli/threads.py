"""Limits the number of threads to the CPU quota of a container.

torch counts the processors that a process may run on (`taskset`, Slurm), but not a quota of their time: with
`docker run --cpus 2` on a machine of 64 it starts 64 threads, which then wait for each other.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

import torch

from glotprompt.cli.screen import note


def keep_to_quota() -> None:
    """Lower torch's threads to the container's quota, and say so. A number that the user set (`OMP_NUM_THREADS`)
    stays."""
    quota = None if "OMP_NUM_THREADS" in os.environ else cpu_quota()
    if quota is not None and quota < torch.get_num_threads():
        torch.set_num_threads(quota)
        note(f"threads: {quota}, as many processors as this container may keep busy (OMP_NUM_THREADS=N sets another)")


def cpu_quota(membership: Path = Path("/proc/self/cgroup"), hierarchies: Path = Path("/sys/fs/cgroup")) -> int | None:
    """How many processors' time this process may take, rounded up: the least of its control group's quota and those
    above it (Linux, versions 1 and 2). None: no limit."""
    quotas: list[float] = []
    with suppress(OSError, ValueError):
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = hierarchies / "cpu" if controllers else hierarchies
            group = top / path.lstrip("/")
            # Inside a container the path may be the host's, and is then not there; the top is the container's.
            quotas += [_quota(folder) for folder in (group, *group.parents) if folder.is_relative_to(top)]
    least = min(quotas, default=math.inf)
    return None if least == math.inf else math.ceil(least)


def _quota(group: Path) -> float:
    """Processors' time by a group's own files; infinite without a limit."""
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with suppress(OSError, ValueError):
            quota, period = " ".join((group / file).read_text() for file in files).split()
            return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    return math.inf
