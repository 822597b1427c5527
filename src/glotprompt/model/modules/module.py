"""What a method adds to a frozen backbone: a module.

Every method of `glotprompt.methods` trains one module or several at once. Attached, a module changes what the backbone
computes; detached, the backbone is what it was, to the bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from glotprompt.errors import ArtifactError
from glotprompt.model.backbone import Backbone


class Module(nn.Module, ABC):
    """Values in fp32 that change what a frozen backbone computes; those that ask for a gradient are trained."""

    kind: ClassVar[str]
    """Name under which it is saved."""

    @abstractmethod
    def attached(self, backbone: Backbone) -> Any:
        """A context manager inside which the backbone computes with this module. It yields the `Prefix` to hand to
        `Backbone.hidden_states`, or None. The backward pass must end before it is left."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What `restore` needs beside the tensors; JSON."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All values that are saved, by name."""

    @classmethod
    @abstractmethod
    def restore(cls, backbone: Backbone, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Module:
        """The module that gave these `settings` and `tensors`, for the backbone it was made for."""

    @property
    def first_layer(self) -> int | None:
        """The lowest layer whose work changes as this is trained (its vectors, weights or input); None: no layer's."""
        return 0

    @property
    def trained_parameters(self) -> list[nn.Parameter]:
        """What the optimiser changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def num_trained(self) -> int:
        """How many numbers the optimiser changes."""
        return sum(parameter.numel() for parameter in self.trained_parameters)


def check_shapes(what: str, tensors: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> None:
    """Raises `ArtifactError` where values are not those of `what`, by name and shape."""
    for name in sorted(tensors.keys() | shapes.keys()):
        if name not in tensors:
            raise ArtifactError(f"{what} lacks {name}; make it anew")
        if name not in shapes:
            raise ArtifactError(f"{what} holds {name}, which it does not have; make it anew")
        if tuple(tensors[name].shape) != tuple(shapes[name]):
            raise ArtifactError(
                f"{what}: {name} is {list(tensors[name].shape)}, expected {list(shapes[name])}; make it anew"
            )
