"""What every report agrees on: names and colours of the methods, means over seeds, how a number is written.

A value that is missing is `None` and is written as a dash, never as 0.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from glotprompt import quantities
from glotprompt.method_registry import DESCRIPTIONS, Look

Record: TypeAlias = Mapping[str, Any]
"""One JSON object of a result."""

DASH = "-"
"""How a missing number is written."""

MAJORITY = Look(name="Majority class", colour="#85898f", marker="_")

ALIGNED = {
    "lora-aligned": Look(name="Aligned LoRA", colour="#a25bd8", marker=">"),
    "soft-prompt-aligned": Look(name="Aligned soft prompt", colour="#b8566b", marker="p"),
}
"""Systems that the demos and experiments name alike."""

ROW_COLUMNS = (
    "source_dev_accuracy",
    "source_test_accuracy",
    "target_test_accuracy",
    "target_test_accuracy_centred",
    "target_test_accuracy_own_labels",
    "macro_f1",
    "trained_values",
    "tokens",
    "file_bytes",
    "seconds",
    "peak_memory_bytes",
)
"""The columns of a result row that `summarise` takes means of."""

INTERVALS = ("source_test_accuracy", "target_test_accuracy", "target_test_accuracy_centred")
"""Columns with a 95 % interval: a row has its ends under the column's name and "_interval"."""


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


@dataclass(frozen=True)
class Collapse:
    """One run that gave nearly every text the same label."""

    seed: int
    label: str
    share: float | None
    """Fraction of the texts given that label, 0 to 1."""


@dataclass(frozen=True)
class MethodSummary:
    """All seeds of one method."""

    method: str
    seeds: tuple[int, ...]
    columns: Mapping[str, Spread]
    """One spread for each of `ROW_COLUMNS`; the ends of an interval as "_low" and "_high" behind the column's name."""
    collapses: tuple[Collapse, ...]

    @property
    def name(self) -> str:
        """Name of the method in print."""
        return method_name(self.method)

    @property
    def colour(self) -> str:
        """Colour of the method in figures and tables."""
        return look(self.method).colour


def looks() -> dict[str, Look]:
    """How everything that is compared is shown, in the order in which reports show it."""
    methods = sorted(DESCRIPTIONS.values(), key=lambda method: method.look.place)
    return {"majority": MAJORITY, **{method.name: method.look for method in methods}, **ALIGNED}


def look(method: str) -> Look:
    """How a method is shown; an unknown one keeps its key."""
    return looks().get(method, Look(name=method))


def method_name(method: str) -> str:
    """Name of a method in print."""
    return look(method).name


def summarise(rows: Iterable[Record]) -> list[MethodSummary]:
    """Mean, standard deviation and count of every column of every method over its seeds.

    Methods come in the order of `looks`, unknown ones after them as they appear; seeds rise.
    """
    by_method: dict[str, list[Record]] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    order = [*(method for method in looks() if method in by_method), *by_method]
    return [_summarise_method(method, by_method[method]) for method in dict.fromkeys(order)]


def _summarise_method(method: str, rows: list[Record]) -> MethodSummary:
    rows = sorted(rows, key=_seed)
    return MethodSummary(
        method=method,
        seeds=tuple(_seed(row) for row in rows),
        columns={key: Spread(tuple(finite(row.get(key)) for row in rows)) for key in ROW_COLUMNS} | _ends(rows),
        collapses=tuple(
            Collapse(_seed(row), row["collapsed_label"], finite(row.get("collapsed_share")))
            for row in rows
            if row.get("collapsed_label") is not None
        ),
    )


def _ends(rows: Sequence[Record]) -> dict[str, Spread]:
    ends = {key: [row.get(f"{key}_interval") or (None, None) for row in rows] for key in INTERVALS}
    return {
        f"{key}_{name}": Spread(tuple(finite(pair[side]) for pair in pairs))
        for key, pairs in ends.items()
        for side, name in enumerate(("low", "high"))
    }


def interval(summary: MethodSummary, key: str) -> str:
    """The 95 % interval of a column, its ends averaged over seeds, as `[61, 70]`; "" where there is none."""
    low, high = (
        summary.columns[name].mean if name in summary.columns else None for name in (f"{key}_low", f"{key}_high")
    )
    return "" if low is None or high is None else f"[{number(low, 0)}, {number(high, 0)}]"


def _seed(row: Record) -> int:
    return row.get("seed") or 0  # a method without chance may have none


def accuracy_columns(result: Record, summaries: list[MethodSummary]) -> list[tuple[str, str]]:
    """(column, heading) of the accuracies that at least one row has, the test figures always."""
    task = part(result, "task")
    source, target = task.get("source_name") or "source", task.get("target_name") or "target"
    columns = [
        ("source_dev_accuracy", f"{source} dev"),
        ("source_test_accuracy", f"{source} test"),
        ("target_test_accuracy", f"{target} test"),
        ("target_test_accuracy_centred", "test, centred"),
        ("target_test_accuracy_own_labels", "test, own labels"),
        ("macro_f1", "test, macro-F1"),
    ]
    always = "target_test_accuracy"
    return [(key, head) for key, head in columns if key == always or any(s.columns[key].num for s in summaries)]


class Part(dict[str, Any]):
    """An object of a result in which a missing key reads as null."""

    def __missing__(self, key: str) -> None:
        return None


def part(result: Record, key: str) -> Part:
    """A nested object of a result, empty when missing or null."""
    return Part(result.get(key) or {})


def items(result: Record, key: str) -> list[Any]:
    """A list of a result, empty when missing or null."""
    return [Part(cast(Record, item)) if isinstance(item, Mapping) else item for item in result.get(key) or []]


def is_right(word: str, answer: str) -> bool:
    """Whether a guessed piece is the masked word; only SentencePiece's word mark is ignored."""
    return word.strip("▁ ") == answer.strip("▁ ")


def around_gap(left: str, right: str) -> tuple[str, str]:
    """The text on both sides of a hidden word, with a space between the gap and a neighbouring letter or digit."""
    return left + " " * left[-1:].isalnum(), " " * right[:1].isalnum() + right


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
