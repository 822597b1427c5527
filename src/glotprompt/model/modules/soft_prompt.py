"""The soft prompt: `prompt_length` key/value vectors in front of every layer's attention (prefix tuning, Li and
Liang 2021; P-tuning v2, Liu et al. 2022; section 3 of the paper), as a module."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from glotprompt.errors import ArtifactError
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.module import Module
from glotprompt.model.prefix import Positions, Prefix


class SoftPrompt(Module):
    """Trainable key/value vectors [layer, 2, head, prompt, dim] (index 0 of the second axis: keys, 1: values).

    Only the layers in `trained_layers` have gradients; the others are constant, and with `prefix` the backward pass
    ends at the lowest trained layer.
    """

    kind = "prompt"

    def __init__(
        self,
        key_values: Float[Tensor, "layer 2 head prompt dim"],
        trained_layers: range | None = None,
        positions: Positions = "plain",
    ) -> None:
        super().__init__()
        layers = range(key_values.shape[0]) if trained_layers is None else trained_layers
        if layers.step != 1 or layers.start < 0 or layers.stop > key_values.shape[0]:
            raise AssertionError(f"{layers} are no layers of a model with {key_values.shape[0]}")
        self.trained_layers = layers
        self.positions: Positions = positions
        values = key_values.detach().float()
        self.register_buffer("below", values[: layers.start].clone())
        self.trained = nn.Parameter(values[layers.start : layers.stop].clone())
        self.register_buffer("above", values[layers.stop :].clone())

    @classmethod
    def initialise(
        cls,
        shape: tuple[int, int, int, int, int],
        std: float,
        seed: int,
        trained_layers: range | None = None,
        positions: Positions = "plain",
    ) -> SoftPrompt:
        """A prompt of normal noise, equal for equal seeds on every device."""
        generator = torch.Generator("cpu").manual_seed(seed)
        return cls(torch.randn(shape, generator=generator, device="cpu") * std, trained_layers, positions)

    def reparameterised(self, width: int, seed: int) -> SoftPrompt:
        """This prompt with the trained layers made by an MLP of `width` hidden units, which is trained in their place;
        what they hold is dropped."""
        mlp = PrefixMlp(self.trained.shape, width, seed)
        parametrize.register_parametrization(self, "trained", mlp, unsafe=True)  # unsafe: the rows have another shape
        return self

    def folded(self) -> SoftPrompt:
        """A prompt with the same vectors, trained itself."""
        return SoftPrompt(self.key_values(), self.trained_layers, self.positions)

    def key_values(self) -> Float[Tensor, "layer 2 head prompt dim"]:
        """Key/value vectors of all layers, fp32, differentiable in the trained ones."""
        return torch.cat([self.below, self.trained, self.above])  # pyright: ignore[reportCallIssue, reportArgumentType]

    @property
    def prompt_length(self) -> int:
        return self.trained.shape[3]

    @property
    def first_layer(self) -> int:
        return self.trained_layers.start

    def prefix(self, dtype: torch.dtype) -> Prefix:
        """This prompt in front of every row of a batch."""
        shared = Prefix.shared(self.key_values(), dtype, self.positions)
        shared.trained_layers = self.trained_layers
        return shared

    @contextmanager
    def attached(self, backbone: Backbone) -> Generator[Prefix]:
        """Context that yields the prompt as a prefix; the backbone itself is unchanged."""
        yield self.prefix(backbone.dtype)

    def settings(self) -> dict[str, Any]:
        return {"positions": self.positions}

    def tensors(self) -> dict[str, Tensor]:
        return {"key_values": self.key_values()}

    @classmethod
    def restore(cls, backbone: Backbone, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> SoftPrompt:
        check_prompt(tensors, settings["positions"], backbone)
        return cls(tensors["key_values"], positions=settings["positions"])


class PrefixMlp(nn.Sequential):
    """Reparameterisation of a prompt (Li and Liang 2021, section 4.3; `prefix_projection` of P-tuning v2 and PEFT): a
    trained row for each of its positions, and an MLP from a row to the key/value vectors of all trained layers."""

    def __init__(self, shape: torch.Size, width: int, seed: int) -> None:
        """`shape` is that of the trained layers' vectors. Rows start from N(0, 1), weights as torch's linear layers."""
        num_layers, _, num_heads, length, dim = shape
        with torch.random.fork_rng([]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)
            rows = torch.randn(length, num_heads * dim)
            up = nn.Linear(width, 2 * num_layers * num_heads * dim)
            super().__init__(nn.Linear(num_heads * dim, width), nn.Tanh(), up)
        self._rows, self._split = rows, (num_layers, 2, num_heads, dim)

    def right_inverse(self, key_values: Tensor) -> Float[Tensor, "prompt size"]:
        """The initial rows, which torch registers as the parameter in place of the vectors."""
        return self._rows.to(key_values.device)

    def forward(self, input: Float[Tensor, "prompt size"]) -> Float[Tensor, "layer 2 head prompt dim"]:
        return super().forward(input).unflatten(-1, self._split).permute(1, 2, 3, 0, 4)


def check_prompt(tensors: Mapping[str, Tensor], positions: Positions, backbone: Backbone | None) -> None:
    """Raise `ArtifactError` unless the tensors are the vectors of one prompt and, if a backbone is given, fit its shape
    and leave room for a text."""
    if set(tensors) != {"key_values"}:
        raise ArtifactError(f"the tensors {sorted(tensors)[:4]}; a prompt has only key_values, create it again")
    shape = list(tensors["key_values"].shape)
    if len(shape) != 5 or shape[1] != 2 or 0 in shape:
        raise ArtifactError(f"a prompt of shape {shape}; expected [layer, 2, head, prompt, dim], create it again")
    if backbone is None:
        return
    if shape != list(backbone.prompt_shape(shape[3])):
        raise ArtifactError(f"a prompt of shape {shape}; the backbone needs {list(backbone.prompt_shape(shape[3]))}")
    if positions == "shifted" and shape[3] >= backbone.max_positions:
        raise ArtifactError(
            f"{shape[3]} prompt positions leave no room in the {backbone.max_positions} of {backbone.name};"
            " create it again"
        )
