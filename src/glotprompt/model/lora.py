"""LoRA (Hu et al. 2022) as a delta, with PEFT's own layers (extra `peft`)."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from glotprompt.errors import ConfigError, MissingExtraError
from glotprompt.model.delta import Delta

if TYPE_CHECKING:
    from glotprompt.model.encoder import Encoder

TARGETS = {"xlm-roberta-xl": ("query", "value"), "modernbert": ("Wqkv",), "eurobert": ("q_proj", "v_proj")}
"""Queries and values, as Hu et al. 2022, by model type where PEFT has no choice of its own. ModernBERT's queries, keys
and values are one layer."""


class Lora(Delta):
    """Low-rank updates W + (alpha / rank) B A of some linear layers; B starts at 0, so the start changes nothing."""

    kind = "lora"

    def __init__(
        self,
        encoder: Encoder,
        rank: int,
        alpha: float,
        targets: Sequence[str] | Literal["all"] | None = None,
        seed: int = 0,
    ) -> None:
        """`targets` are the last parts of the layers' names, such as "query"; "all": all linear layers of the body's
        layers; None: queries and values. Raises `ConfigError` where the model has no such layer."""
        super().__init__()
        self.rank, self.alpha, self.targets = rank, alpha, targets
        self._layers = _lora_layers(encoder, rank, alpha, targets, seed)
        self.pairs = nn.ParameterDict(
            {
                f"{name}.{side}".replace(".", "/"): getattr(layer, f"lora_{side}")["default"].weight
                for name, layer in self._layers.items()
                for side in ("A", "B")
            }
        )

    @contextmanager
    def attached(self, encoder: Encoder) -> Generator[None]:
        """Put PEFT's layers in place of those they wrap."""
        own = {name: encoder.model.get_submodule(name) for name in self._layers}
        try:
            for name, layer in self._layers.items():
                layer.base_layer = own[name]
                encoder.model.set_submodule(name, layer)
            yield None
        finally:
            for name, module in own.items():
                encoder.model.set_submodule(name, module)

    def settings(self) -> dict[str, Any]:
        targets = list(self.targets) if isinstance(self.targets, Sequence) and self.targets != "all" else self.targets
        return {"rank": self.rank, "alpha": self.alpha, "targets": targets}

    def tensors(self) -> dict[str, Tensor]:
        return {name.replace("/", "."): value for name, value in self.pairs.items()}

    @classmethod
    def restore(cls, encoder: Encoder, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Lora:
        made = cls(encoder, settings["rank"], settings["alpha"], settings["targets"])
        with torch.no_grad():
            for name, value in made.tensors().items():
                value.copy_(tensors[name])
        return made


def _linear_layers(model: nn.Module) -> list[str]:
    """The names of the linear layers inside the body's layers: not the embeddings', not the LM head's."""
    numbered = re.compile(r"\blayers?\.\d+\.")
    return [name for name, part in model.named_modules() if isinstance(part, nn.Linear) and numbered.search(name)]


def _lora_layers(
    encoder: Encoder, rank: int, alpha: float, targets: Sequence[str] | Literal["all"] | None, seed: int
) -> dict[str, Any]:
    """PEFT's layers by the name of the layer each wraps; the model is left as it was."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer
    except ImportError:
        raise MissingExtraError("LoRA", "peft") from None
    model = encoder.model
    targets = _linear_layers(model) if targets == "all" else targets or TARGETS.get(str(model.config.model_type))
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=None if targets is None else list(targets))  # pyright: ignore[reportArgumentType]
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            inject_adapter_in_model(config, model)
    except ValueError as error:
        raise ConfigError(
            f"{encoder.name}: LoRA finds no layer to change ({' '.join(str(error).split())[:160]})"
        ) from None
    finally:
        vars(model).pop("peft_config", None)  # PEFT's note to itself, at which it would warn the next time
    layers: dict[str, Any] = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    for name, layer in layers.items():
        model.set_submodule(name, layer.base_layer)
        layer.lora_A.float()
        layer.lora_B.float()
    return layers
