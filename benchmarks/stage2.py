"""Stage 2 side by side: the product training the prompts of the top K layers, and PEFT, which can only train them all.

Premise and hypothesis as a cloze, the loss over the label words; both sides read the same examples in the same dtype.
Every round trains two epochs of the product for each K and one of PEFT, in turn: the first epoch of a training is set
apart from later ones, because what is the same in every epoch need only be computed once. Figures are medians over the
rounds; those over a whole training are of one first and nine later epochs (the paper's ten).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from backbones import RandomModel, WideTokenizer
from report import (
    DTYPES,
    add_device,
    add_dropout,
    parser,
    positive,
    precision_of,
    range_text,
    ratio_of,
    show,
    spread,
    write,
)
from sides import prefix_tuning, timed_epochs
from texts import find_data, pairs, words
from torch import Tensor, nn
from torch.nn import functional as F

from glotprompt.config import RuntimeConfig
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.tokens import SpecialIds
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.batches import ClozeCorpus
from glotprompt.training.objectives.cloze import Cloze, Words
from glotprompt.training.objectives.losses import label_losses
from glotprompt.training.objectives.lower_layers import below_trained_layers

EPOCHS = 10
"""Of a whole training (section 4.2 of the paper)."""


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    options.precision = precision_of(options)
    dtype = DTYPES[options.precision]
    random = RandomModel.of(options.shape, options.vocabulary, options.device)
    data = find_data(options.data_dir)
    clozes, gold, origin = pairs(data, random.tokenizer, options.length, options.examples)
    count = random.shape.layers
    layer_counts = {"N": count, "3N/4": round(0.75 * count), "N/4": round(0.25 * count)}
    head = words(random.tokenizer)
    ours = {
        name: OurTuning(random, dtype, ClozeCorpus(clozes, gold, options.batch, 0), head, k, options.prompt_length)
        for name, k in layer_counts.items()
    }
    model = prefix_tuning(random.model(dtype), options.prompt_length).train(not options.no_dropout)
    peft = PeftTuning(model, random.tokenizer, ClozeCorpus(clozes, gold, options.batch, 0), head)
    peft.step(range(min(options.batch, len(clozes))))
    for side in ours.values():
        side.epochs(1)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ours}
    theirs: list[float] = []
    for number in range(options.rounds):
        theirs.append(peft.epoch(number))
        for name, side in ours.items():
            first, later = side.epochs(2)
            seconds[name].append((first, later))
    figures = _figures(seconds, theirs, layer_counts, len(clozes))
    figures |= {"texts": origin, "mean_length": sum(len(cloze.input_ids) for cloze in clozes) / len(clozes)}
    _print(figures, options)
    write(options, "stage2", figures)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    options = parser(__doc__ or "", batch=32)
    options.add_argument("--examples", type=positive, default=64, help="of an epoch")
    add_dropout(options)
    add_device(options)
    return options.parse_args(arguments)


class OurTuning:
    """The product's stage 2 with the prompts of the top K layers trained."""

    def __init__(
        self, random: RandomModel, dtype: torch.dtype, corpus: ClozeCorpus, head: Words, k: int, prompt_length: int
    ) -> None:
        self.backbone = random.backbone(dtype)
        self.corpus, self.head = corpus, head
        layers = range(self.backbone.num_layers - k, self.backbone.num_layers)
        prompt = SoftPrompt.initialise(self.backbone.prompt_shape(prompt_length), 0.02, 0, layers)
        self.prompt = prompt.to(self.backbone.device)

    def epochs(self, count: int) -> list[float]:
        """Seconds of each epoch of a training that starts afresh, nothing of an earlier one being kept. What the layers
        below the trained ones give is computed once, and counts with the first epoch."""
        runtime = RuntimeConfig()
        start = time.perf_counter()
        corpus = replace(
            self.corpus, clozes=below_trained_layers(self.backbone, self.corpus.clozes, self.prompt, runtime)
        )
        before = time.perf_counter() - start
        micro_batch = MicroBatch(runtime)

        def losses(step: int) -> Generator[tuple[Tensor, int]]:
            yield from label_losses(self.backbone, self.prompt, *corpus.batch(step), self.head, "labels", micro_batch)

        trained = [parameter for parameter in self.prompt.parameters() if parameter.requires_grad]
        first, *later = timed_epochs(trained, losses, corpus.steps_per_epoch, count)
        return [before + first, *later]


class PeftTuning:
    """PEFT's prefix tuning of all layers, as a plain loop: batches in random order, padded to the longest, logits of
    every position, of which those of the label words at the mask are read."""

    def __init__(self, model: Any, tokenizer: WideTokenizer, corpus: ClozeCorpus, head: Words) -> None:
        self.model = model
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, lr=1e-3)
        self.corpus, self.head = corpus, head
        self.padding = SpecialIds.of(tokenizer).pad

    def epoch(self, seed: int) -> float:
        """Seconds of an epoch."""
        order = np.random.default_rng(seed).permutation(len(self.corpus.clozes)).tolist()
        start = time.perf_counter()
        for first in range(0, len(order), self.corpus.batch_size):
            self.step(order[first : first + self.corpus.batch_size])
        return time.perf_counter() - start

    def step(self, rows: Sequence[int]) -> float:
        """One optimiser step; returns the loss."""
        clozes = [self.corpus.clozes[row] for row in rows]
        scores = peft_label_scores(self.model, clozes, self.head, self.padding)
        loss = F.cross_entropy(scores, torch.tensor([self.corpus.gold[row] for row in rows], device=scores.device))
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return loss.item()


def peft_label_scores(model: Any, clozes: Sequence[Cloze], head: Words, padding: int) -> Tensor:
    """Scores of the labels [batch, label] from the logits of the whole batch."""
    longest = max(len(cloze.input_ids) for cloze in clozes)
    ids = torch.full((len(clozes), longest), padding)
    for row, cloze in enumerate(clozes):
        ids[row, : len(cloze.input_ids)] = torch.from_numpy(cloze.input_ids)
    ids = ids.to(model.device)
    logits = model(input_ids=ids, attention_mask=(ids != padding).long()).logits
    at_mask = logits[torch.arange(len(clozes)), torch.tensor([cloze.position for cloze in clozes])]
    return at_mask[:, head.token_ids].float() @ head.average.T.to(model.device)


def _figures(
    seconds_by_name: dict[str, list[tuple[float, float]]],
    theirs: list[float],
    layer_counts: dict[str, int],
    examples: int,
) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "peft_examples_per_second": examples / spread(theirs)["median"],
        "peft": spread([examples / seconds for seconds in theirs]),
        "k": {},
    }
    for name, rounds in seconds_by_name.items():
        whole = [(first + (EPOCHS - 1) * later) / EPOCHS for first, later in rounds]
        parts = {"whole": whole, "first": [first for first, _ in rounds], "later": [later for _, later in rounds]}
        speeds = {part: spread([examples / seconds for seconds in values]) for part, values in parts.items()}
        ratios = {part: ratio_of(theirs, values) for part, values in parts.items()}
        figures["k"][name] = {
            "top_k_layers": layer_counts[name],
            "examples_per_second": speeds["whole"]["median"],
            "ratio": ratios["whole"]["median"],
            "speeds": speeds,
            "ratios": ratios,
        }
    return figures


def _print(figures: dict[str, Any], options: argparse.Namespace) -> None:
    rows = [["PEFT, all layers", *[range_text(figures["peft"], ",.1f")] * 3, "1"]]
    for name, row in figures["k"].items():
        speeds = (range_text(row["speeds"][part], ",.1f") for part in ("first", "later", "whole"))
        rows.append(
            [f"glotprompt, K = {row['top_k_layers']} ({name})", *speeds, range_text(row["ratios"]["whole"], ".1f")]
        )
    title = (
        f"Stage 2: shape {options.shape}, {options.vocabulary:,} words, batches of {options.batch}, mean length"
        f" {figures['mean_length']:.0f} ({figures['texts']}), {options.precision}, examples/s"
    )
    show(title, ("side", "first epoch", "later epochs", f"{EPOCHS} epochs", "times as fast as PEFT"), rows)


if __name__ == "__main__":
    main(sys.argv[1:])
