"""Checkpoints, from which a killed run resumes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from glotprompt.config import RuntimeConfig
from glotprompt.errors import ArtifactError, ConfigError
from glotprompt.model.backbone import Backbone
from glotprompt.processes import of_first, same_everywhere
from glotprompt.storage import artifact

KIND = "checkpoint"
LARGEST_SHARE = 1 / 30
"""Largest share of a run's time for writing checkpoints: a kill loses at most 30 times the time of the last write, or
`checkpoint_every`, whichever is longer."""


class Checkpoint:
    """File with the state of a run, `checkpoint_dir`/IDENTITY.checkpoint, so that no other run ever reads it.

    Its tensors are, for the nth trained parameter, `<n>.now`, `<n>.best` (at the best evaluation) and
    `<n>.optimiser.<name>` (AdamW's state). Its metadata are `identity`, `history` (`loop.History`), `pending` (losses
    since the last of the history), `micro_batch` (the size after halving, None: none) and `notes` (settings as they
    were at the start, such as the precision). There is no random state, as batches and dropout are functions of seed
    and step. Of processes that train together, the first writes and all read."""

    def __init__(self, runtime: RuntimeConfig, identity: str) -> None:
        folder = runtime.checkpoint_dir
        self.path: Path | None = None if folder is None else folder / f"{identity}.checkpoint"
        self.identity = identity
        self._every = runtime.checkpoint_every
        self._last = time.monotonic()
        self._pause = 0.0
        self._notes: dict[str, str] = {}

    def due(self) -> bool:
        """Whether it is time for the next checkpoint; the longer one takes to write, the rarer they are."""
        return self.path is not None and time.monotonic() - self._last >= max(self._every, self._pause)

    def save(self, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
        if self.path is not None:
            start = time.monotonic()
            artifact.write(self.path, KIND, tensors, {**metadata, "identity": self.identity, "notes": self._notes})
            self._last = time.monotonic()
            seconds = self._last - start
            self._pause = seconds / LARGEST_SHARE - seconds if self._every else 0.0  # 0 means after every step

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The saved state, or None if there is no usable one.

        Raises `ConfigError` where processes that train together see different checkpoints."""
        state = self._read()
        step = None if state is None else state[1].get("history", {}).get("step")
        if not same_everywhere(step):
            raise ConfigError(
                f"not all processes see the same {self.path}; the output must lie in a folder that all machines share"
            )
        return state

    def _read(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        if self.path is None or not self.path.is_file():
            return None
        try:
            tensors, metadata = artifact.read(self.path, KIND)
        except ArtifactError:
            return None
        return (tensors, metadata) if metadata.get("identity") == self.identity else None

    def value_at_start(self, name: str, value: str) -> str:
        """The value that a setting had when the run started: the one in the checkpoint, else `value`, which is saved
        there. Processes that train together all get the first one's."""
        value = of_first(value)
        if self.path is None:
            return value
        state = self.load()
        if state is not None:
            self._notes.update(state[1]["notes"])
        if name not in self._notes:
            self._notes[name] = value
            self.save(*(state or ({}, {})))
        return of_first(self._notes[name])


def same_precision(backbone: Backbone, checkpoint: Checkpoint) -> None:
    """Set the precision that the run was started with, whatever a new benchmark would choose."""
    started_with = checkpoint.value_at_start("precision", backbone.precision)
    if started_with != backbone.precision:
        backbone.use_precision("bf16" if started_with == "bf16" else "fp32")
