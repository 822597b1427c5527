"""Prediction of mixed languages: the product puts each row's own prompt in front of it; PEFT has one prompt at a time.

Examples of 18 languages arrive at random. The product's `Predictor` reads each batch as it comes, languages mixed, in
one forward pass or a few by length. PEFT, whose adapters are all loaded beforehand, switches with `set_adapter`, in two
ways: one example at a time, as they arrive; and grouped, where each arriving batch is first sorted by language and
every language of it is one padded forward pass. Grouping is what careful users do, so `ratio` is against that, in fp32;
both ways are also measured in the product's dtype.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from backbones import RandomModel
from peft import PrefixTuningConfig
from report import DTYPES, add_device, parser, positive, precision_of, range_text, ratio_of, show, spread, write
from sides import prefix_tuning
from stage2 import peft_label_scores
from texts import TASK, find_data, pairs, words

from glotprompt.inference.classifier import PromptClassifier
from glotprompt.inference.predictor import Predictor, Query
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.tokens import SpecialIds
from glotprompt.training.objectives.cloze import Cloze, Words

Arrivals = Sequence[tuple[Cloze, int]]
"""Examples with the number of their language, in the order in which they come."""


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    options.precision = precision_of(options)
    random = RandomModel.of(options.shape, options.vocabulary, options.device)
    data = find_data(options.data_dir)
    clozes, _, origin = pairs(data, random.tokenizer, options.length, options.examples)
    languages = np.random.default_rng(4).integers(0, options.languages, len(clozes)).tolist()
    arrivals = list(zip(clozes, languages, strict=True))
    sides = _sides(random, words(random.tokenizer), options)
    for side in sides.values():
        side(arrivals[: options.batch])
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side(arrivals)
            seconds[name].append(time.perf_counter() - start)
    figures = _figures(seconds, options)
    batches = list(_batches(arrivals, options.batch))
    figures["languages_per_batch"] = sum(len({code for _, code in batch}) for batch in batches) / len(batches)
    figures["texts"] = origin
    _print(figures, options)
    write(options, "prediction", figures)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    options = parser(__doc__ or "", batch=32)
    options.add_argument("--languages", type=positive, default=18, help="each with a prompt of its own")
    options.add_argument("--examples", type=positive, default=64, help="that arrive in a round")
    add_device(options)
    return options.parse_args(arguments)


def _sides(random: RandomModel, head: Words, options: argparse.Namespace) -> dict[str, Callable[[Arrivals], list[int]]]:
    """From arrivals to their predicted labels."""
    dtypes = {name: DTYPES[name] for name in dict.fromkeys((options.precision, "fp32"))}
    ours = Ours(random, dtypes[options.precision], head, options)
    sides: dict[str, Callable[[Arrivals], list[int]]] = {"ours": ours}
    for name, dtype in dtypes.items():
        switching = Switching(random, dtype, head, options)
        sides |= {f"grouped-{name}": switching.grouped, f"one-{name}": switching.one_at_a_time}
    return sides


class Ours:
    """The product's predictor, every row behind its own language's prompt."""

    def __init__(self, random: RandomModel, dtype: torch.dtype, head: Words, options: argparse.Namespace) -> None:
        self.backbone, self.batch = random.backbone(dtype), options.batch
        shape = self.backbone.prompt_shape(options.prompt_length)
        classifiers = {
            str(number): PromptClassifier(
                self.backbone, SoftPrompt.initialise(shape, 0.02, number), TASK, "und", options.length
            )
            for number in range(options.languages)
        }
        self.predictor = Predictor(self.backbone, classifiers)
        # The texts' tokens, and so the label words, are spread over a vocabulary that no tokenizer has.
        queries = self.predictor.read([(name, ("", "")) for name in classifiers])
        self.served = [replace(query.served, words=head) for query in queries]

    def __call__(self, arrivals: Arrivals) -> list[int]:
        labels: list[int] = []
        for batch in _batches(arrivals, self.batch):
            queries = [Query(self.served[language], cloze) for cloze, language in batch]
            labels += [int(row.argmax()) for row in self.predictor.log_probabilities(queries)]
        return labels


class Switching:
    """PEFT with one adapter per language."""

    def __init__(self, random: RandomModel, dtype: torch.dtype, head: Words, options: argparse.Namespace) -> None:
        self.model = prefix_tuning(random.model(dtype), options.prompt_length)
        settings = PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=options.prompt_length)
        self.names = ["default", *(f"language {number}" for number in range(1, options.languages))]
        for name in self.names[1:]:
            self.model.add_adapter(name, settings)
        self.model.to(random.device, dtype).eval()
        self.head, self.batch = head, options.batch
        self.padding = SpecialIds.of(random.tokenizer).pad

    def _labels(self, clozes: Sequence[Cloze], language: int) -> list[int]:
        self.model.set_adapter(self.names[language])
        return peft_label_scores(self.model, clozes, self.head, self.padding).argmax(dim=1).tolist()

    @torch.inference_mode()
    def one_at_a_time(self, arrivals: Arrivals) -> list[int]:
        """Switch for every example."""
        return [label for cloze, language in arrivals for label in self._labels([cloze], language)]

    @torch.inference_mode()
    def grouped(self, arrivals: Arrivals) -> list[int]:
        """Switch once for every language of a batch."""
        answers: list[int] = []
        for batch in _batches(arrivals, self.batch):
            labels = [0] * len(batch)
            for language in sorted({language for _, language in batch}):
                rows = [row for row, (_, own) in enumerate(batch) if own == language]
                for row, label in zip(rows, self._labels([batch[row][0] for row in rows], language), strict=True):
                    labels[row] = label
            answers += labels
        return answers


def _batches(arrivals: Arrivals, size: int) -> Iterator[Arrivals]:
    for start in range(0, len(arrivals), size):
        yield arrivals[start : start + size]


def _figures(seconds: dict[str, list[float]], options: argparse.Namespace) -> dict[str, Any]:
    ratios = {name: ratio_of(values, seconds["ours"]) for name, values in seconds.items() if name != "ours"}
    speeds = {name: spread([options.examples / value for value in values]) for name, values in seconds.items()}
    return {
        "examples_per_second": speeds["ours"]["median"],
        "peft_examples_per_second": speeds["grouped-fp32"]["median"],
        "ratio": ratios["grouped-fp32"]["median"],
        "ratio_same_dtype": ratios[f"grouped-{options.precision}"]["median"],
        "ratio_one_at_a_time": ratios["one-fp32"]["median"],
        "ratio_one_at_a_time_same_dtype": ratios[f"one-{options.precision}"]["median"],
        "speeds": speeds,
        "ratios": ratios,
    }


def _print(figures: dict[str, Any], options: argparse.Namespace) -> None:
    names = {"ours": f"glotprompt, mixed, {options.precision}"}
    for dtype in DTYPES:
        names[f"grouped-{dtype}"] = f"PEFT, grouped in each batch, {dtype}"
        names[f"one-{dtype}"] = f"PEFT, one at a time, {dtype}"
    rows = [
        [names[name], range_text(speed, ",.1f"), "-" if name == "ours" else range_text(figures["ratios"][name], ".1f")]
        for name, speed in figures["speeds"].items()
    ]
    title = (
        f"Prediction: shape {options.shape}, {options.vocabulary:,} words, {options.languages} languages at random,"
        f" batches of {options.batch} with {figures['languages_per_batch']:.1f} of them ({figures['texts']} lengths)"
    )
    show(title, ("side", "examples/s", "ours: times as fast"), rows)


if __name__ == "__main__":
    main(sys.argv[1:])
