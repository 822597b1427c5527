"""Adapters: MAD-X's (Pfeiffer et al. 2020, EMNLP), which are bottlenecks after the feed-forward of every layer and for
languages an invertible coupling around the embeddings; and Houlsby's, two bottlenecks a layer.

They are attached by module hooks for the duration of `Adapter.attached`; the model's own code and weights stay
unchanged. MAD-X's are tested against the library `adapters` 1.3.0 (tests/oracle).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from glotprompt.errors import ArtifactError, ModelError, in_a_line
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.module import Module

FAMILIES = ("xlm-roberta", "roberta", "camembert", "bert")
"""Model types with the layout that adapters are defined for: a norm after every residual."""
INITIAL_STD = 0.02
"""Standard deviation of initial weights, as in `adapters` (init_weights="bert"); biases start at 0."""


class Linear(nn.Linear):
    """Linear layer with fp32 weights that computes in the dtype of its input, so that gradients are fp32."""

    def reset_parameters(self) -> None:
        """Do nothing: `Adapter.initialise` sets the weights without touching the global random state."""

    def forward(self, input: Float[Tensor, "*rows size_in"]) -> Float[Tensor, "*rows size_out"]:
        return F.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))


class Bottleneck(nn.Module):
    """Bottleneck up(relu(down(x))), `reduction` times narrower inside; one per layer, and two in a coupling."""

    def __init__(
        self, size: int, reduction: int, size_out: int | None = None, activation: Callable[[Tensor], Tensor] = F.relu
    ) -> None:
        super().__init__()
        self._activation = activation
        bottleneck = max(1, size // reduction)
        self.down = Linear(size, bottleneck)
        self.up = Linear(bottleneck, size if size_out is None else size_out)

    def forward(self, states: Float[Tensor, "*rows size_in"]) -> Float[Tensor, "*rows size_out"]:
        return self.up(self._activation(self.down(states)))


class Coupling(nn.Module):
    """Invertible NICE coupling (Dinh et al. 2015): each half of a vector is shifted by a function of the other."""

    def __init__(self, hidden_size: int, reduction: int) -> None:
        super().__init__()
        first = hidden_size // 2
        self.sizes = (first, hidden_size - first)
        self.moves_first = Bottleneck(self.sizes[1], reduction, first)
        self.moves_second = Bottleneck(first, reduction, self.sizes[1])

    def forward(self, states: Float[Tensor, "*rows hidden"]) -> Float[Tensor, "*rows hidden"]:
        first, second = states.split(self.sizes, dim=-1)
        first = first + self.moves_first(second)
        second = second + self.moves_second(first)
        return torch.cat([first, second], dim=-1)

    def inverse(self, states: Float[Tensor, "*rows hidden"]) -> Float[Tensor, "*rows hidden"]:
        """Invert `forward`, up to rounding."""
        first, second = states.split(self.sizes, dim=-1)
        second = second - self.moves_second(first)
        first = first - self.moves_first(second)
        return torch.cat([first, second], dim=-1)


class Adapter(Module):
    """The adapter of a language (with a coupling) or of a task (without), for all layers of a backbone.

    Nested contexts stack adapters: `with language.attached(backbone), task.attached(backbone)`
    applies the language adapter first in every layer.
    """

    kind: ClassVar[str] = "adapter"
    per_layer: ClassVar[int] = 1
    """Bottlenecks in each layer."""

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        reduction: int,
        invertible_reduction: int | None = None,
        drop_last: bool = False,
    ) -> None:
        """An adapter without initial values; see `initialise` for the arguments."""
        super().__init__()
        self.hidden_size, self.num_layers = hidden_size, num_layers
        self.reduction, self.invertible_reduction, self.drop_last = reduction, invertible_reduction, drop_last
        self.bottlenecks = nn.ModuleList(
            Bottleneck(hidden_size, reduction, activation=self.activation)
            for _ in range(self.per_layer * (num_layers - drop_last))
        )
        self.coupling = None if invertible_reduction is None else Coupling(hidden_size, invertible_reduction)
        self.float()  # whatever the default dtype is

    @classmethod
    def initialise(
        cls,
        hidden_size: int,
        num_layers: int,
        reduction: int,
        invertible_reduction: int | None = None,
        drop_last: bool = False,
        seed: int = 0,
    ) -> Adapter:
        """An adapter with weights from N(0, 0.02) and biases 0, equal for equal seeds. On the meta device only shapes.

        `reduction`: hidden size / bottleneck size (MAD-X: 2 for languages, 16 for tasks). `invertible_reduction`: the
        same inside the coupling, None for no coupling (tasks). `drop_last`: no bottleneck in the last layer (MAD-X 2.0,
        Pfeiffer et al. 2021, "UNKs Everywhere").
        """
        adapter = cls(hidden_size, num_layers, reduction, invertible_reduction, drop_last)
        generator = torch.Generator("cpu").manual_seed(seed)
        with torch.no_grad():
            for name, values in adapter.named_parameters():
                if values.is_meta:
                    continue
                if name.endswith("bias"):
                    values.zero_()
                else:
                    values.copy_(torch.randn(values.shape, generator=generator, device="cpu") * INITIAL_STD)
        return adapter

    @staticmethod
    def activation(states: Tensor) -> Tensor:
        """The nonlinearity in the bottlenecks."""
        return F.relu(states)

    @contextmanager
    def attached(self, backbone: Backbone) -> Generator[None, None, None]:
        """Context in which the backbone computes with this adapter; the last attached is applied last.

        Raises `ModelError` for a backbone of another family or shape."""
        places = _places(backbone)
        if misfit := _misfit(self.hidden_size, self.num_layers, backbone):
            raise ModelError(misfit)
        with ExitStack() as stack:
            for handle in self._inserted(places):
                stack.enter_context(handle)
            coupling = self.coupling
            if coupling is not None:
                forward, inverse = _behind(coupling.forward), _behind(coupling.inverse)
                stack.enter_context(places.embeddings.register_forward_hook(forward))
                if places.head is not None:  # before other hooks: the last coupling is inverted first
                    stack.enter_context(places.head.register_forward_hook(inverse, prepend=True))
            yield

    def _inserted(self, places: _Places) -> Iterator[RemovableHandle]:
        """Hooks of the bottlenecks, which compute with them until they are removed."""
        for norm, bottleneck in zip(places.norms, self.bottlenecks, strict=False):  # perhaps none in the last layer
            yield norm.register_forward_pre_hook(_before_norm(bottleneck))

    def settings(self) -> dict[str, Any]:
        """Arguments of `initialise`, without the seed."""
        return {
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "reduction": self.reduction,
            "invertible_reduction": self.invertible_reduction,
            "drop_last": self.drop_last,
        }

    def tensors(self) -> dict[str, Tensor]:
        """All parameters by name: bottlenecks.<layer>.<down|up>.<weight|bias>, coupling.moves_<half>.<the same>."""
        return dict(self.state_dict())

    @classmethod
    def restore(cls, backbone: Backbone, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Adapter:
        """The adapter on the backbone's device. Raises `ArtifactError` if settings, tensors and backbone do not
        match."""
        size, layers = settings.get("hidden_size"), settings.get("num_layers")
        if size and layers and (misfit := _misfit(size, layers, backbone)):
            raise ArtifactError(misfit)  # before memory of that size is allocated
        try:
            adapter = cls(**settings)
            adapter.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
            reason = in_a_line(error, 200)
            raise ArtifactError(
                f"the tensors do not form an adapter ({reason}); copy or create the file again"
            ) from None
        return adapter.to(backbone.device)


class HoulsbyAdapter(Adapter):
    """The adapter of a task after Houlsby et al. 2019 (ICML), section 2.1: in every layer a bottleneck on the output h
    of the attention and one on that of the feed-forward, each with a skip connection of its own and before the sum with
    the sublayer's input x: norm(x + h + bottleneck(h)). GELU inside, as in the authors' code; the norms stay frozen.

    Behind a language adapter, which adds to h, it reads the sum, as in a stack of the library `adapters`."""

    kind: ClassVar[str] = "houlsby adapter"
    per_layer: ClassVar[int] = 2

    @staticmethod
    def activation(states: Tensor) -> Tensor:
        return F.gelu(states)

    def _inserted(self, places: _Places) -> Iterator[RemovableHandle]:
        for (reader, norm), bottleneck in zip(places.sublayers, self.bottlenecks, strict=False):
            note, insert = _on_output(bottleneck)
            yield reader.register_forward_pre_hook(note)
            yield norm.register_forward_pre_hook(insert)


class _Places(NamedTuple):
    """The modules of a model that adapters hook into."""

    sublayers: list[tuple[nn.Module, nn.LayerNorm]]
    """Attention and feed-forward of every layer, in turn: a module that reads the input, and the norm after it."""
    norms: list[nn.LayerNorm]
    """Norms after the feed-forward, one per layer."""
    embeddings: nn.Module
    head: nn.Module | None
    """Module whose output is multiplied with the vocabulary matrix; called by `Backbone.token_logits` and by the
    model. None: a sentence encoder has none."""


def _misfit(hidden_size: int, num_layers: int, backbone: Backbone) -> str | None:
    """The message for an adapter of another shape than the backbone; None if they match."""
    if (hidden_size, num_layers) == (backbone.hidden_size, backbone.num_layers):
        return None
    return (
        f"the adapter is for {num_layers} layers of {hidden_size}, {backbone.name} has"
        f" {backbone.num_layers} of {backbone.hidden_size}; load the backbone it was made for"
    )


def _places(backbone: Backbone) -> _Places:
    model: Any = backbone.model
    family = model.config.model_type
    if family not in FAMILIES:
        raise ModelError(
            f"{backbone.name}: adapters are not defined for {family!r} models; take one of {', '.join(FAMILIES)}, or"
            " train a soft prompt"
        )
    body = model.base_model
    head = None
    if backbone.has_lm_head:
        head = model.cls.predictions.transform if family == "bert" else model.lm_head.layer_norm
    attention = [(layer.attention.self.query, layer.attention.output.LayerNorm) for layer in body.encoder.layer]
    feed_forward = [(layer.intermediate, layer.output.LayerNorm) for layer in body.encoder.layer]
    sublayers = [part for layer in zip(attention, feed_forward, strict=True) for part in layer]
    return _Places(sublayers, [norm for _, norm in feed_forward], body.embeddings, head)


def _before_norm(bottleneck: nn.Module) -> Any:
    """Hook s -> s + bottleneck(norm(s)) before the norm, where s is feed-forward + residual.

    This is Pfeiffer et al.'s placement: the bottleneck reads normed states and adds to those before the norm.
    `norm.forward` skips the hooks, so each adapter of a stack sees the sum with those before it."""

    def hook(norm: Any, arguments: tuple[Tensor, ...]) -> Tensor:
        (states,) = arguments
        return states + bottleneck(norm.forward(states))

    return hook


def _on_output(bottleneck: nn.Module) -> tuple[Any, Any]:
    """Hooks for a module that reads a sublayer's input x, and for the norm of the sum s with the sublayer's output:
    s -> s + bottleneck(s - x)."""
    read: list[Tensor] = []

    def note(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        read[:] = arguments

    def insert(norm: nn.Module, arguments: tuple[Tensor, ...]) -> Tensor:
        (states,) = arguments
        return states + bottleneck(states - read.pop())

    return note, insert


def _behind(function: Any) -> Any:
    """Forward hook that applies `function` to a module's output."""

    def hook(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return function(output)

    return hook
