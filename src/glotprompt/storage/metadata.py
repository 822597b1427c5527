"""Validation of saved files. A digest shows that a file is unchanged, not that its content makes sense: metadata and
values are checked here whenever a file is opened."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator
from torch import Tensor

from glotprompt.config import MethodName
from glotprompt.errors import ArtifactError, in_a_line
from glotprompt.method_registry import DESCRIPTIONS
from glotprompt.records import Record
from glotprompt.storage import artifact

Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
PartName = Literal["language", "task", "adapter", "lm_head"]
_Part = TypeVar("_Part")


class _Section(BaseModel):
    """A part of a file's metadata: types are strict, and fields of a later version are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)


class _Backbone(_Section):
    name: Text
    fingerprint: Text


class _Prompt(_Section):
    kind: Literal["prompt"]
    positions: Literal["plain", "shifted"]


class _InputPrompt(_Section):
    kind: Literal["input prompt"]


class _Adapter(_Section):
    kind: Literal["adapter"]
    hidden_size: Count
    num_layers: Count
    reduction: Count
    invertible_reduction: Count | None
    drop_last: bool


class _HoulsbyAdapter(_Adapter):
    kind: Literal["houlsby adapter"]  # pyright: ignore[reportIncompatibleVariableOverride]


class _Lora(_Section):
    kind: Literal["lora"]
    rank: Count
    alpha: Finite
    targets: Literal["all"] | list[str] | None


class _Weights(_Section):
    kind: Literal["weights"]


class _ModuleStack(_Section, Generic[_Part]):
    kind: Literal["stack"]
    parts: list[Annotated[tuple[PartName, _Part], Strict(False)]]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [name for name, _ in self.parts]
        if len(names) != len(set(names)):
            raise ValueError("names a part twice")
        return self


# The deepest nesting: adapters with a trained LM head, inside those of a task.
_Leaf = Annotated[_Prompt | _InputPrompt | _Adapter | _HoulsbyAdapter | _Lora | _Weights, Field(discriminator="kind")]
_Inner = _Leaf | _ModuleStack[_Leaf]
_Module = _Leaf | _ModuleStack[_Inner]


class _LinearHead(_Section):
    kind: Literal["linear head"]


class _EmbeddingHead(_Section):
    kind: Literal["embedding head"]
    layer: Annotated[int, Field(ge=0)]


class _NgramHead(_Section):
    kind: Literal["n-gram head"]
    ngrams: list[Text]


_Body = Annotated[tuple[Literal["body"], _Module], Strict(False)]
_Head = Annotated[
    tuple[Literal["head"], Annotated[_LinearHead | _EmbeddingHead | _NgramHead, Field(discriminator="kind")]],
    Strict(False),
]


class _WithHead(_Section):
    kind: Literal["stack"]
    parts: Annotated[tuple[_Body, _Head], Strict(False)]


class _Task(_Section):
    name: str
    template: str
    verbalizer: dict[str, str | list[str]]


class _Characters(_Section):
    rewritings: list[Annotated[tuple[Text, Text, str, bool], Strict(False)]]
    left: list[str]


class _Samples(_Section):
    side: str
    texts: list[str | list[str]]


class _Metadata(_Section):
    method: MethodName
    language: Text
    backbone: _Backbone
    training: dict[str, Any]
    """A report (`records`), validated where the file is opened."""
    characters: _Characters | None = None
    samples: _Samples | None = None


class _LanguagePrompt(_Metadata):
    positions: Literal["plain", "shifted"]


class _LanguageModule(_Metadata):
    parts: dict[Literal["language", "source"], _Inner]

    @model_validator(mode="after")
    def _of_the_method(self) -> Self:
        method = DESCRIPTIONS[self.method]
        is_aligned = self.training.get("config", {}).get("objective", "mlm") != "mlm"
        if set(self.parts) != ({"language"} if is_aligned else set(method.parts)):
            expected = ", ".join(sorted(method.parts))
            raise ValueError(f"parts {', '.join(self.parts) or 'none'}; {self.method} has {expected}")
        kinds = {part.kind for part in self.parts.values()}
        if not kinds <= set(method.kinds):
            raise ValueError(f"parts of the kind {', '.join(sorted(kinds))}, which {self.method} does not have")
        return self


class Measurement(Record):
    """An accuracy that `evaluate --record` keeps in a classifier's file."""

    model_config = ConfigDict(strict=True)

    language: Text
    """ISO 639-3 code of the examples' language."""
    content: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Hash of the examples."""
    num_examples: Count
    accuracy: Percent
    """In per cent."""
    interval: Annotated[tuple[Percent, Percent], Strict(False)]
    """95 % interval of the accuracy, ends in per cent."""


class _Classifier(_Metadata):
    module: _Module | _WithHead
    task: _Task
    labels: list[str]
    max_length: Count
    offsets: list[Finite] | None
    prompt_length: Count | None
    measurements: list[Measurement] = []
    seen: Annotated[str, Field(pattern="^[A-Za-z0-9+/=]*$")] = ""

    @model_validator(mode="after")
    def _one_of_each_label(self) -> Self:
        if sorted(self.labels) != sorted(self.task.verbalizer):
            raise ValueError(f"{len(self.labels)} labels that are not those of the verbalizer")
        if self.offsets is not None and len(self.offsets) != len(self.labels):
            raise ValueError(f"{len(self.offsets)} offsets for {len(self.labels)} labels")
        reads_characters = isinstance(self.module, _WithHead) and isinstance(self.module.parts[1][1], _NgramHead)
        if reads_characters != (self.backbone.model_dump() == artifact.NO_BACKBONE):
            raise ValueError("a backbone that does not fit the head")
        return self


_KINDS: Mapping[str, type[_Metadata]] = {
    "language prompt": _LanguagePrompt,
    "language module": _LanguageModule,
    "classifier": _Classifier,
}


def describe(path: str | Path, kinds: Sequence[str]) -> dict[str, Any]:
    """`artifact.describe`, validated."""
    metadata = artifact.describe(path, kinds)
    check_metadata(path, metadata)
    return metadata


def check_metadata(path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Raise `ArtifactError` for incomplete or invalid metadata; checkpoints, which are not shared, are not checked."""
    kind = _KINDS.get(metadata["kind"])
    if kind is None:
        return
    _refuse_unknown_method(path, metadata)
    try:
        json.dumps(metadata, allow_nan=False)
    except ValueError:
        raise _senseless(path, "NaN or infinity in its metadata") from None
    try:
        kind.model_validate(metadata)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(part for part in map(str, first["loc"]) if part.isidentifier())
        wrong = in_a_line(first["msg"].removeprefix("Value error, "), 150)
        raise _senseless(path, f"{field}: {wrong}" if field else wrong) from None


def check_values(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise `ArtifactError` unless all saved values are finite fp32 numbers."""
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise _senseless(path, f"{name} is {tensor.dtype}, expected torch.float32")
        if not is_finite(tensor):
            raise _senseless(path, f"{name} holds NaN or infinity")


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite, in one pass and without a second tensor of that size."""
    return tensor.numel() == 0 or all(bool(end.isfinite()) for end in tensor.aminmax())


def _senseless(path: str | Path, what: str) -> ArtifactError:
    return ArtifactError(f"{path} is intact but invalid ({what}); create it again, or get another copy")


def _refuse_unknown_method(path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Raise `ArtifactError` for a method that does not exist, or no longer exists."""
    method = metadata.get("method")
    if method == "prompt-average":
        raise ArtifactError(
            f"{path} was made with the method prompt-average, which no longer exists; create it again"
            " from the prompts with `glotprompt combine` (and tune again)"
        )
    if isinstance(method, str) and method not in DESCRIPTIONS:
        raise ArtifactError(
            f"{path} was made with the method {in_a_line(repr(method), 60)}, which this glotprompt does not have;"
            " create it again"
        )
