"""Steps: frozen descriptions of what to do, named by everything that changes their numbers.

A step says what, never how: workers, devices and folders are a `Workplace`'s. Its `identity` is a JSON value whose hash
is its name, so that the same identity is done once, whoever asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig, identity_of
from glotprompt.grid.reading import ExampleSource, TextSource
from glotprompt.grid.store import Store
from glotprompt.methods import METHODS
from glotprompt.model.devices import Precision
from glotprompt.templates import Task

FORMAT = 1
"""Part of every identity; raised when the same words are to give other numbers."""


@dataclass(frozen=True)
class Backbone:
    """A frozen model."""

    fingerprint: str
    precision: Precision
    """As asked: "auto" may be bf16 in one store and fp32 in another."""
    name: str = field(compare=False)
    """Where it is found; no part of an identity."""
    computed: Precision | None = field(default=None, compare=False)
    """What "auto" means in the store of the step; None: see `precision`."""

    @property
    def identity(self) -> dict[str, Any]:
        return {"fingerprint": self.fingerprint, "precision": self.precision}


class Named:
    """A step's name, of its kind and identity."""

    kind: ClassVar[str]

    @property
    def method(self) -> str:
        """Whose step it is."""
        raise NotImplementedError

    @property
    def identity(self) -> dict[str, Any]:
        raise NotImplementedError

    @cached_property
    def name(self) -> str:
        return f"{self.kind}-{identity_of({'format': FORMAT, **self.identity})}"


@dataclass(frozen=True)
class AdaptStep(Named):
    """Stage 1 of one language."""

    kind: ClassVar[str] = "adapt"
    backbone: Backbone
    language: str
    config: AdaptConfig
    target_content: str
    """Hash of the target's text; "" where it is not read. So for `source_content`."""
    source_content: str
    target: TextSource = field(compare=False)
    """Where the texts come from, no part of the identity: what they say is. So for `source`."""
    source: TextSource = field(compare=False)
    after: AdaptStep | None = field(default=None, compare=False)
    """The step that trains what is shared with this one (mad-x: the source's adapter), which goes first."""

    @property
    def method(self) -> str:
        return self.config.method

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "backbone": self.backbone.identity, "language": self.language,
            "config": self.config.model_dump(mode="json"), "target": self.target_content, "source": self.source_content,
        }  # fmt: skip

    @property
    def shared(self) -> dict[str, Any] | None:
        """The identity of what stage 1 trains on source text beside the language's own part; None: nothing."""
        if "source" not in METHODS[self.method].shares:
            return None
        return {**self.identity, "language": "", "target": ""}

    @property
    def needs(self) -> tuple[Step, ...]:
        return ()

    def __str__(self) -> str:
        return f"adapt {self.method} to {self.language}, seed {self.config.seed}"


@dataclass(frozen=True)
class TuneStep(Named):
    """Stage 2."""

    kind: ClassVar[str] = "tune"
    backbone: Backbone
    config: TuneConfig
    task: Task
    train_content: str
    dev_content: str
    adapted: AdaptStep | None
    """Stage 1. Of a method that tunes once for all languages any of them serves."""
    train: ExampleSource = field(compare=False)
    dev: ExampleSource | None = field(compare=False)

    @property
    def method(self) -> str:
        return str(self.config.method)

    @property
    def identity(self) -> dict[str, Any]:
        begun: Any = None
        if self.adapted is not None:
            begun = self.adapted.shared or self.adapted.name
        return {
            "backbone": self.backbone.identity, "config": self.config.model_dump(mode="json"),
            "task": self.task.identity(), "train": self.train_content, "dev": self.dev_content, "adapted": begun,
        }  # fmt: skip

    @property
    def needs(self) -> tuple[Step, ...]:
        return () if self.adapted is None else (self.adapted,)

    def __str__(self) -> str:
        behind = "" if self.adapted is None or self.adapted.shared else f" behind {self.adapted.language}"
        return f"tune {self.method}{behind}, seed {self.config.seed}"


@dataclass(frozen=True)
class EvaluateStep(Named):
    """A classifier scored on one language's test split."""

    kind: ClassVar[str] = "evaluate"
    tuned: TuneStep
    adapted: AdaptStep | None
    """Whose language module the classifier gets; None where there is no stage 1."""
    dataset: str
    target: str
    test_content: str
    source: str
    """The source language, for the record."""
    test: ExampleSource = field(compare=False)

    @property
    def backbone(self) -> Backbone:
        return self.tuned.backbone

    @property
    def method(self) -> str:
        return self.tuned.method

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "tuned": self.tuned.name, "adapted": None if self.adapted is None else self.adapted.name,
            "dataset": self.dataset, "target": self.target, "test": self.test_content,
        }  # fmt: skip

    @property
    def needs(self) -> tuple[Step, ...]:
        return (self.tuned,) if self.adapted is None else (self.tuned, self.adapted)

    def __str__(self) -> str:
        return f"evaluate {self.method} on {self.target}, seed {self.tuned.config.seed}"


@dataclass(frozen=True)
class CostStep(Named):
    """What a method takes on a backbone, counted without weights."""

    kind: ClassVar[str] = "cost"
    model: str
    adapt: AdaptConfig
    tune: TuneConfig

    @property
    def method(self) -> str:
        return str(self.tune.method)

    @property
    def identity(self) -> dict[str, Any]:
        configs = {"adapt": self.adapt.model_dump(mode="json"), "tune": self.tune.model_dump(mode="json")}
        return {"model": self.model, **configs}

    @property
    def needs(self) -> tuple[Step, ...]:
        return ()

    def __str__(self) -> str:
        return f"count {self.method} on {self.model}"


Step = AdaptStep | TuneStep | EvaluateStep | CostStep


@dataclass(frozen=True)
class Workplace:
    """Where and how steps are run; nothing here changes a number."""

    store: Store
    data_dir: Path | None = None
    device: str = "auto"
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    retry_failed: bool = False
