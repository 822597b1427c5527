"""The figures, as SVG text to be put inside a page.

A figure is transparent and takes ink, muted ink and paper from the page around it (CSS variables with fallbacks), so
it reads on light and on dark. Text stays text in the page's own font, and every id begins with the figure's name.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

from glotprompt.errors import MissingExtraError
from glotprompt.report.tables import (
    MethodSummary,
    Record,
    interval,
    items,
    look,
    mean_sd,
    method_name,
    number,
    part,
    summarise,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

WIDTH = 420
"""Width of a figure in its own units; about the width of a phone, so that text stays readable there."""

# Placeholders that matplotlib can draw, and what the page makes of them.
INK, MUTED, RULE, PAPER = "#010203", "#010204", "#010205", "#010206"
PAGE_COLOURS = {
    INK: "var(--ink, #1d2327)",
    MUTED: "var(--muted, #5c646b)",
    RULE: "var(--rule, #d9d9d2)",
    PAPER: "var(--paper, #fff)",
}

STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",
    "font.size": 13,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.parse_math": False,  # a name with a dollar sign is a name
}

BARS = (("target_test_accuracy", "as it is", 1.0), ("target_test_accuracy_centred", "centred", 0.5))
"""Column, label and opacity of the bars of one method."""


def loss_curve(result: Record) -> str:
    """Held-out loss over the steps of the adaptation as SVG; "" when there is no curve."""
    language = part(result, "language")
    points = [(p["step"], p["held_out_loss"]) for p in items(language, "curve") if p["held_out_loss"] is not None]
    if not points:
        return ""
    label = f"held-out {part(result, 'task')['target_name'] or 'target'} text"

    def paint(figure: Figure, axes: Axes) -> None:
        train = [(p["step"], p["loss"]) for p in items(language, "train_curve") if p["loss"] is not None]
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


def retrieval_curve(result: Record) -> str:
    """Held-out translations found over the steps of each alignment as SVG; "" when there is none."""
    courses = [(course, points) for course in items(result, "alignment") if (points := _retrieval(course))]
    if not courses:
        return ""

    def paint(figure: Figure, axes: Axes) -> None:
        for course, points in courses:
            drawn = look(course["method"])
            colour, marker, name = drawn.colour, drawn.marker, drawn.name
            axes.plot(*zip(*points, strict=True), linewidth=2.2, markersize=5, color=colour, marker=marker, label=name)
        axes.set_xlabel("training steps")
        axes.set_ylabel("held-out translations found, per cent")
        axes.set_ylim(0, 104)
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        figure.legend(loc="outside upper left", frameon=False, borderpad=0)

    spoken = "; ".join(
        f"{method_name(course['method'])} from {number(points[0][1])} to {number(points[-1][1])}"
        for course, points in courses
    )
    return draw("retrieval", 310, paint, f"Line chart: per cent of held-out translations found, {spoken}.")


def _retrieval(course: Record) -> list[tuple[float, float]]:
    return [(p["step"], p["retrieval"]) for p in items(course, "curve") if p["retrieval"] is not None]


def accuracy_bars(result: Record) -> str:
    """Target test accuracy of every method as bars with its 95 % interval as a line and a point per seed, as SVG; ""
    when there is none.

    Full colour: as it is; pale: centred by unlabelled text, where that was measured. The majority class is a line.
    """
    summaries = [s for s in summarise(items(result, "rows")) if any(s.columns[key].num for key, _, _ in BARS)]
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
            label, place = f"majority class {number(majority)}", (majority, bottom - 0.4)
            axes.annotate(label, place, (6, 0), textcoords="offset points", color=MUTED, va="center")
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


def draw(name: str, height: int, paint: Callable[[Figure, Axes], None], description: str) -> str:
    """Let `paint` fill an empty figure; give it back as an SVG element that can stand in a page beside others."""
    return draw_panels(name, height, lambda figure, axes: paint(figure, axes[0]), description, (1, 1))


def draw_panels(
    name: str, height: int, paint: Callable[[Figure, list[Axes]], None], description: str, shape: tuple[int, int]
) -> str:
    """The same for `shape` = (rows, columns) panels with common axes; `paint` gets them row by row."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("Drawing the figures", "demo") from None
    no_metadata: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        panels = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False)
        paint(figure, list(panels.flat))
        figure.savefig(buffer, format="svg", metadata=no_metadata)
    return _embeddable(buffer.getvalue(), name, description)


def as_file(svg: str) -> str:
    """A figure as a file of its own, which knows no page: black on white, with its size and a font."""
    svg = re.sub(r"var\(--[a-z]+, ([^)]+)\)", r"\1", svg)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert box is not None
    head = f'<svg width="{box[1]}" height="{box[2]}" font-family="system-ui, Helvetica, Arial, sans-serif" '
    paper = f'<rect width="{box[1]}" height="{box[2]}" fill="{PAGE_COLOURS[PAPER][:-1].split(", ")[1]}"/>'
    return re.sub(r"^<svg ([^>]*>)", lambda match: head + match[1] + paper, svg) + "\n"


def _embeddable(svg: str, name: str, description: str) -> str:
    """matplotlib's SVG file as an element: ids of its own, the page's font and colours, a description."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<!--.*?-->\n?|<style.*?</style>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    svg = re.sub(r"font-family: [^;\"]+;? ?", "", svg)
    svg = re.sub(r"font: ((?:[a-z]+ |\d{3} )*)([\d.]+px) [^;\"]+", _font_without_family, svg)
    for placeholder, colour in PAGE_COLOURS.items():
        svg = svg.replace(placeholder, colour)
    box = re.search(r'viewBox="[^"]+"', svg)
    assert box is not None
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box[0]} role="img" aria-label="{escape(description)}" '
    return re.sub(r"^<svg[^>]*>", lambda _: head + 'stroke-linejoin="round">', svg)


def _font_without_family(match: re.Match[str]) -> str:
    words = match[1].split()
    weight = [word for word in words if word in ("bold", "italic") or word.isdigit()]
    styles = [f"font-style: {w}" if w == "italic" else f"font-weight: {w}" for w in weight]
    return "; ".join([*styles, f"font-size: {match[2]}"])
