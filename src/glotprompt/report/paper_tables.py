"""Tables of an experiment's runs, as the paper has them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any, Literal

from glotprompt.errors import counted
from glotprompt.grid.step_results import Labels
from glotprompt.report.paper_figures import stem
from glotprompt.report.results import STAGES, Experiment, Group, Line, Run, Stage, varied_name
from glotprompt.report.series import Curves
from glotprompt.report.table_files import Table, TableCell, number_cell, spread_cell, with_best_bold, word_cell
from glotprompt.report.tables import (
    DASH,
    Spread,
    duration,
    look,
    method_name,
    percent,
    size,
)

MEAN = "mean"
"""Heading of the mean over languages."""

COLLAPSED = "†"
"""Mark of figures that include a collapsed run."""

SCORES: tuple[Literal["accuracy", "macro_f1"], ...] = ("accuracy", "macro_f1")

WHICH: dict[Labels, str] = {
    "all": "the likeliest of all source labels",
    "own": "the likeliest of the labels that the language's test set has",
}


def seeds_and_languages(experiment: Experiment) -> str:
    """Number of seeds and languages in words: 3 seeds, 1 of “MAD-X”, 8 languages."""
    most = len({run.seed for run in experiment.runs})
    fewer = {method_name(line.method): len(line.seeds) for line in experiment.lines if len(line.seeds) < most}
    exceptions = [f"{number} of “{name}”" for name, number in fewer.items()]
    return ", ".join([counted(most, "seed"), *exceptions, counted(len(experiment.targets), "language")])


def deviation(experiment: Experiment) -> str:
    """The meaning of ± in words; "" with one seed."""
    if len({run.seed for run in experiment.runs}) < 2:
        return ""
    shared = experiment.plan.get("adapt_seed") is not None and any(run.stage("adapt") for run in experiment.done)
    return f"standard deviation over seeds{' of stage 2, which share one stage 1' if shared else ''}"


def _plus_minus(experiment: Experiment) -> str:
    """What cells of the form 1.0 ± 0.1 are, for a caption; "" with one seed."""
    spread = deviation(experiment)
    return f", mean ± {spread}" if spread else ""


def accuracy_table(experiment: Experiment, labels: Labels) -> Table:
    """Accuracy of each method on each language, and the mean over languages (not of table 1, whose means are those of
    its groups)."""
    lines, targets = experiment.lines, experiment.targets
    is_judged = labels == "all"  # whether a run collapsed is judged on all labels
    rows = [_majority_row(experiment)]
    for line in lines:
        mean = spread_cell(line.spread(targets, lambda run: run.score(labels)))
        cells = [spread_cell(_over_seeds(line, target, labels)) for target in targets]
        if is_judged:
            mean = _marked(mean, line.runs)
            cells = [_marked(cell, line.of(target)) for cell, target in zip(cells, targets, strict=True)]
        rows.append((word_cell(line.name), mean, *cells))
    rows, rule = _best_bold(experiment, rows, others=1)
    without_mean = experiment.plan["draw"] == "table1"
    return Table(
        name=stem(experiment.name, "accuracy", labels),
        caption=f"Accuracy in per cent{_plus_minus(experiment)} ({seeds_and_languages(experiment)})."
        f" The predicted label is {WHICH[labels]}. {rule}"
        + f" {COLLAPSED}: with a run that collapsed."
        * (is_judged and any(run.collapsed for run in experiment.done)),
        headings=("Method", *([] if without_mean else [MEAN]), *targets),
        rows=tuple((name, *cells[without_mean:]) for name, *cells in rows),
        colours=(look("majority").colour, *colours(lines)),
    )


def _best_bold(
    experiment: Experiment, rows: list[tuple[TableCell, ...]], others: int = 0
) -> tuple[list[tuple[TableCell, ...]], str]:
    """The rows of all lines, after `others`, with the best in bold, and how in words. A mean of fewer seeds than others
    have is no match for theirs: it is better or worse by luck."""
    most = len({run.seed for run in experiment.runs})
    fewer = [others + index for index, line in enumerate(experiment.lines) if len(line.seeds) < most]
    rule = f"Bold: the best method of a column{f', of those with {most} seeds' if fewer else ''}."
    return with_best_bold(rows, without=[*range(others), *fewer]), rule


def _marked(cell: TableCell, runs: Sequence[Run]) -> TableCell:
    return replace(cell, text=f"{cell.text} {COLLAPSED}") if any(run.collapsed for run in runs) else cell


def _over_seeds(line: Line, target: str, labels: Labels) -> Spread:
    return Spread(tuple(run.score(labels) for run in line.of(target)))


def _majority_row(experiment: Experiment) -> tuple[TableCell, ...]:
    mean, shares = experiment.mean_majority(experiment.targets), map(experiment.majority, experiment.targets)
    return (word_cell(method_name("majority")), number_cell(mean), *map(number_cell, shares))


def colours(lines: Sequence[Line]) -> tuple[str, ...]:
    """The colour of each line's row."""
    return tuple(look(line.method).colour for line in lines)


def gap_table(experiment: Experiment) -> Table:
    """Table 1: accuracy on the source language, and means over the targets that the backbone was pre-trained on and
    over the others."""
    groups = experiment.groups()
    rows = [
        (word_cell(line.name), *(spread_cell(line.spread(targets, Run.score)) for targets in groups.values()))
        for line in experiment.lines
    ]
    source, seen, unseen = (", ".join(targets) or "none" for targets in groups.values())
    return Table(
        name=stem(experiment.name, "gap"),
        caption=f"Accuracy in per cent{_plus_minus(experiment)} ({seeds_and_languages(experiment)}) on the source"
        f" language ({source}), mean over the seen target languages (the backbone was pre-trained on them: {seen}), and"
        f" over the unseen ones ({unseen}).{_low_resource(experiment, groups['unseen'])}",
        headings=("Method", "source", "seen target", "unseen target"),
        rows=tuple(rows),
        colours=colours(experiment.lines),
    )


def dev_table(experiment: Experiment) -> Table:
    """Accuracy on the source language's dev examples, by which settings may be chosen."""

    def dev_accuracy(run: Run) -> float | None:
        figures = run.stage("tune")
        return None if figures is None else figures.dev_accuracy

    rows = [
        (word_cell(line.name), spread_cell(line.spread(experiment.targets, dev_accuracy))) for line in experiment.lines
    ]
    rows, rule = _best_bold(experiment, rows)
    return Table(
        name=stem(experiment.name, "dev"),
        caption="Best accuracy on source-language dev examples in per cent, by which settings are chosen"
        f" ({seeds_and_languages(experiment)}). {rule}",
        headings=("Method", "dev accuracy"),
        rows=tuple(rows),
        colours=colours(experiment.lines),
    )


def _low_resource(experiment: Experiment, unseen: list[str]) -> str:
    """A sentence on "unseen" languages that occur in other text of the backbone's training."""
    targets = [target for target in unseen if experiment.verdict(target) == "low-resource"]
    return f" Low-resource on this backbone rather than unseen: {', '.join(targets)}." if targets else ""


def source_table(experiment: Experiment) -> Table | None:
    """Accuracy of cross-fitted classifiers on the source examples; None without any."""
    if not any(run.source_accuracy for run in experiment.runs):
        return None
    targets = experiment.targets
    rows = [
        (
            word_cell(line.name),
            spread_cell(line.spread(targets, lambda run: run.source_accuracy)),
            *(spread_cell(Spread(tuple(run.source_accuracy for run in line.of(target)))) for target in targets),
        )
        for line in experiment.lines
    ]
    return Table(
        name=stem(experiment.name, "source"),
        caption="Accuracy in per cent of the same classifiers on the same examples in the source language, without"
        " centring.",
        headings=("Method", MEAN, *targets),
        rows=tuple(rows),
        colours=colours(experiment.lines),
    )


def cost_tables(experiment: Experiment) -> list[Table]:
    """Table 3: costs of one more language, counted on the backbone's shape; a table for each backbone."""
    settings = {varied_name(line.varied): line.varied for line in experiment.lines}
    return [_cost_table(experiment, name, varied) for name, varied in settings.items()]


def _cost_table(experiment: Experiment, setting: str, varied: Mapping[str, Any]) -> Table:
    lines = [line for line in experiment.lines if line.varied == varied]
    return Table(
        name=stem(experiment.name, "cost", *map(str, varied.values())),
        caption=f"Trained parameters and file sizes of each method{setting and f', {setting}'}; counted without"
        " training. Parameters per language: those of the first stage that trains, tied weights counted once; as table"
        " 3 counts: with a tied decoder beside the embeddings, and for MAD-X with the MLM head's dense layer and norm."
        " File per language: fp32, the part of stage 1's file that one more language adds, or the file of stage 2"
        " without a stage 1.",
        headings=(
            "Method",
            "parameters per language",
            "as table 3 counts",
            "share of the backbone",
            "file per language",
            "parameters of stage 2",
            "file of stage 2",
        ),
        rows=tuple((word_cell(method_name(line.method)), *_cost_cells(line)) for line in lines),
        colours=colours(lines),
    )


def _cost_cells(line: Line) -> list[TableCell]:
    costs = next((run.costs for run in line.runs if run.costs is not None), None)
    tune = None if costs is None else costs.tune
    if costs is None or tune is None:
        return [TableCell(DASH)] * 6
    first = tune if costs.adapt is None else costs.adapt
    language_bytes = tune.file_bytes if costs.language_bytes is None else costs.language_bytes
    return [
        number_cell(first.trained_parameters, 0),
        number_cell(first.trained_parameters_paper, 0),
        TableCell(f"{100 * first.share:.3g} %", value=first.share),
        TableCell(size(language_bytes), value=language_bytes),
        number_cell(tune.trained_parameters, 0),
        TableCell(size(tune.file_bytes), value=tune.file_bytes),
    ]


def measured_table(experiment: Experiment) -> Table:
    """Mean seconds and largest memory of each method's trainings."""
    rows: list[tuple[TableCell, ...]] = []
    for line in experiment.lines:
        seconds = [_mean([_seconds(run, stage) for run in line.runs]) for stage in STAGES]
        peak = max((stage.peak_memory_bytes for run in line.runs for stage in run.stages), default=None)
        parameters = _mean([run.trained_parameters for run in line.runs])
        rows.append(
            (
                word_cell(line.name),
                number_cell(parameters, 0),
                *(TableCell(duration(value), value=value) for value in seconds),
                TableCell(size(peak), value=peak),
            )
        )
    return Table(
        name=stem(experiment.name, "measured"),
        caption="Cost of the trainings on the machine of these runs: mean time of one training, largest memory of the"
        " process. A training that several languages or experiments share was run once.",
        headings=("Method", "parameters per language", "stage 1", "stage 2", "peak memory"),
        rows=tuple(rows),
        colours=colours(experiment.lines),
    )


def _seconds(run: Run, stage: Stage) -> float | None:
    figures = run.stage(stage)
    return None if figures is None else figures.seconds


def _peak_memory(run: Run, stage: Stage) -> int | None:
    figures = run.stage(stage)
    return None if figures is None else figures.peak_memory_bytes


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def curve_table(experiment: Experiment, curves: Curves, caption: str, digits: int) -> Table:
    """Numbers of a figure: a row for each curve, a column for each x."""
    xs = sorted({x for one in curves.series for x, _ in one.points})
    share = any(key.endswith("share") for key in curves.keys)
    rows: list[tuple[TableCell, ...]] = []
    for one in (*curves.series, *curves.levels):
        points = dict(one.points)
        level = points[0.0] if one in curves.levels else None
        cells = [spread_cell(level or points.get(x, Spread(())), digits) for x in xs]
        rows.append((word_cell(one.name), *cells))
    return Table(
        name=stem(experiment.name, "mean"),
        caption=caption,
        headings=("Method", *(percent(x) if share else f"{x:g}" for x in xs)),
        rows=tuple(rows),
        colours=tuple(one.colour for one in (*curves.series, *curves.levels)),
    )


def published_table(experiment: Experiment) -> Table | None:
    """Published numbers for the same table or figure, beside those of this experiment; None where there are none."""
    plan = experiment.plan
    numbers = [one for one in _published() if plan["draw"] in one.draws and one.dataset in (None, plan["dataset"])]
    if not numbers:
        return None
    rows = [(*map(word_cell, (one.what, one.on, one.number)), _same_here(experiment, one)) for one in numbers]
    spread = deviation(experiment)
    return Table(
        name=stem(experiment.name, "published"),
        caption="Published numbers, as printed. Their backbones, scales and texts differ, so they are context and not a"
        " target for these runs. This experiment: the same method or setting, mean over languages (or of the one"
        " that is named)"
        f"{spread and f' ± {spread}'}; “{DASH}” where the setting or the backbone's number of layers"
        " differs.",
        headings=("Published", "on", "number", "this experiment"),
        rows=tuple(rows),
        text_columns=3,
    )


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published number; the fields are explained in published.toml."""

    draws: Sequence[str]
    what: str
    on: str
    number: str
    dataset: str | None = None
    method: str | None = None
    varied: Mapping[str, Any] = field(default_factory=dict[str, Any])
    group: Group | None = None
    target: str | None = None
    num_layers: int | None = None


def _published() -> list[Published]:
    text = files("glotprompt.report").joinpath("published.toml").read_text(encoding="utf-8")
    return [Published(**one) for one in tomllib.loads(text)["published"]]


def _same_here(experiment: Experiment, published: Published) -> TableCell:
    if published.method == "majority":
        return _majority_row(experiment)[1]
    if published.num_layers not in (None, experiment.plan.get("num_layers")):
        return TableCell(DASH)
    same = (one for one in experiment.lines if one.method == published.method and one.varied == published.varied)
    line = next(same, None)
    if line is None:
        return TableCell(DASH)
    if experiment.plan["draw"] == "table3":
        return _cost_cells(line)[0]
    targets = experiment.targets if published.group is None else experiment.groups()[published.group]
    targets = targets if published.target is None else [published.target]
    return spread_cell(line.spread(targets, Run.score))


def runs_table(experiment: Experiment) -> Table:
    """A row for every run, for CSV."""
    keys = list(dict.fromkeys(key for run in experiment.runs for key in run.varied))
    rows = [
        (
            *(TableCell(str(value), value=value) for value in (run.method, run.target, run.seed)),
            *(TableCell(str(value), value=value) for value in (run.varied.get(key) for key in keys)),
            *(number_cell(run.score(labels, name)) for labels in WHICH for name in SCORES),
            number_cell(run.majority),
            number_cell(run.trained_parameters, 0),
            *(number_cell(_seconds(run, stage)) for stage in STAGES),
            *(number_cell(_peak_memory(run, stage), 0) for stage in STAGES),
            TableCell("", value=run.collapsed),
            TableCell("", value=run.step if run.result is not None else None),
        )
        for run in experiment.runs
    ]
    scores = [f"{name}_{labels}" for labels in WHICH for name in SCORES]
    ends = ("majority", "trained_parameters", "seconds_adapt", "seconds_tune", "peak_bytes_adapt", "peak_bytes_tune")
    headings = ("method", "target", "seed", *keys, *scores, *ends, "collapsed", "step")
    return Table(stem(experiment.name, "runs"), "", headings, tuple(rows))
