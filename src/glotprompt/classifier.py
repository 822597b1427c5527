"""The two things that are saved and used: a language prompt (stage 1) and a prompt classifier (stage 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from glotprompt import artifact
from glotprompt.data.records import Example
from glotprompt.errors import ConfigError, nearest
from glotprompt.model.encoder import Encoder
from glotprompt.model.soft_prompt import Positions
from glotprompt.templates import Task
from glotprompt.train.cloze import encode, label_words
from glotprompt.train.scoring import fit_offsets, log_probabilities, with_offsets

Input = str | tuple[str, str] | Example
"""A text, a (premise, hypothesis) pair, or an example (its label is not looked at)."""


@dataclass(frozen=True)
class LanguagePrompt:
    """The result of stage 1: one language's key/value vectors for one backbone, in fp32."""

    key_values: Float[Tensor, "layer 2 head prompt dim"]
    language: str
    """ISO 639-3 code."""
    backbone: dict[str, str]
    """Name and fingerprint of the model it was trained for."""
    positions: Positions = "plain"
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    """Config, losses before and after, text amounts, versions: for people, not for the code."""

    @property
    def prompt_length(self) -> int:
        return self.key_values.shape[3]

    def save(self, path: str | Path) -> Path:
        """Write one `.safetensors` file, atomically."""
        facts = {
            "language": self.language, "backbone": self.backbone, "positions": self.positions,
            "prompt_length": self.prompt_length, "training": self.facts, "versions": artifact.versions(),
        }  # fmt: skip
        return artifact.write(path, "language prompt", {"key_values": self.key_values}, facts)

    @classmethod
    def load(cls, path: str | Path, encoder: Encoder | None = None) -> LanguagePrompt:
        """Open a saved prompt; with an encoder given, refuse one made for another backbone (`ArtifactError`)."""
        tensors, facts = artifact.read(path, "language prompt")
        if encoder is not None:
            artifact.check_backbone(path, facts, encoder.name, encoder.fingerprint)
        return cls(tensors["key_values"], facts["language"], facts["backbone"], facts["positions"], facts["training"])


@dataclass(frozen=True)
class Prediction:
    """A label and the probability of every label (they sum to 1)."""

    label: str
    scores: dict[str, float]


@dataclass(frozen=True)
class PromptClassifier:
    """The result of stage 2: prompt, template and verbalizer, ready to classify with its encoder."""

    encoder: Encoder = field(repr=False)
    key_values: Float[Tensor, "layer 2 head prompt dim"] = field(repr=False)
    task: Task
    language: str
    max_length: int
    positions: Positions = "plain"
    offsets: tuple[float, ...] | None = None
    """Added to the labels' log-probabilities; None: nothing (see `with_label_prior`)."""
    facts: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def log_probabilities(
        self, inputs: Sequence[Input], batch_size: int = 32
    ) -> Float[NDArray[np.float64], "batch label"]:
        """log P(label | input) without offsets, in the order of inputs and labels."""
        clozes = encode([_fields(item) for item in inputs], self.task, self.encoder.tokenizer, self.max_length)
        words = label_words(self.task, self.encoder.tokenizer)
        key_values = self.key_values.to(self.encoder.device)
        return log_probabilities(self.encoder, clozes, key_values, words, self.positions, batch_size)

    def predict(
        self, inputs: Sequence[Input], *, labels: Sequence[str] | None = None, batch_size: int = 32
    ) -> list[Prediction]:
        """Classify texts or (premise, hypothesis) pairs; `labels` restricts the choice to some of the labels."""
        log_probs = self.log_probabilities(inputs, batch_size)
        offsets = None if self.offsets is None else np.array(self.offsets)
        probabilities = with_offsets(log_probs, offsets, self.allowed(labels))
        names = self.task.labels
        return [
            Prediction(names[int(row.argmax())], dict(zip(names, row.tolist(), strict=True))) for row in probabilities
        ]

    def allowed(self, labels: Sequence[str] | None) -> list[int] | None:
        """Indices of the labels that may be predicted; None: all."""
        if labels is None:
            return None
        for label in labels:
            if label not in self.task.labels:
                known = ", ".join(self.task.labels)
                raise ConfigError(
                    f"the classifier has no label {label!r}; it has {known}.{nearest(label, self.task.labels)}"
                )
        return [self.task.labels.index(label) for label in labels]

    def with_label_prior(self, texts: Sequence[Input], prior: dict[str, float] | None = None) -> PromptClassifier:
        """The same classifier with one offset per label, fitted on unlabelled target text so that the mean predicted
        probabilities meet `prior` (None: uniform). Do not fit on the texts that are to be scored."""
        names = self.task.labels
        self.allowed(list(prior or ()))
        wanted = [1.0] * len(names) if prior is None else [float(prior.get(name, 0.0)) for name in names]
        offsets = fit_offsets(self.log_probabilities(texts), wanted)
        finite = np.where(np.isfinite(offsets), offsets, -1e9)
        recorded = {"prior": dict(zip(names, wanted, strict=True)), "num_texts": len(texts)}
        return replace(self, offsets=tuple(finite.tolist()), facts={**self.facts, "label_prior": recorded})

    def save(self, path: str | Path) -> Path:
        """Write one `.safetensors` file, atomically."""
        facts = {
            "language": self.language,
            "backbone": {"name": self.encoder.name, "fingerprint": self.encoder.fingerprint},
            "positions": self.positions, "task": self.task.to_dict(), "labels": list(self.task.labels),
            "max_length": self.max_length, "offsets": self.offsets, "prompt_length": self.key_values.shape[3],
            "training": self.facts, "versions": artifact.versions(),
        }  # fmt: skip
        return artifact.write(path, "classifier", {"key_values": self.key_values}, facts)

    @classmethod
    def load(cls, path: str | Path, encoder: Encoder) -> PromptClassifier:
        """Open a saved classifier on its backbone; another backbone is an `ArtifactError`."""
        tensors, facts = artifact.read(path, "classifier")
        artifact.check_backbone(path, facts, encoder.name, encoder.fingerprint)
        offsets, task = facts["offsets"], facts["task"]
        # The file's keys are sorted; the order of the labels, which is also that of the offsets, is a list beside them.
        task["verbalizer"] = {label: task["verbalizer"][label] for label in facts["labels"]}
        return cls(
            encoder,
            tensors["key_values"],
            Task.from_dict(task, where=str(path)),
            facts["language"],
            facts["max_length"],
            facts["positions"],
            None if offsets is None else tuple(offsets),
            facts["training"],
        )


def _fields(item: Input) -> dict[str, str]:
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, tuple):
        return {"premise": item[0], "hypothesis": item[1]}
    return dict(item.fields)


def to_cpu(key_values: Tensor) -> Tensor:
    """A detached fp32 copy on the CPU, as artifacts hold it."""
    return key_values.detach().to(device=torch.device("cpu"), dtype=torch.float32)
