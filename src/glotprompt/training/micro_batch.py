"""Micro-batches: the number of sequences per forward pass, halved when memory runs out."""

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

_ENOUGH = 2**31 - 1
"""Marks a process that did not run out of memory; larger than any part of a batch."""


def release_memory(device: torch.device) -> None:
    """Free the memory of a failed pass: reference cycles, and the cache of the device's allocator."""
    gc.collect()
    restore_onednn()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


class MicroBatch:
    """The parts in which the batches of one training go through the model.

    If memory runs out, `training.loop` repeats the step in parts of half the size. Accumulation gives the loss and
    gradients of the whole batch up to rounding (and the random choices of dropout, if on), so the result differs in
    rounding from one with more memory, but has the same bits as one that ran out of memory at the same step; a resumed
    training keeps its size. Under data parallelism all processes use the smallest size that one of them needs, agreed
    on before gradients are exchanged.

    Only failed allocations can be detected. Linux rarely refuses memory on the CPU: unless a limit is set (`ulimit
    -v`), it kills a process that uses too much.
    """

    def __init__(self, runtime: RuntimeConfig) -> None:
        self.halved_to: int | None = None
        """Size after halving; None: memory has not run out. Saved in checkpoints."""
        self._runtime = runtime
        self._running = 0

    @property
    def size(self) -> int | None:
        """Largest number of sequences in one pass; None: a process's whole share of a batch."""
        return self.halved_to or self._runtime.micro_batch_size

    def resume(self, halved_to: int | None) -> None:
        """Use the size of the interrupted training, unless the configured one is smaller."""
        if halved_to is not None and halved_to < (self._runtime.micro_batch_size or _ENOUGH):
            self.halved_to = halved_to

    def parts(self, batch: int) -> Iterator[slice]:
        """Slices of a batch's rows that this process computes."""
        state = PartialState()
        size = self.size or -(-batch // state.num_processes)
        for number, start in enumerate(range(0, batch, size)):
            if number % state.num_processes == state.process_index:
                rows = slice(start, min(batch, start + size))
                self.begin(rows.stop - rows.start)
                yield rows

    def begin(self, sequences: int) -> None:
        """Note the size of the next passes, which is what is halved if memory runs out in one of them."""
        self._running = sequences

    def halve_if(self, ran_out: bool, device: torch.device) -> bool:
        """Halve the size, with a message, if memory ran out in any process; returns whether it did.

        Raises `UserError` if a single sequence was too much.
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
                f"out of memory with {self._running} sequences at once; continuing with {least} (accumulated: the same"
                f" loss; set a micro-batch size of {least} to start with it)",
                file=sys.stderr,
            )
        return True


def _least_of_all(value: int, device: torch.device) -> int:
    """The minimum of a value over all processes."""
    if not together():
        return value
    least = torch.tensor(value, device=device)
    distributed.all_reduce(least, distributed.ReduceOp.MIN)
    return int(least)
