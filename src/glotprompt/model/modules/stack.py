"""Stacks of modules, and (de)serialisation of modules and heads."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from glotprompt.errors import ArtifactError
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.adapters import Adapter, HoulsbyAdapter
from glotprompt.model.modules.classification import EmbeddingHead, Head, LinearHead
from glotprompt.model.modules.input_prompt import InputPrompt
from glotprompt.model.modules.lora import Lora
from glotprompt.model.modules.module import Module
from glotprompt.model.modules.ngrams import NgramHead
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.modules.weights import Weights
from glotprompt.model.prefix import Prefix


class ModuleStack(Module):
    """Named modules that are attached together, in order; at most one of them is a prompt."""

    kind = "stack"

    def __init__(self, parts: Mapping[str, Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(dict(parts))

    def __getitem__(self, name: str) -> Module:
        return self.parts[name]  # pyright: ignore[reportReturnType]

    @property
    def first_layer(self) -> int | None:
        layers = (self[name].first_layer for name in self.parts)
        return min((layer for layer in layers if layer is not None), default=None)

    @contextmanager
    def attached(self, backbone: Backbone) -> Generator[Prefix | None]:
        with ExitStack() as stack:
            prefixes = [stack.enter_context(self[name].attached(backbone)) for name in self.parts]
            yield next((prefix for prefix in prefixes if prefix is not None), None)

    def settings(self) -> dict[str, Any]:
        # A list: files sort dict keys, and the order matters.
        return {"parts": [[name, described(self[name])] for name in self.parts]}

    def tensors(self) -> dict[str, Tensor]:
        return {f"{name}.{key}": value for name in self.parts for key, value in self[name].tensors().items()}

    @classmethod
    def restore(cls, backbone: Backbone, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ModuleStack:
        refuse_strays(tensors, [name for name, _ in settings["parts"]])
        parts: dict[str, Module] = {}
        for name, description in settings["parts"]:
            parts[name] = restored(backbone, description, tensors_of(name, tensors))
        return cls(parts)


_KINDS: dict[str, type[Module]] = {
    kind.kind: kind for kind in (SoftPrompt, InputPrompt, Weights, Adapter, HoulsbyAdapter, Lora, ModuleStack)
}
_HEADS: dict[str, type[Head]] = {kind.kind: kind for kind in (LinearHead, EmbeddingHead, NgramHead)}


def tensors_of(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one part, from those saved as "<part>.<name>", by <name>."""
    start = f"{part}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def refuse_strays(tensors: Mapping[str, Tensor], parts: Sequence[str]) -> None:
    """Raise `ArtifactError` for a tensor that belongs to none of the parts."""
    strays = [name for name in tensors if name.partition(".")[0] not in parts]
    if strays:
        raise ArtifactError(f"it holds {strays[0]}, which belongs to none of its parts; create it again")


def described(module: Module) -> dict[str, Any]:
    """Description of a module in a file, without its tensors; JSON."""
    return {"kind": module.kind, **module.settings()}


def restored(backbone: Backbone, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Module:
    """The module of a description and its tensors, on the backbone's device."""
    settings = dict(description)
    kind = settings.pop("kind")
    return _KINDS[kind].restore(backbone, settings, tensors).to(backbone.device)


def trained_of(body: Module, head: Head | None) -> list[nn.Parameter]:
    """Parameters of a classifier's body and head that the optimiser changes."""
    return [*body.trained_parameters, *([] if head is None else head.trained_parameters)]


def packed(body: Module, head: Head | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors of a classifier for its file: of the body alone, or of body and head as two parts."""
    if head is None:
        return described(body), body.tensors()
    parts = [["body", described(body)], ["head", {"kind": head.kind, **head.settings()}]]
    tensors = {f"body.{name}": value for name, value in body.tensors().items()}
    tensors |= {f"head.{name}": value for name, value in head.tensors().items()}
    return {"kind": ModuleStack.kind, "parts": parts}, tensors


def body_and_head(description: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """The descriptions of body and head from that of `packed`; None: there is no head."""
    parts = dict(description.get("parts", ()))
    return (parts["body"], parts["head"]) if "head" in parts else (description, None)


def unpacked(
    backbone: Backbone, description: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[Module, Head | None]:
    """Body and head from a classifier's file, on the backbone's device; the inverse of `packed`."""
    of_body, of_head = body_and_head(description)
    if of_head is None:
        return restored(backbone, of_body, tensors), None
    refuse_strays(tensors, ["body", "head"])
    head = _HEADS[of_head["kind"]].restore(backbone, of_head, tensors_of("head", tensors))
    body = restored(backbone, of_body, tensors_of("body", tensors))
    return body, head if isinstance(head, NgramHead) else head.to(backbone.device)
