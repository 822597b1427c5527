"""Recomputation of activations in the backward pass (gradient checkpointing)."""

from __future__ import annotations

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
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = on
