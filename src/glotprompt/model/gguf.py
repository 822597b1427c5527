"""Reader of weights in GGUF files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glotprompt.errors import ModelError, UserError, in_a_line, is_out_of_memory, stand_in_at
from glotprompt.model.devices import refuse_too_little_memory


def read_gguf(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The weights in GGUF files whose tensors are named as transformers names them, dequantised to fp32.

    Raises `ModelError` for a missing or damaged file, or one of another model."""
    from gguf import GGUFReader, dequantize  # imports requests: not before it is needed

    weights: dict[str, Tensor] = {}
    for path in paths:
        if not path.is_file():
            raise ModelError(f"{path} does not exist; expected a GGUF file of weights, get or copy it again")
        try:
            part: dict[str, Tensor] = {}
            tensors = GGUFReader(path).tensors
            refuse_too_little_memory(str(path), sum(4 * int(tensor.n_elements) for tensor in tensors))
            for tensor in tensors:
                values = dequantize(tensor.data, tensor.tensor_type)
                # The reader maps the file, which another process may change.
                if np.may_share_memory(values, tensor.data):
                    values = values.copy()
                part[tensor.name] = torch.from_numpy(values).view([int(size) for size in reversed(tensor.shape)])
        except Exception as error:  # a damaged file may fail in any way inside of gguf
            if isinstance(error, UserError) or is_out_of_memory(error):
                raise
            fault = f"is damaged or no GGUF file ({in_a_line(error, 120)}); get or copy it again"
            what = stand_in_at(path)
            raise ModelError(f"{path}: {what}" if what else f"{path} {fault}") from None
        twice = sorted(weights.keys() & part.keys())
        if twice:
            raise ModelError(f"{path} holds {twice[0]}, as does another of the files; give each file once")
        weights |= part
    return weights
