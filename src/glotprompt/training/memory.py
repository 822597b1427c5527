"""Memory: the peak of this process over a stretch of work, and trading time for less of it."""

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
    """Largest resident memory (GPU memory on CUDA) since it was made; on other systems than Linux since start."""

    _live: ClassVar[weakref.WeakSet[PeakMemory]] = weakref.WeakSet()

    def __init__(self) -> None:
        for other in PeakMemory._live:  # the system keeps one mark: what it says goes to those still measuring
            other._seen = max(other._seen, _mark())
        PeakMemory._live.add(self)
        self._seen = 0
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with contextlib.suppress(OSError):
            _RESET.write_text("5")

    def bytes(self) -> int:
        return max(self._seen, _mark())


def _mark() -> int:
    """The system's high-water mark."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextlib.contextmanager
def gradient_checkpointing(backbone: Backbone, runtime: RuntimeConfig) -> Generator[None]:
    """Recomputation of activations for the length of a run, if wished."""
    if runtime.gradient_checkpointing:
        backbone.checkpoint_gradients(True)
    try:
        yield
    finally:
        if runtime.gradient_checkpointing:
            backbone.checkpoint_gradients(False)
