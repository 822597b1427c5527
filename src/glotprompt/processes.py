"""Data-parallel training in several processes, started by `torchrun` or `accelerate launch`: the first one prints,
decides and writes for all. With a single process nothing changes.

torch is imported only when needed: the command line calls `is_first` before anything else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    import torch

_Value = TypeVar("_Value")


def launched() -> bool:
    """Whether a launcher started this process as one of a group (by the variable that accelerate checks)."""
    return int(os.environ.get("LOCAL_RANK", -1)) >= 0


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return not launched() or int(os.environ.get("RANK", 0)) == 0


def join(device: str) -> torch.device:
    """Join the process group, once, and return the device that "auto" means in this process.

    Without a GPU, or with `device` "cpu", they exchange gradients over gloo; accelerate does so only on request, and
    would otherwise train a separate model in each process."""
    import torch
    from accelerate import PartialState

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    on_cpu = device == "cpu" or accelerator is None or accelerator.type == "mps"
    return cast("torch.device", PartialState(cpu=launched() and on_cpu).device)


def together() -> bool:
    """Whether this process has joined others."""
    import torch.distributed as distributed

    return distributed.is_available() and distributed.is_initialized()


def of_first(value: _Value) -> _Value:
    """The first process's value in every process, for decisions that depend on timing or rounding."""
    if not together():
        return value
    import torch.distributed as distributed

    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def same_everywhere(value: object) -> bool:
    """Whether all processes have this value. Waits for all of them."""
    if not together():
        return True
    import torch.distributed as distributed

    values: list[object] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return all(other == value for other in values)


def start_alike(tensors: Iterable[torch.Tensor]) -> None:
    """Copy the first process's tensors to all processes, in place."""
    if together():
        import torch.distributed as distributed

        for tensor in tensors:
            distributed.broadcast(tensor.detach(), 0)


def wait() -> None:
    """Wait until all processes have come here."""
    same_everywhere(None)
