"""Peak memory of one side, in a process of its own.

Counted is what a process holds beyond the loaded model while it makes training steps: everything after the transformers
model with its weights is in memory (the product's backbone and whatever it prepares, the prompt, PEFT's wrapper,
optimiser, batches, activations, logits). Not counted are the weights themselves, Python with its imports, the texts,
and what a step with a tiny model leaves behind (thread pools, the matrix library's own code).
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from glotprompt.training.memory import PeakMemory


def resident() -> int:
    """Bytes of this process in memory now, what the allocator keeps for later given back before."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return PeakMemory().bytes()


def beyond(work: Callable[[], object]) -> int:
    """Bytes by which the peak during `work` exceeds what was held before it."""
    before = resident()
    peak = PeakMemory()
    result = work()
    size = peak.bytes() - before
    del result
    return max(size, 0)


def in_own_process(script: str, arguments: Sequence[str], side: str) -> int:
    """Run a benchmark again for the memory of one side (`--memory-of`); bytes beyond the model."""
    return int(figures_of(script, [*arguments, "--memory-of", side])["bytes"])


def figures_of(script: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a benchmark in a process of its own; the JSON object that it prints last."""
    command = [sys.executable, str(Path(script).resolve()), *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        raise SystemExit(f"measuring with {' '.join(arguments)} failed:\n{process.stderr.strip()}")
    return json.loads(process.stdout.strip().splitlines()[-1])
