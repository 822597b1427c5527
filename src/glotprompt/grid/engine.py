"""Who runs a plan's steps: the seam, and the engine that runs them one after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from glotprompt.grid.steps import Step, Workplace
from glotprompt.grid.work import Outcome, attempt

Tell = Callable[[Step, Outcome | None], None]
"""Told when a step begins (None) and what became of it."""


class Engine(Protocol):
    """Runs steps."""

    def run(self, steps: Sequence[Step], place: Workplace, tell: Tell) -> list[Outcome]:
        """Call `work.attempt` on every step, once, and return what became of each, in any order.

        `steps` holds what each step `needs`, unless that is finished, before it, and an `AdaptStep`'s `after`, which
        should be over (whatever became of it) before the step begins. Errors of steps are outcomes, not exceptions.
        """
        ...


class SerialEngine:
    """In this process, with one backbone that stays loaded."""

    def run(self, steps: Sequence[Step], place: Workplace, tell: Tell) -> list[Outcome]:
        """See `Engine.run`."""
        outcomes: list[Outcome] = []
        for step in steps:
            tell(step, None)
            outcome = attempt(step, place)
            tell(step, outcome)
            outcomes.append(outcome)
        return outcomes
