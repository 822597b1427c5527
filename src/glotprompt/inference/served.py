"""Served classifiers: metadata stay in memory, tensors are loaded when needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from glotprompt.data.characters import CharacterMap
from glotprompt.errors import ArtifactError
from glotprompt.inference.classifier import PromptClassifier, task_of
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.classification import EmbeddingHead, Head
from glotprompt.model.modules.module import Module
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.modules.stack import body_and_head
from glotprompt.model.prefix import Positions
from glotprompt.storage import artifact
from glotprompt.task import Task
from glotprompt.training.objectives.cloze import Words, label_words


@dataclass(frozen=True, eq=False)
class Decoded:
    """A classifier's tensors on the backbone's device."""

    prompt: Float[Tensor, "layer 2 head prompt dim"] | None
    """In the dtype of the body; None for a classifier that is not `Served.mixes`."""
    positions: Positions
    head: Head | None
    """The classification head; None: label words."""
    body: Module | None
    """For a classifier that is not `Served.mixes`."""
    num_bytes: int

    @classmethod
    def of(cls, classifier: PromptClassifier, backbone: Backbone) -> Decoded:
        """Tensors of a classifier for a forward pass. Raises `ArtifactError` for a prompt of another shape."""
        prompt, head = classifier.body, classifier.head
        own = 0 if head is None else sum(tensor.nbytes for tensor in head.tensors().values())
        if not isinstance(prompt, SoftPrompt):
            return cls(None, "plain", head, prompt, own + sum(tensor.nbytes for tensor in prompt.tensors().values()))
        with torch.no_grad():
            key_values = prompt.key_values().to(backbone.device, backbone.dtype)
        shape = backbone.prompt_shape(prompt.prompt_length)
        if tuple(key_values.shape) != shape:
            raise ArtifactError(f"a prompt of shape {list(key_values.shape)}; the backbone needs {list(shape)}")
        return cls(key_values, prompt.positions, head, None, key_values.nbytes + own)


@dataclass(frozen=True, eq=False)
class Served:
    """One version of a classifier. A replaced file gives a new object; requests in progress keep the old one."""

    name: str
    language: str
    """ISO 639-3 code."""
    task: Task
    max_length: int
    offsets: tuple[float, ...] | None
    characters: CharacterMap | None
    words: Words | None
    """The label words; None where a head reads the labels."""
    pooled_layer: int | None
    """The layer whose pooled states the head reads; None: it reads one position of the last."""
    reads_characters: bool
    """Whether it reads n-grams of characters instead of tokens."""
    mixes: bool
    """Whether its rows may share a batch with those of other classifiers."""
    decoded: Callable[[], Decoded]
    """Its tensors, from memory or from disk. Raises `ArtifactError` where the disk no longer holds them."""

    @property
    def num_reads(self) -> int:
        """`Words.num_reads`; 0 where a head reads the labels."""
        return 0 if self.words is None else self.words.num_reads

    @property
    def continuations(self) -> tuple[tuple[int, ...], ...]:
        """`Words.continuations`; none where a head reads the labels."""
        return () if self.words is None else self.words.continuations

    @classmethod
    def of(cls, name: str, metadata: Mapping[str, Any], backbone: Backbone, decoded: Callable[[], Decoded]) -> Served:
        """Build it from the metadata of a classifier's file (`PromptClassifier.description`). Raises `ArtifactError`
        for another backbone, `ConfigError` for a label word that the backbone cannot spell."""
        artifact.check_backbone(name, metadata, backbone.name, backbone.fingerprint)
        task = task_of(metadata, name)
        body, head = body_and_head(metadata["module"])
        pooled_layer = head["layer"] if head is not None and head["kind"] == EmbeddingHead.kind else None
        words = label_words(task, backbone.tokenizer, backbone.input_embeddings) if head is None else None
        # Rows of a batch can differ in their prompts; everything else changes the body itself, for all rows at once.
        mixes = body["kind"] == SoftPrompt.kind
        offsets = None if metadata["offsets"] is None else tuple(metadata["offsets"])
        return cls(
            name=name,
            language=metadata["language"],
            task=task,
            max_length=metadata["max_length"],
            offsets=offsets,
            characters=CharacterMap.in_file(metadata),
            words=words,
            pooled_layer=pooled_layer,
            reads_characters=metadata["backbone"] == artifact.NO_BACKBONE,
            mixes=mixes,
            decoded=decoded,
        )


class ClassifierSource(Protocol):
    """A changing set of classifiers, such as a service has."""

    def snapshot(self) -> Mapping[str, Served]:
        """All classifiers by name at this moment; later changes do not affect it."""
        ...
