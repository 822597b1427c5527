"""Speed of a training on this machine, measured in a few real steps. A busy machine counts as a slow one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import nn

from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig
from glotprompt.model.backbone import Backbone
from glotprompt.training.checkpoint import Checkpoint
from glotprompt.training.loop import Evaluation, Optimisation, Parts, fit
from glotprompt.training.memory import PeakMemory, gradient_checkpointing
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.progress import Silent

MOST_STEPS = 50
"""Largest number of timed steps."""

FEWEST_STEPS = 3
"""Number of timed steps even where they take longer than the time budget: the first one after the warm-up is often a
half slower than the others (new shapes)."""

ENOUGH = 5
"""Nothing is timed beyond this many times the time budget; where the warm-up step alone takes as long, it counts."""


@dataclass(frozen=True)
class Work:
    """A training to time."""

    parameters: list[nn.Parameter]
    """Trained parameters; empty for forward passes only."""
    batch: Callable[[int], Any]
    """Function from a step to its batch, as the input of the lowest layer that runs in every epoch."""
    losses: Callable[[Any, MicroBatch], Parts]
    """Function from the batch to the parts of its loss; a forward pass if gradients are off."""
    config: AdaptConfig | TuneConfig
    is_whole: bool
    """Whether batches have the size of the real training."""


@dataclass(frozen=True)
class Pace:
    """Measured times, in seconds."""

    token: float
    """Forward and backward pass, per token."""
    read_token: float
    """Forward pass, per token."""
    below_token: float
    """Preparation of a batch, per token; with cached lower layers it is needed once."""
    update: float
    """One optimiser step."""
    steps: int
    """Number of timed steps."""
    measured_bytes: int | None
    """Peak memory of the process; None if batches were smaller than in the real training."""


def pace_of(backbone: Backbone, work: Work, seconds: float, runtime: RuntimeConfig) -> Pace:
    """Time the real loop: one warm-up step, then as many as fit into `seconds`, or `FEWEST_STEPS`."""
    memory, micro_batch = PeakMemory(), MicroBatch(runtime)
    passes, steps = _Passes(work, micro_batch), 0
    if work.parameters:
        with gradient_checkpointing(backbone, runtime):
            warm_up = passes.train(1)
            fit_in, beyond = (int(budget / max(warm_up, 1e-3)) for budget in (seconds - warm_up, ENOUGH * seconds))
            steps = min(MOST_STEPS, max(fit_in, min(FEWEST_STEPS, beyond)))
            if steps:
                passes.train(steps)
    read_token = passes.read(seconds if not work.parameters else seconds / 4)
    measured = memory.bytes() if work.is_whole else None
    return Pace(passes.token, read_token, passes.below_token, passes.update, max(1, steps), measured)


class _Passes:
    """Training steps and forward passes, with the times of their last run."""

    def __init__(self, work: Work, micro_batch: MicroBatch) -> None:
        self._work, self._micro_batch, self._step = work, micro_batch, 0
        self.token = self.below_token = self.update = 0.0

    def train(self, steps: int) -> float:
        """Train for this many steps; returns their seconds."""
        tokens, below, passes, first = list[int](), 0.0, list[float](), self._step

        def losses(step: int) -> Parts:
            nonlocal below
            count = 0
            begin = perf_counter()
            batch = self._work.batch(first + step)
            start = perf_counter()
            for loss, some in self._work.losses(batch, self._micro_batch):
                yield loss, some  # the backward pass runs before the next part
                count += some
            below += start - begin
            tokens.append(count)
            passes.append(perf_counter() - start)

        config = self._work.config
        optimisation = Optimisation(steps, 1e-4, 0.0, config.weight_decay, config.clip_norm, steps)
        checkpoint = Checkpoint(RuntimeConfig(), "")  # without a folder no checkpoint is written
        seconds = fit(
            self._work.parameters,
            losses,
            lambda: Evaluation((0.0,), {}),
            optimisation,
            checkpoint,
            Silent(),
            self._micro_batch,
        ).seconds
        self._step += steps
        # The median: other programs delay some steps.
        self.token = median(seconds_taken / max(1, count) for seconds_taken, count in zip(passes, tokens, strict=True))
        self.below_token = below / max(1, sum(tokens))
        self.update = max(0.0, seconds - below - sum(passes)) / steps
        return seconds

    @torch.no_grad()
    def read(self, seconds: float) -> float:
        """Seconds per token of a forward pass. The first batch is a warm-up, as the first training step is."""
        whole = MicroBatch(RuntimeConfig(progress=False))
        tokens, elapsed = 0, 0.0
        for number in range(MOST_STEPS):
            batch = self._work.batch(self._step + number)
            begin = perf_counter()
            count = sum(count for _, count in self._work.losses(batch, whole))
            taken = perf_counter() - begin
            if number or taken > ENOUGH * seconds:
                tokens, elapsed = tokens + count, elapsed + taken
            if elapsed >= seconds and (number > 1 or elapsed > ENOUGH * seconds):
                break
        return elapsed / max(1, tokens)
