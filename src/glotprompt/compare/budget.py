"""The time that a comparison has."""

from __future__ import annotations

import time
from collections.abc import Callable

from glotprompt.quantities import duration


class OutOfTime(Exception):
    """A candidate was stopped because the time was up."""


class Budget:
    """Minutes that begin now."""

    def __init__(self, minutes: float = 30, clock: Callable[[], float] = time.monotonic) -> None:
        self.minutes, self._clock, self._began = minutes, clock, clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    @property
    def left(self) -> float:
        """Seconds until the end; negative behind it."""
        return 60 * self.minutes - self.elapsed

    def __str__(self) -> str:
        return f"{duration(self.elapsed)}, {duration(max(0.0, self.left))} left"
