"""Device and precision of a backbone, and guards against running out of memory."""

from __future__ import annotations

import math
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from glotprompt.errors import ModelError
from glotprompt.processes import join

Precision = Literal["auto", "fp32", "bf16"]

# When oneDNN gets no memory for a bf16 product, torch warns, disables oneDNN for good and falls back to its own code,
# hundreds of times slower. Turned into an error it is handled as out of memory, and the batch is halved.
warnings.filterwarnings("error", message="mkldnn_matmul failed")
_ONEDNN = torch.backends.mkldnn.enabled

_BESIDE_WEIGHTS = 200 * 2**20
"""Bytes of address space for loading a backbone besides its weights: tokenizer and libraries."""


def require_onednn() -> None:
    """Raise `RuntimeError` if torch has disabled oneDNN for lack of memory. In a backward pass its warning comes only
    at the end, minutes later."""
    if _ONEDNN and not torch.backends.mkldnn.enabled:
        raise RuntimeError("out of memory: oneDNN was refused some, and torch would go on without it, far slower")


def restore_onednn() -> None:
    """Enable oneDNN again after memory was freed."""
    torch.backends.mkldnn.enabled = _ONEDNN


def refuse_too_little_memory(name: str, weights: int) -> None:
    """Raise `ModelError` if the address-space limit of this process (`ulimit -v`) leaves no room for this many bytes of
    weights. Beyond the limit numpy and tokenizers kill the process without a message."""
    try:
        import resource

        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except (ImportError, OSError):  # not Linux: the limit is unknown
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
    """The device of a name such as "auto", "cpu" or "cuda:1" in this process."""
    auto = join(name)
    return auto if name == "auto" else torch.device(name)


@cache  # once for a process, however many backbones it opens
def choose_precision(device: torch.device) -> Literal["fp32", "bf16"]:
    """bf16 if a short benchmark shows it at least 1.3 times faster than fp32 on this device, or a CUDA device has it in
    hardware; else fp32."""
    if device.type == "cuda":
        # Before Ampere bf16 is emulated, slower than fp32.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    fp32 = _matmul_seconds(torch.float32, device)
    return "bf16" if fp32 > 1.3 * _matmul_seconds(torch.bfloat16, device, hopeless=4 * fp32) else "fp32"


def _matmul_seconds(dtype: torch.dtype, device: torch.device, hopeless: float = float("inf")) -> float:
    """Best of several timings of a matrix product as large as a small body's feed-forward. Ends early where the best of
    three is `hopeless`: without instructions for bf16 each takes thirty times as long as in fp32."""
    states = torch.randn(1024, 768, device=device).to(dtype)
    weight = torch.randn(768, 768, device=device).to(dtype)
    best = float("inf")
    for timing in range(12):
        start = time.perf_counter()
        torch.matmul(states, weight)
        if device.type == "mps":
            torch.mps.synchronize()
        best = min(best, time.perf_counter() - start)
        if timing == 2 and best > hopeless:
            break
    return best
