"""The results of a grid as the report needs them: experiments, their runs, means over languages and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from glotprompt.data.languages import Family, Verdict, exposure, family_of
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

KINDS = {
    "accuracy": "Accuracies",
    "table1": "Table 1: seen against unseen languages",
    "table2": "Table 2: main results",
    "table3": "Table 3: costs",
    "figure3": "Figure 3: amount of unlabelled text",
    "figure4": "Figure 4: few-shot",
    "figure5": "Figure 5: change of the prompts in stage 2",
    "figure6": "Figure 6: which layers are tuned",
    "controls": "Controls",
}
"""What experiments draw, in the order of a report."""

OURS = "soft-prompt"
"""The method that the others are compared with."""


@dataclass(frozen=True)
class Run:
    """One cell of an experiment; `result` is None where the step has not been done."""

    method: str
    target: str | None
    """The language; with its dataset, "xnli:spa", where that is not the experiment's. None: costs."""
    seed: int | None
    varied: Mapping[str, Any]
    step: str | None
    result: EvaluationResult | CostResult | None

    @property
    def evaluation(self) -> EvaluationResult | None:
        """The figures of a classifier, where there are any."""
        return self.result if isinstance(self.result, EvaluationResult) else None

    @property
    def costs(self) -> Costs | None:
        """What was counted, where it was."""
        return self.result.cost if isinstance(self.result, CostResult) else None

    def score(self, labels: Labels = "all", name: Literal["accuracy", "macro_f1"] = "accuracy") -> float | None:
        """Per cent; None where it is missing."""
        if self.evaluation is None:
            return None
        scores = self.evaluation.scores.among(labels)
        return finite(scores.accuracy if name == "accuracy" else scores.macro_f1)

    def stage(self, name: Stage) -> StageFigures | None:
        """What the training of a stage noted; None where there was none."""
        if self.evaluation is None:
            return None
        return self.evaluation.train_info.adapt if name == "adapt" else self.evaluation.train_info.tune

    @property
    def stages(self) -> list[StageFigures]:
        """Both stages, as far as there were trainings."""
        return [found for name in STAGES if (found := self.stage(name)) is not None]

    @property
    def trained_parameters(self) -> int | None:
        """Parameters trained for one language: of stage 1, or of stage 2 where that is the only one."""
        return next((stage.trained_parameters for stage in self.stages if stage.trained_parameters), None)

    @property
    def collapsed(self) -> str | None:
        """Why the run says little, in one line."""
        return None if self.evaluation is None else self.evaluation.collapsed

    @property
    def majority(self) -> float | None:
        """Per cent of the test examples that have the most frequent label."""
        return None if self.evaluation is None else finite(self.evaluation.majority.share)

    @property
    def backbone(self) -> str:
        """Name of the backbone, "" where nothing was scored."""
        return "" if self.evaluation is None else self.evaluation.run_info.backbone.name

    @property
    def prompt_change(self) -> list[LayerChange]:
        """What stage 2 did to the prompts of the layers; empty where none went through both stages."""
        return [] if self.evaluation is None else self.evaluation.prompt_change or []

    def correct(self, labels: Labels = "all") -> Correct:
        """Which test examples were labelled rightly; empty without a result."""
        if self.evaluation is None:
            return {}
        found = self.evaluation.predictions
        triples = zip(found.ids, found.gold, found.among(labels), strict=True)
        return {example: gold == label for example, gold, label in triples}

    @property
    def where(self) -> str:
        """The run in words: method, what varies, language, seed."""
        place = [self.target or "", "" if self.seed is None else f"seed {self.seed}"]
        return ", ".join(word for word in (method_name(self.method), varied_name(self.varied), *place) if word)


@dataclass(frozen=True)
class Line:
    """The runs of one method with one setting of what varies: a row of a table, a point of a figure."""

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
        """The seeds, rising."""
        return sorted({run.seed for run in self.runs}, key=lambda seed: -1 if seed is None else seed)

    def of(self, target: str) -> list[Run]:
        """The runs of one language by rising seed."""
        runs = [run for run in self.runs if run.target == target]
        return sorted(runs, key=lambda run: -1 if run.seed is None else run.seed)

    def spread(self, targets: Iterable[str], value: Callable[[Run], float | None]) -> Spread:
        """For each seed the mean over the languages; None where one of them is missing, for a mean over fewer
        languages is another number."""
        wanted = list(targets)
        found = {(run.seed, run.target): value(run) for run in self.runs}
        means: list[float | None] = []
        for seed in self.seeds:
            values = [found.get((seed, target)) for target in wanted]
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

    @cached_property
    def targets(self) -> list[str]:
        """The languages in the plan's order."""
        return list(dict.fromkeys(run.target for run in self.runs if run.target is not None))

    @cached_property
    def lines(self) -> list[Line]:
        """One for each method and setting: methods in the order of `looks`, settings in the plan's."""
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
        """The runs that have none."""
        return [run for run in self.runs if run.result is None]

    def majority(self, target: str) -> float | None:
        """Share of the most frequent label of a language's test set, per cent."""
        return next((run.majority for run in self.done if run.target == target and run.majority is not None), None)

    def groups(self) -> tuple[list[str], list[str]]:
        """(seen, unseen) languages: as the plan has them, else by what the backbone has read in training. A language
        that is low-resource, or of which that is not known, is in neither."""
        stated = self.plan["groups"]
        if stated:
            seen, unseen = ({*stated.get(name, ())} for name in ("seen", "unseen"))
            codes = {target: {target, target.rpartition(":")[2]} for target in self.targets}
            return [t for t in codes if codes[t] & seen], [t for t in codes if codes[t] & unseen]
        verdicts = {target: self.verdict(target) for target in self.targets}
        return [t for t in verdicts if verdicts[t] == "read"], [t for t in verdicts if verdicts[t] == "unseen"]

    @cached_property
    def family(self) -> Family | None:
        """The family of the backbone; None where its name says nothing."""
        return next((family_of(run.backbone) for run in self.done), None)

    def verdict(self, target: str) -> Verdict:
        """Whether the backbone has read a target's language, by what is published of its training."""
        return "not known" if self.family is None else exposure(target.rpartition(":")[2], self.family).verdict


@dataclass(frozen=True)
class Results:
    """All that a folder holds."""

    experiments: tuple[Experiment, ...]
    failures: tuple[Failure, ...]
    """Steps that failed and were not made good since."""
    reading: str
    """What a person wrote about the results (`reading.md` beside them), "" where there is nothing."""

    @cached_property
    def meta(self) -> list[MetaInfo]:
        """`meta_info` of every result, each step once, by rising time."""
        results = {run.step: run.result for experiment in self.experiments for run in experiment.runs}
        return sorted((one.meta_info for one in results.values() if one is not None), key=lambda meta: meta.finished)


def read_results(folder: Path) -> Results:
    """Everything under the `--output` of a grid. Raises `DataError` where that is not one, or of another version."""
    store = Store(folder)
    experiments = [_experiment(store, plan) for plan in store.experiments()]
    place = {draw: index for index, draw in enumerate(KINDS)}
    experiments.sort(key=lambda one: (place.get(one.plan["draw"], len(KINDS)), one.name))
    reading = folder / "reading.md"
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
    found = store.result(cell)
    return None if found is None else step_result(found, str(cell["result"]))


def varied_name(varied: Mapping[str, Any]) -> str:
    """`{"tune.top_k_layers": 6}` in words: "top K layers 6"."""
    return ", ".join(f"{key_name(key)} {value_name(key, value)}" for key, value in varied.items())


def key_name(key: str) -> str:
    """The last part of a dotted key, as words; K, the number of layers, is a name."""
    return key.rpartition(".")[2].replace("_k_", " K ").replace("_", " ")


def value_name(key: str, value: Any) -> str:
    """A value of such a key; shares in per cent."""
    if key.endswith("share") and isinstance(value, int | float):
        return f"{100 * value:g} %"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def shared_seeds(ours: Sequence[Run], theirs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """The runs with a result whose seeds both sides have."""
    sides = [{run.seed: run for run in side if run.result is not None} for side in (ours, theirs)]
    seeds = [seed for seed in sides[0] if seed in sides[1]]
    return [sides[0][seed] for seed in seeds], [sides[1][seed] for seed in seeds]
