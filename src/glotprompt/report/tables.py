"""Common parts of all reports: names and colours of methods, means over seeds, number formats, templates of pages.

A missing value is `None` and is written as a dash, never as 0.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glotprompt import quantities
from glotprompt.method_registry import DESCRIPTIONS, Look

if TYPE_CHECKING:
    import jinja2

DASH = "-"
"""Sign of a missing number."""

MAJORITY = Look(name="Majority class", colour="#85898f", marker="_")

SYSTEMS = {
    "lora-aligned": Look(name="Aligned LoRA", colour="#a25bd8", marker=">"),
    "soft-prompt-aligned": Look(name="Aligned soft prompt", colour="#b8566b", marker="p"),
    "self-trained": Look(name="Embedding, self-trained", colour="#4a8f7b", marker="H"),
    "labels-5": Look(name="Embedding, 5 target labels a class", colour="#c07a2c", marker="2"),
    "labels-20": Look(name="Embedding, 20 target labels a class", colour="#8a5a1f", marker="8"),
}
"""Systems that the demos and experiments have in common."""


@dataclass(frozen=True)
class Spread:
    """One column of one method over its seeds."""

    values: tuple[float | None, ...]
    """One value per seed, in the order of the method's seeds."""

    @property
    def present(self) -> list[float]:
        """The values that are not missing."""
        return [value for value in self.values if value is not None]

    @property
    def num(self) -> int:
        """Number of seeds that have a value."""
        return len(self.present)

    @property
    def mean(self) -> float | None:
        """Mean of the values that are not missing; `None` without any."""
        return statistics.fmean(self.present) if self.present else None

    @property
    def sd(self) -> float | None:
        """Standard deviation with n - 1; `None` for fewer than two values."""
        return statistics.stdev(self.present) if self.num > 1 else None


def looks() -> dict[str, Look]:
    """Name, colour and marker of everything that is compared, in the order of reports."""
    methods = sorted(DESCRIPTIONS.values(), key=lambda method: method.look.place)
    return {"majority": MAJORITY, **{method.name: method.look for method in methods}, **SYSTEMS}


def look(method: str) -> Look:
    """Name, colour and marker of a method; an unknown one keeps its key."""
    return looks().get(method, Look(name=method))


def method_name(method: str) -> str:
    """Printed name of a method."""
    return look(method).name


def finite(value: Any) -> float | None:
    """The value, or `None` if it is no finite number."""
    return None if value is None or not math.isfinite(value) else value


def number(value: Any, digits: int = 1, unit: str = "") -> str:
    """A number with thousands separators and its unit, or a dash."""
    value = finite(value)
    return DASH if value is None else f"{value:,.{digits}f}{unit}"


def signed(value: float) -> str:
    """A number with its sign: +1.2, −1.2, but 0.0."""
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def percent(fraction: Any) -> str:
    """A fraction of 1 in per cent; "< 1 %" for a positive one that would round to nothing."""
    value = finite(fraction)
    if value is None:
        return DASH
    return "< 1 %" if 0 < value < 0.01 else f"{value:.0%}".replace("%", " %")


def mean_sd(spread: Spread, digits: int = 1) -> str:
    """`41.2 ± 1.3`; without ± for a single value; with the number of values when some are missing."""
    text = number(spread.mean, digits)
    if spread.sd is not None:
        text += f" ± {number(spread.sd, digits)}"
    return f"{text} ({spread.num} of {len(spread.values)})" if 0 < spread.num < len(spread.values) else text


def size(num_bytes: Any) -> str:
    """Bytes in words (`quantities.size`)."""
    value = finite(num_bytes)
    return DASH if value is None else quantities.size(value)


def duration(seconds: Any) -> str:
    """Seconds in words (`quantities.duration`)."""
    value = finite(seconds)
    return DASH if value is None else quantities.duration(value)


def template(file: Path) -> jinja2.Template:
    """A page's template, with the formats here as filters, and the look of all pages as `look_of_pages`. A missing
    value becomes a dash, an undefined name an error."""
    import jinja2  # here: most commands import this module for its formats, and draw no page

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(file.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_or_dash,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (number, percent, mean_sd, size, duration, method_name)
    environment.filters.update({function.__name__: function for function in formats})
    look_of_pages = files("glotprompt").joinpath("assets", "page.css").read_text(encoding="utf-8")
    return environment.get_template(file.name, globals={"look_of_pages": look_of_pages})


def _or_dash(value: Any) -> Any:
    return DASH if value is None else value
