"""What a training would take on this machine: a few real steps, and the rest by counting."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from torch import Tensor, nn

from glotprompt.classifier import read_inputs
from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig
from glotprompt.costs import StageCost, method_cost
from glotprompt.doctor.text import TextStatistics
from glotprompt.errors import ConfigError
from glotprompt.methods import METHODS, method_of_adapt
from glotprompt.model.classification import LinearHead
from glotprompt.model.delta import Delta
from glotprompt.model.deltas import trained_of
from glotprompt.model.encoder import Encoder
from glotprompt.model.shapes import Shell
from glotprompt.templates import Task
from glotprompt.train.checkpoint import Checkpoint
from glotprompt.train.cloze import ClozeCorpus
from glotprompt.train.inputs import masking_corpus
from glotprompt.train.loop import Evaluation, Losses, Optimisation, fit
from glotprompt.train.losses import label_losses, masked_word_losses
from glotprompt.train.memory import PeakMemory
from glotprompt.train.micro_batch import MicroBatch
from glotprompt.train.progress import Silent
from glotprompt.train.rates import rounds
from glotprompt.train.scoring import evaluation_batches, score_masked_words

NUM_EXAMPLES = 1000
"""Labelled examples for which stage 2 is estimated: how many there are is not known yet."""

PROBE_LINES = 2000
"""Lines that the steps of the probe are drawn from."""

MOST_STEPS = 50


@dataclass(frozen=True)
class Forecast:
    """What one stage will take. Seconds and measured memory are None where nothing was timed."""

    steps: int
    """Optimiser steps, trials of learning rates included; in stage 2 for `NUM_EXAMPLES` examples."""
    sequences: int
    """Training sequences of the target text; in stage 2 `NUM_EXAMPLES`."""
    file_bytes: int
    """The tensors of the file that is written."""
    estimated_bytes: int
    """Memory of the training beyond the program itself, from `costs`."""
    seconds_per_step: float | None = None
    seconds: float | None = None
    """The whole stage with its evaluations."""
    probe_steps: int = 0
    """Steps that were timed, the first of all not among them."""
    measured_bytes: int | None = None
    """Largest memory of this process (of the GPU on CUDA) during the probe."""


@dataclass(frozen=True)
class _Timing:
    seconds_per_step: float
    steps: int
    measured_bytes: int


def machine_bytes(device: torch.device) -> int | None:
    """Memory that a training on this device can have at most; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # not on every system
        return None


def stage_costs(
    shell: Shell, adapt: AdaptConfig, tune: TuneConfig, device: torch.device
) -> tuple[StageCost, StageCost]:
    """Both stages of the config's method, counted without weights. Raises `ConfigError` for a method without a stage 1,
    a length that the backbone does not read, and a backbone that the method does not fit; `ModelError` for one without
    an LM head."""
    method = method_of_adapt(adapt)
    cost = method_cost(shell, method, adapt, tune, "cuda" if device.type == "cuda" else "cpu")
    if cost.adapt is None or cost.tune is None:
        raise ConfigError(cost.refusal)
    return cost.adapt, cost.tune


def forecast_adapt(
    text: TextStatistics,
    config: AdaptConfig,
    cost: StageCost,
    encoder: Encoder | None,
    lines: Sequence[str],
    runtime: RuntimeConfig,
    seconds: float,
) -> Forecast:
    """Stage 1 of the method; timed for about `seconds` where an encoder is given."""
    method, room = METHODS[config.method], config.max_length - 2
    lengths = [length for length in text.line_tokens if length]
    packed = (sum(lengths) + len(lengths)) // room if config.packing == "full" else len(lengths)
    held = round(config.held_out * packed * text.num_lines / max(1, text.num_counted))
    sequences = max(1, round(packed * text.num_lines / max(1, text.num_counted)) - held)
    trials = sum(count * steps for count, steps in rounds(config)) if config.learning_rate == "auto" else 0
    trainings = len(method.source_shares(config))
    forecast = Forecast(trainings * (config.steps + trials), sequences, cost.file_bytes, cost.memory_bytes)
    if encoder is None:
        return forecast
    timing, per_sequence = _time_adapt(encoder, config, _some(lines), runtime, seconds)
    evaluations = 1 + -(-config.steps // config.eval_every)
    read = 2 * max(1, held) + evaluations * min(max(1, held), config.eval_sequences)
    total = forecast.steps * timing.seconds_per_step + trainings * read * per_sequence
    return _timed(forecast, timing, total)


def forecast_tune(
    adapt: AdaptConfig,
    config: TuneConfig,
    cost: StageCost,
    encoder: Encoder | None,
    task: Task,
    lines: Sequence[str],
    runtime: RuntimeConfig,
    seconds: float,
) -> Forecast:
    """Stage 2 for `NUM_EXAMPLES` examples as long as the text's lines; timed as stage 1 is."""
    steps = config.epochs * -(-NUM_EXAMPLES // config.batch_size)
    forecast = Forecast(steps, NUM_EXAMPLES, cost.file_bytes, cost.memory_bytes)
    if encoder is None:
        return forecast
    timing = _time_tune(encoder, adapt, config, task, _some(lines), runtime, seconds)
    return _timed(forecast, timing, steps * timing.seconds_per_step)


def _timed(forecast: Forecast, timing: _Timing, seconds: float) -> Forecast:
    return replace(
        forecast,
        seconds_per_step=timing.seconds_per_step,
        seconds=seconds,
        probe_steps=timing.steps,
        measured_bytes=timing.measured_bytes,
    )


def _some(lines: Sequence[str]) -> list[str]:
    different = list(dict.fromkeys(lines))  # every nth line of a text that repeats itself may be the same one
    return different[:: max(1, len(different) // PROBE_LINES)][:PROBE_LINES]


def _time_adapt(
    encoder: Encoder, config: AdaptConfig, lines: list[str], runtime: RuntimeConfig, seconds: float
) -> tuple[_Timing, float]:
    """Steps of stage 1, and the seconds that the evaluation of one sequence takes. The text stands in for the
    source's, which takes the same time."""
    delta = _fresh_parts(encoder, config)["language"]
    corpus, (held_out, _), _ = masking_corpus(encoder, lines, lines, config.replace(source_share=0.5))
    watched = evaluation_batches(
        held_out[: runtime.eval_batch_size], encoder, config.mask_rate, runtime.eval_batch_size
    )
    micro_batch = MicroBatch(runtime)

    def losses(step: int) -> Generator[tuple[Tensor, int]]:
        with encoder.dropping_out(config.dropout, (config.seed, step)):
            yield from masked_word_losses(encoder, delta, corpus.batch(step), micro_batch)

    timing = _time_steps(delta.trained_parameters, losses, micro_batch, config.weight_decay, config.clip_norm, seconds)
    took = 0.0
    for _ in range(2):  # the first time compiles kernels
        start = perf_counter()
        with torch.no_grad(), delta.attached(encoder) as prefix:
            score_masked_words(encoder, watched, prefix)
        took = perf_counter() - start
    return timing, took / min(len(held_out), runtime.eval_batch_size)


def _time_tune(
    encoder: Encoder,
    adapt: AdaptConfig,
    config: TuneConfig,
    task: Task,
    lines: list[str],
    runtime: RuntimeConfig,
    seconds: float,
) -> _Timing:
    body = METHODS[adapt.method].begin_tune(encoder, _fresh_parts(encoder, adapt), config).to(encoder.device)
    head = None
    if config.head == "linear":
        head = LinearHead(encoder.hidden_size, len(task.labels), config.seed).to(encoder.device)
    fields = [dict.fromkeys(task.template.fields, line) for line in lines]
    reader, clozes = read_inputs(encoder, fields, task, head, config.max_length)
    gold = [number % len(task.labels) for number in range(len(clozes))]
    corpus = ClozeCorpus(clozes, gold, config.batch_size, config.seed)
    micro_batch = MicroBatch(runtime)

    def losses(step: int) -> Generator[tuple[Tensor, int]]:
        with encoder.dropping_out(config.dropout, (config.seed, step)):
            yield from label_losses(encoder, body, *corpus.batch(step), reader, config.loss_over, micro_batch)

    return _time_steps(trained_of(body, head), losses, micro_batch, config.weight_decay, config.clip_norm, seconds)


def _fresh_parts(encoder: Encoder, config: AdaptConfig) -> dict[str, Delta]:
    """What stage 1 would leave, untrained."""
    method = METHODS[config.method]
    assert method.begin_adapt is not None
    return {part: method.begin_adapt(encoder, config).to(encoder.device) for part in method.shares}


def _time_steps(
    parameters: list[nn.Parameter],
    losses: Losses,
    micro_batch: MicroBatch,
    weight_decay: float,
    clip_norm: float,
    seconds: float,
) -> _Timing:
    """The real loop: one step to warm up, then as many as fit into the time, at least one."""
    memory = PeakMemory()

    def run(first: int, steps: int) -> float:
        optimisation = Optimisation(steps, 1e-4, 0.0, weight_decay, clip_norm, steps)
        checkpoint = Checkpoint(RuntimeConfig(), "")  # without a folder none is written

        def later(step: int) -> Generator[tuple[Tensor, int]]:
            return losses(first + step)

        return fit(
            parameters, later, lambda: Evaluation((0.0,), {}), optimisation, checkpoint, Silent(), micro_batch
        ).seconds

    warm_up = run(0, 1)
    steps = max(1, min(MOST_STEPS, int((seconds - warm_up) / max(warm_up, 1e-3))))
    return _Timing(run(1, steps) / steps, steps, memory.bytes())
