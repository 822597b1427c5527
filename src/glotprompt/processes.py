"""Several processes that train one model together, when `torchrun` or `accelerate launch` started them: the first one
speaks, decides and writes for all. Usually there is one, and all this changes nothing.

Nothing here imports torch before it is needed: the command line asks `is_first` first of all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    import torch

_Value = TypeVar("_Value")


def launched() -> bool:
    """Whether a launcher started this process as one of a group (by the sign that accelerate goes by)."""
    return int(os.environ.get("LOCAL_RANK", -1)) >= 0


def is_first() -> bool:
    """Whether this process is the one that speaks."""
    return not launched() or int(os.environ.get("RANK", 0)) == 0


def join(device: str) -> torch.device:
    """Meet the other processes, once, and return what the device "auto" is in this one.

    Without a GPU, or with `device` "cpu", they exchange gradients over gloo; accelerate does so only when told, and
    would otherwise let each process train a model of its own.
    """
    import torch
    from accelerate import PartialState

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    on_cpu = device == "cpu" or accelerator is None or accelerator.type == "mps"
    return cast("torch.device", PartialState(cpu=launched() and on_cpu).device)


def together() -> bool:
    """Whether this process has met others."""
    import torch.distributed as distributed

    return distributed.is_available() and distributed.is_initialized()


def of_first(value: _Value) -> _Value:
    """The first process's value, in all of them: for what timing or rounding may decide otherwise in another one."""
    if not together():
        return value
    import torch.distributed as distributed

    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def same_everywhere(value: object) -> bool:
    """Whether all processes have this value. All wait here for the last."""
    if not together():
        return True
    import torch.distributed as distributed

    values: list[object] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return all(other == value for other in values)


def start_alike(tensors: Iterable[torch.Tensor]) -> None:
    """Give all processes the first one's numbers, in place."""
    if together():
        import torch.distributed as distributed

        for tensor in tensors:
            distributed.broadcast(tensor.detach(), 0)


def wait() -> None:
    """Until all processes are here."""
    same_everywhere(None)
