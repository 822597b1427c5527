"""Checkpoints of a run that may be killed at any instant."""

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
"""Of a run's time, for writing them; a kill loses at most 30 times what the last one took, or the
`checkpoint_every` that was asked for, whichever is longer."""


class Checkpoint:
    """One file of a run's state. Its name carries the run's identity, so that other words never meet it.

    Of processes that train together the first writes and all read."""

    def __init__(self, runtime: RuntimeConfig, identity: str) -> None:
        folder = runtime.checkpoint_dir
        self.path: Path | None = None if folder is None else folder / f"{identity}.checkpoint"
        self.identity = identity
        self._every = runtime.checkpoint_every
        self._last = time.monotonic()
        self._pause = 0.0
        self._notes: dict[str, str] = {}

    def due(self) -> bool:
        """Whether enough time has passed since the last one: one of a whole model takes long, so they come seldom."""
        return self.path is not None and time.monotonic() - self._last >= max(self._every, self._pause)

    def save(self, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
        if self.path is not None:
            start = time.monotonic()
            artifact.write(self.path, KIND, tensors, {**metadata, "identity": self.identity, "notes": self._notes})
            self._last = time.monotonic()
            seconds = self._last - start
            self._pause = seconds / LARGEST_SHARE - seconds if self._every else 0.0  # 0 means after every step

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The saved state, or None when there is none that can be used (a damaged one is as good as none).

        Raises `ConfigError` where processes that train together do not all see the same."""
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
        """The value that a setting had when the run started: what the checkpoint says, else `value`, which is written
        to it. All processes that train together get what the first has."""
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
    """A resumed run keeps the precision it was started with, whatever today's probe says."""
    started_with = checkpoint.value_at_start("precision", backbone.precision)
    if started_with != backbone.precision:
        backbone.use_precision("bf16" if started_with == "bf16" else "fp32")
