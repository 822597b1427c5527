"""What a report says of each experiment: its tables, figures, warnings and gaps, before anything is laid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from glotprompt.report import paper_figures, paper_tables
from glotprompt.report.paper_figures import stem
from glotprompt.report.paper_tables import deviation, seeds_and_languages
from glotprompt.report.results import KINDS, STAGES, Experiment, Line, Run
from glotprompt.report.series import Measure, along_layers, along_setting
from glotprompt.report.table_files import Table


@dataclass(frozen=True)
class Drawing:
    """An SVG element and what it shows."""

    name: str
    """Stem of its file."""
    svg: str
    caption: str
    minor: bool = False
    """Shown folded on the page."""


@dataclass
class Section:
    """One experiment."""

    experiment: Experiment
    kind: str
    """What of the paper it is, in words."""
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
        """What is folded, in words."""
        return "Numbers of the figure" if self.figures_first else "Trainings: time, memory, losses"

    @property
    def collapsed(self) -> list[Run]:
        """Runs whose figures say little."""
        return [run for run in self.experiment.done if run.collapsed]

    @property
    def runs(self) -> Table:
        """Every run by itself, for CSV."""
        return paper_tables.runs_table(self.experiment)

    @property
    def missing(self) -> list[str]:
        """The runs without a result, a line for each method and setting."""
        lines = [(line, [run for run in line.runs if run.result is None]) for line in self.experiment.lines]
        return [_gaps(line, gaps) for line, gaps in lines if gaps]


def _gaps(line: Line, gaps: Sequence[Run]) -> str:
    if len(gaps) == len(line.runs):
        return f"{line.name}: all {len(gaps)}" if len(gaps) > 1 else line.name
    places = (f"{run.target or 'costs'}" + (f" seed {run.seed}" if run.seed is not None else "") for run in gaps)
    return f"{line.name}: {', '.join(places)}"


def make_section(experiment: Experiment) -> Section:
    """The section of an experiment; what this version does not know how to draw gets tables of accuracy."""
    draw = experiment.plan["draw"]
    made = Section(experiment, KINDS.get(draw, f"{draw}"))
    if draw == "table3":
        made.tables += paper_tables.cost_tables(experiment)
    elif draw == "figure5":
        _draw_change(made)
    elif draw in ("figure3", "figure4", "figure6"):
        _draw_setting(made)
    else:
        if draw == "table1":
            made.tables.append(paper_tables.gap_table(experiment))
        if draw not in KINDS:
            made.notes.append(f"This version knows no drawing {draw!r}; shown as accuracies.")
        _draw_accuracy(made)
    published = paper_tables.published_table(experiment)
    if published is not None:
        made.tables.append(published)
    return made


def _draw_accuracy(made: Section) -> None:
    experiment = made.experiment
    made.tables.append(paper_tables.accuracy_table(experiment, "all"))
    own = [run for run in experiment.done if run.score("own") is not None]
    if any(run.score("own") != run.score("all") for run in own):
        made.tables.append(paper_tables.accuracy_table(experiment, "own"))
    elif own:
        made.notes.append("Every label occurs in every test set, so the target's own labels give the same figures.")
    below = [target for target in experiment.targets if _below_majority(experiment, target)]
    if below:
        made.notes.append(f"No method reaches the majority class in: {', '.join(below)}.")
    tested = paper_tables.significance_table(experiment)
    if tested is not None:
        made.tables.append(tested)
    if any(run.trained_parameters for run in experiment.done):
        made.minor_tables.append(paper_tables.measured_table(experiment))
    if experiment.plan["draw"] == "table2":
        _add(made, "values", paper_figures.accuracy_against_values(experiment),
             "Mean accuracy over languages against the values that a method trains for one language (logarithmic)."
             f"{_spread_is('Bars', experiment)} {seeds_and_languages(experiment)}.")  # fmt: skip
    for stage, name in zip(STAGES, ("stage 1 (masked tokens)", "stage 2 (task)"), strict=True):
        _add(made, f"loss-{stage}", paper_figures.loss_panels(experiment, stage),
             f"Training loss of {name}: one line for each training, thinned.", minor=True)  # fmt: skip


def _below_majority(experiment: Experiment, target: str) -> bool:
    share = experiment.majority(target)
    means = [line.spread([target], Run.score).mean for line in experiment.lines]
    present = [mean for mean in means if mean is not None]
    return share is not None and bool(present) and max(present) < share


def _draw_setting(made: Section) -> None:
    experiment = made.experiment
    curves = along_setting(experiment, experiment.targets)
    counted = seeds_and_languages(experiment)
    level = " Dashed without markers: methods that this does not touch." if curves.levels else ""
    what = f"Accuracy in per cent against {curves.label}, mean over languages"
    chosen = " At every number of shots the best epoch is chosen on the whole dev set, which has more than those shots."
    chosen = chosen if experiment.plan["draw"] == "figure4" else ""
    caption = f"{what} ({counted}).{_spread_is('Band', experiment)}{level}{chosen}"
    _add(made, "mean", paper_figures.setting_curve(experiment), caption)
    _add(made, "languages", paper_figures.setting_panels(experiment), "The same for each language.")
    spread = deviation(experiment)
    caption = f"{what}{spread and f' ± {spread}'} ({counted})."
    made.tables.append(paper_tables.curve_table(experiment, curves, caption, 1))


def _draw_change(made: Section) -> None:
    experiment = made.experiment
    what = "How far stage 2 moved the prompts of each layer"
    counted = f"mean over languages ({seeds_and_languages(experiment)}). Layer 1 is the lowest."
    caption = f"{what}: mean absolute change of their values, {counted}"
    _add(made, "mean", paper_figures.change_curve(experiment), f"{caption}{_spread_is('Band', experiment)}")
    _add(made, "languages", paper_figures.change_panels(experiment), "The same for each language.")
    relative = f"{what}: length of the change over the length of the prompt of stage 1, {counted}"
    captions: dict[Measure, str] = {"mean_absolute": caption, "relative_l2": relative}
    for key, said in captions.items():
        curves = along_layers(experiment, key, experiment.targets)
        table = paper_tables.curve_table(experiment, curves, said, 3)
        made.minor_tables.append(replace(table, name=stem(experiment.name, key)))


def _spread_is(what: str, experiment: Experiment) -> str:
    spread = deviation(experiment)
    return f" {what}: {spread}." if spread else ""


def _add(made: Section, name: str, svg: str, caption: str, minor: bool = False) -> None:
    if svg:
        made.figures.append(Drawing(stem(made.experiment.name, *name.split("-")), svg, caption, minor))
