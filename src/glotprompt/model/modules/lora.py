"""LoRA (Hu et al. 2022) as a module: low-rank updates of the body's linear layers, added to their output by hooks.

Tested against PEFT's own layers (tests/model/test_lora.py), which compute in fp32 even on a bf16 body and take about
eight times as long per step.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glotprompt.errors import ConfigError
from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import IN_A_LAYER
from glotprompt.model.modules.module import Module, check_shapes

QUERIES_AND_VALUES = ("query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "q", "v", "Wqkv")
"""Names of the query and value layers (Hu et al. 2022) in all families; those of one model type occur in no other.
ModernBERT has one layer for queries, keys and values."""

Targets = Sequence[str] | Literal["all"] | None


class Lora(Module):
    """Low-rank updates W + (alpha / rank) B A of some linear layers; B starts at 0, so the start changes nothing."""

    kind = "lora"

    def __init__(self, backbone: Backbone, rank: int, alpha: float, targets: Targets = None, seed: int = 0) -> None:
        """`targets` are the last parts of the layers' names, such as "query"; "all": all linear layers of the body's
        layers; None: queries and values. A is uniform as in PEFT, equal for equal seeds on every device. Raises
        `ConfigError` if the model has no such layer."""
        super().__init__()
        self.rank, self.alpha, self.targets = rank, alpha, targets
        generator = torch.Generator("cpu").manual_seed(seed)
        layers = _layers(backbone, targets)
        values: dict[str, nn.Parameter] = {}
        for name, layer in layers.items():
            bound = 1 / math.sqrt(layer.in_features)
            start = torch.rand(rank, layer.in_features, generator=generator, device="cpu") * (2 * bound) - bound
            zeros = torch.zeros(layer.out_features, rank)
            for side, value in (("A", start), ("B", zeros)):
                values[_key(name, side)] = nn.Parameter(value.to(backbone.device))
        self.pairs = nn.ParameterDict(values)
        self._names = tuple(layers)

    @contextmanager
    def attached(self, backbone: Backbone) -> Generator[None]:
        """Context in which every target layer computes W x + (alpha / rank) B A x; nested contexts add up."""
        with ExitStack() as stack:
            for name in self._names:
                down, up = (self.pairs[_key(name, side)] for side in ("A", "B"))
                layer = backbone.model.get_submodule(name)
                stack.enter_context(layer.register_forward_hook(_update_hook(down, up, self.alpha / self.rank)))
            yield None

    def settings(self) -> dict[str, Any]:
        targets = list(self.targets) if isinstance(self.targets, Sequence) and self.targets != "all" else self.targets
        return {"rank": self.rank, "alpha": self.alpha, "targets": targets}

    def tensors(self) -> dict[str, Tensor]:
        return {name.replace("/", "."): value for name, value in self.pairs.items()}

    @classmethod
    def restore(cls, backbone: Backbone, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Lora:
        rank, shapes = settings["rank"], dict[str, tuple[int, int]]()
        for name, layer in _layers(backbone, settings["targets"]).items():
            shapes |= {f"{name}.A": (rank, layer.in_features), f"{name}.B": (layer.out_features, rank)}
            # Before memory of that size is allocated; copying would broadcast a small tensor.
        check_shapes("LoRA", tensors, shapes)

        module = cls(backbone, rank, settings["alpha"], settings["targets"])
        with torch.no_grad():
            for name, value in module.tensors().items():
                value.copy_(tensors[name])
        return module


def _key(name: str, side: str) -> str:
    """Key of a layer's matrix in the parameter dict, whose keys must not contain dots."""
    return f"{name}.{side}".replace(".", "/")


def _update_hook(down: Tensor, up: Tensor, scale: float) -> Any:
    """Forward hook of one linear layer. The update is computed in the dtype of the body, as adapters are."""

    def hook(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (states,) = arguments
        narrow = F.linear(states, down.to(states.dtype)).flatten(0, -2)
        return torch.addmm(output.flatten(0, -2), narrow, up.to(states.dtype).T, alpha=scale).view(output.shape)

    return hook


def _layers(backbone: Backbone, targets: Targets) -> dict[str, nn.Linear]:
    """Linear layers to update, by name: those in the body's layers, not in the embeddings or the LM head."""
    if targets is None:
        targets = QUERIES_AND_VALUES
    layers = {
        name: part
        for name, part in backbone.model.named_modules()
        if isinstance(part, nn.Linear)
        and IN_A_LAYER.search(name)
        and (targets == "all" or name.rpartition(".")[2] in targets)
    }
    if not layers:
        names = "linear ones" if targets == "all" else ", ".join(targets)
        raise ConfigError(f"{backbone.name}: LoRA finds no layer to change (looked for {names})")
    return layers
