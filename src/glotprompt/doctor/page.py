"""The findings of `glotprompt doctor` as a self-contained HTML file: no scripts, no outside requests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from glotprompt.doctor import Diagnosis, length_histogram
from glotprompt.report.figures import MUTED, RULE, draw
from glotprompt.report.tables import look, template
from glotprompt.storage import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("doctor.html.j2")

OWN, OTHERS = look("soft-prompt").colour, look("prompt-tuning").colour
"""Colours of the text's bar and of the reference languages' bars."""

LEVELS = {"ok": ("✓", "ok"), "warn": ("!", "warning"), "bad": ("✕", "problem")}
"""Sign and word of each level, so that colour is never the only signal."""

MOST_CHARACTERS = 40


def write_doctor_page(diagnosis: Diagnosis, path: Path) -> None:
    """Write the page for a diagnosis; the file appears only when it is complete."""
    atomic.write(path, doctor_page(diagnosis))


def doctor_page(diagnosis: Diagnosis) -> str:
    """The page as text."""
    unknown = diagnosis.text.unknown
    return template(TEMPLATE).render(
        model=diagnosis.model,
        language=diagnosis.language,
        level=diagnosis.level,
        verdict=diagnosis.verdict,
        findings=sorted(diagnosis.findings, key=lambda finding: -list(LEVELS).index(finding.level)),
        levels=LEVELS,
        unknown=unknown[:MOST_CHARACTERS],
        num_unknown=len(unknown),
        most=max((char.count for char in unknown), default=1),
        pieces_svg=pieces_bars(diagnosis),
        lengths_svg=length_bars(diagnosis),
    )


def pieces_bars(diagnosis: Diagnosis) -> str:
    """Sub-words per word of the text and of the reference languages as bars, fewest first, as SVG."""
    own = diagnosis.language or "this text"
    rows = [(code, value, OTHERS) for code, value in diagnosis.references.items()]
    rows = sorted([*rows, (own, diagnosis.text.pieces_per_word, OWN)], key=lambda row: row[1])

    def paint(figure: Figure, axes: Axes) -> None:
        for row_index, (_, value, colour) in enumerate(rows):
            axes.barh(row_index, value, height=0.72, color=colour, linewidth=0)
            weight = "bold" if colour == OWN else "normal"
            axes.annotate(
                f"{value:.2f}", (value, row_index), (6, 0), textcoords="offset points", va="center", weight=weight
            )
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        for label, (_, _, colour) in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if colour == OWN else "normal")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, 1.15 * max(value for _, value, _ in rows))
        axes.set_xlabel("sub-words per word")

    spoken = ", ".join(f"{name} {value:.2f}" for name, value, _ in rows)
    return draw("pieces", 60 + 26 * len(rows), paint, f"Bar chart of sub-words per word: {spoken}.")


def length_bars(diagnosis: Diagnosis) -> str:
    """Lines by their number of tokens as a histogram whose bins double, as SVG."""
    bins = length_histogram(diagnosis.text.line_tokens)

    def paint(figure: Figure, axes: Axes) -> None:
        places = range(len(bins))
        axes.bar(places, [count for _, count in bins], width=0.86, color=OWN, linewidth=0)
        step = 2 if len(bins) > 9 else 1
        axes.set_xticks(places[::step], [f"{top:,}" for top, _ in bins[::step]])
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(axis="both", length=0, labelcolor=MUTED)
        axes.set_xlabel("tokens in a line, at most")
        axes.set_ylabel("lines")

    spoken = ", ".join(f"{count:,} up to {top:,}" for top, count in bins if count)
    return draw("lengths", 280, paint, f"Histogram of tokens per line: {spoken}.")
