"""The paper's figures 3 to 6 and our own, as SVG; one method has one colour and one marker in all of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from glotprompt.report.figures import INK, MUTED, PAPER, RULE, draw, draw_panels
from glotprompt.report.results import Experiment, Line, Run, Stage
from glotprompt.report.series import Curves, Series, along_layers, along_setting
from glotprompt.report.tables import look, mean_sd, method_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCURACY = "accuracy, per cent"
LINES: tuple[str | tuple[float, tuple[float, float]], ...] = ("solid", (0, (5, 2)), (0, (1, 1.5)))
"""Of the first, second and third curve of one method."""
LEGEND_ROW, PLOT = 19, 290
"""Heights in the figure's units."""
PANEL_ROW = 165
MOST_LOSSES = 30
"""Points of a training's loss that are drawn."""
LOG_RATIO = 8
"""Shots that span more than this are drawn on a logarithmic axis."""


def stem(*words: str) -> str:
    """A name for files and ids, made of words that may hold anything."""
    return "-".join(re.sub(r"[\W_]+", "_", word).strip("_") or "_" for word in words)


def setting_curve(experiment: Experiment) -> str:
    """Accuracy as a mean over languages against what varies (text, shots, K); "" without a point."""
    curves = along_setting(experiment, experiment.targets)
    return _curve(stem(experiment.name, "mean"), curves, ACCURACY, _is_logarithmic(curves))


def setting_panels(experiment: Experiment) -> str:
    """The same for each language; "" when there is one language only, or nothing."""
    found = {target: along_setting(experiment, [target]) for target in experiment.targets}
    return _panels(stem(experiment.name, "languages"), found, ACCURACY)


def change_curve(experiment: Experiment) -> str:
    """How far stage 2 moved each layer's prompts, as a mean over languages; "" without a point."""
    curves = along_layers(experiment, "mean_absolute", experiment.targets)
    return _curve(stem(experiment.name, "mean"), curves, "mean absolute change", False)


def change_panels(experiment: Experiment) -> str:
    """The same for each language."""
    found = {target: along_layers(experiment, "mean_absolute", [target]) for target in experiment.targets}
    return _panels(stem(experiment.name, "languages"), found, "mean absolute change")


def _curve(name: str, curves: Curves, ylabel: str, logarithmic: bool) -> str:
    shown = [one for one in (*curves.series, *curves.levels) if one.present]
    if not shown:
        return ""

    def paint(figure: Figure, axes: Axes) -> None:
        _paint_curves(axes, curves)
        _set_ticks(axes, [curves], logarithmic)
        axes.set_xlabel(curves.label)
        axes.set_ylabel(ylabel)
        _add_legend(figure, [axes])

    description = f"Line chart of {ylabel} by {curves.label}: {_spoken(curves)}."
    return draw(name, PLOT + LEGEND_ROW * len(shown), paint, description)


def _spoken(curves: Curves) -> str:
    """The numbers for a screen reader."""
    return "; ".join(
        f"{one.name}: " + ", ".join(f"{mean:.3g} at {x:g}" if one in curves.series else f"{mean:.3g}"
                                    for x, mean, _ in one.present)
        for one in (*curves.series, *curves.levels) if one.present
    )  # fmt: skip


def _add_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One entry for each curve, whichever panels it is in."""
    named = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }  # fmt: skip
    figure.legend([*named.values()], [*named], loc="outside upper left", frameon=False, borderpad=0)


def _panels(name: str, found: dict[str, Curves], ylabel: str) -> str:
    filled = {target: curves for target, curves in found.items() if any(one.present for one in curves.series)}
    if len(found) < 2 or not filled:
        return ""
    rows = math.ceil(len(filled) / 2)
    label = next(iter(filled.values())).label
    names = {one.name for curves in filled.values() for one in (*curves.series, *curves.levels) if one.present}

    def paint(figure: Figure, panels: list[Axes]) -> None:
        for axes, (target, curves) in zip(panels, filled.items(), strict=False):
            _paint_curves(axes, curves)
            axes.set_title(target, loc="left", fontsize=12, weight="bold", color=INK)
            axes.tick_params(labelsize=10.5)
        _set_ticks(panels[0], list(filled.values()), all(map(_is_logarithmic, filled.values())))  # x is shared
        for axes in panels[len(filled) :]:
            axes.set_axis_off()
        figure.supxlabel(label, color=MUTED, fontsize=12)
        figure.supylabel(ylabel, color=MUTED, fontsize=12)
        _add_legend(figure, panels)

    spoken = " ".join(f"{target}: {_spoken(curves)}." for target, curves in filled.items())
    description = f"{len(filled)} line charts of {ylabel} by {label}, one for each language. {spoken}"
    return draw_panels(name, 40 + PANEL_ROW * rows + LEGEND_ROW * len(names), paint, description, (rows, 2))


def _paint_curves(axes: Axes, curves: Curves) -> None:
    for one in curves.levels:
        for _, mean, sd in one.present:
            axes.axhline(mean, color=one.colour, linewidth=1.6, linestyle=(0, (2, 2)), label=one.name)
            axes.axhspan(mean - sd, mean + sd, color=one.colour, alpha=0.1, linewidth=0)
    for one in curves.series:
        if one.present:
            _paint_series(axes, one)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(y=0.12)


def _set_ticks(axes: Axes, found: Sequence[Curves], logarithmic: bool) -> None:
    """A tick where a point is, at most eight of them."""
    if logarithmic:
        axes.set_xscale("log")
    ticks = sorted({x for curves in found for one in curves.series for x, _, _ in one.present})
    while len(ticks) > 8:
        ticks = ticks[::2]
    share = any(key.endswith("share") for key in found[0].keys)
    axes.set_xticks(ticks, [f"{100 * tick:g} %" if share else f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _paint_series(axes: Axes, one: Series) -> None:
    xs, means, sds = zip(*one.present, strict=True)
    low, high = zip(*((mean - sd, mean + sd) for mean, sd in zip(means, sds, strict=True)), strict=True)
    axes.fill_between(xs, low, high, color=one.colour, alpha=0.16, linewidth=0)
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
    """Shots and other amounts that grow by factors; layers and shares never."""
    xs = [x for one in curves.series for x, _ in one.points]
    counts = all("layer" not in key and not key.endswith("share") for key in curves.keys)
    return counts and bool(xs) and min(xs) > 0 and max(xs) > LOG_RATIO * min(xs)


# ---------------------------------------------------------------------------------------------------------------


def accuracy_against_values(experiment: Experiment) -> str:
    """Mean accuracy of each method against the values it trains for a language (logarithmic); "" without a point."""
    points = [(line, values, spread) for line in experiment.lines
              if (values := _values(line)) and (spread := line.spread(experiment.targets, Run.score)).num]  # fmt: skip
    if not points:
        return ""

    def paint(figure: Figure, axes: Axes) -> None:
        for line, values, spread in points:
            drawn = look(line.method)
            axes.errorbar(values, spread.mean or 0, spread.sd or 0, color=drawn.colour, capsize=4, linestyle="none")
            axes.plot(values, spread.mean or 0, color=drawn.colour, marker=drawn.marker, markersize=9, linestyle="none",
                      markeredgecolor=PAPER, label=line.name)  # fmt: skip
        axes.set_xscale("log")
        low, high = min(point[1] for point in points), max(point[1] for point in points)
        first, last = math.floor(math.log10(low / 1.2)), math.ceil(math.log10(high * 1.2))
        axes.set_xlim(10.0**first, 10.0**last)
        ticks = [10.0**power for power in range(first, last + 1)]
        axes.set_xticks(ticks, [_amount(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid(color=RULE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.margins(y=0.15)
        axes.set_xlabel("values trained for one language")
        axes.set_ylabel(ACCURACY)
        _add_legend(figure, [axes])

    spoken = "; ".join(f"{line.name} {mean_sd(spread)} with {values:,.0f}" for line, values, spread in points)
    description = f"Scatter plot of accuracy against trained parameters: {spoken}."
    return draw(stem(experiment.name, "values"), PLOT + LEGEND_ROW * len(points), paint, description)


def _values(line: Line) -> float | None:
    found = [run.trained_parameters for run in line.runs if run.trained_parameters]
    return sum(found) / len(found) if found else None


def _amount(value: float) -> str:
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def loss_panels(experiment: Experiment, stage: Stage) -> str:
    """The loss of every training of a stage, one panel a method, one line a training; "" without any."""
    found: dict[str, dict[str | None, list[tuple[int, float]]]] = {}
    for run in (run for line in experiment.lines for run in line.runs):
        told = run.stage(stage)
        losses = [] if told is None else [(step, loss) for step, loss in told.losses if loss is not None]
        if losses:  # one training that serves several runs is one line
            found.setdefault(run.method, {})[_training(run, stage)] = _thinned(losses)
    if not found:
        return ""
    rows = math.ceil(len(found) / 2)

    def paint(figure: Figure, panels: list[Axes]) -> None:
        for axes, (method, curves) in zip(panels, found.items(), strict=False):
            for points in curves.values():
                axes.plot(*zip(*points, strict=True), color=look(method).colour, linewidth=1,
                          alpha=0.7)  # fmt: skip
            axes.set_title(method, loc="left", fontsize=12, weight="bold", color=INK)
            axes.grid(axis="y", color=RULE, linewidth=0.8)
        for axes in panels[len(found) :]:
            axes.set_axis_off()
        figure.supxlabel("training step", color=MUTED, fontsize=12)
        figure.supylabel("loss (nats)", color=MUTED, fontsize=12)

    counts = ", ".join(f"{method_name(method)} {len(curves)}" for method, curves in found.items())
    description = f"Training losses of {'stage 1' if stage == 'adapt' else 'stage 2'}; trainings drawn: {counts}."
    return draw_panels(stem(experiment.name, "loss", stage), 40 + PANEL_ROW * rows, paint, description, (rows, 2))


def _training(run: Run, stage: Stage) -> str | None:
    """Name of the step that trained it."""
    if run.evaluation is None:
        return None
    steps = run.evaluation.run_info.steps
    return steps.adapt if stage == "adapt" else steps.tune


def _thinned(losses: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    stride = math.ceil(len(losses) / MOST_LOSSES)
    kept = list(losses[::stride])
    return kept if kept[-1] == losses[-1] else [*kept, losses[-1]]
