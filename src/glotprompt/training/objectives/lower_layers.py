"""The layers below the lowest that stage 2 trains, run once per example instead of once per example and epoch.

With the prompts of the top K layers trained (section 3.2) the N - K layers below give the same for an example in every
epoch. What they give is kept: in memory, or past a budget in a file that is mapped into memory and goes with the
process. Examples are always read in the same order and the same batches, so a run that is taken up again sees the same
bits.
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
"""Share of a disk's free space that the file may take."""


@torch.no_grad()
def below_trained_layers(
    backbone: Backbone, clozes: Sequence[Cloze], module: Module, runtime: RuntimeConfig
) -> list[Cloze]:
    """The examples with what enters the lowest layer that `module` changes in training; as they are where nothing lies
    below it, the backbone's layers cannot be run one by one, or there is no room (which is said).

    A training that is taken up again does this again. Processes that train together each do it for all examples, for
    every epoch deals them out anew."""
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
    """Unwritten numbers on the CPU: in memory, in a file past the budget, None where neither has room."""
    size = shape[0] * shape[1] * dtype.itemsize
    if size <= runtime.state_cache:
        return torch.empty(shape, dtype=dtype)
    folder = runtime.checkpoint_dir or Path(tempfile.gettempdir())
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if size <= SPARE * shutil.disk_usage(folder).free:
            with tempfile.TemporaryFile(dir=folder) as file:  # the mapping outlives it, and nothing stays behind
                numbers = np.memmap(file, dtype=np.uint8, mode="w+", shape=(size,))
            return torch.from_numpy(numbers).view(dtype).view(shape)
    if runtime.progress and is_first():
        print(
            f"what the frozen lower layers give takes {size / 1e9:,.1f} GB, more than state_cache and the disk of"
            f" {visible(str(folder))} allow: it is computed anew in every epoch",
            file=sys.stderr,
        )
    return None
