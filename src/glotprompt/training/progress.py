"""Progress of long work: one updated line on a terminal, a plain line now and then if piped."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from glotprompt.errors import visible
from glotprompt.processes import is_first
from glotprompt.quantities import duration

SECONDS_BETWEEN_LINES = 15.0
WIDTH = 110
"""Characters of the line in a notebook, where a shorter line must cover a longer one."""
PROGRESS_FILE, SECONDS_BETWEEN_FILES = "GLOTPROMPT_PROGRESS_FILE", 0.5
"""The environment variable that names a file for the newest state, as JSON for other programs, and its pace."""


@runtime_checkable
class Progress(Protocol):
    """Receiver of the state after every step."""

    def begin(self, step: int) -> None:
        """Called before the first step; `step` is the last one of an earlier process, or 0."""
        ...

    def evaluated(self, step: int, figures: dict[str, float]) -> None: ...

    def advance(self, step: int, loss: float | None, tokens: int, figures: dict[str, float]) -> None: ...

    def finish(self) -> None:
        """Called after the last step."""
        ...


class Silent:
    """Progress that shows nothing."""

    def begin(self, step: int) -> None:
        pass

    def evaluated(self, step: int, figures: dict[str, float]) -> None:
        pass

    def advance(self, step: int, loss: float | None, tokens: int, figures: dict[str, float]) -> None:
        pass

    def finish(self) -> None:
        pass


class StepLine(Silent):
    """Progress line on standard error: step, loss, last evaluation, tokens per second and time left."""

    def __init__(self, title: str, steps: int, enabled: bool = True) -> None:
        self.title, self.steps, self.enabled = visible(title), steps, enabled and is_first()
        # A notebook's stream is no terminal, but a carriage return starts its line again, too.
        self._notebook = type(sys.stderr).__module__.startswith("ipykernel")
        self._terminal = sys.stderr.isatty() or self._notebook
        self._start: tuple[float, int, int] | None = None
        self._last = time.monotonic()
        self._file, self._last_file = os.environ.get(PROGRESS_FILE, ""), 0.0

    def begin(self, step: int) -> None:
        if self.enabled and step:
            sys.stderr.write(f"{self.title}: resuming at step {step} of {self.steps}\n")
            sys.stderr.flush()

    def advance(self, step: int, loss: float | None, tokens: int, figures: dict[str, float]) -> None:
        if not self.enabled:
            return
        now = time.monotonic()
        if self._start is None:
            self._start = (now, step, tokens)
        began, first_step, first_tokens = self._start
        elapsed = max(now - began, 1e-9)
        remaining = (self.steps - step) * elapsed / max(1, step - first_step)
        if self._file and (now - self._last_file >= SECONDS_BETWEEN_FILES or step == self.steps):
            self._last_file = now
            state = {"stage": self.title, "step": step, "steps": self.steps, "loss": loss}
            known = step > first_step  # the first step tells nothing of the pace
            _replace(Path(self._file), {**state, "seconds_left": remaining if known else None})
        pause = 0.2 if self._terminal else SECONDS_BETWEEN_LINES
        if now - self._last < pause and step != self.steps:
            return
        self._last = now
        figures_text = "" if loss is None else f"loss {loss:.3f}  "
        figures_text += " ".join(f"{name} {value:.4g}" for name, value in figures.items())
        line = (
            f"{self.title}: step {step}/{self.steps}  {figures_text}"
            f"  {(tokens - first_tokens) / elapsed:,.0f} tokens/s  {duration(remaining)} left"
        )
        if self._terminal:
            end = "\n" if step == self.steps else ""
            start = "\r" if self._notebook else "\r\x1b[2K"
            sys.stderr.write(f"{start}{line:<{WIDTH if self._notebook else 0}}{end}")
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _replace(path: Path, state: dict[str, Any]) -> None:
    """Write the state whole. A disk in trouble must not end a training."""
    beside = path.with_name(f"{path.name}.tmp")
    with suppress(OSError):
        beside.write_text(json.dumps(state), encoding="utf-8")
        os.replace(beside, path)
