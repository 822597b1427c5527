"""What the frozen model itself has as keys and values at real tokens: a start for a prompt that is no noise.

Seen through transformers' seam for attention functions, as `soft_prompt` puts the prompt in; ours is replaced only for
the length of a forward pass by one that also notes what it is handed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from glotprompt.model.backbone import Backbone
from glotprompt.model.prefix import ATTENTION

NOTING = f"{ATTENTION}-noting"
"""Name under which the attention function that notes keys and values is registered with transformers."""


def _attend_and_note(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *arguments: Any,
    noted: dict[int, Tensor],
    **kwargs: Any,
) -> tuple[Tensor, None]:
    noted[module.layer_idx] = torch.stack([key[0], value[0]])  # pyright: ignore[reportArgumentType]
    return AttentionInterface()[ATTENTION](module, query, key, value, *arguments, **kwargs)


AttentionInterface.register(NOTING, _attend_and_note)
AttentionMaskInterface.register(NOTING, AttentionMaskInterface()[ATTENTION])


@contextmanager
def _noting(backbone: Backbone) -> Generator[None]:
    backbone.model.set_attn_implementation(NOTING)
    try:
        yield
    finally:
        backbone.model.set_attn_implementation(ATTENTION)


@torch.no_grad()
def key_values_of_text(
    backbone: Backbone,
    sequences: Iterable[Int[Tensor, " seq"]],
    special_ids: Int[Tensor, " special"],
    prompt_length: int,
) -> Float[Tensor, "layer 2 head _ dim"]:
    """Every layer's keys and values at the first `prompt_length` tokens of the sequences that are none of
    `special_ids`; fp32, on the CPU. Fewer where the sequences have fewer.

    A sequence is read whole and without a prompt, so each token's vectors know their context and their place."""
    vectors: list[Tensor] = []
    missing = prompt_length
    with _noting(backbone):
        for sequence in sequences:
            noted: dict[int, Tensor] = {}
            backbone.model.base_model(input_ids=sequence[None].to(backbone.device), noted=noted)
            text = ~torch.isin(sequence, special_ids)
            of_layers = torch.stack([noted[index] for index in range(backbone.num_layers)])
            vectors.append(of_layers.float().cpu()[:, :, :, text][:, :, :, :missing])
            missing -= vectors[-1].shape[3]
            if missing == 0:
                break
    return torch.cat(vectors, dim=3)
