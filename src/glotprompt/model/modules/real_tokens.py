"""Keys and values of the frozen model at real tokens, to initialise a prompt (`initialise="text"`)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from glotprompt.model.backbone import Backbone


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
    for sequence in sequences:
        of_layers = backbone.family.key_values(sequence[None].to(backbone.device))
        text = ~torch.isin(sequence, special_ids)
        vectors.append(of_layers.float().cpu()[:, :, :, text][:, :, :, :missing])
        missing -= vectors[-1].shape[3]
        if missing == 0:
            break
    return torch.cat(vectors, dim=3)
