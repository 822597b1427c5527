"""Saved results: a language prompt or module (stage 1) and a prompt classifier (stage 2)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from glotprompt.data.characters import CharacterMap
from glotprompt.data.samples import Samples
from glotprompt.errors import ArtifactError, ConfigError, ModelError, UserError
from glotprompt.inference.measurements import measurements_of
from glotprompt.inference.publishing import located
from glotprompt.inference.saved import Saved, SavedStage1
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.classification import EmbeddingHead, Head
from glotprompt.model.modules.module import Module
from glotprompt.model.modules.ngrams import NgramHead
from glotprompt.model.modules.soft_prompt import SoftPrompt, check_prompt
from glotprompt.model.modules.stack import described, packed, refuse_strays, restored, tensors_of, unpacked
from glotprompt.model.prefix import Positions, Prefix
from glotprompt.records import LabelPrior, Stage1Report, TuneReport, stage1_report
from glotprompt.storage import artifact
from glotprompt.storage.metadata import Measurement, check_metadata, check_values, describe
from glotprompt.task import Task
from glotprompt.training.calibration import fit_offsets, with_offsets
from glotprompt.training.objectives.cloze import encode_without_mask, label_words
from glotprompt.training.objectives.embedding import mean_vector
from glotprompt.training.objectives.inputs import Input, check_length, fields_of, read_inputs, rewritten_fields
from glotprompt.training.objectives.scoring import log_probabilities


@dataclass(frozen=True)
class Part:
    """A saved module: independent of a backbone, in fp32 on the CPU."""

    description: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, module: Module) -> Part:
        """A module's tensors and description, from which it can be restored."""
        return cls(described(module), {name: _to_cpu(value) for name, value in module.tensors().items()})

    def restored(self, backbone: Backbone) -> Module:
        return restored(backbone, self.description, self.tensors)


@dataclass(frozen=True, repr=False)
class LanguageModule(SavedStage1):
    """The result of stage 1 of any method: modules trained on one language's text, for one backbone."""

    method: str
    parts: dict[str, Part]
    """"language": the target's; "source" (mad-x): the source language's, on which stage 2 trains."""
    language: str
    """ISO 639-3 code."""
    backbone: dict[str, str]
    """Name and fingerprint of the model it was trained for."""
    report: Stage1Report | None = None
    """How it was made."""
    characters: CharacterMap | None = None
    """Characters that are rewritten in every text before it is tokenised, from stage 1 to the last prediction."""
    samples: Samples | None = None
    """Held-out texts of the language to try it on. Not in the report, which is copied into results."""

    def __repr__(self) -> str:
        parameters = sum(value.numel() for part in self.parts.values() for value in part.tensors.values())
        return self.line(self.backbone, parameters)

    def attached(self, backbone: Backbone) -> AbstractContextManager[Prefix | None]:
        """Attach the language's part (`Module.attached`)."""
        return self.parts["language"].restored(backbone).attached(backbone)

    def save(self, path: str | Path) -> Path:
        """Write one `.safetensors` file, atomically."""
        tensors = {f"{name}.{key}": value for name, part in self.parts.items() for key, value in part.tensors.items()}
        parts = {name: part.description for name, part in self.parts.items()}
        metadata = {**_metadata_of(self), "backbone": self.backbone, "parts": parts}
        return artifact.write(path, "language module", tensors, metadata)

    @classmethod
    def load(cls, path: str | Path, backbone: Backbone | None = None) -> LanguageModule:
        """Open a saved module: a file or a repository of the hub, "user/repo". With a backbone given, refuse one made
        for another backbone (`ArtifactError`)."""
        path = located(path)
        tensors, metadata = _read_for(path, "language module", backbone)
        parts = {part: Part(description, tensors_of(part, tensors)) for part, description in metadata["parts"].items()}
        with _naming(path):
            if backbone is not None:
                refuse_strays(tensors, list(parts))
                _ = [part.restored(backbone) for part in parts.values()]
        return cls(
            metadata["method"], parts, metadata["language"], metadata["backbone"],
            stage1_report(metadata["training"], str(path)),
            CharacterMap.in_file(metadata), Samples.in_file(metadata),
        )  # fmt: skip


@dataclass(frozen=True, repr=False)
class LanguagePrompt(SavedStage1):
    """The result of stage 1 with prompts: one language's key/value vectors for one backbone, in fp32."""

    key_values: Float[Tensor, "layer 2 head prompt dim"]
    language: str
    """ISO 639-3 code."""
    backbone: dict[str, str]
    """Name and fingerprint of the model it was trained for."""
    positions: Positions = "plain"
    report: Stage1Report | None = None
    """How it was made."""
    method: str = "soft-prompt"
    """soft-prompt, or source-prompt (trained on source text alone)."""
    characters: CharacterMap | None = None
    """Character map (`LanguageModule.characters`)."""
    samples: Samples | None = None
    """Held-out texts (`LanguageModule.samples`)."""

    def __repr__(self) -> str:
        return self.line(self.backbone, self.key_values.numel())

    @property
    def prompt_length(self) -> int:
        return self.key_values.shape[3]

    def prefix(self, backbone: Backbone) -> Prefix:
        """The prefix that puts this prompt in front of a batch."""
        return Prefix.shared(self.key_values.to(backbone.device), backbone.dtype, self.positions)

    def attached(self, backbone: Backbone) -> AbstractContextManager[Prefix]:
        """Attach the prompt (`Module.attached`)."""
        return nullcontext(self.prefix(backbone))

    @property
    def parts(self) -> dict[str, Part]:
        """The prompt as the only part (`LanguageModule.parts`)."""
        return {"language": Part.of(SoftPrompt(self.key_values, positions=self.positions))}

    def save(self, path: str | Path) -> Path:
        """Write one `.safetensors` file, atomically."""
        about = {"backbone": self.backbone, "positions": self.positions, "prompt_length": self.prompt_length}
        metadata = {**_metadata_of(self), **about}
        return artifact.write(path, "language prompt", {"key_values": self.key_values}, metadata)

    @classmethod
    def load(cls, path: str | Path, backbone: Backbone | None = None) -> LanguagePrompt:
        """Open a saved prompt: a file or a repository of the hub, "user/repo". With a backbone given, refuse one made
        for another backbone (`ArtifactError`)."""
        path = located(path)
        tensors, metadata = _read_for(path, "language prompt", backbone)
        with _naming(path):
            check_prompt(tensors, metadata["positions"], backbone)
        return cls(
            tensors["key_values"], metadata["language"], metadata["backbone"], metadata["positions"],
            stage1_report(metadata["training"], str(path)), metadata["method"], CharacterMap.in_file(metadata),
            Samples.in_file(metadata),
        )  # fmt: skip


Adapted = LanguagePrompt | LanguageModule
"""The result of stage 1: a prompt, or for methods without prompts a module."""


def load_adapted(path: str | Path, backbone: Backbone | None = None) -> Adapted:
    """Open a saved result of stage 1, of any method: a file, or a repository of the hub."""
    path = located(path)
    kind = describe(path, ("language prompt", "language module"))["kind"]
    return (LanguagePrompt if kind == "language prompt" else LanguageModule).load(path, backbone)


def _metadata_of(result: Adapted | PromptClassifier) -> dict[str, Any]:
    """Metadata that the files of both stages have."""
    report, characters, samples = result.report, result.characters, result.samples
    return {
        "method": result.method,
        "language": result.language,
        "characters": None if characters is None else characters.to_dict(),
        "samples": None if samples is None else samples.to_dict(),
        "training": {} if report is None else report.to_json(),
        "versions": artifact.versions(),
    }


def _read_for(path: str | Path, kind: str, backbone: Backbone | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, metadata = artifact.read(path, kind)
    check_metadata(path, metadata)
    check_values(path, tensors)
    if backbone is not None:
        artifact.check_backbone(path, metadata, backbone.name, backbone.fingerprint)
    return tensors, metadata


@dataclass(frozen=True)
class Prediction:
    """A label and the probability of every label (they sum to 1)."""

    label: str
    scores: dict[str, float]


@dataclass(frozen=True, repr=False)
class PromptClassifier(Saved):
    """The result of stage 2: a trained module with template and verbalizer, ready to classify with its backbone."""

    backbone: Backbone
    body: Module
    """The module attached to the backbone: a `SoftPrompt` for methods that train only prompts."""
    task: Task
    language: str
    max_length: int
    head: Head | None = None
    """The classification head; None: label words."""
    offsets: tuple[float, ...] | None = None
    """Offsets added to the labels' log-probabilities; None: uncalibrated (see `with_label_prior`)."""
    report: TuneReport | None = None
    """How it was made."""
    method: str = "soft-prompt"
    characters: CharacterMap | None = None
    """Characters that are rewritten in every text, as in stage 1 of its language."""
    samples: Samples | None = None
    """Sample texts to try it on; none was trained on."""
    measurements: tuple[Measurement, ...] = ()
    """Accuracies on labelled examples, the newest last."""
    seen: str = ""
    """Digests of the labelled texts that it was trained or chosen on (`data.seen`); "": none are kept."""

    def __repr__(self) -> str:
        parameters = sum(value.numel() for value in packed(self.body, self.head)[1].values())
        return self.line(self.backbone.reference, parameters, f"{self.task.name} ({len(self.task.labels)} labels)")

    @property
    def training(self) -> TuneReport:
        """The report of its training; `ConfigError` for one that is put together by hand."""
        if self.report is None:
            raise ConfigError("this classifier was not trained by tune, so nothing is known of its training")
        return self.report

    @property
    def reads_characters(self) -> bool:
        """Whether it reads characters, and nothing of the backbone."""
        return isinstance(self.head, NgramHead)

    @property
    def made_from(self) -> str | None:
        """Identity of the run that made it; None if unknown."""
        return None if self.report is None else self.report.made_from

    def with_report(self, **changes: Any) -> PromptClassifier:
        """The same with some fields of its report changed, where it has one."""
        return replace(self, report=None if self.report is None else self.report.replace(**changes))

    @property
    def prompt(self) -> SoftPrompt | None:
        """The trained prompt; None for a method without one."""
        return next((part for part in self.body.modules() if isinstance(part, SoftPrompt)), None)

    @property
    def key_values(self) -> Float[Tensor, "layer 2 head prompt dim"]:
        """The prompt's vectors in fp32 on the CPU. Raises `ConfigError` for a method without a prompt."""
        if self.prompt is None:
            raise ConfigError(f"a classifier of method {self.method!r} has no prompt")
        return _to_cpu(self.prompt.key_values())

    def log_probabilities(
        self, inputs: Sequence[Input], batch_size: int = 32
    ) -> Float[NDArray[np.float64], "batch label"]:
        """log P(label | input) without offsets, in the order of inputs and labels."""
        fields = [fields_of(item) for item in inputs]
        reader, clozes = read_inputs(self.backbone, fields, self.task, self.head, self.max_length, self.characters)
        with torch.no_grad(), self.body.attached(self.backbone) as prefix:
            log_probs = log_probabilities(self.backbone, clozes, prefix, reader, batch_size)
        if not np.isfinite(log_probs).all():
            raise ModelError(
                f"the classifier gives NaN or infinity instead of probabilities; its values, or those of"
                f" {self.backbone.name}, are damaged or too large: make it anew, or try it in fp32"
            )
        return log_probs

    def predict(
        self, inputs: Sequence[Input], *, labels: Sequence[str] | None = None, batch_size: int = 32
    ) -> list[Prediction]:
        """Classify texts or (premise, hypothesis) pairs; `labels` restricts the choice to some of the labels."""
        log_probs = self.log_probabilities(inputs, batch_size)
        offsets = None if self.offsets is None else np.array(self.offsets)
        rows, names = with_offsets(log_probs, offsets, self.task.indices(labels)), self.task.labels
        return [Prediction(names[int(row.argmax())], dict(zip(names, row.tolist(), strict=True))) for row in rows]

    def uniform_prior(self, labels: Sequence[str] | None = None) -> dict[str, float]:
        """All `labels` (None: the task's) alike, but for those that it has seen no example of. Label words do not help
        these: training on the others has made them improbable, and an offset would give them texts at random."""
        seen = None if self.report is None else self.report.labels
        return {name: float(seen is None or seen.get(name, 0) > 0) for name in labels or self.task.labels}

    def with_label_prior(
        self, texts: Sequence[Input], prior: dict[str, float] | None = None, batch_size: int = 32
    ) -> PromptClassifier:
        """The same classifier with one offset per label, fitted on unlabelled target text so that the mean predicted
        probabilities meet `prior` (None: `uniform_prior`). Do not fit on the texts that are to be scored."""
        names, prior = self.task.labels, self.uniform_prior() if prior is None else prior
        self.task.indices(list(prior))
        target = [float(prior.get(name, 0.0)) for name in names]
        offsets = fit_offsets(self.log_probabilities(texts, batch_size), target)
        finite = np.where(np.isfinite(offsets), offsets, -1e9)
        recorded = LabelPrior(prior=dict(zip(names, target, strict=True)), num_texts=len(texts))
        return replace(self.with_report(label_prior=recorded), offsets=tuple(finite.tolist()), measurements=())

    def with_target_text(self, texts: Sequence[Input], batch_size: int = 32) -> PromptClassifier:
        """The same classifier with sentence vectors centred by the mean of these (unlabelled, target-language) texts
        instead of the source examples'. For method embedding; `ConfigError` for others."""
        head = self.head
        if not isinstance(head, EmbeddingHead):
            raise ConfigError(f"method {self.method!r} has no sentence vectors to centre; leave the target text out")
        if not texts:
            raise ConfigError("there is no target text to centre by; give at least one")
        fields = rewritten_fields([fields_of(item) for item in texts], self.characters)
        clozes = encode_without_mask(fields, self.task, self.backbone.tokenizer, self.max_length)
        with torch.no_grad(), self.body.attached(self.backbone) as prefix:
            centre = mean_vector(self.backbone, clozes, prefix, head.layer, batch_size)
        head = head.with_centre(centre).requires_grad_(False)
        return replace(self.for_other_text().with_report(centred_on=len(texts)), head=head)

    def for_other_text(self) -> PromptClassifier:
        """The same without offsets and measurements, which are of what it reads now."""
        is_calibrated = self.report is not None and self.report.label_prior is not None
        return replace(self.with_report(label_prior=None) if is_calibrated else self, offsets=None, measurements=())

    def description(self) -> dict[str, Any]:
        """Metadata of its file; JSON."""
        prompt, (module, _) = self.prompt, packed(self.body, self.head)
        return {
            **_metadata_of(self), "module": module, "seen": self.seen,
            "backbone": artifact.NO_BACKBONE if self.reads_characters else self.backbone.reference,
            "task": self.task.to_dict(), "labels": list(self.task.labels), "max_length": self.max_length,
            "offsets": self.offsets, "prompt_length": None if prompt is None else prompt.prompt_length,
            artifact.MEASUREMENTS: [one.to_json() for one in self.measurements],
        }  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write one `.safetensors` file, atomically."""
        return artifact.write(path, "classifier", packed(self.body, self.head)[1], self.description())

    @classmethod
    def load(cls, path: str | Path, backbone: Backbone) -> PromptClassifier:
        """Open a saved classifier, a file or a repository of the hub, on its backbone; another backbone is an
        `ArtifactError`."""
        path = located(path)
        return cls.of(*_read_for(path, "classifier", backbone), backbone, path)

    @classmethod
    def of(
        cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], backbone: Backbone, path: str | Path
    ) -> PromptClassifier:
        """Build a classifier from the tensors and metadata of a file."""
        offsets, task = metadata["offsets"], task_of(metadata, path)
        with _naming(path):
            body, head = unpacked(backbone, metadata["module"], tensors)
            if not isinstance(head, NgramHead):
                check_length(backbone, metadata["max_length"], body)
            if head is None:
                backbone.require_lm_head("a classifier with label words")
                label_words(task, backbone.tokenizer)
            elif head.num_labels != len(task.labels):
                raise ArtifactError(f"a head of {head.num_labels} labels, expected {len(task.labels)}; make it anew")
        return cls(
            backbone, body, task, metadata["language"], metadata["max_length"], head,
            None if offsets is None else tuple(offsets),
            TuneReport.of(metadata["training"], str(path)) if metadata["training"] else None,
            metadata["method"], CharacterMap.in_file(metadata), Samples.in_file(metadata),
            measurements_of(metadata), metadata.get("seen", ""),
        )  # fmt: skip


@contextmanager
def _naming(path: str | Path) -> Generator[None]:
    """Make errors inside the block name the file."""
    try:
        yield
    except UserError as error:
        raise ArtifactError(f"{path}: {error}") from None


def task_of(metadata: Mapping[str, Any], path: str | Path) -> Task:
    """The task of a saved classifier."""
    # The file's keys are sorted; the order of the labels, which is also that of the offsets, is a list beside them.
    words = {label: metadata["task"]["verbalizer"][label] for label in metadata["labels"]}
    return Task.from_dict({**metadata["task"], "verbalizer": words}, where=str(path))


def _to_cpu(value: Tensor) -> Tensor:
    """A detached fp32 copy on the CPU, as artifacts hold it."""
    return value.detach().to(device=torch.device("cpu"), dtype=torch.float32, copy=True)
