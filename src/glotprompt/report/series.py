"""Curves of figures: for each method, points with mean and spread over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from glotprompt.report.results import Experiment, Line, Run, key_name, varied_name
from glotprompt.report.tables import (
    Spread,
    finite,
    look,
    method_name,
)

AXES = {
    "text_share": "share of the unlabelled text",
    "shots": "labelled examples per class",
    "shots_per_class": "labelled examples per class",
    "top_k_layers": "K, number of tuned layers",
    "bottom_k_layers": "K, number of tuned layers",
}
"""Names of x axes, by the last part of a key."""

MAJORITY = "majority"
"""Stands for a method in the level of the majority class."""


@dataclass(frozen=True)
class Series:
    """One curve."""

    name: str
    method: str
    points: tuple[tuple[float, Spread], ...]
    """(x, values over seeds) by rising x."""
    style: int = 0
    """0 for the first curve of a method (solid line, full marker), 1, 2 ... for further ones."""

    @property
    def colour(self) -> str:
        return look(self.method).colour

    @property
    def marker(self) -> str:
        return look(self.method).marker

    @property
    def present(self) -> list[tuple[float, float, float | None]]:
        """(x, mean, sd) of the points that have a mean; the sd of one seed is None."""
        return [(x, spread.mean, spread.sd) for x, spread in self.points if spread.mean is not None]


@dataclass(frozen=True)
class Curves:
    """All curves of one figure."""

    keys: tuple[str, ...]
    """Dotted keys of the settings along x."""
    series: tuple[Series, ...]
    levels: tuple[Series, ...]
    """Methods that x does not affect, and the majority class: one point each, at x = 0."""

    @property
    def is_empty(self) -> bool:
        """Whether no method has a point."""
        return not any(one.present for one in (*self.series, *self.levels) if one.method != MAJORITY)

    @property
    def label(self) -> str:
        """The x axis in words."""
        return " or ".join(dict.fromkeys(AXES.get(key.rpartition(".")[2]) or key_name(key) for key in self.keys))


def along_setting(experiment: Experiment, targets: Iterable[str]) -> Curves:
    """Accuracy against the varied setting, mean over `targets`, and the level of the majority class."""
    languages = list(targets)
    groups: dict[tuple[str, str, str], list[tuple[float, Spread]]] = {}
    levels: list[Series] = []
    keys = list(dict.fromkeys(key for line in experiment.lines if (key := _number_key(line)) is not None))
    for line in experiment.lines:
        key, spread = _number_key(line), line.spread(languages, Run.score)
        if key is None:
            levels.append(Series(line.name, line.method, ((0.0, spread),)))
        else:
            others = varied_name({name: value for name, value in line.varied.items() if name != key})
            groups.setdefault((line.method, others, key), []).append((float(line.varied[key]), spread))
    share = experiment.mean_majority(languages)
    if share is not None:
        levels.append(Series(method_name(MAJORITY), MAJORITY, ((0.0, Spread((share,))),)))
    methods = {method for method, _, _ in groups}
    series: list[Series] = []
    for (method, others, key), points in groups.items():
        parts = [method_name(method) if len(methods) > 1 or len(keys) == 1 else "", others]
        parts += [key_name(key)] if len(keys) > 1 else []
        name = ", ".join(word for word in parts if word)
        style = sum(one.method == method for one in series)
        series.append(Series(name, method, tuple(sorted(points, key=lambda point: point[0])), style))
    return Curves(tuple(keys), tuple(series), tuple(levels))


Measure = Literal["mean_absolute", "relative_l2"]


def along_layers(experiment: Experiment, measure: Measure, targets: Iterable[str]) -> Curves:
    """Change of each layer's prompt in stage 2 (`measure` of `prompt_change`), layers counted from 1."""
    languages = list(targets)
    series: list[Series] = []
    for line in experiment.lines:
        runs = [run for run in line.runs if run.target in languages]
        layers = sorted({change.layer for run in runs for change in run.prompt_change})
        points = tuple((layer + 1.0, line.spread(languages, _change(layer, measure))) for layer in layers)
        if points:
            series.append(Series(line.name, line.method, points, sum(one.method == line.method for one in series)))
    return Curves(("layer",), tuple(series), ())


def _change(layer: int, measure: Measure) -> Callable[[Run], float | None]:
    def value(run: Run) -> float | None:
        change = next((change for change in run.prompt_change if change.layer == layer), None)
        if change is None:
            return None
        return finite(change.mean_absolute if measure == "mean_absolute" else change.relative_l2)

    return value


def _number_key(line: Line) -> str | None:
    """The last varied key whose value is a number."""
    numbers = [key for key, value in line.varied.items() if isinstance(value, int | float) and value is not True]
    return numbers[-1] if numbers else None
