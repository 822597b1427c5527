"""Forecasts of the stages on this machine: steps, seconds, memory, files.

Of each kind of training on a backbone a few real steps are timed (`training.pace`), and the rest is counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig
from glotprompt.estimate.costs import Attention, StageCost, adapt_cost, fresh_parts, tune_cost
from glotprompt.methods import METHODS, method_of_adapt
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.classification import EmbeddingHead, Head, LinearHead
from glotprompt.model.modules.stack import trained_of
from glotprompt.model.shapes import Shell
from glotprompt.quantities import DAY, duration, size
from glotprompt.stages.stage1_objectives import Alignment, LanguageModelling
from glotprompt.task import Task
from glotprompt.training.loop import Parts
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.alignment import split_pairs
from glotprompt.training.objectives.batches import ClozeCorpus
from glotprompt.training.objectives.cloze import Cloze, encode_without_mask
from glotprompt.training.objectives.embedding import layer_read, vectors_of
from glotprompt.training.objectives.inputs import read_inputs
from glotprompt.training.objectives.losses import label_losses
from glotprompt.training.objectives.lower_layers import below_trained_layers
from glotprompt.training.pace import Pace, Work, pace_of
from glotprompt.training.rates import rounds

LONGEST = 3 * DAY
"""Seconds beyond which work is not for this machine. A guess: what a computer that people use does over a weekend."""

SAMPLE_LINES, SAMPLE_EXAMPLES = 2000, 512
"""Lines and examples for the timed steps; batches of fewer would be padded more than a training's."""

PROBE_TOKENS = 4096
"""Tokens of a timed step, at most, where many kinds of training are timed: a whole batch of verse pairs. In a third of
one (1,024 tokens) texts of different length stand side by side, and their padding makes a token 1.5 times as slow."""

Fields = Mapping[str, str]
"""An example's texts by the names that templates give them."""


@dataclass(frozen=True)
class Forecast:
    """Forecast of one stage. Seconds and measured memory are None where nothing was timed."""

    steps: int
    """Optimiser steps, trials of learning rates included."""
    sequences: int
    """Training sequences of the target text (with alignment pairs); of stage 2 and of a test, examples."""
    file_bytes: int
    """Bytes of the tensors in the stage's file."""
    estimated_bytes: int
    """Memory of the training beyond the program itself, from `costs`."""
    seconds_per_step: float | None = None
    seconds: float | None = None
    """Seconds of the whole stage with its evaluations, without early stopping, which cannot be foreseen."""
    probe_steps: int = 0
    """Number of timed steps."""
    measured_bytes: int | None = None
    """Largest memory of this process (of the GPU on CUDA) during the timed steps; None also where they were shorter
    than a training's."""

    @property
    def needed_bytes(self) -> int:
        """Memory as measured, else as estimated."""
        return self.estimated_bytes if self.measured_bytes is None else self.measured_bytes


@dataclass(frozen=True)
class Probe:
    """Length of the timing of each kind of training."""

    seconds: float
    """Approximate seconds; a step that has begun is finished."""
    most_tokens: int | None = None
    """Tokens of a step, at most; None: a training's whole batch, so that its memory is measured, too."""


@dataclass(frozen=True)
class Text:
    """Text of stage 1."""

    lines: Sequence[str]
    """With alignment those of both sides, alternately: as they differ in length, neither can stand for the other."""
    lengths: Sequence[float]
    """Tokens, without `<s>` and `</s>`, of the lines or of some that stand for all."""

    def amount(self, config: AdaptConfig) -> Amount:
        """What a stage 1 makes of it."""
        room, aligned = config.max_length - 2, config.objective == "alignment"
        lengths = [length for length in self.lengths if length]
        if config.packing == "full" and not aligned:
            joined = sum(lengths) + len(lengths)
            number, tokens = joined // room, min(config.max_length, joined + 2)
        else:
            number, tokens = len(lengths), 2 + fmean(min(length, room) for length in lengths or [0])
        number = round(number * len(self.lines) / max(1, len(self.lengths)))
        held = round(config.held_out_share * number)
        if aligned:
            number, held, tokens = number // 2, max(2, min(config.eval_sequences, held // 2)), 2 * tokens
        return Amount(max(1, number - held), max(1, held), tokens)


@dataclass(frozen=True)
class Amount:
    """Text as sequences, or as pairs."""

    sequences: int
    """Number of sequences or pairs that are trained on."""
    held_out: int
    tokens: float
    """Tokens of a sequence, or of both sides of a pair."""


class Forecaster:
    """Forecasts for one backbone. Each kind of training is timed once."""

    def __init__(
        self, shell: Shell, device: torch.device, backbone: Backbone | None, probe: Probe, runtime: RuntimeConfig
    ) -> None:
        """Without a `backbone` nothing is timed: its `shell` is all that is known, and the `device` it is meant for."""
        self.shell, self.device, self.backbone, self.probe = shell, device, backbone, probe
        self.runtime = runtime.replace(progress=False, checkpoint_dir=None)
        self._attention: Attention = "cuda" if device.type == "cuda" else "cpu"
        self._kept: dict[Any, Any] = {}

    @classmethod
    def of(cls, backbone: Backbone, probe: Probe, runtime: RuntimeConfig) -> Forecaster:
        return cls(Shell.of(backbone), backbone.device, backbone, probe, runtime)

    @cached_property
    def machine_bytes(self) -> int | None:
        """Memory that a training can have at most; None where the system does not say."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_properties(self.device).total_memory
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError):  # not on every system
            return None

    def adapt(self, config: AdaptConfig, text: Text, num_trainings: int | None = None) -> Forecast:
        """Stage 1; the target's text stands in for the source's, too. `num_trainings`: None: all that the method has.
        Raises `ConfigError` and `ModelError` for what cannot be trained."""
        method, amount = method_of_adapt(config), text.amount(config)
        cost = self._cost(config, None)
        trials = rounds(config) if config.learning_rate == "auto" else []
        trainings = len(method.source_shares(config)) if num_trainings is None else num_trainings
        steps = trainings * (config.steps + sum(count * steps for count, steps in trials))
        forecast = Forecast(steps, amount.sequences, cost.file_bytes, cost.memory_bytes)
        if self.backbone is None:
            return forecast
        tokens = amount.tokens
        pace = self._pace((_kind(config), _alike(tokens)), lambda: self._adapt_work(config, text.lines, tokens))
        rows = min(config.batch_size, amount.sequences) if config.objective == "alignment" else config.batch_size
        step = rows * tokens * pace.token + pace.update
        # The start of a training counts as an evaluation, and half of the held-out text is scored before and after.
        evaluations = 1 + -(-config.steps // config.eval_every) + sum(2 * count for count, _ in trials)
        half = -(-amount.held_out // 2)
        read = evaluations * min(half, config.eval_sequences) + 2 * half
        if config.objective == "alignment":  # of each pair one side is a teacher
            read += (amount.sequences + amount.held_out) / 2
        return _timed(forecast, pace, step, steps * step + trainings * read * tokens * pace.read_token)

    def tune(
        self,
        config: TuneConfig,
        adapt: AdaptConfig | None,
        task: Task,
        examples: Sequence[Fields],
        num: tuple[int, int],
    ) -> Forecast:
        """Stage 2 behind what a stage 1 leaves (None: behind none) on `num` training and dev examples like these."""
        train, dev = num
        if METHODS[str(config.method)].reads_characters:
            return Forecast(0, train, 0, 0, seconds=0.0)
        cost, vectors = self._cost(config, adapt), METHODS[str(config.method)].reads_vectors
        steps = 0 if vectors else config.epochs * -(-train // config.batch_size)
        forecast = Forecast(steps, train, cost.file_bytes, cost.memory_bytes)
        if self.backbone is None:
            return forecast
        tokens = self._tokens(config, task, examples)
        pace = self._tune_pace(config, adapt, task, examples)
        if vectors:
            return _timed(forecast, pace, None, (train + dev) * tokens * pace.read_token)
        step = train * config.epochs / steps * tokens * pace.token + pace.update
        once = pace.read_token if config.head == "pooled" else pace.below_token  # the regression that a head starts as
        read = (1 + config.epochs) * dev * tokens * pace.read_token
        return _timed(forecast, pace, step, steps * step + read + (train + dev) * tokens * once)

    def evaluate(
        self, config: TuneConfig, adapt: AdaptConfig | None, task: Task, examples: Sequence[Fields]
    ) -> Forecast:
        """A classifier of such a stage 2 scored on examples."""
        if METHODS[str(config.method)].reads_characters:
            return Forecast(0, len(examples), 0, 0, seconds=0.0)
        needed = self._cost(config, adapt).backbone_bytes
        forecast = Forecast(0, len(examples), 0, needed)
        if self.backbone is None:
            return forecast
        pace = self._tune_pace(config, adapt, task, examples)
        tokens = len(examples) * self._tokens(config, task, examples)
        return replace(forecast, seconds=tokens * (pace.below_token + pace.read_token))

    def _cost(self, config: AdaptConfig | TuneConfig, adapt: AdaptConfig | None) -> StageCost:
        at_once = self.runtime.micro_batch_size or config.batch_size
        config = config.replace(batch_size=min(config.batch_size, at_once))
        key = "cost", _kind(config), None if adapt is None else _kind(adapt)
        if key not in self._kept:
            if isinstance(config, AdaptConfig):
                self._kept[key] = adapt_cost(self.shell, config, self._attention)
            else:
                self._kept[key] = tune_cost(self.shell, config, adapt, self._attention)
        return self._kept[key]

    def _pace(self, kind: Any, work: Callable[[], Work]) -> Pace:
        if kind not in self._kept:
            assert self.backbone is not None
            self._kept[kind] = pace_of(self.backbone, work(), self.probe.seconds, self.runtime)
        return self._kept[kind]

    def _tokens(self, config: TuneConfig, task: Task, examples: Sequence[Fields]) -> float:
        """Tokens of an example, on average."""
        return fmean(len(cloze.input_ids) for cloze in self._read(config, task, examples)[1])

    def _read(self, config: TuneConfig, task: Task, examples: Sequence[Fields]) -> tuple[Any, list[Cloze]]:
        """Some of the examples as the model reads them, and what their labels are read with."""
        backbone, fields = self.backbone, _some(examples, SAMPLE_EXAMPLES)
        assert backbone is not None
        key = (
            "read",
            task.identity(),
            config.max_length,
            config.head,
            config.layer,
            config.method == "embedding",
            str(fields),
        )
        if key not in self._kept:
            if METHODS[str(config.method)].reads_vectors:
                self._kept[key] = None, encode_without_mask(fields, task, backbone.tokenizer, config.max_length)
            else:
                size = backbone.hidden_size, len(task.labels)
                heads: dict[str, Head] = {
                    "linear": LinearHead(*size, config.seed),
                    "pooled": EmbeddingHead.empty(*size, layer_read(backbone, config)),
                }
                head = heads.get(config.head)
                self._kept[key] = read_inputs(backbone, fields, task, head, config.max_length)
        return self._kept[key]

    def _tune_pace(self, config: TuneConfig, adapt: AdaptConfig | None, task: Task, examples: Sequence[Fields]) -> Pace:
        tokens = self._tokens(config, task, examples)
        kind = _kind(config), None if adapt is None else _kind(adapt), task.identity(), _alike(tokens)
        return self._pace(kind, lambda: self._tune_work(config, adapt, task, examples))

    def _adapt_work(self, config: AdaptConfig, lines: Sequence[str], tokens: float) -> Work:
        """`tokens`: of a sequence or pair, on average. Batches of few rows are slow for their tokens."""
        backbone = self.backbone
        assert backbone is not None
        rows = self._rows(config.batch_size, tokens)
        short = config.replace(batch_size=max(2, rows))
        module = fresh_parts(backbone, short)["language"]
        if config.objective == "alignment":  # every pair has a teacher that is made first
            some = _some(list(zip(lines[::2], lines[1::2], strict=True)), 4 * short.batch_size)
            objective = Alignment(backbone, split_pairs(some, short), short, self.runtime)
        else:
            some = _some(lines, SAMPLE_LINES)
            objective = LanguageModelling(backbone, some, [], short.replace(source_share=0.0), self.runtime)

        def losses(step: int, micro_batch: MicroBatch) -> Parts:
            with backbone.dropping_out(config.dropout, (config.seed, step)):
                yield from objective.losses(module, step, micro_batch)

        return Work(module.trained_parameters, lambda step: step, losses, config, rows >= config.batch_size)

    def _tune_work(self, config: TuneConfig, adapt: AdaptConfig | None, task: Task, examples: Sequence[Fields]) -> Work:
        backbone, method = self.backbone, METHODS[str(config.method)]
        assert backbone is not None
        body = method.begin_tune(backbone, {} if adapt is None else fresh_parts(backbone, adapt), config)
        body = body.to(backbone.device)
        reader, clozes = self._read(config, task, examples)
        rows = self._rows(config.batch_size, fmean(len(cloze.input_ids) for cloze in clozes))
        gold = [number % len(task.labels) for number in range(len(clozes))]
        corpus = ClozeCorpus(clozes, gold, min(rows, config.batch_size), config.seed)
        # Few may be timed, and short batches are slow for their tokens: those as long as the mean come first.
        tokens = [sum(len(cloze.input_ids) for cloze in corpus.batch(i)[0]) for i in range(corpus.steps_per_epoch)]
        order = sorted(range(len(tokens)), key=lambda step: abs(tokens[step] - fmean(tokens)))

        def batch(step: int) -> tuple[list[Cloze], Tensor]:
            read, labels = corpus.batch(order[step % len(order)])
            if not config.dropout and not method.reads_vectors and config.head != "pooled":
                read = below_trained_layers(backbone, read, body, self.runtime)
            return read, labels

        def losses(batch: tuple[list[Cloze], Tensor], micro_batch: MicroBatch) -> Parts:
            with backbone.dropping_out(config.dropout, (config.seed, 0)):
                yield from label_losses(backbone, body, *batch, reader, config.loss_over, micro_batch)

        def vectors(batch: tuple[list[Cloze], Tensor], micro_batch: MicroBatch) -> Parts:
            with body.attached(backbone) as prefix:
                layer = layer_read(backbone, config)
                vectors_of(backbone, batch[0], prefix, layer, self.runtime.eval_batch_size)
            yield torch.zeros(()), sum(len(cloze.input_ids) for cloze in batch[0])

        if method.reads_vectors:
            return Work([], batch, vectors, config, True)
        head = reader.to(backbone.device) if isinstance(reader, Head) else None
        return Work(trained_of(body, head), batch, losses, config, rows >= config.batch_size)

    def _rows(self, batch_size: int, tokens: float) -> int:
        most = self.probe.most_tokens
        return batch_size if most is None else min(batch_size, max(1, int(most / tokens)))


def unfit(seconds: float | None, num_bytes: int, machine_bytes: int | None) -> str:
    """One line on why the work does not fit this machine; "" if it does."""
    reasons: list[str] = []
    if seconds is not None and seconds > LONGEST:
        reasons.append(f"it would take about {duration(seconds)}")
    if machine_bytes is not None and num_bytes > machine_bytes:
        reasons.append(f"it needs about {size(num_bytes)} of memory, and there are {size(machine_bytes)}")
    return f"this is not for this machine: {'; '.join(reasons)}" if reasons else ""


def _kind(config: AdaptConfig | TuneConfig) -> str:
    """Key of configs whose steps take the same time."""
    same: dict[str, Any] = {"seed": 0, "warmup_ratio": 0.0, "weight_decay": 0.0, "clip_norm": 1.0, "learning_rate": 1.0}
    of_amount: dict[str, Any] = {"epochs": 1, "shots_per_class": None, "most_per_label": None}
    same |= {"steps": 1} if isinstance(config, AdaptConfig) else of_amount
    return config.replace(**same).identity()


def _alike(tokens: float) -> int:
    """Key of lengths at which a token takes about the same time, so that not every language is timed."""
    return round(log(tokens, 1.5))


def _some(things: Sequence[Any], most: int) -> list[Any]:
    """Evenly drawn; of lines and pairs different ones, for every nth of a text that repeats itself may be the same."""
    different = list(dict.fromkeys(things)) if things and isinstance(things[0], str | tuple) else list(things)
    return different[:: max(1, len(different) // most)][:most]


def _timed(forecast: Forecast, pace: Pace, step: float | None, seconds: float) -> Forecast:
    return replace(
        forecast, seconds_per_step=step, seconds=seconds, probe_steps=pace.steps, measured_bytes=pace.measured_bytes
    )
