"""How many sequences go through the model at once, and less of them where memory runs out."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import torch
import torch.distributed as distributed
from accelerate import PartialState

from glotprompt.config import RuntimeConfig
from glotprompt.errors import UserError, setting
from glotprompt.model.devices import restore_onednn
from glotprompt.processes import is_first, together
from glotprompt.training.objectives.batches import split_rows

_ENOUGH = 2**31 - 1
"""Says that a process got through; more than any part of a batch."""


def release_memory(device: torch.device) -> None:
    """Give back what a failed pass left: cycles of Python's, and what the device's allocator keeps for later."""
    gc.collect()
    restore_onednn()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


class MicroBatch:
    """The parts in which one training's batches go through the model.

    Where memory runs out, `train.loop` does the step again in parts of half the size. Accumulation makes the loss and
    the gradients of the whole batch, so such a training ends within rounding (and which values dropout drops, where it
    is on) of one with more memory, not with its bits. It ends with the same bits as one that ran out of memory at the
    same step; a training that is taken up again goes on with the size it had. Under data parallelism all processes take
    the smallest size that one of them needs, before any gradients are exchanged.

    Only allocations that fail can be noticed. Linux seldom refuses memory on the CPU: unless a limit is set
    (`ulimit -v`), it ends a process that uses too much.
    """

    def __init__(self, runtime: RuntimeConfig) -> None:
        self.halved_to: int | None = None
        """The size that was found to fit; None: memory has not run out. Goes into the training's checkpoints."""
        self._runtime = runtime
        self._running = 0

    @property
    def size(self) -> int | None:
        """Largest number of sequences in one pass; None: all that a process has of a batch."""
        return self.halved_to or self._runtime.micro_batch_size

    def resume(self, halved_to: int | None) -> None:
        """Go on with the size of an interrupted training, or with what is asked for now if that is smaller."""
        if halved_to is not None and halved_to < (self._runtime.micro_batch_size or _ENOUGH):
            self.halved_to = halved_to

    def parts(self, batch: int) -> Iterator[slice]:
        """The rows of a batch that this process reads, part by part."""
        state = PartialState()
        for number, rows in enumerate(split_rows(batch, self.size or -(-batch // state.num_processes))):
            if number % state.num_processes == state.process_index:
                self._running = rows.stop - rows.start
                yield rows

    def halve_if(self, ran_out: bool, device: torch.device) -> bool:
        """Halve the size, and say so, where memory ran out in this process or in another; returns whether it did.

        Raises `UserError` where one sequence was too much.
        """
        least = _least_of_all(self._running // 2 if ran_out else _ENOUGH, device)
        if least == _ENOUGH:
            return False
        if least == 0:
            checkpointing = f"{setting('gradient_checkpointing', 'True')}, "
            checkpointing *= not self._runtime.gradient_checkpointing
            raise UserError(
                f"out of memory with a single sequence; try {checkpointing}a smaller {setting('max_length')} or"
                " backbone, or end other programs that hold memory"
            )
        self.halved_to = least
        if self._runtime.progress and is_first():
            print(
                f"out of memory with {self._running} sequences at once; going on with {least} (accumulated: the same"
                f" loss; a micro-batch size of {least} starts so)",
                file=sys.stderr,
            )
        return True


def _least_of_all(value: int, device: torch.device) -> int:
    """The smallest value of all processes."""
    if not together():
        return value
    least = torch.tensor(value, device=device)
    distributed.all_reduce(least, distributed.ReduceOp.MIN)
    return int(least)
