"""The planner: turns an experiment into steps, each once and after the steps that it needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from glotprompt.config import AdaptConfig, Stage, TuneConfig, preset
from glotprompt.data.datasets.catalog import parse_reference
from glotprompt.errors import ConfigError
from glotprompt.grid import reading
from glotprompt.grid.experiment import Experiment, System, Target
from glotprompt.grid.reading import ExampleSource, TextSource
from glotprompt.grid.scales import AMOUNTS, LAYERS
from glotprompt.grid.steps import AdaptStep, CostStep, EvaluateStep, PlannedBackbone, Step, TuneStep, Unlabelled
from glotprompt.grid.store import FORMAT, Cell, ExperimentRecord
from glotprompt.methods import METHODS, Method
from glotprompt.task import Task

OpenBackbone = Callable[[str, Experiment], tuple[PlannedBackbone, int]]
"""Takes a model's name and the experiment that uses it; gives the backbone and its number of layers."""


@dataclass
class Plan:
    """The steps of one or more experiments."""

    records: list[ExperimentRecord] = field(default_factory=list[ExperimentRecord])
    steps: dict[str, Step] = field(default_factory=dict[str, Step])
    """Steps by name; what a step needs comes before it."""
    asked: Counter[str] = field(default_factory=Counter[str])
    """Number of cells that need each step."""

    def add(self, step: Step) -> None:
        """Add a step and what it needs."""
        for need in step.needs:
            self.add(need)
        if isinstance(step, AdaptStep) and step.after is not None:
            self.add(step.after)
        self.steps.setdefault(step.name, step)

    def missing(self, finished: Collection[str]) -> list[Step]:
        """Steps to run besides the `finished` ones, each after those that it needs: the cells without a result, and
        what they need. Steps on one backbone follow one another, so that it is loaded once."""
        names: set[str] = set()

        def want(step: Step) -> None:
            if step.name not in names and step.name not in finished:
                names.add(step.name)
                for need in step.needs:
                    want(need)

        for record in self.records:
            for cell in record["cells"]:
                if cell["result"] is not None:
                    want(self.steps[cell["result"]])
        steps = [step for name, step in self.steps.items() if name in names]
        models = list(dict.fromkeys(map(_model, steps)))
        return sorted(steps, key=lambda step: models.index(_model(step)))


def _model(step: Step) -> str:
    return step.model if isinstance(step, CostStep) else step.backbone.name


def add_experiment(
    plan: Plan,
    experiment: Experiment,
    open_backbone: OpenBackbone,
    data_dir: Path | None,
    scale: str = "paper",
    command: str = "",
) -> None:
    """Add an experiment's cells and steps to the plan. Raises `ConfigError` and `DataError` for what cannot be run.
    Texts and examples are read, because their content is part of a step's identity."""
    if experiment.name in (record["name"] for record in plan.records):
        raise ConfigError(f"two experiments have the name {experiment.name}; run them apart, one with --set name=...")
    cells: list[Cell] = []
    try:
        planner = _Planner(experiment, open_backbone, data_dir)
        planned = list(planner.costs() if experiment.draw == "table3" else planner.cells())
    except ConfigError as error:
        raise ConfigError(f"{experiment.name}: {error}") from None
    for cell, path in planned:
        for step in path:
            plan.add(step)
        plan.asked.update({step.name for step in path})
        cells.append({**cell, "result": path[-1].name})
    plan.records.append(
        {
            "format": FORMAT, "name": experiment.name, "title": experiment.title, "draw": experiment.draw,
            "scale": scale, "command": command, "dataset": experiment.dataset, "source": experiment.source,
            "targets": [target.language for target in planner.targets],
            "groups": {name: list(members) for name, members in experiment.groups.items()},
            "methods": list(experiment.methods), "seeds": list(experiment.seeds), "reference": experiment.reference,
            "adapt_seed": experiment.adapt_seed, "num_layers": planner.num_layers,
            "varies": {key: list(values) for key, values in experiment.varies.items()}, "cells": cells,
        }
    )  # fmt: skip


@dataclass(frozen=True)
class _Way:
    """A system that is compared, with its backbone."""

    name: str
    system: System
    backbone: PlannedBackbone
    num_layers: int
    label: str
    """The system's name; "" for a plain method."""

    @property
    def method(self) -> Method:
        """The method of stage 2."""
        return METHODS[self.system.method]

    @property
    def start(self) -> Method:
        """The method of stage 1."""
        return METHODS[self.system.adapted_by] if self.system.adapted_by else self.method.start


class _Planner:
    """Plans one experiment's steps."""

    def __init__(self, experiment: Experiment, open_backbone: OpenBackbone, data_dir: Path | None) -> None:
        self.experiment, self.data_dir = experiment, data_dir
        self.ways: list[_Way] = []
        for name in experiment.methods:
            system = experiment.system(name)
            backbone, num_layers = open_backbone(system.model or experiment.model, experiment)
            self.ways.append(_Way(name, system, backbone, num_layers, "" if name in METHODS else name))
        self.num_layers = self.ways[0].num_layers
        self.targets = [] if experiment.draw == "table3" else [experiment.target(word) for word in experiment.targets]
        for language, times in Counter(target.language for target in self.targets).items():
            if times > 1:  # named twice or for two datasets; a table has one column for it
                raise ConfigError(f"targets has {language!r} more than once")
        references = map(parse_reference, experiment.labelled({})[0])
        labelled = {reference.language for reference in references if reference is not None}
        if experiment.source is not None and labelled and experiment.source not in labelled:
            there = ", ".join(sorted(labelled))
            raise ConfigError(f"source is {experiment.source!r}, but the labelled examples (train) are in {there}")
        self._first: dict[str, AdaptStep] = {}
        """By the identity of what it shares with other languages."""

    def costs(self) -> Iterator[tuple[Cell, list[Step]]]:
        """The cells of table 3: one for each method and model."""
        experiment = self.experiment
        models = cast(Sequence[str], experiment.varies.get("model", (experiment.model,)))
        for way in self.ways:
            configs = self._adapt_config(way, 0, {}), self._tune_config(way, 0, {})
            for model in models:
                varied = {"model": model} if "model" in experiment.varies else {}
                yield _cell(way.name, None, None, varied), [CostStep(model, *configs)]

    def cells(self) -> Iterator[tuple[Cell, list[Step]]]:
        """Every cell with its steps; the last one has the cell's result."""
        of_ways = [(way, way.system.seeds or self.experiment.seeds) for way in self.ways]
        for seed in dict.fromkeys(seed for _, seeds in of_ways for seed in seeds):
            for way in (way for way, seeds in of_ways if seed in seeds):
                for number, target in enumerate(self.targets):
                    for varied in self._variants(way):
                        yield _cell(way.name, target, seed, varied), self._steps(way, number, seed, varied)

    def _variants(self, way: _Way) -> list[dict[str, Any]]:
        """The settings that vary for a method, one at a time, without those that do not change its numbers."""
        variants = [
            {key: value} for key, values in self.experiment.varies.items() if self._moves(way, key) for value in values
        ]
        return variants or [{}]

    def _moves(self, way: _Way, key: str) -> bool:
        table, _, name = key.partition(".")
        if table == "tune":
            return way.method.has_prompt or name not in LAYERS
        if key == "shots":
            return True
        if key == "task":
            return not way.method.reads_vectors
        if key == "source_texts":
            return way.start.stage1 is not None and _reads_source(self._adapt_config(way, 0, {}))
        return way.start.stage1 is not None and (table == "adapt" or way.start.reads_target)

    def _steps(self, way: _Way, number: int, seed: int, varied: Mapping[str, Any]) -> list[Step]:
        experiment, target = self.experiment, self.targets[number]
        prompt_of = varied.get("prompt_of", experiment.prompt_of)
        adapted_to = target
        if prompt_of == "another language" and self._moves(way, "prompt_of"):
            adapted_to = self.targets[(number + 1) % len(self.targets)]
            if adapted_to == target:
                raise ConfigError(f"{experiment.name}: prompt_of = {prompt_of!r} needs more than one target")
        adapted = None
        if way.start.stage1 is not None:
            adapted = self._adapt(way, adapted_to, seed, varied)
        tuned = self._tune(way, target, seed, varied, adapted)
        test = self._examples(target.tests, target)
        if target.dataset is None:
            reading.refuse_scored(tuned.train, test, self.data_dir)
        if experiment.folds is not None:
            reading.check_folds(tuned.train, test, experiment.folds, self.data_dir)
        content = reading.examples_content(test, self.data_dir)
        centre = self._unlabelled(target) if way.system.centred else None
        scored = EvaluateStep(
            tuned,
            adapted,
            target.dataset_name or "",
            target.language,
            content,
            experiment.source or "",
            test,
            centre_content="" if centre is None else self._content(centre),
            centre=centre,
            folds=experiment.folds,
            system=way.label,
        )
        trained = [tuned.start, tuned] if experiment.folds is None else []
        return [*(step for step in (adapted, *trained) if step is not None), scored]

    def _adapt(self, way: _Way, target: Target, seed: int, varied: Mapping[str, Any]) -> AdaptStep:
        experiment, name = self.experiment, way.name
        config = self._adapt_config(way, seed if experiment.adapt_seed is None else experiment.adapt_seed, varied)
        share = float(varied.get("text_share", experiment.text_share))
        if config.objective == "alignment":
            source = self._pairs(way, target, share, config.seed)
            contents = {"pairs": reading.pairs(source, self.data_dir).content}
            return AdaptStep(way.backbone, target.language, config, contents, {"pairs": source}, system=way.label)
        shares = METHODS[config.method].source_shares(config)
        from_source = tuple(varied.get("source_texts", experiment.source_texts))
        source, language = self._text(from_source, 1.0, config.seed), str(experiment.source)
        texts, is_read = {"target": source, "source": source}, {"target": False, "source": False}
        if any(share > 0 for share in shares.values()):
            if not from_source:
                raise ConfigError(f"{experiment.name}: {name} reads source text; name some in source_texts")
            is_read["source"] = True
        if any(share < 1 for share in shares.values()):
            if target.texts is None:
                raise ConfigError(f"{name} reads unlabelled text of {target.language}; name a file in texts")
            language = target.language
            texts["target"] = self._text((target.texts,), share, config.seed)
            is_read["target"] = True
        contents = {
            role: reading.texts(text, self.data_dir).content if is_read[role] else "" for role, text in texts.items()
        }
        if config.objective == "mlm+alignment":
            texts["pairs"] = self._pairs(way, target, share, config.seed)
            contents["pairs"] = reading.pairs(texts["pairs"], self.data_dir).content
        return self._behind_first(AdaptStep(way.backbone, language, config, contents, texts, system=way.label))

    def _pairs(self, way: _Way, target: Target, share: float = 1.0, seed: int = 0) -> TextSource:
        if not target.pairs:
            what = "maps" if way.system.ridge else "aligns"
            raise ConfigError(
                f"{way.name} {what}, and there are no translations of {target.language}; name some in pairs"
            )
        return TextSource(target.pairs, target.tests, share, seed=seed, read=self.experiment.read)

    def _unlabelled(self, target: Target) -> Unlabelled:
        """Unlabelled target text like what is scored: that of `centre` or `texts`, the dataset's training examples, its
        text, or the target side of `pairs`."""
        options, references = self.experiment.read, (target.centre or target.texts,)
        if target.centre is None and (examples := self._target_examples(target)) is not None:
            return examples
        if references[0] is None and target.pairs:
            references, options = target.pairs, replace(options, text="target")
        named = tuple(one for one in references if one is not None)
        if not named:
            raise ConfigError(f"there is no unlabelled text of {target.language}; name a file in centre")
        return TextSource(named, target.tests, max_lines=self.experiment.max_lines, read=options)

    def _target_examples(self, target: Target) -> ExampleSource | None:
        """The training examples of the target's dataset, without what is scored; None where there are none."""
        data, half = target.dataset, 1 if self.experiment.disjoint else None
        if data is None or "train" not in data.splits or self.experiment.folds is not None:
            return None
        source = self._examples((f"{data.name}:{target.language}:train",), target)
        return replace(source, half=half, scored=target.tests)

    def _content(self, source: Unlabelled) -> str:
        if isinstance(source, ExampleSource):
            return reading.examples_content(source, self.data_dir)
        return reading.texts(source, self.data_dir).content

    def _text(self, references: tuple[str, ...], share: float, seed: int) -> TextSource:
        """Text without what is scored of any target, as one `adapt --held-out` for all of them has it."""
        scored = tuple(test for target in self.targets for test in target.tests)
        return TextSource(references, scored, share, self.experiment.max_lines, seed, self.experiment.read)

    def _task(self, target: Target, varied: Mapping[str, Any]) -> Task:
        tasks, of_dataset = self.experiment.tasks, None if target.dataset is None else target.dataset.task
        name = varied.get("task") or self.experiment.task or of_dataset
        if name is None:
            what = target.dataset_name or f"what is scored of {target.language}"
            raise ConfigError(f"{what} has no built-in task; name one with task")
        return Task.from_dict({"name": name, **tasks[name]}, f"tasks.{name}") if name in tasks else Task.load(name)

    def _examples(self, references: tuple[str, ...], target: Target) -> ExampleSource:
        """The examples of references, and of files, which are read with the columns and labels of the task."""
        if all(parse_reference(one) is not None for one in references):
            return ExampleSource(references, self.experiment.input)
        task = self._task(target, {})
        options = self.experiment.read, task.template.fields, task.labels
        return ExampleSource(references, self.experiment.input, *options)

    def _behind_first(self, step: AdaptStep) -> AdaptStep:
        if step.shared is None:
            return step
        first = self._first.setdefault(step.shared, step)
        if first.name == step.name:
            return first
        return replace(step, after=first)

    def _tune(
        self, way: _Way, target: Target, seed: int, varied: Mapping[str, Any], adapted: AdaptStep | None
    ) -> TuneStep:
        references, dev_reference = self.experiment.labelled(varied)
        reading.check_training(references, target.language)
        if adapted is not None and adapted.shared is not None:
            adapted = self._first[adapted.shared]
        train = self._examples(references, target)
        if self.experiment.disjoint:
            train = replace(train, half=0)
        dev = None if dev_reference is None else self._examples((dev_reference,), target)
        contents = ["" if part is None else reading.examples_content(part, self.data_dir) for part in (train, dev)]
        config, task = self._tune_config(way, seed, varied), self._task(target, varied)
        tuned = TuneStep(way.backbone, config, task, contents[0], contents[1], adapted, train, dev, way.label)
        if way.system.ridge:
            pairs = self._pairs(way, target)
            tuned = replace(tuned, pairs=pairs, pairs_content=reading.pairs(pairs, self.data_dir).content)
        if way.system.target_labels is not None:
            labelled = self._target_examples(target)
            if target.labels is not None:
                labelled = replace(self._examples((target.labels,), target), scored=target.tests)
            if labelled is None:
                raise ConfigError(
                    f"{way.name}: target_labels is for datasets with a training split, and without folds; else name a"
                    f" file for {target.language} in a table target_labels"
                )
            labelled = replace(labelled, most_per_label=way.system.target_labels, seed=seed)
            tuned = replace(tuned, target=labelled, target_content=self._content(labelled))
        if way.system.self_train:
            text = self._unlabelled(target)
            tuned = replace(tuned, start=tuned, unlabelled=text, unlabelled_content=self._content(text))
        return tuned

    def _adapt_config(self, way: _Way, seed: int, varied: Mapping[str, Any]) -> AdaptConfig:
        method, settings = way.start, dict[str, Any]()
        for part in self._settings(way, "adapt", method.name, varied):
            settings |= part
        if method.shares is not None:
            settings.pop("source_share", None)  # settled by the method
        settings |= {"method": method.name, "seed": seed}
        return AdaptConfig(**settings)

    def _tune_config(self, way: _Way, seed: int, varied: Mapping[str, Any]) -> TuneConfig:
        settings: dict[str, Any] = {}
        for part in self._settings(way, "tune", way.method.name, varied):
            if any(name in part for name in LAYERS):
                settings = {name: value for name, value in settings.items() if name not in LAYERS}
            settings |= part
        if not way.method.has_prompt:
            settings = {name: value for name, value in settings.items() if name not in LAYERS}
        if settings.get("bottom_k_layers") == way.num_layers:  # all layers have one name
            settings["top_k_layers"] = settings.pop("bottom_k_layers")
        settings |= {"method": way.method.name, "seed": seed}
        return TuneConfig(**settings)

    def _settings(self, way: _Way, stage: Stage, method: str, varied: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Settings, later ones override earlier ones. A system's own preset replaces those of the experiment, but for
        how many examples are read: all systems learn from the same."""
        own = way.system.preset
        given: Mapping[str, Any] = getattr(self.experiment, stage)
        shared = {name: value for name, value in given.items() if own is None or name in AMOUNTS}
        first = preset(own or self.experiment.preset, stage, method)
        return [first, shared, getattr(way.system, stage), _of(stage, varied)]


def _reads_source(config: AdaptConfig) -> bool:
    shares = METHODS[config.method].source_shares(config).values()
    return config.objective != "alignment" and any(share > 0 for share in shares)


def _cell(method: str, target: Target | None, seed: int | None, varied: Mapping[str, Any]) -> Cell:
    dataset, language = (None, None) if target is None else (target.dataset_name, target.language)
    return {
        "method": method,
        "dataset": dataset,
        "target": language,
        "seed": seed,
        "varied": dict(varied),
        "result": None,
    }


def _of(table: str, varied: Mapping[str, Any]) -> dict[str, Any]:
    """The varied settings of one table."""
    return {key.removeprefix(f"{table}."): value for key, value in varied.items() if key.startswith(f"{table}.")}
