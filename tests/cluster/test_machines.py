"""How machines are divided, and what of the room may be imported before a worker's environment is set."""

from __future__ import annotations

import subprocess
import sys

import pytest

from glotprompt.cluster.machines import Share, shares
from glotprompt.errors import ConfigError

CPU, GPU = {"CPU": 16.0, "memory": 1e9}, {"CPU": 32.0, "GPU": 4.0}
HEAD = {"CPU": 0.0}


@pytest.mark.parametrize(
    ("machines", "workers", "device", "threads", "share"),
    [
        ([CPU], None, "auto", None, Share(1, 16, 0)),
        ([CPU, CPU, HEAD], None, "auto", None, Share(2, 16, 0)),
        ([CPU], 5, "auto", None, Share(5, 3, 0)),
        ([CPU, CPU], 4, "cpu", None, Share(4, 8, 0)),
        ([CPU], 40, "auto", None, Share(40, 1, 0)),
        ([CPU], 4, "auto", 1, Share(4, 1, 0)),
        ([CPU, GPU], None, "auto", None, Share(4, 8, 1)),
        ([GPU, GPU], 8, "cuda", 2, Share(8, 2, 1)),
        ([GPU], 6, "auto", None, Share(6, 5, 0.5)),
        ([GPU], 2, "cpu", None, Share(2, 16, 0)),
    ],
)
def test_shares(
    machines: list[dict[str, float]], workers: int | None, device: str, threads: int | None, share: Share
) -> None:
    assert shares(machines, workers, device, threads) == share


def test_nothing_to_work_on() -> None:
    with pytest.raises(ConfigError, match="no machine with a CPU"):
        shares([HEAD], None, "auto", None)
    with pytest.raises(ConfigError, match="no GPU; give auto or cpu"):
        shares([CPU], None, "cuda", None)


@pytest.mark.slow
def test_what_workers_import_first_needs_no_torch() -> None:
    code = "import sys, glotprompt.cluster.workers; sys.exit(bool({'torch', 'transformers'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
