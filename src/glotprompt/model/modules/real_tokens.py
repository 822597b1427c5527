"""Keys and values of the frozen model at real tokens, to initialise a prompt (`initialise="text"`).

They are recorded by an attention function registered with transformers, which replaces ours (`model.prefix`) only
during a forward pass.
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
    """Keys and values of every layer at the first `prompt_length` tokens of the sequences that are not in `special_ids`
    (fewer if there are fewer); fp32, on the CPU.

    Sequences are read whole and without a prompt, so the vectors depend on context and position."""
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
