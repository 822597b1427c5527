"""The paper's figures 3 to 6 and others, as SVG; a method has the same colour and marker in all of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glotprompt.report.figures import INK, MUTED, PAPER, RULE, draw, draw_panels
from glotprompt.report.results import Experiment, Line, Run, Stage
from glotprompt.report.series import MAJORITY, Curves, Series, along_layers, along_setting
from glotprompt.report.tables import Spread, look, mean_sd, method_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCURACY = "accuracy, per cent"
LINES: tuple[str | tuple[float, tuple[float, float]], ...] = ("solid", (0, (5, 2)), (0, (1, 1.5)))
"""Line styles of the first, second and third curve of one method."""
LEGEND_ROW, PLOT = 19, 290
"""Heights in the figure's units."""
PANEL_ROW = 165
MOST_LOSSES = 30
"""Most points of a training's loss that are drawn."""
LOG_RATIO = 8
"""Ratio of the largest to the smallest x from which the axis is logarithmic."""


def stem(*parts: str) -> str:
    """A name for files and ids, made of arbitrary texts."""
    return "-".join(re.sub(r"[\W_]+", "_", part).strip("_") or "_" for part in parts)


def setting_curve(experiment: Experiment) -> str:
    """Mean accuracy over languages against the varied setting (text, shots, K); "" without a point."""
    curves = along_setting(experiment, experiment.targets)
    return _curve(stem(experiment.name, "mean"), curves, ACCURACY, _is_logarithmic(curves))


def setting_panels(experiment: Experiment) -> str:
    """Accuracy of each language against the varied setting; "" with fewer than two languages, or without a point."""
    curves = {target: along_setting(experiment, [target]) for target in experiment.targets}
    return _panels(stem(experiment.name, "languages"), curves, ACCURACY)


def change_curve(experiment: Experiment) -> str:
    """Change of each layer's prompt in stage 2, mean over languages; "" without a point."""
    curves = along_layers(experiment, "mean_absolute", experiment.targets)
    return _curve(stem(experiment.name, "mean"), curves, "mean absolute change", False)


def change_panels(experiment: Experiment) -> str:
    """Change of each layer's prompt in stage 2, for each language."""
    curves = {target: along_layers(experiment, "mean_absolute", [target]) for target in experiment.targets}
    return _panels(stem(experiment.name, "languages"), curves, "mean absolute change")


def _curve(name: str, curves: Curves, ylabel: str, logarithmic: bool) -> str:
    visible = [one for one in (*curves.series, *curves.levels) if one.present]
    if curves.is_empty:
        return ""

    def paint(figure: Figure, axes: Axes) -> None:
        _paint_curves(axes, curves)
        _set_ticks(axes, [curves], logarithmic)
        axes.set_xlabel(curves.label)
        axes.set_ylabel(ylabel)
        add_legend(figure, [axes])

    description = f"Line chart of {ylabel} by {curves.label}: {_spoken(curves)}."
    return draw(name, PLOT + LEGEND_ROW * len(visible), paint, description)


def _spoken(curves: Curves) -> str:
    """The numbers for a screen reader."""
    lines = [
        f"{one.name}: {', '.join(f'{mean:.3g} at {x:g}' for x, mean, _ in one.present)}"
        for one in curves.series
        if one.present
    ]
    lines += [
        f"{one.name}: {', '.join(f'{mean:.3g}' for _, mean, _ in one.present)}" for one in curves.levels if one.present
    ]
    return "; ".join(lines)


def add_legend(figure: Figure, panels: Sequence[Axes], ncols: int = 1) -> None:
    """One entry for each curve, whichever panels it is in."""
    entries = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend([*entries.values()], [*entries], loc="outside upper left", frameon=False, borderpad=0, ncols=ncols)


def _panels(name: str, by_target: dict[str, Curves], ylabel: str) -> str:
    filled = {target: curves for target, curves in by_target.items() if any(one.present for one in curves.series)}
    if len(by_target) < 2 or not filled:
        return ""
    rows = math.ceil(len(filled) / 2)
    label = next(iter(filled.values())).label
    names = {one.name for curves in filled.values() for one in (*curves.series, *curves.levels) if one.present}

    def paint(figure: Figure, panels: list[Axes]) -> None:
        for axes, (target, curves) in zip(panels, filled.items(), strict=False):
            _paint_curves(axes, curves)
            axes.set_title(target, loc="left", fontsize=12, weight="bold", color=INK)
            axes.tick_params(labelsize=10.5)
        _label_lowest(panels, len(filled))
        _set_ticks(panels[0], list(filled.values()), all(map(_is_logarithmic, filled.values())))  # x is shared
        figure.supxlabel(label, color=MUTED, fontsize=12)
        figure.supylabel(ylabel, color=MUTED, fontsize=12)
        add_legend(figure, panels)

    spoken = " ".join(f"{target}: {_spoken(curves)}." for target, curves in filled.items())
    description = f"{len(filled)} line charts of {ylabel} by {label}, one for each language. {spoken}"
    return draw_panels(name, 40 + PANEL_ROW * rows + LEGEND_ROW * len(names), paint, description, (rows, 2))


def _label_lowest(panels: Sequence[Axes], filled: int) -> None:
    """Empty the places after the last panel of two columns; a panel above an empty place gets the numbers of x."""
    for axes in panels[filled:]:
        axes.set_axis_off()
    panels[max(0, filled - 2)].tick_params(labelbottom=True)


def _paint_curves(axes: Axes, curves: Curves) -> None:
    for one in curves.levels:
        style: dict[str, Any] = {"linewidth": 1.6, "linestyle": (0, (2, 2))}
        if one.method == MAJORITY:
            style = {"linewidth": 1}
        for _, mean, sd in one.present:
            axes.axhline(mean, color=one.colour, label=one.name, **style)
            if sd is not None:
                axes.axhspan(mean - sd, mean + sd, color=one.colour, alpha=0.1, linewidth=0)
    for one in curves.series:
        if one.present:
            _paint_series(axes, one)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(y=0.12)


def _set_ticks(axes: Axes, panels: Sequence[Curves], logarithmic: bool) -> None:
    """Put ticks at the planned points, at most eight; of many layers at the first and at quarters: 1, 6, 12, 18, 24."""
    if logarithmic:
        axes.set_xscale("log")
    ticks = sorted({x for curves in panels for one in curves.series for x, _ in one.points})
    layers = any("layer" in key for key in panels[0].keys)
    if layers and len(ticks) > 8:
        quarter = max(1, round(ticks[-1] / 4))
        ticks = [tick for tick in ticks if tick == ticks[0] or tick % quarter == 0]
    while len(ticks) > 8:
        ticks = ticks[::2]
    share = any(key.endswith("share") for key in panels[0].keys)
    axes.set_xticks(ticks, [f"{100 * tick:g} %" if share else f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _paint_series(axes: Axes, one: Series) -> None:
    # NaN breaks a line and a band: a missing point is not drawn over, and one seed has no band
    xs = [x for x, _ in one.points]
    means = np.array([math.nan if spread.mean is None else spread.mean for _, spread in one.points])
    sds = np.array([math.nan if spread.sd is None else spread.sd for _, spread in one.points])
    axes.fill_between(xs, means - sds, means + sds, color=one.colour, alpha=0.16, linewidth=0)
    axes.plot(
        xs,
        means,
        color=one.colour,
        linewidth=2,
        linestyle=LINES[min(one.style, len(LINES) - 1)],
        marker=one.marker,
        markersize=6,
        markerfacecolor=PAPER if one.style else one.colour,
        label=one.name,
    )


def _is_logarithmic(curves: Curves) -> bool:
    """Whether x grows by factors, as shots do; layers and shares are never logarithmic."""
    xs = [x for one in curves.series for x, _ in one.points]
    counts = all("layer" not in key and not key.endswith("share") for key in curves.keys)
    return counts and bool(xs) and min(xs) > 0 and max(xs) > LOG_RATIO * min(xs)


def accuracy_against_parameters(experiment: Experiment) -> str:
    """Mean accuracy of each method against its trained parameters per language (logarithmic); "" without a point."""
    points: list[tuple[Line, float, Spread]] = []
    for line in experiment.lines:
        parameters, spread = _trained_parameters(line), line.spread(experiment.targets, Run.score)
        if parameters and spread.num:
            points.append((line, parameters, spread))
    if not points:
        return ""

    def paint(figure: Figure, axes: Axes) -> None:
        for line, parameters, spread in points:
            style, mean = look(line.method), spread.mean or 0
            axes.errorbar(parameters, mean, spread.sd, color=style.colour, capsize=4, linestyle="none")
            axes.plot(
                parameters,
                mean,
                color=style.colour,
                marker=style.marker,
                markersize=9,
                linestyle="none",
                markeredgecolor=PAPER,
                label=line.name,
            )
        axes.set_xscale("log")
        low, high = min(point[1] for point in points), max(point[1] for point in points)
        first, last = math.floor(math.log10(low / 1.2)), math.ceil(math.log10(high * 1.2))
        axes.set_xlim(10.0**first, 10.0**last)
        ticks = [10.0**power for power in range(first, last + 1)]
        axes.set_xticks(ticks, [amount(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid(color=RULE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.margins(y=0.15)
        axes.set_xlabel("trained parameters per language")
        axes.set_ylabel(ACCURACY)
        add_legend(figure, [axes])

    spoken = "; ".join(f"{line.name} {mean_sd(spread)} with {values:,.0f}" for line, values, spread in points)
    description = f"Scatter plot of accuracy against trained parameters: {spoken}."
    return draw(stem(experiment.name, "values"), PLOT + LEGEND_ROW * len(points), paint, description)


def _trained_parameters(line: Line) -> float | None:
    numbers = [run.trained_parameters for run in line.runs if run.trained_parameters]
    return sum(numbers) / len(numbers) if numbers else None


def amount(value: float) -> str:
    """A number of an axis: 20 k, 1.5 M."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def loss_panels(experiment: Experiment, stage: Stage) -> str:
    """The loss of every training of a stage: a panel per method, a line per training; "" without any."""
    by_method: dict[str, dict[str | None, list[tuple[int, float]]]] = {}
    for run in (run for line in experiment.lines for run in line.runs):
        figures = run.stage(stage)
        losses = [] if figures is None else [(step, loss) for step, loss in figures.losses if loss is not None]
        if losses:  # one training that serves several runs is one line
            by_method.setdefault(run.method, {})[_training(run, stage)] = _thinned(losses)
    if not by_method:
        return ""
    rows = math.ceil(len(by_method) / 2)

    def paint(figure: Figure, panels: list[Axes]) -> None:
        for axes, (method, curves) in zip(panels, by_method.items(), strict=False):
            for points in curves.values():
                axes.plot(*zip(*points, strict=True), color=look(method).colour, linewidth=1, alpha=0.7)
            axes.set_title(method, loc="left", fontsize=12, weight="bold", color=INK)
            axes.grid(axis="y", color=RULE, linewidth=0.8)
        _label_lowest(panels, len(by_method))
        figure.supxlabel("training step", color=MUTED, fontsize=12)
        figure.supylabel("loss (nats)", color=MUTED, fontsize=12)

    counts = ", ".join(f"{method_name(method)} {len(curves)}" for method, curves in by_method.items())
    description = f"Training losses of {'stage 1' if stage == 'adapt' else 'stage 2'}; trainings drawn: {counts}."
    return draw_panels(stem(experiment.name, "loss", stage), 40 + PANEL_ROW * rows, paint, description, (rows, 2))


def _training(run: Run, stage: Stage) -> str | None:
    """Name of the step that trained a run's stage."""
    if run.evaluation is None:
        return None
    steps = run.evaluation.run_info.steps
    return steps.adapt if stage == "adapt" else steps.tune


def _thinned(losses: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    stride = math.ceil(len(losses) / MOST_LOSSES)
    points = list(losses[::stride])
    return points if points[-1] == losses[-1] else [*points, losses[-1]]
