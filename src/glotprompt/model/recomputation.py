"""Recomputation of activations in the backward pass (gradient checkpointing)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


def recompute(model: PreTrainedModel, on: bool) -> None:
    """Switch it on or off. Only the layers enter training mode, not the modules in them."""
    if on:
        model.activation_checkpointing_enable({"use_reentrant": False})
        # For the sake of `use_reentrant` it also lets the embeddings require gradients, and never undoes that.
        model.disable_input_require_grads()
    else:
        model.activation_checkpointing_disable()
    _train_layers(model, on)


@torch.no_grad()
def layers_drop(model: PreTrainedModel, states: Callable[[], Tensor]) -> bool:
    """Whether layers in training mode give other states: those of OPT and XGLM call dropout themselves, and by its
    config Falcon's."""
    calm = states()
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        _train_layers(model, True)
        try:
            return not torch.equal(states(), calm)
        finally:
            _train_layers(model, False)


def _train_layers(model: PreTrainedModel, on: bool) -> None:
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = on
