"""Full fine-tuning as a module: trained copies of the backbone's weights that temporarily replace them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from glotprompt.errors import ArtifactError
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.module import Module


class Weights(Module):
    """fp32 copies of some or all of the backbone's weights; tied ones once.

    The body computes with them in its own precision (mixed precision: gradients reach the fp32 copies through the
    cast), and the backbone's own tensors are never written to. Copies of a body loaded in bf16 start from rounded
    weights.
    """

    kind = "weights"

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = tuple(values)
        self.values = nn.ParameterList([nn.Parameter(value.detach().float().clone()) for value in values.values()])

    @classmethod
    def of(cls, backbone: Backbone, wanted: Callable[[str], bool] = lambda name: True) -> Weights:
        """The backbone's weights: all of them, or those whose names are `wanted`."""
        return cls({name: value for name, value in backbone.model.named_parameters() if wanted(name)})

    @contextmanager
    def attached(self, backbone: Backbone) -> Generator[None]:
        """Context in which the copies replace the backbone's weights, wherever they are used."""
        own = dict(backbone.model.named_parameters())
        copies = {id(own[name]): copy.to(own[name].dtype) for name, copy in zip(self.names, self.values, strict=True)}
        replaced: list[tuple[dict[str, Any], str, nn.Parameter]] = []
        for module in backbone.model.modules():
            parameters: dict[str, Any] = module._parameters  # pyright: ignore[reportPrivateUsage]  # a Parameter would be cut off from its master
            replaced += [(parameters, leaf, value) for leaf, value in parameters.items() if id(value) in copies]
        try:
            for parameters, leaf, value in replaced:
                parameters[leaf] = copies[id(value)]
            yield None
        finally:
            for parameters, leaf, value in replaced:
                parameters[leaf] = value

    def settings(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.values, strict=True))

    @classmethod
    def restore(cls, backbone: Backbone, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Weights:
        shapes = {name: value.shape for name, value in backbone.model.named_parameters()}
        wrong = [name for name, value in tensors.items() if shapes.get(name) != value.shape]
        if wrong:
            raise ArtifactError(f"{backbone.name} has no weight {wrong[0]!r} of that shape; load another backbone")
        if set(tensors) not in (set(shapes), {name for name in shapes if is_head_transform(name)}):
            raise ArtifactError(
                f"{len(tensors)} of the {len(shapes)} weights of {backbone.name}; expected all, create it again"
            )
        return cls(tensors)


def is_head_transform(name: str) -> bool:
    """Whether a weight belongs to the masked-token head's dense layer or norm, which the `adapters` library trains
    beside a language adapter (XLM-R: lm_head.dense, lm_head.layer_norm; BERT: cls.predictions.transform)."""
    return name.startswith(("lm_head.dense.", "lm_head.layer_norm.", "cls.predictions.transform."))
