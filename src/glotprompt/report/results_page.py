"""Writes the report of a grid: a self-contained HTML page, with Markdown, figures and tables beside it."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glotprompt.report.figures import as_file
from glotprompt.report.languages import factors_figure, gains
from glotprompt.report.results import Results, read_results
from glotprompt.report.sections import Drawing, Section, make_section
from glotprompt.report.table_files import Table, as_csv, as_latex, as_markdown, markdown
from glotprompt.report.tables import DASH, template
from glotprompt.storage import atomic

PAGE, MARKDOWN, FIGURES, TABLES = "index.html", "results.md", "figures", "tables"
FACTORS = "What adaptation gains, by language"
TEMPLATE = Path(__file__).with_name("results.html.j2")


@dataclass(frozen=True)
class ResultsPage:
    """Content of the page, laid out by `as_html` and `as_page_markdown`."""

    results: Results
    sections: tuple[Section, ...]
    factors: Drawing | None = None
    """Gain of adaptation against properties of the languages."""

    @property
    def title(self) -> str:
        if all(experiment.plan["draw"] == "accuracy" for experiment in self.results.experiments):
            return "Results"  # a user's own experiments have no scale
        scales = sorted({experiment.scale for experiment in self.results.experiments if experiment.scale})
        return f"Results at {' and '.join(scales)} scale" if scales else "Results"

    @property
    def lead(self) -> str:
        """Number of results, finished and planned."""
        runs = [run for experiment in self.results.experiments for run in experiment.runs]
        finished = sum(run.result is not None for run in runs)
        collapsed = sum(bool(run.collapsed) for run in runs)
        num = len(self.sections)
        sentences = [f"{num} experiment{'s' * (num != 1)}, {finished:,} of {len(runs):,} results finished."]
        if collapsed:
            sentences.append(f"{collapsed:,} of them are of collapsed runs, listed below.")
        if self.results.failures:
            sentences.append(f"Failed steps: {len(self.results.failures)}, listed at the end.")
        return " ".join(sentences)

    @property
    def legend(self) -> str:
        return f"“{DASH}”: missing number. “(2 of 3)”: number of finished seeds."

    @property
    def properties(self) -> dict[str, str]:
        """Machines, versions and times of the runs, not of the report."""
        meta = self.results.meta
        runs = [run.evaluation for experiment in self.results.experiments for run in experiment.runs]
        backbones = [run.run_info.backbone for run in runs if run is not None]
        properties = {
            "Backbone": _distinct([f"{one.name}, {one.fingerprint}, {one.precision}" for one in backbones]),
            "Finished": f"{meta[0].finished} to {meta[-1].finished}" if meta else "",
            "Machine": _distinct([_joined(each.hardware) for each in meta]),
            "Versions": _distinct([_joined(each.versions) for each in meta]),
        }
        return {name: value or DASH for name, value in properties.items()}


def _joined(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)


def _distinct(texts: Sequence[str]) -> str:
    return "; ".join(sorted({text for text in texts if text}))


def as_html(page: ResultsPage) -> str:
    """The page as HTML: no scripts, no outside requests, figures inside."""
    return template(TEMPLATE).render(
        page=page,
        sections=page.sections,
        failures=page.results.failures,
        heading=FACTORS,
        reading=_blocks(page.results.reading),
    )


def _blocks(text: str) -> list[tuple[str, Any]]:
    """Paragraphs, lists and headings of a Markdown text, each as spans."""
    blocks: list[tuple[str, Any]] = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.strip().split("\n")
        if lines[0].startswith("#"):
            blocks.append(("heading", _spans(lines.pop(0).lstrip("# "))))
        if lines and lines[0].startswith(("- ", "* ")):
            points = re.split(r"^[-*] ", "\n".join(lines), flags=re.MULTILINE)[1:]
            blocks.append(("list", [_spans(point) for point in points]))
        elif "".join(lines).strip():
            blocks.append(("paragraph", _spans("\n".join(lines))))
    return blocks


def _spans(text: str) -> list[tuple[bool, str]]:
    """Pieces of a text, and whether each is bold; links and code are plain words."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "")
    pieces = re.sub(r"\s+", " ", text).strip().split("**")
    return [(bool(place % 2), piece) for place, piece in enumerate(pieces) if piece]


def as_page_markdown(page: ResultsPage, figures: str) -> str:
    """The page for GitHub; `figures` is the folder of the figures, relative to the file."""
    parts = [f"# {markdown(page.title)}", markdown(page.lead)]
    if page.results.reading:
        parts.append(page.results.reading)
    parts.append("\n".join(f"- {markdown(name)}: {markdown(value)}" for name, value in page.properties.items()))
    for section in page.sections:
        parts += _section(section, figures)
    if page.factors is not None:
        parts += [f"## {FACTORS}", _figure(page.factors, figures)]
    if page.results.failures:
        parts.append("## Failed steps")
        lines = [
            f"- `{failure['step']}`, {_attempts(failure['attempts'])}: {markdown(failure['error'])}"
            for failure in page.results.failures
        ]
        parts.append("\n".join(lines))
    parts.append(f"{page.legend} Written by `glotprompt report`.")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _attempts(count: int) -> str:
    return f"{count} attempt{'s' * (count != 1)}"


def _section(section: Section, figures: str) -> list[str]:
    plan = section.experiment.plan
    parts = [f"## {markdown(section.experiment.heading)}", markdown(section.experiment.subtitle)]
    drawings = [_figure(figure, figures) for figure in section.figures if not figure.minor]
    tables = [as_markdown(table) for table in section.tables]
    parts += [*drawings, *tables] if section.figures_first else [*tables, *drawings]
    parts += [markdown(note) for note in section.notes]
    if section.collapsed:
        lines = [f"- {markdown(run.where)}: {markdown(run.collapsed or '')}" for run in section.collapsed]
        parts.append(_folded(f"Collapsed runs: {len(lines)} of {len(section.experiment.done)}", "\n".join(lines)))
    if section.missing:
        parts.append("Missing:\n\n" + "\n".join(f"- {markdown(line)}" for line in section.missing))
    minor = [_figure(figure, figures) for figure in section.figures if figure.minor]
    minor += [as_markdown(table) for table in section.minor_tables]
    if minor:
        parts.append(_folded(section.minor_title, "\n\n".join(minor)))
    if plan["command"]:
        fence = "```" + "`" * max((len(ticks) for ticks in re.findall("`+", plan["command"])), default=0)
        parts.append(f"{fence}\n{plan['command']}\n{fence}")
    return parts


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary>\n\n{text.strip()}\n\n</details>"


def _figure(figure: Drawing, folder: str) -> str:
    return f"![{markdown(figure.caption.split('. ')[0])}]({folder}/{figure.name}.svg)\n\n{markdown(figure.caption)}"


def figures_of(page: ResultsPage) -> list[Drawing]:
    """All figures of the page; each becomes a file."""
    figures = [figure for section in page.sections for figure in section.figures]
    return [*figures, *filter(None, [page.factors])]


def tables_of(page: ResultsPage) -> list[Table]:
    """All tables of the page."""
    return [table for section in page.sections for table in (*section.tables, *section.minor_tables)]


def write_report(
    folder: Path, output: Path, markdown: Path | None = None, progress: Callable[[str], None] | None = None
) -> ResultsPage:
    """Write page, Markdown, figures and tables of the results in `folder` to `output`.

    `markdown` is another path for the Markdown file, whose links to the figures follow. The same results give the same
    bytes. `progress` is called with each experiment's name before it is drawn.
    """
    results = read_results(folder)
    sections = []
    for experiment in results.experiments:
        if progress is not None:
            progress(experiment.name)
        sections.append(make_section(experiment))
    svg, caption = factors_figure(gains(results.experiments))
    page = ResultsPage(results, tuple(sections), Drawing("factors", svg, caption) if svg else None)
    for figure in figures_of(page):
        atomic.write(output / FIGURES / f"{figure.name}.svg", as_file(figure.svg))
    for table in tables_of(page):
        atomic.write(output / TABLES / f"{table.name}.csv", as_csv(table))
        atomic.write(output / TABLES / f"{table.name}.tex", as_latex(table))
    for each in sections:
        atomic.write(output / TABLES / f"{each.runs.name}.csv", as_csv(each.runs))
    path = output / MARKDOWN if markdown is None else markdown
    beside = Path(os.path.relpath(output / FIGURES, path.parent)).as_posix()
    atomic.write(path, as_page_markdown(page, beside))
    atomic.write(output / PAGE, as_html(page))
    return page
