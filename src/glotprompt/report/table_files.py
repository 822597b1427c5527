"""A table as data, and the same table as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from glotprompt.report.tables import Spread, mean_sd, number


@dataclass(frozen=True)
class TableCell:
    """A cell: the text that a reader sees, and the numbers behind it."""

    text: str
    bold: bool = False
    value: float | str | None = None
    """Value in CSV; None: missing."""
    sd: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows that begin with a name. `colours` holds the colour of each row, "" for none."""

    name: str
    """Stem of its files."""
    caption: str
    headings: tuple[str, ...]
    """Headings of the columns; the first column holds the rows' names."""
    rows: tuple[tuple[TableCell, ...], ...]
    colours: tuple[str, ...] = ()
    text_columns: int = 1
    """Number of columns, from the left, that hold text."""


def spread_cell(spread: Spread, digits: int = 1) -> TableCell:
    """Mean ± sd over seeds."""
    return TableCell(mean_sd(spread, digits), value=spread.mean, sd=spread.sd)


def word_cell(text: str) -> TableCell:
    """A name."""
    return TableCell(text, value=text)


def number_cell(value: float | None, digits: int = 1, unit: str = "") -> TableCell:
    """A figure without a spread."""
    return TableCell(number(value, digits, unit), value=value)


def with_best_bold(rows: list[tuple[TableCell, ...]], without: Iterable[int] = ()) -> list[tuple[TableCell, ...]]:
    """Put the largest number of every column in bold, as printed (so equal prints tie). Rows `without` do not compete,
    and a column with a single number has no best."""
    others = [index for index in range(len(rows)) if index not in set(without)]
    cells = [list(row) for row in rows]
    for column in range(1, max(map(len, rows), default=0)):
        values = {index: cells[index][column].value for index in others}
        present = {index: round(value, 1) for index, value in values.items() if isinstance(value, float | int)}
        best = max(present.values(), default=None)
        for index in present:
            if present[index] == best and len(present) > 1:
                cell = cells[index][column]
                cells[index][column] = replace(cell, bold=True)
    return [tuple(row) for row in cells]


def as_markdown(table: Table) -> str:
    """A GitHub table with its caption above."""
    sides = [":--" if index < table.text_columns else "--:" for index in range(len(table.headings))]
    lines = [[_markdown(heading) for heading in table.headings], sides]
    lines += [[_markdown_cell(cell) for cell in row] for row in table.rows]
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{markdown(table.caption)}\n\n{rows}\n"


def markdown(text: str) -> str:
    """Plain text, escaped for Markdown."""
    return re.sub(r"([\\`*_<>\[\]#~]|&(?=#?\w+;))", r"\\\1", " ".join(text.split()))


def _markdown(text: str) -> str:
    return markdown(text).replace("|", "\\|")


def _markdown_cell(cell: TableCell) -> str:
    return f"**{_markdown(cell.text)}**" if cell.bold else _markdown(cell.text)


def as_csv(table: Table) -> str:
    """Numbers to six decimals; a column whose cells have a spread or an interval is followed by those."""
    extras = [
        [extra for extra in ("sd", "low", "high") if any(getattr(row[index], extra) is not None for row in table.rows)]
        for index in range(len(table.headings))
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([name for head, more in zip(table.headings, extras, strict=True) for name in _columns(head, more)])
    for row in table.rows:
        writer.writerow(
            [
                "" if value is None else round(value, 6) if isinstance(value, float) else value
                for cell, more in zip(row, extras, strict=True)
                for value in (cell.value, *(getattr(cell, extra) for extra in more))
            ]
        )
    return buffer.getvalue()


def _columns(heading: str, extras: list[str]) -> list[str]:
    return [heading, *(f"{heading} {extra}" for extra in extras)]


_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": "$-$",
    "→": r"$\rightarrow$",
    "·": r"$\cdot$",
    "†": r"$\dagger$",
}


def as_latex(table: Table) -> str:
    """A `table` of the booktabs package, label `tab:NAME`."""
    columns = "l" * table.text_columns + "r" * (len(table.headings) - table.text_columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(latex(heading) for heading in table.headings) + r" \\",
        r"\midrule",
        *(" & ".join(_latex(cell) for cell in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex(text: str) -> str:
    """Plain text, escaped for LaTeX."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def _latex(cell: TableCell) -> str:
    return rf"\textbf{{{latex(cell.text)}}}" if cell.bold else latex(cell.text)
