"""Figures as SVG text to be put inside a page.

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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

WIDTH = 420
"""Width of a figure in its own units; about the width of a phone, so that text stays readable there."""

# Placeholder colours that matplotlib can draw; the page replaces them with its own.
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


def draw(name: str, height: int, paint: Callable[[Figure, Axes], None], description: str) -> str:
    """Let `paint` fill an empty figure; return it as an SVG element that a page can hold beside others."""
    return draw_panels(name, height, lambda figure, axes: paint(figure, axes[0]), description, (1, 1))


def draw_panels(
    name: str,
    height: int,
    paint: Callable[[Figure, list[Axes]], None],
    description: str,
    shape: tuple[int, int],
    share_x: bool = True,
) -> str:
    """Draw `shape` = (rows, columns) panels with a common y axis, and x axis; `paint` gets them row by row."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("Drawing the figures", "demo") from None
    no_metadata: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        panels = figure.subplots(*shape, sharex=share_x, sharey=True, squeeze=False)
        paint(figure, list(panels.flat))
        figure.savefig(buffer, format="svg", metadata=no_metadata)
    return _embeddable(buffer.getvalue(), name, description)


def as_file(svg: str) -> str:
    """A figure as a standalone file: black on white, with its own size and font."""
    svg = re.sub(r"var\(--[a-z]+, ([^)]+)\)", r"\1", svg)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert box is not None
    head = f'<svg width="{box[1]}" height="{box[2]}" font-family="system-ui, Helvetica, Arial, sans-serif" '
    paper = f'<rect width="{box[1]}" height="{box[2]}" fill="{PAGE_COLOURS[PAPER][:-1].split(", ")[1]}"/>'
    return re.sub(r"^<svg ([^>]*>)", lambda match: head + match[1] + paper, svg) + "\n"


def _embeddable(svg: str, name: str, description: str) -> str:
    """matplotlib's SVG file as an element: unique ids, the page's font and colours, a description."""
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
    parts = match[1].split()
    weight = [word for word in parts if word in ("bold", "italic") or word.isdigit()]
    styles = [f"font-style: {w}" if w == "italic" else f"font-weight: {w}" for w in weight]
    return "; ".join([*styles, f"font-size: {match[2]}"])
