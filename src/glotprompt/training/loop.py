"""The training loop of every stage and method: AdamW, warm-up and decay, clipping, evaluation, checkpoints.

It is independent of what it trains: it gets the parameters, a function from a step to losses, and an evaluation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypedDict

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from glotprompt.config import AdaptConfig, Schedule, TuneConfig
from glotprompt.errors import is_out_of_memory
from glotprompt.processes import of_first, start_alike, together
from glotprompt.training.checkpoint import Checkpoint
from glotprompt.training.micro_batch import MicroBatch, release_memory
from glotprompt.training.progress import Progress

Parts = Generator[tuple[Tensor, int]]
"""The parts of a step's loss, each with its number of real tokens. The parts of all processes sum to the mean loss of
the whole batch, so accumulation and data parallelism change nothing but rounding (and the random choices of dropout, if
on)."""
Losses = Callable[[int], Parts]
"""Function from a step number to its loss."""

DECAYING = 0.2
"""Share of the steps over which the schedule "wsd" decays (Hägele et al. 2024: 10 to 20 %)."""


@dataclass(frozen=True)
class Optimisation:
    """Optimiser settings, common to both stages."""

    steps: int
    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    clip_norm: float
    eval_every: int
    patience: int | None = None
    schedule: Schedule = "linear"
    min_improvement: float = 0.0

    @classmethod
    def of(
        cls, config: AdaptConfig | TuneConfig, steps: int, rate: float, eval_every: int, patience: int | None = None
    ) -> Optimisation:
        """The optimiser settings in the config of a stage."""
        common = (steps, rate, config.warmup_ratio, config.weight_decay, config.clip_norm, eval_every, patience)
        if isinstance(config, TuneConfig):
            return cls(*common)
        return cls(*common, config.schedule, config.min_improvement)

    def rate(self, step: int) -> float:
        """Learning rate of a step (0-based): linear warm-up, then the schedule."""
        warmup = max(1, round(self.steps * self.warmup_ratio))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        remaining = (self.steps - step) / max(1, self.steps - warmup)
        shares = {
            "linear": remaining,
            "cosine": (1 - math.cos(math.pi * remaining)) / 2,
            "constant": 1.0,
            "wsd": min(1.0, (self.steps - step) / max(1, round(DECAYING * self.steps))),
        }
        return self.learning_rate * shares[self.schedule]


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation: `key` is minimised (compared lexicographically), `figures` are recorded."""

    key: tuple[float, ...]
    figures: dict[str, float]


@dataclass
class History:
    """Losses and evaluations of a run; saved in checkpoints."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """(step, mean training loss since the previous entry)."""
    evaluations: list[tuple[int, dict[str, float]]] = field(default_factory=list[tuple[int, dict[str, float]]])
    best_step: int = 0
    best_key: tuple[float, ...] | None = None
    first_loss: float | None = None
    """Of the first evaluation; the fall so far is counted from it."""
    without_gain: int = 0

    def figures(self) -> HistoryFigures:
        """The fields of a report."""
        evaluations = [
            (step, {name: _number(value) for name, value in figures.items()}) for step, figures in self.evaluations
        ]
        return HistoryFigures(
            steps=self.step,
            best_step=self.best_step,
            seconds=self.seconds,
            tokens=self.tokens,
            losses=[(step, _number(loss)) for step, loss in self.losses],
            evaluations=evaluations,
        )


class HistoryFigures(TypedDict):
    """Fields of a report, documented in `records.Training`."""

    steps: int
    best_step: int
    seconds: float
    tokens: int
    losses: list[tuple[int, float | None]]
    evaluations: list[tuple[int, dict[str, float | None]]]


def _number(value: float) -> float | None:
    """A figure for a file, where NaN and infinity become None."""
    return value if math.isfinite(value) else None


def fit(
    parameters: Sequence[nn.Parameter],
    losses: Losses,
    evaluate: Callable[[], Evaluation],
    optimisation: Optimisation,
    checkpoint: Checkpoint,
    progress: Progress,
    micro_batch: MicroBatch | None = None,
) -> History:
    """Train `parameters` in place and leave the best ones by `evaluate` in them (the initial ones are evaluated too).

    The run resumes from a checkpoint of the same identity and then gives the bits of an uninterrupted run. If `losses`
    use `micro_batch`, a step that runs out of memory is repeated in smaller parts; otherwise, and in evaluations, the
    error is raised. Processes that train together start from the first one's parameters and use its evaluations.
    """
    start_alike(parameters)
    run = _Run(parameters, optimisation, checkpoint, micro_batch)
    run.resume()
    history = run.history
    progress.begin(history.step)
    start = time.perf_counter() - history.seconds

    def judge() -> None:
        evaluation = of_first(evaluate())
        run.judge(evaluation)
        progress.evaluated(history.step, evaluation.figures)

    if history.best_key is None:
        judge()
    while history.step < optimisation.steps and not run.out_of_patience():
        loss, tokens = run.update(losses)
        history.step += 1
        history.tokens += tokens
        run.note_loss(loss)
        ended = history.step == optimisation.steps
        if history.step % optimisation.eval_every == 0 or ended:
            judge()
        history.seconds = time.perf_counter() - start
        progress.advance(history.step, loss, history.tokens, history.evaluations[-1][1])
        if checkpoint.due() or ended or run.out_of_patience():
            run.save()
    run.take(run.best)
    progress.finish()
    return history


class _Run:
    """The mutable state of one `fit`: optimiser, best parameters, history."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        optimisation: Optimisation,
        checkpoint: Checkpoint,
        micro_batch: MicroBatch | None,
    ) -> None:
        self.parameters = list(parameters)
        self.optimisation = optimisation
        self.checkpoint = checkpoint
        self.micro_batch = micro_batch
        self.optimiser = torch.optim.AdamW(self.parameters, lr=0.0, weight_decay=optimisation.weight_decay, fused=True)
        self.best = self._copies()
        self.history = History()
        self._pending: list[float] = []

    def _copies(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def take(self, values: Sequence[Tensor]) -> None:
        """Copy values into the parameters."""
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def update(self, losses: Losses) -> tuple[float, int]:
        """Make one optimiser step; returns the loss and the number of tokens of the batch."""
        total, num_tokens = self._backward(losses)
        gradients = [self._gradient(parameter) for parameter in self.parameters]
        if together():
            sums = torch.tensor([total, float(num_tokens)], device=gradients[0].device)
            for tensor in (*gradients, sums):
                distributed.all_reduce(tensor)
            total, num_tokens = float(sums[0]), int(sums[1])
        nn.utils.clip_grad_norm_(self.parameters, self.optimisation.clip_norm)
        for group in self.optimiser.param_groups:
            group["lr"] = self.optimisation.rate(self.history.step)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return total, num_tokens

    def _backward(self, losses: Losses) -> tuple[float, int]:
        """Sum the gradients of this process's parts of a step, in smaller parts if memory runs out."""
        micro_batch, device = self.micro_batch, self.parameters[0].device
        while True:
            result = None
            try:
                result = _accumulate(losses(self.history.step))
            except (RuntimeError, MemoryError, UserWarning) as error:
                if micro_batch is None or not is_out_of_memory(error):
                    raise
            if result is None:  # not in the handler, where the error still holds the tensors of the pass
                release_memory(device)
            halved = micro_batch is not None and micro_batch.halve_if(result is None, device)
            if result is not None and not halved:
                return result
            self.optimiser.zero_grad(set_to_none=True)
            self.save()  # a resumed run must halve at the same step

    @staticmethod
    def _gradient(parameter: nn.Parameter) -> Tensor:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        return parameter.grad

    def note_loss(self, loss: float) -> None:
        self._pending.append(loss)
        if self.history.step % max(1, self.optimisation.steps // 100) == 0:
            self.history.losses.append((self.history.step, sum(self._pending) / len(self._pending)))
            self._pending.clear()

    def judge(self, evaluation: Evaluation) -> None:
        history = self.history
        history.evaluations.append((history.step, evaluation.figures))
        sound = all(map(math.isfinite, evaluation.key))  # NaN compares arbitrarily
        best = history.best_key
        if best is None or history.first_loss is None or not all(map(math.isfinite, best)):
            is_best = is_gain = sound or best is None
            history.first_loss = evaluation.key[0]
        else:
            is_best = sound and evaluation.key < best
            fall = history.first_loss - evaluation.key[0]
            gain = best[0] - evaluation.key[0]
            is_gain = is_best and gain >= self.optimisation.min_improvement * fall
        history.without_gain = 0 if is_gain else history.without_gain + 1
        if is_best:
            history.best_key, history.best_step = evaluation.key, history.step
            self.best = self._copies()

    def out_of_patience(self) -> bool:
        patience = self.optimisation.patience
        return patience is not None and self.history.without_gain >= patience

    def save(self) -> None:
        tensors: dict[str, Tensor] = {}
        for number, (parameter, best) in enumerate(zip(self.parameters, self.best, strict=True)):
            state: dict[str, Any] = self.optimiser.state[parameter]
            tensors |= {f"{number}.now": parameter.detach(), f"{number}.best": best}
            tensors |= {f"{number}.optimiser.{name}": value for name, value in state.items()}
        halved_to = None if self.micro_batch is None else self.micro_batch.halved_to
        self.checkpoint.save(
            tensors, {"history": vars(self.history), "pending": self._pending, "micro_batch": halved_to}
        )

    def resume(self) -> None:
        state = self.checkpoint.load()
        if state is None or "history" not in state[1]:
            return
        tensors, metadata = state
        numbers = range(len(self.parameters))
        self.take([tensors[f"{number}.now"] for number in numbers])
        self.best = [tensors[f"{number}.best"].to(self.parameters[number].device) for number in numbers]
        for name, value in tensors.items():
            number, kind, *key = name.split(".", 2)
            if kind == "optimiser":
                parameter = self.parameters[int(number)]
                self.optimiser.state[parameter][key[0]] = value.to(parameter.device)  # fused: the step count too
        history: dict[str, Any] = dict(metadata["history"])
        for name in ("losses", "evaluations"):
            history[name] = [tuple(item) for item in history[name]]
        history["best_key"] = tuple(history["best_key"])
        self.history = History(**history)
        self._pending = list(metadata["pending"])
        if self.micro_batch is not None:
            self.micro_batch.resume(metadata.get("micro_batch"))


def _accumulate(parts: Parts) -> tuple[float, int]:
    """Sum the gradients of the parts of a loss; returns the loss and the number of tokens."""
    total, num_tokens = 0.0, 0
    with closing(parts):  # else an error in the backward pass leaves a module attached to the backbone
        for loss, tokens in parts:
            loss.backward()  # pyright: ignore[reportUnknownMemberType]
            total += loss.item()
            num_tokens += tokens
    return total, num_tokens
