"""Steps: frozen descriptions of trainings and evaluations, named by everything that changes their numbers.

A step says what, never how: workers, devices and folders are a `Workplace`'s. Its `identity` is a JSON value whose hash
is its name, so that the same identity is done once, whoever asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig
from glotprompt.grid.reading import ExampleSource, TextSource
from glotprompt.grid.store import Store
from glotprompt.model.devices import Precision
from glotprompt.spec import RunSpec, adapt_specs, tune_spec, whole
from glotprompt.stages.self_training import SelfTrainConfig
from glotprompt.task import Task

Unlabelled = TextSource | ExampleSource
"""Target text, or examples whose labels are not read."""


@dataclass(frozen=True)
class PlannedBackbone:
    """A frozen model."""

    fingerprint: str
    precision: Precision
    """The requested precision: "auto" may be bf16 in one store and fp32 in another."""
    name: str = field(compare=False)
    """Name or path; no part of an identity."""
    computed: Precision | None = field(default=None, compare=False)
    """The precision of "auto" in the step's store; None: `precision` holds."""

    @property
    def asked(self) -> tuple[str, Precision]:
        """The part that enters an identity."""
        return self.fingerprint, self.precision


class Named:
    """A step's name, made of its kind and identity."""

    kind: ClassVar[str]

    @property
    def method(self) -> str:
        """Name of the method."""
        raise NotImplementedError

    @cached_property
    def spec(self) -> RunSpec:
        """Everything that its numbers depend on."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The method as people see it: with the system that uses it, where the experiment names one."""
        system = getattr(self, "system", "")
        return f"{self.method} ({system})" if system else self.method

    @cached_property
    def name(self) -> str:
        return f"{self.kind}-{self.spec.identity}"


@dataclass(frozen=True)
class AdaptStep(Named):
    """Stage 1 of one language."""

    kind: ClassVar[str] = "adapt"
    backbone: PlannedBackbone
    language: str
    config: AdaptConfig
    contents: Mapping[str, str]
    """Hashes of the texts: of "target" and "source" ("" where not read), or of "pairs"."""
    texts: Mapping[str, TextSource] = field(compare=False)
    """Sources of the texts; no part of the identity."""
    after: AdaptStep | None = field(default=None, compare=False)
    """The step that trains the part shared with this one (mad-x: the source's adapter) and so runs first."""
    system: str = field(default="", compare=False)
    """Name of the experiment's system (the first one of several); "" for a plain method."""

    @property
    def method(self) -> str:
        return self.config.method

    @cached_property
    def parts(self) -> dict[str, RunSpec]:
        """Its trainings by name."""
        return adapt_specs(self.config, self.contents, self.language, self.backbone.asked)

    @cached_property
    def spec(self) -> RunSpec:
        return whole(self.parts)

    @property
    def shared(self) -> str | None:
        """Identity of the part that stage 1 trains on source text for all languages; None: there is none."""
        return self.parts["source"].identity if "source" in self.parts else None

    @property
    def needs(self) -> tuple[Step, ...]:
        return ()

    def __str__(self) -> str:
        return f"adapt {self.label} to {self.language}, seed {self.config.seed}"


@dataclass(frozen=True)
class TuneStep(Named):
    """Stage 2."""

    kind: ClassVar[str] = "tune"
    backbone: PlannedBackbone
    config: TuneConfig
    task: Task
    train_content: str
    dev_content: str
    adapted: AdaptStep | None
    """Stage 1. For a method that tunes once for all languages, that of any of them."""
    train: ExampleSource = field(compare=False)
    dev: ExampleSource | None = field(compare=False)
    system: str = field(default="", compare=False)
    """Name of the experiment's system (the first one of several); "" for a plain method."""
    pairs_content: str = ""
    pairs: TextSource | None = field(default=None, compare=False)
    """Translations for a ridge map."""
    target_content: str = ""
    """Hash of the labelled target examples."""
    target: ExampleSource | None = field(default=None, compare=False)
    start: TuneStep | None = None
    """The step whose classifier is self-trained; None: stage 2 itself."""
    unlabelled_content: str = ""
    """Hash of the text for self-training."""
    unlabelled: Unlabelled | None = field(default=None, compare=False)

    @property
    def method(self) -> str:
        return str(self.config.method)

    @cached_property
    def spec(self) -> RunSpec:
        contents = {"train": self.train_content}
        if self.dev is not None:
            contents["dev"] = self.dev_content
        if self.pairs is not None:
            contents["pairs"] = self.pairs_content
        builds_on = [] if self.adapted is None else [self.adapted.shared or self.adapted.spec.identity]
        if self.target is not None:
            contents["target_labels"] = self.target_content
        # No language: where stage 2 reads nothing of the target, one training serves all languages.
        spec = tune_spec(self.config, self.task, contents, "", self.backbone.asked, builds_on=builds_on)
        if self.start is None:
            return spec
        return replace(
            spec,
            kind="self-train",
            settings={**spec.settings, **SelfTrainConfig().model_dump(mode="json")},
            contents={**contents, "unlabelled": self.unlabelled_content},
            builds_on=[self.start.spec.identity, *builds_on],
        )

    @property
    def needs(self) -> tuple[Step, ...]:
        return tuple(step for step in (self.start, self.adapted) if step is not None)

    def __str__(self) -> str:
        behind = "" if self.adapted is None or self.adapted.shared else f" behind {self.adapted.language}"
        return f"{'tune' if self.start is None else 'self-train'} {self.label}{behind}, seed {self.config.seed}"


@dataclass(frozen=True)
class EvaluateStep(Named):
    """A classifier scored on one language's test split."""

    kind: ClassVar[str] = "evaluate"
    tuned: TuneStep
    adapted: AdaptStep | None
    """The stage 1 whose language module the classifier gets; None without a stage 1."""
    dataset: str
    target: str
    test_content: str
    source: str
    """The source language, for the record."""
    test: ExampleSource = field(compare=False)
    centre_content: str = ""
    """Hash of the target text that centres sentence vectors; "": they are not centred."""
    centre: Unlabelled | None = field(default=None, compare=False)
    folds: int | None = None
    """Cross-fitting: `test` has the examples of the source in the target language, and of so many parts each is scored
    by a classifier of the others. They are trained within this step; `tuned` says how."""
    system: str = field(default="", compare=False)
    """Name of the experiment's system (the first one of several); "" for a plain method."""

    @property
    def backbone(self) -> PlannedBackbone:
        return self.tuned.backbone

    @property
    def method(self) -> str:
        return self.tuned.method

    @cached_property
    def spec(self) -> RunSpec:
        behind = [] if self.adapted is None else [self.adapted.spec.identity]
        scored = {"test": self.test_content}
        if self.centre is not None:
            scored["centre"] = self.centre_content
        builds_on = [self.tuned.spec.identity, *behind]
        settings = {"dataset": self.dataset} if self.folds is None else {"dataset": self.dataset, "folds": self.folds}
        return RunSpec(self.kind, settings, contents=scored, language=self.target, builds_on=builds_on)

    @property
    def needs(self) -> tuple[Step, ...]:
        tuned = () if self.folds is not None else (self.tuned,)
        return tuned if self.adapted is None else (*tuned, self.adapted)

    def __str__(self) -> str:
        return f"evaluate {self.label} on {self.target}, seed {self.tuned.config.seed}"


@dataclass(frozen=True)
class CostStep(Named):
    """A method's costs on a backbone, counted without weights."""

    kind: ClassVar[str] = "cost"
    model: str
    adapt: AdaptConfig
    tune: TuneConfig

    @property
    def method(self) -> str:
        return str(self.tune.method)

    @cached_property
    def spec(self) -> RunSpec:
        configs = {"adapt": self.adapt.model_dump(mode="json"), "tune": self.tune.model_dump(mode="json")}
        return RunSpec(self.kind, {"model": self.model, **configs})

    @property
    def needs(self) -> tuple[Step, ...]:
        return ()

    def __str__(self) -> str:
        return f"count {self.method} on {self.model}"


Step = AdaptStep | TuneStep | EvaluateStep | CostStep


@dataclass(frozen=True)
class Workplace:
    """Folders, device and runtime settings of steps; nothing here changes a number."""

    store: Store
    data_dir: Path | None = None
    device: str = "auto"
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    retry_failed: bool = False
