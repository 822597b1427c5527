"""The section of each experiment in a report: its tables, figures, warnings and gaps, before layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from glotprompt.grid.step_results import Labels
from glotprompt.report import paper_figures, paper_tables
from glotprompt.report.languages import text_table
from glotprompt.report.paper_figures import stem
from glotprompt.report.paper_tables import MEAN, WHICH, colours, deviation, seeds_and_languages
from glotprompt.report.results import KINDS, REFERENCE, STAGES, Experiment, Line, Run, shared_seeds
from glotprompt.report.series import MAJORITY, Measure, along_layers, along_setting
from glotprompt.report.significance import (
    LEVEL,
    RESAMPLES,
    Difference,
    drawn_together,
    paired_bootstrap,
    per_example,
    same_items,
)
from glotprompt.report.table_files import Table, TableCell, word_cell
from glotprompt.report.tables import DASH, signed


@dataclass(frozen=True)
class Drawing:
    """A figure: an SVG element with its caption."""

    name: str
    """Stem of its file."""
    svg: str
    caption: str
    minor: bool = False
    """Shown folded on the page."""


@dataclass
class Section:
    """The section of one experiment."""

    experiment: Experiment
    tables: list[Table] = field(default_factory=list[Table])
    figures: list[Drawing] = field(default_factory=list[Drawing])
    minor_tables: list[Table] = field(default_factory=list[Table])
    """Shown folded on the page."""
    notes: list[str] = field(default_factory=list[str])

    @property
    def anchor(self) -> str:
        return stem(self.experiment.name)

    @property
    def figures_first(self) -> bool:
        """Whether the figures come before the tables."""
        return self.experiment.plan["draw"].startswith("figure")

    @property
    def minor_title(self) -> str:
        """Title of the folded part."""
        if not self.figures_first:
            return "Text, and trainings: time, memory, losses"
        return "Numbers of the figure, and text" if self.experiment.plan["draw"] == "figure5" else "Text"

    @property
    def collapsed(self) -> list[Run]:
        """Runs that collapsed to one label."""
        return [run for run in self.experiment.done if run.collapsed]

    @property
    def runs(self) -> Table:
        """A row for every run, for CSV."""
        return paper_tables.runs_table(self.experiment)

    @property
    def missing(self) -> list[str]:
        """Runs without a result, a line for each method and setting."""
        lines = [(line, [run for run in line.runs if run.result is None]) for line in self.experiment.lines]
        return [_gaps(line, gaps) for line, gaps in lines if gaps]


def _gaps(line: Line, gaps: Sequence[Run]) -> str:
    if len(gaps) == len(line.runs):
        return f"{line.name}: all {len(gaps)}" if len(gaps) > 1 else line.name
    cells = (f"{run.target or 'costs'}" + (f" seed {run.seed}" if run.seed is not None else "") for run in gaps)
    return f"{line.name}: {', '.join(cells)}"


def make_section(experiment: Experiment) -> Section:
    """The section of an experiment; an unknown kind of drawing gets tables of accuracy."""
    draw = experiment.plan["draw"]
    section = Section(experiment)
    if draw == "table3":
        section.tables += paper_tables.cost_tables(experiment)
    elif draw == "figure5":
        _draw_change(section)
    elif draw in ("figure3", "figure4", "figure6"):
        _draw_setting(section)
    else:
        if draw in ("table1", "dev"):
            section.tables.append((paper_tables.gap_table if draw == "table1" else paper_tables.dev_table)(experiment))
        if draw not in KINDS:
            section.notes.append(f"This version knows no drawing {draw!r}; shown as accuracies.")
        _draw_accuracy(section)
    published = paper_tables.published_table(experiment)
    if published is not None:
        section.tables.append(published)
    return section


def _draw_accuracy(section: Section) -> None:
    experiment = section.experiment
    section.tables.append(paper_tables.accuracy_table(experiment, "all"))
    own = [run for run in experiment.done if run.score("own") is not None]
    if any(run.score("own") != run.score("all") for run in own):
        section.tables.append(paper_tables.accuracy_table(experiment, "own"))
    elif own:
        section.notes.append("Every label occurs in every test set, so the target's own labels give the same figures.")
    _note_majority(section)
    tables = paper_tables.source_table(experiment), significance_table(experiment)
    section.tables += [table for table in tables if table is not None]
    _add_text(section)
    if any(run.trained_parameters for run in experiment.done):
        section.minor_tables.append(paper_tables.measured_table(experiment))
    if experiment.plan["draw"] == "table2":
        caption = "Mean accuracy over languages against trained parameters per language (logarithmic)."
        caption += f"{_spread_is('Bars', experiment)} {seeds_and_languages(experiment)}."
        _add(section, "values", paper_figures.accuracy_against_parameters(experiment), caption)
    for stage, name in zip(STAGES, ("stage 1 (language)", "stage 2 (task)"), strict=True):
        caption = f"Training loss of {name}: one line per training, thinned."
        _add(section, f"loss-{stage}", paper_figures.loss_panels(experiment, stage), caption, minor=True)


def _add_text(section: Section) -> None:
    text = text_table(section.experiment)
    section.minor_tables += [] if text is None else [text]


def _note_majority(section: Section) -> None:
    below = [target for target in section.experiment.targets if _below_majority(section.experiment, target)]
    if below:
        section.notes.append(f"No method reaches the majority class in: {', '.join(below)}.")


def _below_majority(experiment: Experiment, target: str) -> bool:
    share = experiment.majority(target)
    means = [line.spread([target], Run.score).mean for line in experiment.lines]
    present = [mean for mean in means if mean is not None]
    return share is not None and bool(present) and max(present) < share


def _draw_setting(section: Section) -> None:
    experiment = section.experiment
    curves = along_setting(experiment, experiment.targets)
    counts = seeds_and_languages(experiment)
    methods = [one for one in curves.levels if one.method != MAJORITY]
    level = " Dashed without markers: methods that this setting does not affect." if methods else ""
    if len(methods) < len(curves.levels):
        level += " Thin line: the share of the most frequent label."
    what = f"Accuracy in per cent against {curves.label}, mean over languages"
    caption = f"{what} ({counts}).{_spread_is('Band', experiment)}{level}"
    _add(section, "mean", paper_figures.setting_curve(experiment), caption)
    _add(section, "languages", paper_figures.setting_panels(experiment), "The same for each language.")
    spread = deviation(experiment)
    caption = f"{what}{spread and f' ± {spread}'} ({counts})."
    section.tables.append(paper_tables.curve_table(experiment, curves, caption, 1))
    _note_majority(section)
    _add_text(section)


def _draw_change(section: Section) -> None:
    experiment = section.experiment
    what = "Change of each layer's prompt in stage 2"
    counts = f"mean over languages ({seeds_and_languages(experiment)}). Layer 1 is the lowest."
    caption = f"{what}: mean absolute change of its parameters, {counts}"
    _add(section, "mean", paper_figures.change_curve(experiment), f"{caption}{_spread_is('Band', experiment)}")
    _add(section, "languages", paper_figures.change_panels(experiment), "The same for each language.")
    relative = f"{what}: length of the change over the length of the prompt of stage 1, {counts}"
    captions: dict[Measure, str] = {"mean_absolute": caption, "relative_l2": relative}
    for key, caption in captions.items():
        curves = along_layers(experiment, key, experiment.targets)
        table = paper_tables.curve_table(experiment, curves, caption, 3)
        section.minor_tables.append(replace(table, name=stem(experiment.name, key)))
    _add_text(section)


def _spread_is(what: str, experiment: Experiment) -> str:
    spread = deviation(experiment)
    return f" {what}: {spread}." if spread else ""


def _add(section: Section, name: str, svg: str, caption: str, minor: bool = False) -> None:
    if svg:
        section.figures.append(Drawing(stem(section.experiment.name, *name.split("-")), svg, caption, minor))


# ---------------------------------------------------------------------------------------------------------------
# Differences between methods


def significance_table(experiment: Experiment) -> Table | None:
    """Accuracy of the reference (the adapted soft prompt, if the experiment names none) minus that of each other
    method, with intervals; None where one side is missing."""
    own_prompt = (line for line in experiment.lines if line.varied.get("prompt_of", "target") == "target")
    name = experiment.plan.get("reference") or REFERENCE
    reference = next((line for line in own_prompt if line.method == name), None)
    others = [line for line in experiment.lines if line is not reference]
    if reference is None or not others or not any(run.correct() for run in reference.runs):
        return None
    golds = {run.target or "": run.gold for run in reversed(experiment.done)}
    groups = same_items([golds.get(target, {}) for target in experiment.targets])
    rows: list[tuple[TableCell, ...]] = []
    for other in others:
        cells = [_difference_cell(_difference(reference, other, [target], [[0]])) for target in experiment.targets]
        means = [_difference(reference, other, experiment.targets, groups, labels) for labels in WHICH]
        rows.append((word_cell(other.name), *map(_difference_cell, means), *cells))
    return Table(
        name=stem(experiment.name, "significance"),
        caption=f"Accuracy of “{reference.name}” minus that of each other method in points, with {LEVEL} % intervals:"
        f" paired bootstrap over the test examples, {RESAMPLES:,} resamples, each example averaged over the seeds that"
        f" both have; for the mean, {_drawn([[experiment.targets[one] for one in group] for group in groups])}. Bold:"
        " the interval excludes zero. Intervals cover the choice of test examples, not the training; they are not"
        " corrected for multiple comparisons.",
        headings=(f"{reference.name} minus", MEAN, f"{MEAN}, own labels", *experiment.targets),
        rows=tuple(rows),
        colours=colours(others),
    )


def _drawn(groups: Sequence[Sequence[str]]) -> str:
    """How the languages are resampled, in words."""
    shared = [group for group in groups if len(group) > 1]
    if not shared:
        return "each language is resampled separately"
    if len(groups) == 1:
        return "all languages have the same test items, and each draw takes the same ones for all"
    listed = "; ".join(", ".join(group) for group in shared)
    alone = ", the others are resampled separately" if len(shared) < len(groups) else ""
    return f"each draw takes the same items for languages that share their test items ({listed}){alone}"


def _difference(
    line: Line, other: Line, targets: Sequence[str], groups: Sequence[Sequence[int]], labels: Labels = "all"
) -> Difference | None:
    """The difference over some languages, of which groups (by index) are drawn together; None where a language is
    missing on one side."""
    samples: list[dict[str, float]] = []
    for target in targets:
        pair = shared_seeds(line.of(target), other.of(target))
        sides = [[run.correct(labels) for run in side] for side in pair]
        if not sides[0] or not all(run for side in sides for run in side):
            return None
        samples.append(per_example(*sides))
    return paired_bootstrap(drawn_together(samples, groups))


def _difference_cell(difference: Difference | None) -> TableCell:
    if difference is None:
        return TableCell(DASH)
    mean, low, high = (signed(value) for value in (difference.mean, difference.low, difference.high))
    text = f"{mean} [{low}, {high}]"
    return TableCell(text, difference.is_clear, difference.mean, low=difference.low, high=difference.high)
