"""The results of a grid as one self-contained HTML file, and as Markdown whose figures lie beside it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glotprompt.report.page import template
from glotprompt.report.results import Results
from glotprompt.report.sections import Figure, Section
from glotprompt.report.table_files import Table, as_markdown, markdown
from glotprompt.report.tables import DASH

TEMPLATE = "results.html.j2"


@dataclass(frozen=True)
class Report:
    """Everything that is said, laid out by `as_page` and `as_report_markdown`."""

    results: Results
    sections: tuple[Section, ...]

    @property
    def title(self) -> str:
        if all(experiment.plan["draw"] == "accuracy" for experiment in self.results.experiments):
            return "Results"  # a person's own: of no paper
        scales = sorted({experiment.plan["scale"] or DASH for experiment in self.results.experiments})
        return f"Results at {' and '.join(scales)} scale"

    @property
    def lead(self) -> str:
        """How much of what was planned is there."""
        runs = [run for experiment in self.results.experiments for run in experiment.runs]
        done = sum(run.result is not None for run in runs)
        collapsed = sum(bool(run.collapsed) for run in runs)
        num = len(self.sections)
        sentences = [f"{num} experiment{'s' * (num != 1)}, {done:,} of {len(runs):,} results are there."]
        if collapsed:
            sentences.append(f"{collapsed:,} of them come from runs that collapsed, named below.")
        if self.results.failures:
            sentences.append(f"Failed steps: {len(self.results.failures)}, listed at the end.")
        return " ".join(sentences)

    @property
    def legend(self) -> str:
        return f"“{DASH}” stands for a number that is not there, “(2 of 3)” for how many seeds there are so far."

    @property
    def facts(self) -> dict[str, str]:
        """Machines, versions and times of the runs; nothing of the moment of the report."""
        meta = self.results.meta
        runs = [run.evaluation for experiment in self.results.experiments for run in experiment.runs]
        backbones = [found.run_info.backbone for found in runs if found is not None]
        found = {
            "Backbone": _distinct([f"{one.name}, {one.fingerprint}, {one.precision}" for one in backbones]),
            "Finished": f"{meta[0].finished} to {meta[-1].finished}" if meta else "",
            "Machine": _distinct([_joined(each.hardware) for each in meta]),
            "Versions": _distinct([_joined(each.versions) for each in meta]),
        }
        return {name: value or DASH for name, value in found.items()}


def _joined(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)


def _distinct(texts: Sequence[str]) -> str:
    return "; ".join(sorted({text for text in texts if text}))


def as_page(report: Report) -> str:
    """The page as text: no scripts, no outside requests, figures inside."""
    return template(TEMPLATE, "The report", "report").render(
        report=report,
        sections=report.sections,
        failures=report.results.failures,
        reading=_blocks(report.results.reading),
    )


def _blocks(text: str) -> list[tuple[str, Any]]:
    """Markdown's paragraphs, lists and headings, as far as a reading has them; marks inside a line are left out."""
    blocks: list[tuple[str, Any]] = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.strip().split("\n")
        if lines[0].startswith("#"):
            blocks.append(("heading", _plain(lines.pop(0).lstrip("# "))))
        if lines and lines[0].startswith(("- ", "* ")):
            points = re.split(r"^[-*] ", "\n".join(lines), flags=re.MULTILINE)[1:]
            blocks.append(("list", [_plain(point) for point in points]))
        elif "".join(lines).strip():
            blocks.append(("paragraph", _plain("\n".join(lines))))
    return blocks


def _plain(text: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return " ".join(re.sub(r"\*\*|`", "", text).split())


# ---------------------------------------------------------------------------------------------------------------


def as_report_markdown(report: Report, figures: str) -> str:
    """The report for GitHub; `figures` is the folder of the figures as seen from the file."""
    parts = [f"# {markdown(report.title)}", markdown(report.lead)]
    if report.results.reading:
        parts.append(report.results.reading)
    parts.append("\n".join(f"- {markdown(name)}: {markdown(value)}" for name, value in report.facts.items()))
    for section in report.sections:
        parts += _section(section, figures)
    if report.results.failures:
        parts.append("## Failed steps")
        parts.append("\n".join(f"- `{failure['step']}`, {_attempts(failure['attempts'])}: {markdown(failure['error'])}"
                               for failure in report.results.failures))  # fmt: skip
    parts.append(f"{report.legend} Written by `glotprompt report`.")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _attempts(count: int) -> str:
    return f"{count} attempt{'s' * (count != 1)}"


def _section(section: Section, figures: str) -> list[str]:
    plan = section.experiment.plan
    parts = [f"## {markdown(section.kind)}", markdown(plan["title"] or section.experiment.name)]
    drawn = [_figure(figure, figures) for figure in section.figures if not figure.minor]
    tables = [as_markdown(table) for table in section.tables]
    parts += [*drawn, *tables] if section.figures_first else [*tables, *drawn]
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


def _figure(figure: Figure, folder: str) -> str:
    return f"![{markdown(figure.caption.split('. ')[0])}]({folder}/{figure.name}.svg)\n\n{markdown(figure.caption)}"


def figures_of(report: Report) -> list[Figure]:
    """All figures, each to be a file."""
    return [figure for section in report.sections for figure in section.figures]


def tables_of(report: Report) -> list[Table]:
    """All tables that people read."""
    return [table for section in report.sections for table in (*section.tables, *section.minor_tables)]
