"""What makes an adapted soft prompt help, not hurt: one setting changed at a time, judged on dev headlines.

    python experiments/search_recipe.py try     --data-dir DIR --work W [--targets sna yor] [--only NAME ...]
    python experiments/search_recipe.py confirm --data-dir DIR --work W --only NAME ... [--seeds 3]
    python experiments/search_recipe.py table   --data-dir DIR --work W [--part dev|test]

`try` runs every recipe of `RECIPES` with seed 0, and beside each change of stage 2 the same change without any
adaptation: only the difference between the two is the adaptation's. `confirm` runs the named ones on all eight
languages with several seeds. `table` reads W alone; "own" and "offsets" are as in compare_methods.py, "seeds" averages
the probabilities of the seeds' classifiers.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from compare_methods import (
    SOURCE,
    STAGE1,
    STAGE2,
    TARGETS,
    TASK,
    accuracy_of,
    own_labels,
    source_examples,
    target_texts,
    unlabelled_text,
)
from numpy.typing import NDArray

import glotprompt as gp
from glotprompt.config import identity_of

LETTERS = gp.Task(TASK.name, TASK.template, dict(zip(TASK.labels, "ABCDEFG", strict=True)))
MASK_LAST = gp.Task(TASK.name, "{text} : {mask}", TASK.verbalizer)


@dataclass(frozen=True)
class Recipe:
    """What differs from `BASE`."""

    adapt: Mapping[str, Any] | None = field(default_factory=dict[str, Any])
    """Settings of stage 1; None: no adaptation."""
    tune: Mapping[str, Any] = field(default_factory=dict[str, Any])
    task: gp.Task = TASK
    share_adapted: float = 1.0
    """How far from the unadapted prompt (noise, next to zero) to the adapted one stage 2 starts."""


BASE_ADAPT: dict[str, Any] = {**STAGE1, "learning_rate": 8e-2}
BASE_TUNE: dict[str, Any] = {**STAGE2, "learning_rate": 4e-2, "top_k_layers": 12}

_STAGE2: dict[str, Recipe] = {
    "base": Recipe(),
    "6 epochs": Recipe(tune={"epochs": 6}),
    "words A to G": Recipe(task=LETTERS),
    "mask last": Recipe(task=MASK_LAST),
    "loss over vocabulary": Recipe(tune={"loss_over": "vocabulary"}),
    "stage 2 at 1e-2": Recipe(tune={"learning_rate": 1e-2}),
}
RECIPES: dict[str, Recipe] = {
    **{f"{name}, unadapted": replace(recipe, adapt=None) for name, recipe in _STAGE2.items()},
    **_STAGE2,
    "half adapted": Recipe(share_adapted=0.5),
    "K = 9": Recipe(tune={"top_k_layers": 9}),
    "K = 6": Recipe(tune={"top_k_layers": 6}),
    "stage 1 at 2e-2": Recipe({"learning_rate": 2e-2}),
    "300 steps at 4e-2": Recipe({"steps": 300, "learning_rate": 4e-2}),
    "three quarters source": Recipe({"source_share": 0.75}),
    "a quarter source": Recipe({"source_share": 0.25}),
    "length 8, unadapted": Recipe(None, {"prompt_length": 8}),
    "length 8": Recipe({"prompt_length": 8}),
    "noise of 0.2, unadapted": Recipe(None, {"init_std": 0.2}),
    "noise of 0.2": Recipe({"init_std": 0.2}),
}


@dataclass(frozen=True)
class Words:
    """The command line."""

    data_dir: Path
    work: Path
    only: Sequence[str]
    targets: Sequence[str]
    seeds: int
    part: str


def adapted_prompt(words: Words, encoder: gp.Encoder, recipe: Recipe, target: str) -> gp.LanguagePrompt | None:
    """Stage 1 (seed 0), kept in the work folder: recipes that share it train it once."""
    if recipe.adapt is None:
        return None
    config = gp.AdaptConfig(**{**BASE_ADAPT, **recipe.adapt})
    path = words.work / f"{target}-{config.identity()}.safetensors"
    if not path.is_file():
        text, source = unlabelled_text(words.data_dir, target), unlabelled_text(words.data_dir, SOURCE)
        prompt = gp.adapt(encoder, text, source, target, config)
        prompt.save(path)
        before, after = (prompt.facts[f"held_out_{when}"]["loss"] for when in ("before", "after"))
        print(f"{target} {dict(recipe.adapt)}: loss {before:.2f} -> {after:.2f}", flush=True)
    prompt = gp.LanguagePrompt.load(path, encoder)
    return replace(prompt, key_values=recipe.share_adapted * prompt.key_values)


def run(words: Words) -> None:
    """Every cell that is not there yet; without adaptation one training serves all targets."""
    encoder = gp.Encoder.load("mini", precision="bf16")
    (words.work / "cells").mkdir(parents=True, exist_ok=True)
    for name in words.only:
        for seed in range(words.seeds):
            shared: gp.PromptClassifier | None = None
            for target in words.targets:
                path = cell_path(words, name, target, seed)
                if path.is_file():
                    continue
                recipe = RECIPES[name]
                if shared is None or recipe.adapt is not None:
                    config = gp.TuneConfig(**{**BASE_TUNE, **recipe.tune, "seed": seed})
                    parts = [source_examples(words.data_dir, part) for part in ("train", "dev")]
                    start = adapted_prompt(words, encoder, recipe, target)
                    shared = gp.tune(encoder, start, parts[0], recipe.task, config, dev=parts[1])
                texts = target_texts(words.data_dir, target)
                found = {part: shared.log_probabilities(texts[part]).astype(np.float32) for part in texts}
                np.savez_compressed(path, **found, source_dev=shared.facts["dev_accuracy"])  # pyright: ignore[reportArgumentType]
                print(f"{name} {target} {seed}: Hausa dev {shared.facts['dev_accuracy']:.1f}", flush=True)


def cell_path(words: Words, name: str, target: str, seed: int) -> Path:
    """Where the log-probabilities of a recipe's cell lie; a recipe that changes gets new cells."""
    recipe = RECIPES[name]
    adapt = None if recipe.adapt is None else {**BASE_ADAPT, **recipe.adapt}
    settings = [adapt, {**BASE_TUNE, **recipe.tune}, recipe.task.identity(), recipe.share_adapted]
    return words.work / "cells" / f"{identity_of(settings)}-{target}-{seed}.npz"


def table(words: Words) -> None:
    """Accuracies per recipe: mean over the seeds for each language, and the mean over languages."""
    for column in ("all", "own", "offsets"):
        heads = "".join(f"{target:>12}" for target in words.targets)
        print(f"\n{words.part}, {column}\n{'recipe':34}{heads}{'mean':>8}{'seeds':>8}{'Hausa':>8}")
        for name in words.only:
            print_row(words, name, column)


def print_row(words: Words, name: str, column: str) -> None:
    line, means, averaged, source = f"{name:34}", [], [], []
    for target in words.targets:
        paths = [cell_path(words, name, target, seed) for seed in range(words.seeds)]
        cells = [dict(np.load(path)) for path in paths if path.is_file()]
        if not cells:
            line += f"{'-':>12}"
            continue
        values = [accuracy(words, cell, target, column) for cell in cells]
        spread = f"±{statistics.stdev(values):4.1f}" if len(values) > 1 else ""
        line += f"{statistics.mean(values):7.1f}{spread:5}"
        means.append(statistics.mean(values))
        averaged.append(accuracy(words, average(cells), target, column))
        source += [float(cell["source_dev"]) for cell in cells]
    if means:
        columns = (statistics.mean(means), statistics.mean(averaged), statistics.mean(source))
        some = f" of {len(means)}" if len(means) < len(words.targets) else ""
        print(line + "".join(f"{value:8.1f}" for value in columns) + some)


def average(cells: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The log of the seeds' mean probabilities."""
    parts = [part for part in cells[0] if part != "source_dev"]
    return {part: np.log(np.mean([np.exp(cell[part]) for cell in cells], axis=0)) for part in parts}


def accuracy(words: Words, cell: Mapping[str, NDArray[Any]], target: str, column: str) -> float:
    gold = [str(example.label) for example in target_texts(words.data_dir, target)[words.part]]
    allowed = None if column == "all" else TASK.indices(own_labels(words.data_dir, target))
    return accuracy_of(cell[words.part], gold, allowed, cell["text"] if column == "offsets" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("try", "confirm", "table"))
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("recipe-work"))
    parser.add_argument("--only", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--targets", nargs="+", choices=TARGETS)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--part", choices=("dev", "test"), default="dev")
    given = vars(parser.parse_args())
    what = given.pop("what")
    given["targets"] = given["targets"] or (TARGETS if what == "confirm" else ("sna", "yor"))
    given["seeds"] = given["seeds"] or (3 if what != "try" else 1)
    {"try": run, "confirm": run, "table": table}[what](Words(**given))


if __name__ == "__main__":
    main()
