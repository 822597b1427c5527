"""A comparison as a plot: a point for each candidate with its 95 % interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glotprompt.compare.result import CompareResult
from glotprompt.report.figures import INK, MUTED, PAPER, RULE, draw
from glotprompt.report.tables import look, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def accuracy_plot(result: CompareResult) -> str:
    """Accuracy on the target labels by candidate as SVG, the winner in bold; "" where nothing was scored."""
    rows = [(row, row.accuracy, row.interval) for row in result.rows]
    scored = [(row, accuracy, ends) for row, accuracy, ends in rows if accuracy is not None and ends is not None]
    if not scored:
        return ""

    def paint(figure: Figure, axes: Axes) -> None:
        places = range(len(scored))
        for place, (row, accuracy, (low, high)) in zip(places, scored, strict=True):
            style = look(row.name.partition("+")[0])
            axes.plot([low, high], [place, place], color=style.colour, linewidth=2.2)
            axes.plot(accuracy, place, marker="o", markersize=8, color=style.colour, markeredgecolor=PAPER)
            for one in row.accuracies if len(row.accuracies) > 1 else ():
                axes.plot(one, place, marker="|", markersize=9, color=INK)
        axes.set_yticks(list(places), [row.title for row, _, _ in scored])
        for label, (row, _, _) in zip(axes.get_yticklabels(), scored, strict=True):
            label.set_fontweight("bold" if row.name == result.winner else "normal")
        axes.invert_yaxis()
        axes.set_xlabel(f"accuracy on {result.target_labels:,} target labels, per cent", color=MUTED)
        axes.grid(axis="x", color=RULE, linewidth=0.8)

    spoken = "; ".join(f"{row.title} {number(accuracy)}" for row, accuracy, _ in scored)
    return draw("compare", 90 + 30 * len(scored), paint, f"Dot plot: accuracy in per cent, {spoken}.")
