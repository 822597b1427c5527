"""The interface of modules, which methods add to a frozen backbone.

Every method of `glotprompt.methods` trains one module or several. An attached module changes what the backbone
computes; detached, the backbone is unchanged to the bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from glotprompt.errors import ArtifactError
from glotprompt.model.backbone import Backbone


class Module(nn.Module, ABC):
    """A module with fp32 parameters that changes what a frozen backbone computes; those that require gradients are
    trained."""

    kind: ClassVar[str]
    """Name under which it is saved."""

    @abstractmethod
    def attached(self, backbone: Backbone) -> Any:
        """Context manager in which the backbone computes with this module; yields the `Prefix` for
        `Backbone.hidden_states`, or None. The backward pass must run inside it."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Arguments of `restore` besides the tensors; JSON."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All saved tensors, by name."""

    @classmethod
    @abstractmethod
    def restore(cls, backbone: Backbone, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Module:
        """The module with these `settings` and `tensors`, on the backbone it was made for."""

    @property
    def first_layer(self) -> int | None:
        """Lowest layer whose vectors, weights or input change in training; None: no layer."""
        return 0

    @property
    def trained_parameters(self) -> list[nn.Parameter]:
        """Parameters that the optimiser changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def num_trained(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.trained_parameters)


def check_shapes(what: str, tensors: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise `ArtifactError` unless the tensors of `what` have exactly these names and shapes."""
    for name in sorted(tensors.keys() | shapes.keys()):
        if name not in tensors:
            raise ArtifactError(f"{what} lacks {name}; create it again")
        if name not in shapes:
            raise ArtifactError(f"{what} holds {name}, which it does not have; create it again")
        if tuple(tensors[name].shape) != tuple(shapes[name]):
            raise ArtifactError(
                f"{what}: {name} is {list(tensors[name].shape)}, expected {list(shapes[name])}; create it again"
            )
