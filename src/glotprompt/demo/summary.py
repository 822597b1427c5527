"""The rows of a demo as its tables and figures show them: each method over its seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from glotprompt.demo.result import DemoRow, DemoTask
from glotprompt.report.tables import Spread, finite, look, looks, method_name, number

ROW_COLUMNS = (
    "source_dev_accuracy",
    "source_test_accuracy",
    "target_test_accuracy",
    "target_test_accuracy_centred",
    "target_test_accuracy_own_labels",
    "macro_f1",
    "trained_parameters",
    "tokens",
    "file_bytes",
    "seconds",
    "peak_memory_bytes",
)
"""The columns of a result row that `summarise` takes means of."""

INTERVALS = ("target_test_accuracy", "target_test_accuracy_centred")
"""Columns with a 95 % interval: a row has its ends under the column's name and "_interval"."""


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


def summarise(rows: Iterable[DemoRow]) -> list[MethodSummary]:
    """Mean, standard deviation and count of every column of every method over its seeds.

    Methods come in the order of `looks`, unknown ones after them as they appear; seeds rise.
    """
    by_method: dict[str, list[DemoRow]] = {}
    for row in rows:
        by_method.setdefault(row.method, []).append(row)
    order = dict.fromkeys([*(method for method in looks() if method in by_method), *by_method])
    return [_summarise_method(method, by_method[method]) for method in order]


def _summarise_method(method: str, rows: list[DemoRow]) -> MethodSummary:
    rows = sorted(rows, key=lambda row: row.seed)
    return MethodSummary(
        method=method,
        seeds=tuple(row.seed for row in rows),
        columns={key: Spread(tuple(finite(getattr(row, key)) for row in rows)) for key in ROW_COLUMNS} | _ends(rows),
        collapses=tuple(
            Collapse(row.seed, row.collapsed_label, finite(row.collapsed_share))
            for row in rows
            if row.collapsed_label is not None
        ),
    )


def _ends(rows: Sequence[DemoRow]) -> dict[str, Spread]:
    ends = {key: [getattr(row, f"{key}_interval") or (None, None) for row in rows] for key in INTERVALS}
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


def accuracy_columns(task: DemoTask, summaries: list[MethodSummary]) -> list[tuple[str, str]]:
    """(column, heading) of the accuracies that at least one row has, the test figures always."""
    columns = [
        ("source_dev_accuracy", f"{task.source_name} dev"),
        ("source_test_accuracy", f"{task.source_name} test"),
        ("target_test_accuracy", f"{task.target_name} test"),
        ("target_test_accuracy_centred", "test, centred"),
        ("target_test_accuracy_own_labels", "test, own labels"),
        ("macro_f1", "test, macro-F1"),
    ]
    always = "target_test_accuracy"
    return [(key, head) for key, head in columns if key == always or any(s.columns[key].num for s in summaries)]


def is_right(word: str, answer: str) -> bool:
    """Whether a guessed piece is the masked token; only SentencePiece's word mark is ignored."""
    return word.strip("▁ ") == answer.strip("▁ ")


def around_gap(left: str, right: str) -> tuple[str, str]:
    """The text on both sides of a hidden word, with a space between the gap and a neighbouring letter or digit."""
    return left + " " * left[-1:].isalnum(), " " * right[:1].isalnum() + right
