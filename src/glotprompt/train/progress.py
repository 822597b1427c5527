"""What a person sees of long work: one moving line on a terminal, a plain line now and then when piped."""

from __future__ import annotations

import sys
import time
from typing import Protocol, runtime_checkable

from glotprompt.errors import visible
from glotprompt.processes import is_first

SECONDS_BETWEEN_LINES = 15.0


@runtime_checkable
class Progress(Protocol):
    """Told after every step."""

    def advance(self, step: int, loss: float | None, tokens: int, facts: dict[str, float]) -> None: ...


class Silent:
    """Shows nothing."""

    def advance(self, step: int, loss: float | None, tokens: int, facts: dict[str, float]) -> None:
        pass


class TextLine:
    """How much of a text has been read, on standard error; with the time left where the size is known."""

    def __init__(self, title: str, total: int | None, enabled: bool = True) -> None:
        """`total` in bytes."""
        self.title, self.total, self.enabled = visible(title), total, enabled and is_first()
        self._terminal = sys.stderr.isatty()
        self._start = self._last = time.monotonic()
        self._read = 0
        self._shown = False

    def advance(self, num_bytes: int) -> None:
        self._read += num_bytes
        now = time.monotonic()
        if self.enabled and now - self._last >= (0.2 if self._terminal else SECONDS_BETWEEN_LINES):
            self._last = now
            self._show(now)

    def finish(self) -> None:
        """The last line; nothing where nothing was shown before."""
        if self._shown:
            self._show(time.monotonic(), "\n" if self._terminal else "")

    def _show(self, now: float, end: str = "") -> None:
        self._shown = True
        rate = self._read / max(now - self._start, 1e-9)
        line = f"{self.title}: {self._read / 1e6:,.0f} MB"
        if self.total is not None:
            left = max(0, self.total - self._read) / max(rate, 1e-9)
            line += f" of {self.total / 1e6:,.0f} MB  {int(left) // 60}:{int(left) % 60:02d} left"
        line += f"  {rate / 1e6:.2f} MB/s"
        sys.stderr.write(f"\r\x1b[2K{line}{end}" if self._terminal else line + "\n")
        sys.stderr.flush()


class StepLine:
    """Step, loss, last evaluation, rate and time left on standard error."""

    def __init__(self, title: str, steps: int, enabled: bool = True) -> None:
        self.title, self.steps, self.enabled = visible(title), steps, enabled and is_first()
        self._terminal = sys.stderr.isatty()
        self._start: tuple[float, int, int] | None = None
        self._last = time.monotonic()

    def advance(self, step: int, loss: float | None, tokens: int, facts: dict[str, float]) -> None:
        if not self.enabled:
            return
        now = time.monotonic()
        if self._start is None:
            self._start = (now, step, tokens)
        pause = 0.2 if self._terminal else SECONDS_BETWEEN_LINES
        if now - self._last < pause and step != self.steps:
            return
        self._last = now
        began, first_step, first_tokens = self._start
        elapsed = max(now - began, 1e-9)
        left = (self.steps - step) * elapsed / max(1, step - first_step)
        shown = "" if loss is None else f"loss {loss:.3f}  "
        shown += " ".join(f"{name} {value:.4g}" for name, value in facts.items())
        line = (
            f"{self.title}: step {step}/{self.steps}  {shown}"
            f"  {(tokens - first_tokens) / elapsed:,.0f} tokens/s  {int(left) // 60}:{int(left) % 60:02d} left"
        )
        if self._terminal:
            end = "\n" if step == self.steps else ""
            sys.stderr.write(f"\r\x1b[2K{line}{end}")
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()
