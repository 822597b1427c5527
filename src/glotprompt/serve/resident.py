"""Memory that is no longer needed goes back to the system, so that a service of thousands of files stays small."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterable

from torch import Tensor


def forget_pages(mapped: Iterable[Tensor]) -> None:
    """Let go of the memory of tensors that are mapped from files; the disk has them still. Without it every file that
    was ever read would count as memory in use, until the system is short of it.

    What is not mapped is lost by it: only for tensors that safetensors read on Linux, and whoever reads them again
    checks what is found."""
    if sys.platform != "linux":
        return
    for tensor in mapped:
        first = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        length = tensor.data_ptr() + tensor.nbytes - first
        advise = ctypes.CDLL(None).madvise
        advise(ctypes.c_void_p(first), ctypes.c_size_t(length), ctypes.c_int(mmap.MADV_DONTNEED))


class FreedMemory:
    """Counts what was freed and now and then has the C library return it.

    What stays of a file is small and lands in the middle of the large pieces that reading it took and freed, so that
    glibc alone would grow by a file's size with every file."""

    def __init__(self, every: int = 8 * 2**20) -> None:
        """Return memory once so many bytes were freed: it takes milliseconds."""
        self._every, self._num_bytes = every, 0

    def add(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        if self._num_bytes >= self._every:
            self._num_bytes = 0
            if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):  # glibc's own
                ctypes.CDLL(None).malloc_trim(0)
