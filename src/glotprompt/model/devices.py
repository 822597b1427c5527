"""Where a backbone computes, and in which precision it does so fastest."""

from __future__ import annotations

import math
import time
import warnings
from pathlib import Path
from typing import Literal

import torch

from glotprompt.errors import ModelError
from glotprompt.processes import join

Precision = Literal["auto", "fp32", "bf16"]

# Where memory for a bf16 product by oneDNN is refused, torch warns, switches oneDNN off for good and multiplies by
# itself, hundreds of times slower. As an error it is what it is: out of memory, and the batch is halved.
warnings.filterwarnings("error", message="mkldnn_matmul failed")
_ONEDNN = torch.backends.mkldnn.enabled

_BESIDE_WEIGHTS = 200 * 2**20
"""Bytes of address space that opening a backbone takes besides its weights: the tokenizer, libraries."""


def require_onednn() -> None:
    """Raises `RuntimeError` where torch has switched oneDNN off for want of memory. In a backward pass its warning
    comes only at the end, minutes later."""
    if _ONEDNN and not torch.backends.mkldnn.enabled:
        raise RuntimeError("out of memory: oneDNN was refused some, and torch would go on without it, far slower")


def restore_onednn() -> None:
    """Let torch multiply by oneDNN again, now that there is memory."""
    torch.backends.mkldnn.enabled = _ONEDNN


def refuse_too_little_memory(name: str, weights: int) -> None:
    """Raises `ModelError` where a limit of this process's address space (`ulimit -v`) leaves no room for so many bytes
    of weights. Beyond it numpy and tokenizers end the process, and nobody could say why."""
    try:
        import resource

        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except (ImportError, OSError):  # not Linux: no such limit is known of
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    room = math.inf if limit == resource.RLIM_INFINITY else limit - int(pages) * resource.getpagesize()
    needed = round(1.3 * weights) + _BESIDE_WEIGHTS
    if room < needed:
        raise ModelError(
            f"out of memory: {name} needs {needed >> 20:,} MiB to be opened, and the limit of this process (ulimit -v,"
            f" {limit >> 20:,} MiB) leaves {max(0, int(room)) >> 20:,}; raise it, or take a smaller backbone"
        )


def device_of(name: str) -> torch.device:
    """What a name such as "auto", "cpu" or "cuda:1" means in this process."""
    auto = join(name)
    return auto if name == "auto" else torch.device(name)


def choose_precision(device: torch.device) -> Literal["fp32", "bf16"]:
    """bf16 where this device multiplies it at least 1.3 times faster than fp32, found by a short probe."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    seconds = {dtype: _matmul_seconds(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    return "bf16" if seconds[torch.float32] > 1.3 * seconds[torch.bfloat16] else "fp32"


def _matmul_seconds(dtype: torch.dtype, device: torch.device) -> float:
    """Best of several timings of a product of the size of a small body's feed-forward."""
    states = torch.randn(1024, 768, device=device).to(dtype)
    weight = torch.randn(768, 768, device=device).to(dtype)
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        torch.matmul(states, weight)
        if device.type == "mps":
            torch.mps.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
