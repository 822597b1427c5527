"""Results of a grid: experiments, their runs, means over languages and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from glotprompt.data.languages import Family, Verdict, exposure, exposure_family
from glotprompt.grid.step_results import (
    CostResult,
    Costs,
    EvaluationResult,
    Labels,
    LayerChange,
    MetaInfo,
    StageFigures,
    step_result,
)
from glotprompt.grid.store import Cell, ExperimentRecord, Failure, Store
from glotprompt.report.significance import Correct
from glotprompt.report.tables import Spread, finite, looks, method_name

Stage = Literal["adapt", "tune"]
STAGES: tuple[Stage, Stage] = ("adapt", "tune")
Group = Literal["source", "seen", "unseen"]

KINDS = {
    "table1": "Table 1: seen against unseen languages",
    "table2": "Table 2: main results",
    "table3": "Table 3: costs",
    "figure3": "Figure 3: amount of unlabelled text",
    "figure4": "Figure 4: few-shot",
    "figure5": "Figure 5: change of the prompts in stage 2",
    "figure6": "Figure 6: which layers are tuned",
    "controls": "Controls",
    "dev": "Choices on dev examples",
    "accuracy": "Accuracies",
}
"""Names of what experiments draw, in the order of a report."""

VARIANT = "variant_"
"""Beginning of the names of experiments that change one of the paper's."""

READING = "reading.md"
"""A person's notes, in a folder of results."""

REFERENCE = "soft-prompt"
"""The method that the others are compared with."""


@dataclass(frozen=True)
class Run:
    """One cell of an experiment; `result` is None while its step is not finished."""

    method: str
    target: str | None
    """The language; with its dataset, "xnli:spa", where that is not the experiment's. None: costs."""
    seed: int | None
    varied: Mapping[str, Any]
    step: str | None
    result: EvaluationResult | CostResult | None

    @property
    def evaluation(self) -> EvaluationResult | None:
        """The result of a classifier; None for costs and while it is missing."""
        return self.result if isinstance(self.result, EvaluationResult) else None

    @property
    def costs(self) -> Costs | None:
        """The costs; None for a classifier and while they are missing."""
        return self.result.cost if isinstance(self.result, CostResult) else None

    def score(self, labels: Labels = "all", name: Literal["accuracy", "macro_f1"] = "accuracy") -> float | None:
        """A score in per cent; None where it is missing."""
        if self.evaluation is None:
            return None
        scores = self.evaluation.scores.among(labels)
        return finite(scores.accuracy if name == "accuracy" else scores.macro_f1)

    def stage(self, name: Stage) -> StageFigures | None:
        """Figures of a stage's training; None without one."""
        if self.evaluation is None:
            return None
        return self.evaluation.train_info.adapt if name == "adapt" else self.evaluation.train_info.tune

    @property
    def stages(self) -> list[StageFigures]:
        """Figures of the stages that were trained."""
        return [figures for name in STAGES if (figures := self.stage(name)) is not None]

    @property
    def trained_parameters(self) -> int | None:
        """Trained parameters per language: of stage 1, or of stage 2 if that is the only one."""
        return next((stage.trained_parameters for stage in self.stages if stage.trained_parameters), None)

    @property
    def collapsed(self) -> str | None:
        """One line about a classifier that collapsed to one label."""
        return None if self.evaluation is None else self.evaluation.collapsed

    @property
    def majority(self) -> float | None:
        """Per cent of the test examples that have the most frequent label."""
        return None if self.evaluation is None else finite(self.evaluation.majority.share)

    @property
    def source_accuracy(self) -> float | None:
        """Per cent of the source examples that cross-fitted classifiers label correctly."""
        return None if self.evaluation is None else finite(self.evaluation.source_accuracy)

    @property
    def backbone(self) -> str:
        """Name of the backbone, "" where nothing was scored."""
        return "" if self.evaluation is None else self.evaluation.run_info.backbone.name

    @property
    def prompt_change(self) -> list[LayerChange]:
        """Changes of the layers' prompts in stage 2; empty where no prompt went through both stages."""
        return [] if self.evaluation is None else self.evaluation.prompt_change or []

    def correct(self, labels: Labels = "all") -> Correct:
        """Whether each test example was labelled correctly; empty without a result."""
        if self.evaluation is None:
            return {}
        predictions = self.evaluation.predictions
        triples = zip(predictions.ids, predictions.gold, predictions.among(labels), strict=True)
        return {example: gold == label for example, gold, label in triples}

    @property
    def gold(self) -> dict[str, str]:
        """The gold label of each test example by its id; empty without a result."""
        predictions = None if self.evaluation is None else self.evaluation.predictions
        return {} if predictions is None else dict(zip(predictions.ids, predictions.gold, strict=True))

    @property
    def where(self) -> str:
        """The run in words: method, varied settings, language, seed."""
        seed = "" if self.seed is None else f"seed {self.seed}"
        parts = (method_name(self.method), varied_name(self.varied), self.target, seed)
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Line:
    """The runs of one method with one varied setting: a row of a table, a point of a figure."""

    method: str
    varied: Mapping[str, Any]
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """The row's name in print."""
        setting = varied_name(self.varied)
        return f"{method_name(self.method)}, {setting}" if setting else method_name(self.method)

    @cached_property
    def seeds(self) -> list[int | None]:
        """The seeds in rising order."""
        return sorted({run.seed for run in self.runs}, key=lambda seed: -1 if seed is None else seed)

    def of(self, target: str) -> list[Run]:
        """The runs of one language by rising seed."""
        runs = [run for run in self.runs if run.target == target]
        return sorted(runs, key=lambda run: -1 if run.seed is None else run.seed)

    def spread(self, targets: Iterable[str], value: Callable[[Run], float | None]) -> Spread:
        """For each seed the mean over the languages; None where one of them is missing, since a mean over fewer
        languages is not comparable."""
        languages = list(targets)
        numbers = {(run.seed, run.target): value(run) for run in self.runs}
        means: list[float | None] = []
        for seed in self.seeds:
            values = [numbers.get((seed, target)) for target in languages]
            present = [value for value in values if value is not None]
            means.append(sum(present) / len(present) if values and len(present) == len(values) else None)
        return Spread(tuple(means))


@dataclass(frozen=True)
class Experiment:
    """One experiment file with its runs."""

    plan: ExperimentRecord
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """The experiment file's name without its ending."""
        return self.plan["name"]

    @property
    def is_variant(self) -> bool:
        """Whether it draws what the paper does not have, in the manner of one of its tables or figures."""
        return self.name.startswith(VARIANT)

    @property
    def place(self) -> str:
        """The kind that it is sorted by."""
        return "accuracy" if self.is_variant else self.plan["draw"]

    @property
    def heading(self) -> str:
        """What it draws, in words: the table or figure of the paper, or a variant's own title."""
        if self.is_variant:
            return f"{self.plan['title'] or self.name} (variant)"
        return KINDS.get(self.plan["draw"], self.plan["draw"])

    @property
    def subtitle(self) -> str:
        """What stands under the heading."""
        return self.name if self.is_variant else self.plan["title"] or self.name

    @property
    def scale(self) -> str:
        """The scale in print; "" on a bundled backbone that is the experiment's own: it is small already, so that both
        scales are the same (records hold what `--scale` was)."""
        own = self.family == "mini-sentence" or (self.family == "mini" and self.plan["scale"] == "paper")
        return "" if own else self.plan["scale"]

    @cached_property
    def targets(self) -> list[str]:
        """The languages in the plan's order."""
        return list(dict.fromkeys(run.target for run in self.runs if run.target is not None))

    @cached_property
    def lines(self) -> list[Line]:
        """A line for each method and setting: methods in the order of `looks`, settings in the plan's."""
        groups: dict[tuple[Any, ...], list[Run]] = {}
        for run in self.runs:
            groups.setdefault((run.method, *sorted((k, repr(v)) for k, v in run.varied.items())), []).append(run)
        order = list(looks())
        lines = [Line(runs[0].method, runs[0].varied, tuple(runs)) for runs in groups.values()]
        return sorted(lines, key=lambda line: order.index(line.method) if line.method in order else len(order))

    @property
    def done(self) -> list[Run]:
        """The runs that have a result."""
        return [run for run in self.runs if run.result is not None]

    @property
    def missing(self) -> list[Run]:
        """The runs without a result."""
        return [run for run in self.runs if run.result is None]

    def majority(self, target: str) -> float | None:
        """Share of the most frequent label of a language's test set, per cent."""
        return next((run.majority for run in self.done if run.target == target and run.majority is not None), None)

    def mean_majority(self, targets: Sequence[str]) -> float | None:
        """The mean of these shares; None where one is missing."""
        shares = [self.majority(target) for target in targets]
        present = [share for share in shares if share is not None]
        return sum(present) / len(present) if present and len(present) == len(shares) else None

    def groups(self) -> dict[Group, list[str]]:
        """Targets by group: the source language, and the others that are seen or unseen by the plan's groups, else by
        the backbone's pre-training languages. A language that is low-resource or unknown is in none."""
        source = [target for target in self.targets if target.rpartition(":")[2] == self.plan["source"]]
        others, stated = [target for target in self.targets if target not in source], self.plan["groups"]
        if stated:
            seen, unseen = (
                [one for one in others if {one, one.rpartition(":")[2]} & {*stated.get(name, ())}]
                for name in ("seen", "unseen")
            )
        else:
            seen, unseen = ([one for one in others if self.verdict(one) == name] for name in ("read", "unseen"))
        return {"source": source, "seen": seen, "unseen": unseen}

    @cached_property
    def family(self) -> Family | None:
        """The family of the backbone; None if its name does not tell."""
        return next((exposure_family(run.backbone) for run in self.done), None)

    def verdict(self, target: str) -> Verdict:
        """Whether the backbone was pre-trained on a target's language, as far as published."""
        return "not known" if self.family is None else exposure(target.rpartition(":")[2], self.family).verdict


@dataclass(frozen=True)
class Results:
    """All results of a folder."""

    experiments: tuple[Experiment, ...]
    failures: tuple[Failure, ...]
    """Steps that failed and have not succeeded since."""
    reading: str
    """A person's notes on the results (`READING` in their folder); "" without."""

    @cached_property
    def meta(self) -> list[MetaInfo]:
        """`meta_info` of every result, each step once, in order of time."""
        results = {run.step: run.result for experiment in self.experiments for run in experiment.runs}
        return sorted((one.meta_info for one in results.values() if one is not None), key=lambda meta: meta.finished)


def read_results(folder: Path) -> Results:
    """Read the `--output` folder of a grid. Raises `DataError` for any other folder, or one of another version."""
    store = Store(folder)
    experiments = [_experiment(store, plan) for plan in store.experiments()]
    order = {draw: index for index, draw in enumerate(KINDS)}
    experiments.sort(key=lambda one: (order.get(one.place, len(KINDS)), one.name))
    reading = folder / READING
    text = reading.read_text(encoding="utf-8").strip() if reading.is_file() else ""
    return Results(tuple(experiments), tuple(store.failures()), text)


def _experiment(store: Store, plan: ExperimentRecord) -> Experiment:
    runs: list[Run] = []
    for cell in plan["cells"]:
        elsewhere = cell["target"] is not None and cell["dataset"] not in (None, plan["dataset"])
        target = f"{cell['dataset']}:{cell['target']}" if elsewhere else cell["target"]
        runs.append(Run(cell["method"], target, cell["seed"], cell["varied"], cell["result"], _result(store, cell)))
    return Experiment(plan, tuple(runs))


def _result(store: Store, cell: Cell) -> EvaluationResult | CostResult | None:
    result = store.result(cell)
    return None if result is None else step_result(result, str(cell["result"]))


def varied_name(varied: Mapping[str, Any]) -> str:
    """`{"tune.top_k_layers": 6}` in words: "top K layers 6"."""
    return ", ".join(f"{key_name(key)} {value_name(key, value)}" for key, value in varied.items())


def key_name(key: str) -> str:
    """The last part of a dotted key in words; K, the number of layers, is kept as a name."""
    return key.rpartition(".")[2].replace("_k_", " K ").replace("_", " ")


def value_name(key: str, value: Any) -> str:
    """A value of such a key; shares in per cent."""
    if key.endswith("share") and isinstance(value, int | float):
        return f"{100 * value:g} %"
    if isinstance(value, list):
        return ", ".join(map(str, cast("list[object]", value)))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def shared_seeds(first: Sequence[Run], second: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """The runs with a result whose seeds both sides have."""
    sides = [{run.seed: run for run in side if run.result is not None} for side in (first, second)]
    seeds = [seed for seed in sides[0] if seed in sides[1]]
    return [sides[0][seed] for seed in seeds], [sides[1][seed] for seed in seeds]
