"""What every report agrees on: names and colours of the methods, means over seeds, how a number is written.

A value that is missing is `None` and is written as a dash, never as 0.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from glotprompt import quantities

DASH = "-"
"""How a missing number is written."""

METHOD_NAMES: dict[str, str] = {
    "majority": "Majority class",
    "embedding": "Sentence vectors + logistic regression",
    "fine-tuning": "Fine-tuning, no adaptation",
    "fine-tuning-mlm": "Fine-tuning after full adaptation",
    "mad-x": "MAD-X",
    "lora": "LoRA in both stages",
    "prompt-tuning": "Prompt tuning, no adaptation",
    "source-prompt": "Source-only prompt (control)",
    "soft-prompt+task-adapter": "Adapted soft prompt + task adapter",
    "soft-prompt": "Adapted soft prompt (ours)",
    "lora-aligned": "Aligned LoRA",
    "soft-prompt-aligned": "Aligned soft prompt",
}
"""Name of each method in print, in the order in which reports show them."""

METHOD_COLOURS: dict[str, str] = {
    "majority": "#85898f",
    "embedding": "#4f8a10",
    "fine-tuning": "#782dff",
    "fine-tuning-mlm": "#7878ff",
    "mad-x": "#d2003c",
    "lora": "#e11ec3",
    "prompt-tuning": "#2478b8",
    "source-prompt": "#0d9a73",
    "soft-prompt+task-adapter": "#00899e",
    "soft-prompt": "#d9620b",
    "lora-aligned": "#a25bd8",
    "soft-prompt-aligned": "#b8566b",
}
"""Colour of each method. After Okabe and Ito's colour-blind safe set, moved to a lightness that stands out by at least
3 to 1 from a white and from a near-black page. So many cannot all be told apart by everybody: see the markers."""

METHOD_MARKERS: dict[str, str] = {
    "majority": "_",
    "embedding": "d",
    "fine-tuning": "s",
    "fine-tuning-mlm": "D",
    "mad-x": "^",
    "lora": "v",
    "prompt-tuning": "P",
    "source-prompt": "X",
    "soft-prompt+task-adapter": "<",
    "soft-prompt": "o",
    "lora-aligned": ">",
    "soft-prompt-aligned": "p",
}
"""matplotlib's marker of each method, so that a figure can be read without colours."""

OTHER_MARKER = "*"

OTHER_COLOUR = "#a0679a"
"""Colour of a method that has none of its own."""


@dataclass(frozen=True)
class Spread:
    """One column of one method over its seeds."""

    values: tuple[float | None, ...]
    """One value per seed, in the order of the method's seeds."""

    @property
    def present(self) -> list[float]:
        """The values that are there."""
        return [value for value in self.values if value is not None]

    @property
    def num(self) -> int:
        """How many seeds have a value."""
        return len(self.present)

    @property
    def mean(self) -> float | None:
        """Mean of the values that are there; `None` without any."""
        return statistics.fmean(self.present) if self.present else None

    @property
    def sd(self) -> float | None:
        """Standard deviation with n - 1; `None` for fewer than two values."""
        return statistics.stdev(self.present) if self.num > 1 else None


def method_name(method: str) -> str:
    """Name of a method in print; an unknown one keeps its key."""
    return METHOD_NAMES.get(method, method)


def finite(value: Any) -> float | None:
    """The value, or `None` where there is no number (missing, null, not finite)."""
    return None if value is None or not math.isfinite(value) else value


def number(value: Any, digits: int = 1, unit: str = "") -> str:
    """A number with thousands separators and its unit, or a dash."""
    value = finite(value)
    return DASH if value is None else f"{value:,.{digits}f}{unit}"


def percent(fraction: Any) -> str:
    """A fraction of 1 in per cent; what is there but rounds to nothing is "< 1 %"."""
    value = finite(fraction)
    if value is None:
        return DASH
    return "< 1 %" if 0 < value < 0.01 else f"{value:.0%}".replace("%", " %")


def mean_sd(spread: Spread, digits: int = 1) -> str:
    """`41.2 ± 1.3`; without ± for a single value; says how many values there are when some are missing."""
    text = number(spread.mean, digits)
    if spread.sd is not None:
        text += f" ± {number(spread.sd, digits)}"
    return f"{text} ({spread.num} of {len(spread.values)})" if 0 < spread.num < len(spread.values) else text


def size(num_bytes: Any) -> str:
    """Bytes as `quantities` says them."""
    value = finite(num_bytes)
    return DASH if value is None else quantities.size(value)


def duration(seconds: Any) -> str:
    """Seconds as `quantities` says them."""
    value = finite(seconds)
    return DASH if value is None else quantities.duration(value)
