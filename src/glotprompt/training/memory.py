"""Peak memory of a stretch of work, and gradient checkpointing."""

from __future__ import annotations

import contextlib
import resource
import sys
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import ClassVar

import torch

from glotprompt.config import RuntimeConfig
from glotprompt.model.backbone import Backbone

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


class PeakMemory:
    """Peak resident memory (GPU memory once CUDA is used) since this object was created; outside Linux since
    process start."""

    _live: ClassVar[weakref.WeakSet[PeakMemory]] = weakref.WeakSet()

    def __init__(self) -> None:
        for other in PeakMemory._live:  # the system has one mark: the others record it before the reset
            other._peak = max(other._peak, _mark())
        PeakMemory._live.add(self)
        self._peak = 0
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        with contextlib.suppress(OSError):
            _RESET.write_text("5")

    def bytes(self) -> int:
        return max(self._peak, _mark())


def _mark() -> int:
    """The system's high-water mark."""
    if torch.cuda.is_initialized():  # not where a GPU is there and --device cpu leaves it alone
        return torch.cuda.max_memory_allocated()
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextlib.contextmanager
def gradient_checkpointing(backbone: Backbone, runtime: RuntimeConfig) -> Generator[None]:
    """Context that recomputes activations in the backward pass, if the runtime config says so."""
    if runtime.gradient_checkpointing:
        backbone.checkpoint_gradients(True)
    try:
        yield
    finally:
        if runtime.gradient_checkpointing:
            backbone.checkpoint_gradients(False)
