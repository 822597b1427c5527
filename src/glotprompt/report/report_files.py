"""From a grid's folder to the files of a report."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from glotprompt import atomic
from glotprompt.report.experiment_page import Report, as_page, as_report_markdown, figures_of, tables_of
from glotprompt.report.figures import as_file
from glotprompt.report.results import read_results
from glotprompt.report.sections import section
from glotprompt.report.table_files import as_csv, as_latex

PAGE, MARKDOWN, FIGURES, TABLES = "index.html", "results.md", "figures", "tables"


def write_report(
    folder: Path, output: Path, markdown: Path | None = None, progress: Callable[[str], None] | None = None
) -> Report:
    """Write page, Markdown, figures and tables of the results in `folder` to `output`.

    `markdown` is another place for the Markdown, from which it then refers to the figures. The same results give the
    same bytes. `progress` is told each experiment's name before it is drawn.
    """
    results = read_results(folder)
    sections = []
    for experiment in results.experiments:
        if progress is not None:
            progress(experiment.name)
        sections.append(section(experiment))
    report = Report(results, tuple(sections))
    for figure in figures_of(report):
        atomic.write(output / FIGURES / f"{figure.name}.svg", as_file(figure.svg))
    for table in tables_of(report):
        atomic.write(output / TABLES / f"{table.name}.csv", as_csv(table))
        atomic.write(output / TABLES / f"{table.name}.tex", as_latex(table))
    for each in sections:
        atomic.write(output / TABLES / f"{each.runs.name}.csv", as_csv(each.runs))
    place = output / MARKDOWN if markdown is None else markdown
    beside = Path(os.path.relpath(output / FIGURES, place.parent)).as_posix()
    atomic.write(place, as_report_markdown(report, beside))
    atomic.write(output / PAGE, as_page(report))
    return report
