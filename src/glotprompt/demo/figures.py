"""The demo's figures, as SVG for its page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glotprompt.demo.result import DemoAlignment, DemoFigures
from glotprompt.demo.summary import MethodSummary, interval, summarise
from glotprompt.report.figures import INK, MUTED, PAPER, RULE, draw
from glotprompt.report.tables import (
    look,
    mean_sd,
    method_name,
    number,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BARS = (("target_test_accuracy", "uncentred", 1.0), ("target_test_accuracy_centred", "centred", 0.5))
"""Column, label and opacity of the bars of one method."""


def loss_curve(result: DemoFigures) -> str:
    """Held-out loss over the steps of the adaptation as SVG; "" when there is no curve."""
    if result.language is None:
        return ""
    points = [(one.step, one.held_out_loss) for one in result.language.curve if one.held_out_loss is not None]
    if not points:
        return ""
    train = [(one.step, one.loss) for one in result.language.train_curve if one.loss is not None]
    label = f"held-out {result.task.target_name} text"

    def paint(figure: Figure, axes: Axes) -> None:
        if train:
            name = "training batches, both languages"
            axes.plot(*zip(*train, strict=True), color=MUTED, linewidth=1, alpha=0.6, label=name)
        colour = look("soft-prompt").colour
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=2.4, marker="o", markersize=5, label=label)
        for (step, loss), offset, side in ((points[0], (8, 4), "left"), (points[-1], (4, 9), "right")):
            axes.annotate(number(loss, 2), (step, loss), offset, textcoords="offset points", ha=side, weight="bold")
        axes.set_xlabel("training steps")
        axes.set_ylabel("loss (nats)")
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        axes.margins(y=0.12)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside upper left", frameon=False, borderpad=0)

    first, last = number(points[0][1], 2), number(points[-1][1], 2)
    description = f"Line chart: loss on {label} goes from {first} to {last} in {points[-1][0]} steps."
    return draw("loss", 310, paint, description)


def retrieval_curve(result: DemoFigures) -> str:
    """Held-out translations found over the steps of each alignment as SVG; "" when there is none."""
    curves = [(one.method, points) for one in result.alignment if (points := _retrieval(one))]
    if not curves:
        return ""

    def paint(figure: Figure, axes: Axes) -> None:
        for method, points in curves:
            colour, marker = look(method).colour, look(method).marker
            name = method_name(method)
            axes.plot(*zip(*points, strict=True), linewidth=2.2, markersize=5, color=colour, marker=marker, label=name)
        axes.set_xlabel("training steps")
        axes.set_ylabel("held-out translations found, per cent")
        axes.set_ylim(0, 104)
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        figure.legend(loc="outside upper left", frameon=False, borderpad=0)

    spoken = "; ".join(
        f"{method_name(method)} from {number(points[0][1])} to {number(points[-1][1])}" for method, points in curves
    )
    return draw("retrieval", 310, paint, f"Line chart: per cent of held-out translations found, {spoken}.")


def _retrieval(alignment: DemoAlignment) -> list[tuple[int, float]]:
    return [(one.step, one.retrieval) for one in alignment.curve if one.retrieval is not None]


def accuracy_bars(result: DemoFigures) -> str:
    """Target test accuracy of every method as bars with its 95 % interval as a line and a point per seed, as SVG; ""
    when there is none.

    Full colour: uncentred; pale: centred by unlabelled text, where that was measured. The majority class is a line.
    """
    summaries = [s for s in summarise(result.rows) if any(s.columns[key].num for key, _, _ in BARS)]
    shown = [s for s in summaries if s.method != "majority"]
    if not shown:
        return ""
    majority = next((s.columns[BARS[0][0]].mean for s in summaries if s.method == "majority"), None)
    bars = {s.method: [bar for bar in BARS if s.columns[bar[0]].num] for s in shown}
    tops = [sum(1 + len(bars[s.method]) for s in shown[:index]) for index in range(len(shown) + 1)]

    def paint(figure: Figure, axes: Axes) -> None:
        for top, summary in zip(tops, shown, strict=False):
            _method_bars(axes, top, summary, bars[summary.method], majority)
        bottom = tops[-1] - 0.4
        if majority is not None:
            axes.vlines(majority, bottom - 0.9, bottom, color=INK, linewidth=1.3, linestyle=(0, (4, 3)))
            label, position = f"majority class {number(majority)}", (majority, bottom - 0.4)
            axes.annotate(label, position, (6, 0), textcoords="offset points", color=MUTED, va="center")
        rows = [(tops[i] + row, bar[1]) for i, s in enumerate(shown) for row, bar in enumerate(bars[s.method])]
        axes.set_yticks([y for y, _ in rows], [name for _, name in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(bottom, -1.5)
        largest = max(value for s in summaries for key, _, _ in BARS for value in s.columns[key].present)
        axes.set_xlim(0, largest * 1.36 or 1)
        axes.set_xticks([tick for tick in axes.get_xticks() if tick <= min(100, largest * 1.36)])
        axes.set_xlabel("accuracy, per cent")

    cells = [(s, key, how) for s in summaries for key, how, _ in BARS if s.columns[key].num]
    spoken = "; ".join(f"{s.name} {mean_sd(s.columns[key])} {interval(s, key)} {how}" for s, key, how in cells)
    return draw("accuracy", 64 + 27 * tops[-1], paint, f"Bar chart of test accuracy in per cent: {spoken}.")


def _method_bars(
    axes: Axes, top: float, summary: MethodSummary, bars: list[tuple[str, str, float]], majority: float | None
) -> None:
    """The name of a method and, under it, its bars."""
    axes.annotate(summary.name, (0, top - 0.95), weight="bold", va="center")
    if majority is not None:
        axes.vlines(majority, top - 0.5, top + len(bars) - 0.5, color=INK, linewidth=1.3, linestyle=(0, (4, 3)))
    for row, (column, _, opacity) in enumerate(bars):
        spread, y = summary.columns[column], top + row
        assert spread.mean is not None
        axes.barh(y, spread.mean, height=0.78, color=summary.colour, alpha=opacity, linewidth=0)
        low, high = (summary.columns[f"{column}_{end}"].mean for end in ("low", "high"))
        if low is not None and high is not None:
            axes.hlines(y, low, high, color=INK, linewidth=1.3)
        if spread.num > 1:  # one seed is the bar itself
            heights = [y + 0.5 * (index / (spread.num - 1) - 0.5) for index in range(spread.num)]
            axes.scatter(spread.present, heights, s=24, color=PAPER, edgecolors=INK, linewidths=1.1, zorder=5)
        end = max([*spread.present, high or 0])
        axes.annotate(mean_sd(spread), (end, y), (9, 0), textcoords="offset points", va="center_baseline")
