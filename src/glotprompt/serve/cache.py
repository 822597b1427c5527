"""The classifiers decoded last, within a budget of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from glotprompt.serve.served import Decoded


class DecodedCache:
    """What was used longest ago leaves first. Threads may share it."""

    def __init__(self, byte_budget: int) -> None:
        """What is larger than the whole budget is decoded anew every time."""
        self._budget = byte_budget
        self._held: OrderedDict[Hashable, Decoded] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        return self._num_bytes

    def __contains__(self, key: Hashable) -> bool:
        return key in self._held

    def get(self, key: Hashable, decode: Callable[[], Decoded]) -> Decoded:
        """What is held under `key`, else what `decode` gives. Two threads may decode the same at the same time, which
        costs less than one waiting for another that decodes something else."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        decoded = decode()
        with self._lock:
            if key not in self._held and decoded.num_bytes <= self._budget:
                self._held[key] = decoded
                self._num_bytes += decoded.num_bytes
                while self._num_bytes > self._budget:
                    _, oldest = self._held.popitem(last=False)
                    self._num_bytes -= oldest.num_bytes
        return decoded
