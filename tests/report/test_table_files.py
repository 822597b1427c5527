"""Tables as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io

from glotprompt.report.table_files import (
    Table,
    TableCell,
    as_csv,
    as_latex,
    as_markdown,
    latex,
    markdown,
    spread_cell,
    with_best_bold,
    word_cell,
)
from glotprompt.report.tables import Spread


def row(name: str, *values: float | None) -> tuple[TableCell, ...]:
    """A row with one seed a column."""
    return (word_cell(name), *(spread_cell(Spread((value,))) for value in values))


def bold(rows: list[tuple[TableCell, ...]]) -> list[str]:
    """The names of the rows with the columns in which they are bold."""
    return [f"{line[0].text}{index}" for line in rows for index, cell in enumerate(line) if cell.bold]


def test_the_best_of_each_column_is_bold() -> None:
    rows = [row("a", 1.0, 5.0, None), row("b", 2.0, 4.0, 9.0), row("c", None, 5.04, None)]
    assert bold(with_best_bold(rows)) == ["a2", "b1", "c2"]  # 5.0 and 5.04 are printed alike; a lone 9.0 is no best


def test_rows_that_do_not_compete_are_never_bold() -> None:
    rows = [row("majority", 99.0), row("a", 1.0), row("b", 2.0)]
    assert bold(with_best_bold(rows, without=[0])) == ["b1"]


TABLE = Table(
    "t_1",
    "100 % of <b>_x_</b> & $y$",
    ("Method", "sna|x", "yor"),
    ((word_cell("a_b, 50 %"), spread_cell(Spread((1.0, 2.0, 6.0))), TableCell("-")), row("c*", 4.25, 1 / 3)),
)


def test_latex_escapes_what_it_would_read() -> None:
    text = as_latex(TABLE)
    assert r"\caption{100 \% of \textless{}b\textgreater{}\_x\_\textless{}/b\textgreater{} \& \$y\$}" in text
    assert r"a\_b, 50 \% & 3.0 $\pm$ 2.6 & - \\" in text
    assert r"\begin{tabular}{lrr}" in text
    assert r"\label{tab:t_1}" in text
    assert latex("\\{#~^}") == r"\textbackslash{}\{\#\textasciitilde{}\textasciicircum{}\}"


def test_latex_bold() -> None:
    table = Table("t", "", ("m", "x"), tuple(with_best_bold([row("a", 1.0), row("b", 2.0)])))
    assert r"b & \textbf{2.0} \\" in as_latex(table)


def test_markdown_shows_names_as_they_are() -> None:
    lines = as_markdown(TABLE).splitlines()
    assert lines[0] == r"100 % of \<b\>\_x\_\</b\> & $y$"
    assert lines[2] == r"| Method | sna\|x | yor |"
    assert lines[3] == "| :-- | --: | --: |"
    assert lines[4] == r"| a\_b, 50 % | 3.0 ± 2.6 | - |"
    assert markdown("a\n`b`") == r"a \`b\`"
    assert markdown("R&D &lt;") == r"R&D \&lt;"


def test_csv_has_the_numbers_and_their_spread() -> None:
    rows = list(csv.reader(io.StringIO(as_csv(TABLE))))
    assert rows[0] == ["Method", "sna|x", "sna|x sd", "yor"]
    assert rows[1] == ["a_b, 50 %", "3.0", "2.645751", ""]
    assert rows[2] == ["c*", "4.25", "", "0.333333"]
