"""Cache of the layers below the lowest trained one in stage 2, run once per example instead of once per epoch.

With the prompts of the top K layers trained (section 3.2), the N - K layers below compute the same states for an
example in every epoch. They are stored in memory, or beyond a budget in a memory-mapped file that is deleted with the
process. Order and batches are always the same, so a resumed run gets the same bits.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from glotprompt.config import RuntimeConfig
from glotprompt.errors import visible
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.module import Module
from glotprompt.model.tokens import by_length
from glotprompt.processes import is_first
from glotprompt.training.objectives.cloze import Cloze, Entering
from glotprompt.training.objectives.scoring import padded
from glotprompt.training.progress import StepLine

SPARE = 0.5
"""Share of the free disk space that the file may take."""


@torch.no_grad()
def below_trained_layers(
    backbone: Backbone, clozes: Sequence[Cloze], module: Module, runtime: RuntimeConfig
) -> list[Cloze]:
    """The examples with the stored input of the lowest layer that `module` changes in training; unchanged if there is
    no layer below it, if the backbone's layers cannot be run separately, or if there is no room (with a message).

    A resumed training computes the states again. Processes that train together each compute them for all examples, as
    every epoch distributes the examples anew."""
    layer = module.first_layer
    tokens = sum(len(cloze.input_ids) for cloze in clozes)
    if not layer or not tokens or not runtime.state_cache or not backbone.is_layered:
        return list(clozes)
    cache = _room((tokens, backbone.hidden_size), backbone.dtype, runtime)
    if cache is None:
        return list(clozes)
    ends = np.cumsum([len(cloze.input_ids) for cloze in clozes]).tolist()
    result = [
        replace(cloze, entering=Entering(layer, cache[end - len(cloze.input_ids) : end]))
        for cloze, end in zip(clozes, ends, strict=True)
    ]
    batches = list(by_length([cloze.input_ids for cloze in clozes], runtime.eval_batch_size))
    progress, num_tokens = StepLine(f"read the {layer} lowest layers once", len(batches), runtime.progress), 0
    with module.attached(backbone) as prefix:
        for number, rows in enumerate(batches, start=1):
            ids, mask = padded([clozes[row] for row in rows], backbone)
            hidden = backbone.states_below(layer, ids, mask, prefix).to(cache.device)
            for row, states in zip(rows, hidden, strict=True):
                start = ends[row] - len(clozes[row].input_ids)
                cache[start : ends[row]] = states[: ends[row] - start]
                num_tokens += ends[row] - start
            progress.advance(number, None, num_tokens, {})
    return result


def _room(shape: tuple[int, int], dtype: torch.dtype, runtime: RuntimeConfig) -> Float[Tensor, "token hidden"] | None:
    """An empty tensor on the CPU: in memory, or in a file beyond the budget; None if neither has room."""
    size = shape[0] * shape[1] * dtype.itemsize
    if size <= runtime.state_cache:
        return torch.empty(shape, dtype=dtype)
    folder = runtime.checkpoint_dir or Path(tempfile.gettempdir())
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if size <= SPARE * shutil.disk_usage(folder).free:
            # The mapping outlives the file, which leaves nothing behind.
            with tempfile.TemporaryFile(dir=folder) as file:
                numbers = np.memmap(file, dtype=np.uint8, mode="w+", shape=(size,))
            return torch.from_numpy(numbers).view(dtype).view(shape)
    if runtime.progress and is_first():
        print(
            f"the states of the frozen lower layers take {size / 1e9:,.1f} GB, more than state_cache and the disk of"
            f" {visible(str(folder))} allow; they are computed again in every epoch",
            file=sys.stderr,
        )
    return None
