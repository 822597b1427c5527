"""Tables and warnings on standard output, drawn by rich; and what was written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from glotprompt.cli.screen import note
from glotprompt.errors import visible
from glotprompt.report.tables import size


class Screen(Console):
    """A console that prints no control characters but rich's own."""

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else "\n".join(map(visible, text.split("\n"))), style, control)


def console() -> Console:
    """Rich tables on standard output; when piped, plain text that is not folded to 80 characters."""
    plain: dict[str, Any] = {} if sys.stdout.isatty() else {"width": 200, "color_system": None}
    return Screen(markup=False, highlight=False, **plain)


def table(headings: Sequence[str], *, left: int = 1) -> Table:
    """An empty table; the first `left` columns stand to the left, the others to the right."""
    result = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, heading in enumerate(headings):
        result.add_column(Text(heading), justify="left" if index < left else "right", overflow="fold")
    return result


def warn(warnings: Iterable[str]) -> None:
    """Print why the figures above say less than they seem to, a line each."""
    out = console()
    for warning in warnings:
        out.print()
        out.print(f"! {warning}", style="yellow")


def wrote(path: Path, what: str) -> None:
    """Say that a file has been written."""
    note(f"wrote {path} ({what}, {size(path.stat().st_size)})")
