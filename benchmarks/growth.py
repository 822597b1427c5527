"""How time and memory of the product grow with the work: training tokens, languages, prompt length, batch.

Each series is measured at several sizes, in turn in every round; the exponent is the slope of a straight line through
the logarithms (least squares): 1 is proportional, 0 is constant. Memory is the peak beyond model and backbone.

Beside them: whether several languages' stage-1 prompts gain by being trained in one batch, each row behind its own
language's prompt, instead of one after the other.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from backbones import BUNDLED_WORDS, RandomModel
from memory import beyond
from report import DTYPES, parser, positive, precision_of, range_text, ratio_of, show, spread, write
from sides import timed_fit
from texts import find_data, pairs, unlabelled, words
from torch import Tensor

from glotprompt.config import AdaptConfig, RuntimeConfig
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.prefix import Prefix
from glotprompt.model.tokens import SpecialIds
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.batches import MaskedBatch, MaskingCorpus
from glotprompt.training.objectives.losses import masked_token_losses
from glotprompt.training.objectives.scoring import label_scores

Measured = Callable[[int], float]
"""From a size to seconds."""


SERIES = ("tokens", "languages", "prompt_length", "batch", "languages_in_batch")
"""All that can be measured at several sizes."""


@dataclass(frozen=True)
class Series:
    """One thing that grows."""

    sizes: tuple[int, ...]
    measure: Measured
    what: str


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    options.precision = precision_of(options)
    random = RandomModel.of(options.shape, options.vocabulary)
    backbone = random.backbone(DTYPES[options.precision])
    series = _series(random, backbone, options)
    for one in series.values():  # not counted: kernels for new sizes
        for size in one.sizes:
            one.measure(size)
    figures: dict[str, Any] = {"points": {}, "exponents": {}, "what": {name: one.what for name, one in series.items()}}
    figures["stack"] = _compared(Languages(random, backbone, options), options.rounds)
    for name, one in series.items():
        seconds: dict[int, list[float]] = {size: [] for size in one.sizes}
        for number in range(options.rounds):
            for size in one.sizes[:: -1 if number % 2 else 1]:  # a machine that grows slower must not look like growth
                seconds[size].append(one.measure(size))
        memory = {size: beyond(partial(one.measure, size)) for size in one.sizes}
        points = [[size, median(seconds[size]), memory[size]] for size in one.sizes]
        figures["points"][name] = points
        figures["exponents"][name] = {
            "seconds": exponent([(size, value) for size, value, _ in points]),
            "memory": exponent([(size, max(1, value)) for size, _, value in points]),
        }
    _print(figures, options)
    write(options, "growth", figures)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    options = parser(__doc__ or "", vocabulary=BUNDLED_WORDS, length=64, rounds=5)
    options.add_argument("--quick", action="store_true", help="two sizes of each series alone")
    options.add_argument(
        "--languages", type=positive, default=4, help="languages in one batch, of --batch sequences each"
    )
    options.add_argument("--series", nargs="*", choices=SERIES, default=SERIES, help="these alone; may be none")
    return options.parse_args(arguments)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Slope of log(value) over log(size)."""
    sizes, values = np.log(np.array(points, dtype=float)).T
    slope, _ = np.polyfit(sizes, values, 1)
    return float(slope)


def _series(random: RandomModel, backbone: Backbone, options: argparse.Namespace) -> dict[str, Series]:
    train = Training(random, backbone, options)

    def languages(count: int) -> float:
        return sum(train(seed=number) for number in range(count))

    series = {
        "tokens": Series((1, 2, 4, 8), lambda n: train(steps=n), "stage-1 steps of one language"),
        "languages": Series((1, 2, 4, 8), languages, "stage-1 prompts, trained one after the other"),
        "prompt_length": Series(
            (1, 4, 16, 32, 64, 128), lambda n: train(prompt_length=n), "vectors in front of a layer"
        ),
        "batch": Series((4, 8, 16, 32), lambda n: train(batch=n), "sequences of a step"),
        "languages_in_batch": Series((1, 4, 16, 32), _predict(random, backbone, options), "prompts of a mixed batch"),
    }
    series = {name: series[name] for name in options.series}
    if options.quick:
        series = {name: replace(one, sizes=(one.sizes[0], one.sizes[-1])) for name, one in series.items()}
    return series


class Training:
    """Stage 1 from the start, timed."""

    def __init__(self, random: RandomModel, backbone: Backbone, options: argparse.Namespace) -> None:
        lines = unlabelled(find_data(options.data_dir), random.tokenizer)
        target, source = lines.packed(SpecialIds.of(random.tokenizer), options.length)
        config = AdaptConfig(batch_size=options.batch, max_length=options.length, prompt_length=options.prompt_length)
        self.corpus = MaskingCorpus(target, source, config, random.tokenizer)
        self.backbone = backbone

    def __call__(
        self, *, steps: int = 1, prompt_length: int | None = None, batch: int | None = None, seed: int = 0
    ) -> float:
        """Seconds of some steps of a fresh prompt."""
        config = self.corpus.config.replace(seed=seed, batch_size=batch or self.corpus.config.batch_size)
        shape = self.backbone.prompt_shape(prompt_length or config.prompt_length)
        prompt = SoftPrompt.initialise(shape, 0.02, seed)
        corpus = replace(self.corpus, config=config)

        def losses(step: int) -> Generator[tuple[Tensor, int]]:
            return masked_token_losses(self.backbone, prompt, corpus.batch(step), MicroBatch(RuntimeConfig()))

        seconds, _, _ = timed_fit(list(prompt.parameters()), losses, steps)
        return seconds


class Languages:
    """One forward and backward pass of stage 1 for each of several languages, or one over the rows of all; the tokens
    and the masked tokens are the same."""

    def __init__(self, random: RandomModel, backbone: Backbone, options: argparse.Namespace) -> None:
        train = Training(random, backbone, options)
        shape = backbone.prompt_shape(options.prompt_length)
        seeds = range(options.languages)
        self.backbone = backbone
        self.prompts = [SoftPrompt.initialise(shape, 0.02, seed) for seed in seeds]
        corpora = [replace(train.corpus, config=train.corpus.config.replace(seed=seed)) for seed in seeds]
        self.batches = [corpus.batch(0) for corpus in corpora]
        size, width = self.batches[0].input_ids.shape
        self.rows = torch.arange(options.languages).repeat_interleave(size)
        self.batch = MaskedBatch(
            torch.cat([batch.input_ids for batch in self.batches]),
            None,
            torch.cat([batch.positions + number * size * width for number, batch in enumerate(self.batches)]),
            torch.cat([batch.targets for batch in self.batches]),
        )

    @property
    def tokens(self) -> int:
        return self.batch.input_ids.numel()

    def apart(self) -> float:
        """Seconds of one language after the other."""
        start = time.perf_counter()
        for prompt, batch in zip(self.prompts, self.batches, strict=True):
            self._pass(batch, prompt.prefix(self.backbone.dtype))
        return time.perf_counter() - start

    def at_once(self) -> float:
        """Seconds of all in one batch."""
        start = time.perf_counter()
        key_values = [prompt.key_values() for prompt in self.prompts]
        self._pass(self.batch, Prefix.per_row(key_values, self.rows, self.backbone.dtype))
        return time.perf_counter() - start

    def _pass(self, batch: MaskedBatch, prefix: Prefix) -> None:
        """Leave the gradients of the summed loss in the prompts."""
        hidden = self.backbone.states_at(batch.input_ids, None, prefix, batch.positions)
        self.backbone.masked_token_loss(hidden, batch.targets).backward()

    def gradients(self, work: Callable[[], object]) -> list[Tensor]:
        """What a pass leaves in the prompts."""
        for prompt in self.prompts:
            prompt.zero_grad()
        work()
        return [torch.zeros(()) if prompt.trained.grad is None else prompt.trained.grad for prompt in self.prompts]


def _compared(languages: Languages, rounds: int) -> dict[str, Any]:
    """Both ways in turn."""
    ways = {"apart": languages.apart, "at_once": languages.at_once}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            languages.gradients(ways[name])  # not counted: the other way has used the caches
            seconds[name].append(ways[name]())
    return {
        "tokens": languages.tokens,
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "ratio": ratio_of(seconds["apart"], seconds["at_once"]),
        "memory": {name: beyond(partial(languages.gradients, way)) for name, way in ways.items()},
    }


def _predict(random: RandomModel, backbone: Backbone, options: argparse.Namespace) -> Measured:
    """A batch of 32 examples with so many different prompts."""
    rows = 32
    clozes, _, _ = pairs(find_data(options.data_dir), random.tokenizer, options.length, rows)
    head = words(random.tokenizer)
    shape = backbone.prompt_shape(options.prompt_length)
    prompts = [SoftPrompt.initialise(shape, 0.02, seed).key_values().detach() for seed in range(rows)]

    @torch.inference_mode()
    def measure(count: int) -> float:
        start = time.perf_counter()
        prefix = Prefix.per_row(prompts[:count], torch.arange(rows) % count, backbone.dtype)
        label_scores(backbone, clozes, prefix, head)
        return time.perf_counter() - start

    return measure


def _print(figures: dict[str, Any], options: argparse.Namespace) -> None:
    rows: list[list[str]] = []
    for name, points in figures["points"].items():
        row = figures["exponents"][name]
        rows.append([
            f"{name.replace('_', ' ')}: {figures['what'][name]}",
            "\n".join(f"{size}: {seconds:.3g} s, {memory / 2**20:,.0f} MB" for size, seconds, memory in points),
            f"{row['seconds']:.2f}",
            f"{row['memory']:.2f}",
        ])  # fmt: skip
    title = (
        f"Growth: shape {options.shape}, {options.vocabulary:,} words, {options.batch} x {options.length},"
        f" prompt of {options.prompt_length}, {options.precision}"
    )
    show(title, ("series", "points", "exponent of time", "of memory"), rows)
    stack = figures["stack"]
    rows = [
        [words, range_text(stack["seconds"][name], ".3g"), f"{stack['memory'][name] / 2**20:,.0f} MB"]
        for name, words in (("apart", "one after the other"), ("at_once", "in one batch"))
    ]
    rows.append(["in one batch: times as fast", range_text(stack["ratio"], ".2f"), ""])
    title = f"Stage-1 prompts of {options.languages} languages, {stack['tokens']:,} tokens: one pass"
    show(title, ("", "seconds", "peak memory"), rows)


if __name__ == "__main__":
    main(sys.argv[1:])
