"""Where a backbone computes, and in which precision it does so fastest."""

from __future__ import annotations

import time
from typing import Literal

import torch

from glotprompt.processes import join

Precision = Literal["auto", "fp32", "bf16"]


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
    left = torch.randn(1024, 768, device=device).to(dtype)
    right = torch.randn(768, 768, device=device).to(dtype)
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        torch.matmul(left, right)
        if device.type == "mps":
            torch.mps.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
