"""Where the time of a stage-1 step goes: time by kind of kernel, the share of the step in which the GPU computes, and
what preparing a batch takes on the CPU meanwhile. This says what is worth speeding up."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]
from torch.profiler import ProfilerActivity, profile

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the benchmarks import each other by bare names
from backbones import RandomModel
from report import DTYPES, add_device, parser, precision_of
from sides import Ours, Work
from texts import find_data, unlabelled

KINDS = {
    "matrix products": ("gemm", "cutlass", "nvjet", "xmma", "aten::mm", "aten::addmm", "aten::bmm", "cublas"),
    "attention": ("flash", "fmha", "attention", "softmax"),
    "norms": ("norm",),
    "copies": ("memcpy", "memset", "copy", "cat"),
}
"""By parts of the names of kernels, the first that fits; all others are element by element."""
TOP = 15


def main(arguments: Sequence[str]) -> None:
    command = parser(__doc__ or "", batch=32, length=256)
    add_device(command)
    options = command.parse_args(arguments)
    random = RandomModel.of(options.shape, options.vocabulary, options.device)
    lines = unlabelled(find_data(options.data_dir), random.tokenizer)
    work = Work(options.batch, options.length, options.prompt_length, lines)
    side = Ours(random, DTYPES[precision_of(options)], work, timed=options.rounds)
    side.step()
    on_gpu = options.device == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiler:
        start = time.perf_counter()
        side.step()
        if on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    for step in range(options.rounds):
        side.corpus.batch(step)
    figures = _figures(profiler, on_gpu, seconds)
    figures["seconds_to_prepare_a_batch"] = (time.perf_counter() - start) / options.rounds
    figures["seconds_a_step_profiled"] = seconds / (options.rounds + 1)
    options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in figures.items() if name != "top"}, indent=2))


def _figures(profiler: Any, on_gpu: bool, seconds: float) -> dict[str, Any]:
    by_name: Counter[str] = Counter()
    for event in profiler.key_averages():
        of_event = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if not on_gpu or event.device_type == DeviceType.CUDA:  # else once more as the kernel's caller
            by_name[event.key] += of_event
    total = sum(by_name.values())
    by_kind: Counter[str] = Counter()
    for name, micros in by_name.items():
        fits = (kind for kind, parts in KINDS.items() if any(part in name.lower() for part in parts))
        by_kind[next(fits, "element by element")] += micros
    return {
        "shares": {kind: micros / total for kind, micros in by_kind.most_common()},
        "busy": total / 1e6 / seconds if on_gpu else None,
        "top": [{"name": name[:120], "share": micros / total} for name, micros in by_name.most_common(TOP)],
    }


if __name__ == "__main__":
    main(sys.argv[1:])
