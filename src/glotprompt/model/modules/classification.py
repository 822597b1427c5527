"""Classification heads on a backbone's states, in place of label words. They do not change the backbone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from glotprompt.errors import ArtifactError
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.module import check_shapes


class Head(nn.Module, ABC):
    """A head with fp32 parameters, all of them saved; those that require gradients are trained."""

    kind: ClassVar[str]
    """Name under which it is saved."""

    @property
    @abstractmethod
    def num_labels(self) -> int: ...

    @abstractmethod
    def scores(self, backbone: Backbone, hidden: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch label"]:
        """A score for every label, fp32."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Arguments of `restore` besides the tensors; JSON."""

    @classmethod
    @abstractmethod
    def restore(cls, backbone: Backbone, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Head:
        """The head with these `settings` and `tensors`. Raises `ArtifactError` if they do not fit the backbone."""

    def tensors(self) -> dict[str, Tensor]:
        """All parameters, by name."""
        return dict(self.named_parameters())

    @property
    def trained_parameters(self) -> list[nn.Parameter]:
        """Parameters that the optimiser changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


class EmbeddingHead(Head):
    """Logistic regression on sentence vectors: pooled states of one layer, minus a centre, divided by one scale.

    It is fitted without the backbone (`training.objectives.embedding`); head "pooled" then trains it further. Texts of
    the target language may have their own centre, which removes a constant offset between the languages."""

    kind = "embedding head"

    def __init__(
        self,
        weight: Float[Tensor, "label hidden"],
        bias: Float[Tensor, " label"],
        centre: Float[Tensor, " hidden"],
        scale: Float[Tensor, ""],
        layer: int,
    ) -> None:
        """`layer`: the layer whose output is pooled (0: the embeddings)."""
        super().__init__()
        self.layer = layer
        self.weight, self.bias, self.centre, self.scale = (
            nn.Parameter(value.detach().float()) for value in (weight, bias, centre, scale)
        )
        self.centre.requires_grad_(False)
        self.scale.requires_grad_(False)

    @property
    def num_labels(self) -> int:
        return len(self.bias)

    @classmethod
    def empty(cls, hidden_size: int, num_labels: int, layer: int = 0) -> EmbeddingHead:
        """A head of zeros, for counting parameters."""
        zeros = torch.zeros(num_labels, hidden_size)
        return cls(zeros, zeros[:, 0], zeros[0], torch.ones(()), layer)

    def to_be_trained(self) -> EmbeddingHead:
        """The same function with larger weights on smaller inputs, of length 1 instead of the root of their dimension:
        a step of AdamW then changes the scores by about the learning rate times that root, not times the dimension,
        which at the rates of prompts would undo the fit in a step or two."""
        root = math.sqrt(self.weight.shape[1])
        return EmbeddingHead(self.weight * root, self.bias, self.centre, self.scale * root, self.layer)

    def with_centre(self, centre: Float[Tensor, " hidden"]) -> EmbeddingHead:
        """The same head with another centre, the mean of other texts' vectors."""
        return EmbeddingHead(self.weight, self.bias, centre.to(self.bias.device), self.scale, self.layer)

    def scores(self, backbone: Backbone, hidden: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch label"]:
        """A score for every label, fp32; `hidden` are pooled states."""
        return F.linear((hidden.float() - self.centre) / self.scale, self.weight, self.bias)

    def settings(self) -> dict[str, Any]:
        return {"layer": self.layer}

    @classmethod
    def restore(cls, backbone: Backbone, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> EmbeddingHead:
        labels, hidden = _num_rows(tensors.get("bias")), backbone.hidden_size
        check_shapes(
            "the head", tensors, {"weight": (labels, hidden), "bias": (labels,), "centre": (hidden,), "scale": ()}
        )
        if settings["layer"] > backbone.num_state_layers or float(tensors["scale"]) <= 0:
            raise ArtifactError(
                f"a head behind layer {settings['layer']} with scale {float(tensors['scale']):g}; expected a layer up"
                f" to {backbone.num_state_layers} and a scale above 0, create it again"
            )
        return cls(tensors["weight"], tensors["bias"], tensors["centre"], tensors["scale"], settings["layer"])


class LinearHead(Head):
    """Classification head on the first token's state: dense, tanh, projection, as in RoBERTa's fine-tuning (Liu et al.
    2019)."""

    kind = "linear head"

    def __init__(self, hidden_size: int, num_labels: int, seed: int = 0) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.projection = nn.Linear(hidden_size, num_labels)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in (self.dense, self.projection):
                layer.bias.zero_()
                if not layer.weight.is_meta:
                    layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * 0.02)

    @property
    def num_labels(self) -> int:
        return self.projection.out_features

    def scores(self, backbone: Backbone, hidden: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch label"]:
        """A score for every label, fp32."""
        return self.projection(torch.tanh(self.dense(hidden.float())))

    def settings(self) -> dict[str, Any]:
        return {}

    @classmethod
    def restore(cls, backbone: Backbone, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LinearHead:
        labels, hidden = _num_rows(tensors.get("projection.bias")), backbone.hidden_size
        dense = {"dense.weight": (hidden, hidden), "dense.bias": (hidden,)}
        projection = {"projection.weight": (labels, hidden), "projection.bias": (labels,)}
        check_shapes("the head", tensors, {**dense, **projection})
        head = cls(hidden, labels)
        head.load_state_dict(dict(tensors))
        return head


def _num_rows(tensor: Tensor | None) -> int:
    return 0 if tensor is None or tensor.ndim == 0 else len(tensor)
