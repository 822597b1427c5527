"""Fewer steps of stage 1 to the same loss: where a prompt starts, its learning rate, how that falls, and lengths.

    python experiments/fewer_steps.py plan  --data-dir DIR --work W [--only GROUP ...] [--targets ...] [--seeds N]
    python experiments/fewer_steps.py run   --data-dir DIR --work W [--only GROUP ...] [--targets ...] [--seeds N]
    python experiments/fewer_steps.py table --data-dir DIR --work W [--only GROUP ...] [--targets ...] [--seeds N]
    python experiments/fewer_steps.py accuracy --data-dir DIR --work W [... as above] [--tune-seeds N]

A cell is one stage 1 on MasakhaNEWS (source Hausa, backbone mini), kept in W as one JSON file with the held-out loss at
every evaluation, and never made twice; groups share cells. `plan` says what is missing, in steps of 2,048 tokens.
`table` reads W alone. A gain is the fall of the held-out loss from the start of the reference (noise, 4e-2, linear, 300
steps) of that language and sequence length, where that was run; the whole gain is what the reference reaches. A run
that starts from other languages' prompts begins with a share of it. "To 99 %" is the first evaluation that reaches 99 %
of it. The schedule is that of the run's own steps, so a run of 150 steps is not the first half of one of 300.
`accuracy` tunes classifiers of news headlines from the prompt of every finished cell, as compare_methods.py does, and
scores the target's test headlines; kept beside the cells.

The hidden width cannot be varied here: there is one backbone with real weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from compare_methods import (
    SOURCE,
    TASK,
    accuracy_of,
    own_labels,
    source_examples,
    target_texts,
    tune_config,
    unlabelled_text,
)

import glotprompt as gp
from glotprompt import atomic

TARGETS = ("ibo", "lin", "sna", "yor")
RELATIVES = {"ibo": "yor", "yor": "ibo", "lin": "sna", "sna": "lin"}
"""Of each target the nearest of the others: Volta-Niger, and Bantu."""
TOKENS = 2048
"""In a batch, whatever the length of its sequences."""
RATES = (1e-2, 2e-2, 4e-2, 8e-2, 1.6e-1, 3.2e-1)
SHARE = 0.99
PATIENCE = (1, 2, 3, 5)


@dataclass(frozen=True)
class Cell:
    """One stage 1; the defaults are the reference."""

    target: str
    start: str = "noise"
    """noise, text, relative (the prompt of the nearest of the other targets) or average (of all others)."""
    rate: float | str = 4e-2
    schedule: str = "linear"
    steps: int = 300
    prompt_length: int = 32
    max_length: int = 64
    seed: int = 0

    @property
    def name(self) -> str:
        return "-".join(str(value) for value in asdict(self).values())

    @property
    def config(self) -> gp.AdaptConfig:
        every = max(10, self.steps // 30)
        return gp.AdaptConfig(
            steps=self.steps,
            batch_size=TOKENS // self.max_length,
            max_length=self.max_length,
            learning_rate=self.rate,
            schedule=self.schedule,  # pyright: ignore[reportArgumentType]
            prompt_length=self.prompt_length,
            initialise={"noise": "noise", "text": "text"}.get(self.start, "prompt"),  # pyright: ignore[reportArgumentType]
            eval_every=every,
            # As many tokens at every length; more would take more than a seventh of the time.
            eval_sequences=64 * 64 // self.max_length,
            seed=self.seed,
        )

    @property
    def reference(self) -> Cell:
        """What its gain is measured by."""
        return Cell(self.target, max_length=self.max_length, seed=self.seed)

    @property
    def starts_from(self) -> list[Cell]:
        """The runs whose prompts it starts from."""
        others = [other for other in TARGETS if other != self.target]
        names = {"relative": [RELATIVES[self.target]], "average": others}.get(self.start, [])
        return [Cell(name) for name in names]


def varied(cell: Cell, **values: Sequence[Any]) -> Iterator[Cell]:
    """The cell with every combination of the values."""
    for chosen in product(*values.values()):
        yield replace(cell, **dict(zip(values, chosen, strict=True)))


STARTS = ("noise", "text", "relative", "average")
GROUPS: dict[str, dict[str, Sequence[Any]]] = {
    "reference": {},
    "long": {"start": ("noise", "text"), "rate": (1e-2, 4e-2, 8e-2)},
    "short": {"start": ("text",), "rate": (8e-2,), "steps": (75, 150)},
    "starts": {"start": STARTS, "rate": (8e-2,), "steps": (150,)},
    "rates": {"start": ("text",), "rate": (2e-2, 4e-2, 8e-2, 1.6e-1, 3.2e-1), "steps": (150,)},
    "auto": {"start": ("text",), "rate": ("auto",), "steps": (150,)},
    "schedules": {
        "start": ("text",), "rate": (8e-2,), "steps": (150,), "schedule": ("linear", "cosine", "constant", "wsd"),
    },
    "prompt length": {"start": ("text",), "rate": (8e-2, 1.6e-1), "steps": (150,), "prompt_length": (8, 32, 128)},
    "sequence length": {"start": ("text",), "rate": (8e-2, 1.6e-1), "steps": (150,), "max_length": (32, 64, 128)},
    "paper": {"steps": (1500,), "rate": (5e-3,)},
}  # fmt: skip
"""What varies in each."""


@dataclass(frozen=True)
class Words:
    """The command line."""

    data_dir: Path
    work: Path
    only: Sequence[str]
    targets: Sequence[str]
    seeds: int
    tune_seeds: int

    def cells(self, group: str) -> list[Cell]:
        """Of one group, those of one setting beside each other."""
        found: list[Cell] = []
        for cell in varied(Cell(self.targets[0]), **GROUPS[group]):
            found += varied(cell, target=self.targets, seed=range(self.seeds))
        return found

    def file(self, cell: Cell, kind: str = "json") -> Path:
        return self.work / "cells" / f"{cell.name}.{kind}"

    def read(self, cell: Cell) -> dict[str, Any] | None:
        return json.loads(self.file(cell).read_text()) if self.file(cell).is_file() else None


# ---------------------------------------------------------------------------------------------------------------
# Training


def missing(words: Words) -> list[Cell]:
    """The cells that are not there yet, each behind those it starts from."""
    found: dict[Cell, None] = {}
    for group in words.only:
        for cell in words.cells(group):
            found |= dict.fromkeys([*cell.starts_from, cell])
    return [cell for cell in found if not words.file(cell).is_file()]


def plan(words: Words) -> None:
    cells = missing(words)
    for cell in cells:
        print(cell.name)
    steps = sum(cell.steps for cell in cells)
    print(f"{len(cells)} cells, {steps:,} steps of {TOKENS:,} tokens, trials of rates not among them")


def run(words: Words) -> None:
    """Every cell that is not there yet."""
    encoder = gp.Encoder.load("mini", precision="bf16")
    (words.work / "cells").mkdir(parents=True, exist_ok=True)
    for cell in missing(words):
        text, source = (unlabelled_text(words.data_dir, language) for language in (cell.target, SOURCE))
        begun = [gp.LanguagePrompt.load(words.file(other, "safetensors"), encoder) for other in cell.starts_from]
        initial = [(prompt, 1 / len(begun)) for prompt in begun] or None
        folder = words.work / "checkpoints" / cell.name
        runtime = gp.RuntimeConfig(checkpoint_dir=folder)
        made = gp.adapt(encoder, text, source, cell.target, cell.config, runtime, initial=initial)
        made.save(words.file(cell, "safetensors"))
        words.file(cell).write_text(json.dumps({"cell": asdict(cell), **made.facts}))
        shutil.rmtree(folder, ignore_errors=True)
        evaluations = made.facts["evaluations"]
        first, best = (pick[1]["held_out_loss"] for pick in (evaluations[0], min(evaluations, key=_loss)))
        print(f"{cell.name}: {first:.3f} -> {best:.3f}, {made.facts['seconds']:.0f} s", flush=True)


def _loss(evaluation: Sequence[Any]) -> float:
    return evaluation[1]["held_out_loss"]


# ---------------------------------------------------------------------------------------------------------------
# Tables


@dataclass(frozen=True)
class Course:
    """A finished cell against its reference."""

    gains: list[tuple[int, float]]
    """(step, share of the whole gain) of every evaluation."""
    found: dict[str, Any]

    @classmethod
    def of(cls, words: Words, cell: Cell) -> Course | None:
        found, reference = words.read(cell), words.read(cell.reference)
        if found is None or reference is None:
            return None
        start = _loss(reference["evaluations"][0])
        whole = start - min(_loss(evaluation) for evaluation in reference["evaluations"])
        return cls([(step, (start - facts["held_out_loss"]) / whole) for step, facts in found["evaluations"]], found)

    @property
    def best(self) -> float:
        """Of a run that diverged, that of its good part."""
        return max(gain for _, gain in self.gains if gain == gain)

    def to(self, share: float) -> int | None:
        return next((step for step, gain in self.gains if gain >= share), None)

    def stopped(self, patience: int) -> tuple[int, float]:
        """Step and best gain of the same run with early stopping: it changes nothing of what comes before."""
        best, without = self.gains[0][1], 0
        for step, gain in self.gains[1:]:
            best, without = (gain, 0) if gain > best else (best, without + 1)
            if without >= patience:
                return step, best
        return self.gains[-1][0], best


def table(words: Words) -> None:
    for group in words.only:
        heads = "".join(f"{target:>26}" for target in words.targets)
        print(f"\n{group}: lowest loss, gain in %, step to {SHARE:.0%}, s\n{'':44}{heads}{'mean gain':>11}")
        for cell in varied(Cell(words.targets[0]), **GROUPS[group]):
            print_row(words, cell, ", ".join(f"{name} {getattr(cell, name)}" for name in GROUPS[group]))
        print_stopping(words, group)


def accuracy(words: Words) -> None:
    """Per group and setting: source dev, the target's test over all labels and over its own, means over all cells."""
    encoder = gp.Encoder.load("mini", precision="bf16")
    for group in words.only:
        print(f"\n{group}: classifiers, accuracy in %: source dev, all labels, own labels")
        for cell in varied(Cell(words.targets[0]), **GROUPS[group]):
            cells = varied(cell, target=words.targets, seed=range(words.seeds))
            done = [one for one in cells if words.file(one).is_file()]
            rows = [accuracies(words, encoder, one, seed) for one in done for seed in range(words.tune_seeds)]
            if rows:
                means = (statistics.mean(row[key] for row in rows) for key in rows[0])
                name = ", ".join(f"{name} {getattr(cell, name)}" for name in GROUPS[group])
                print(f"{name:44}{len(rows):4}" + "".join(f"{mean:8.1f}" for mean in means), flush=True)


def accuracies(words: Words, encoder: gp.Encoder, cell: Cell, seed: int) -> dict[str, float]:
    """Of the classifier that stage 2 with this seed makes of a cell's prompt."""
    config = tune_config("soft-prompt", seed)
    path = words.file(cell, f"accuracy-{config.identity()}.json")
    if not path.is_file():
        prompt = gp.LanguagePrompt.load(words.file(cell, "safetensors"), encoder)
        parts = [source_examples(words.data_dir, part) for part in ("train", "dev")]
        classifier = gp.tune(encoder, prompt, parts[0], TASK, config, dev=parts[1])
        test = target_texts(words.data_dir, cell.target)["test"]
        log_probs, gold = classifier.log_probabilities(test), [str(example.label) for example in test]
        own = accuracy_of(log_probs, gold, TASK.indices(own_labels(words.data_dir, cell.target)))
        dev = float(classifier.facts["dev_accuracy"])
        atomic.write(path, json.dumps({"dev": dev, "all": accuracy_of(log_probs, gold), "own": own}))
    return json.loads(path.read_text())


def print_row(words: Words, cell: Cell, name: str) -> None:
    """Means over the seeds; a gain only where there is a reference, a step only where every seed got there."""
    line, means = f"{name:44}", list[float]()
    for target in words.targets:
        cells = list(varied(replace(cell, target=target), seed=range(words.seeds)))
        founds = [found for found in map(words.read, cells) if found is not None]
        if not founds:
            line += f"{'-':>26}"
            continue
        lowest = (min(loss for loss in map(_loss, found["evaluations"]) if loss == loss) for found in founds)
        shown = f"{statistics.mean(lowest):.3f}"
        courses = [course for course in (Course.of(words, one) for one in cells) if course is not None]
        if courses:
            means.append(statistics.mean(course.best for course in courses))
            steps = [course.to(SHARE) for course in courses]
            reached = [step for step in steps if step is not None]
            step = f"{statistics.mean(reached):.0f}" if len(reached) == len(steps) else "-"
            shown += f" {100 * means[-1]:.1f} {step:>4}"
        rate = f" {founds[0]['learning_rate']:g}" if cell.rate == "auto" else ""
        shown += f" {statistics.mean(found['seconds'] for found in founds):5.0f}{rate}"
        line += f"{shown:>26}"
    print(line + (f"{100 * statistics.mean(means):11.1f}" if means else f"{'-':>11}"))


def print_stopping(words: Words, group: str) -> None:
    """What early stopping would have saved and lost, over all cells of the group."""
    courses = [course for course in (Course.of(words, cell) for cell in words.cells(group)) if course is not None]
    for patience in PATIENCE if courses else ():
        stops = [course.stopped(patience) for course in courses]
        steps = statistics.mean(stop / course.gains[-1][0] for (stop, _), course in zip(stops, courses, strict=True))
        lost = statistics.mean(course.best - gain for (_, gain), course in zip(stops, courses, strict=True))
        print(f"patience {patience}: {100 * steps:.0f} % of the steps, {100 * lost:.1f} points of gain lost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("plan", "run", "table", "accuracy"))
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("steps-work"))
    parser.add_argument("--only", nargs="+", default=list(GROUPS), choices=list(GROUPS), metavar="GROUP")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tune-seeds", type=int, default=1, help="of stage 2, for each prompt")
    given = vars(parser.parse_args())
    what = given.pop("what")
    {"plan": plan, "run": run, "table": table, "accuracy": accuracy}[what](Words(**given))


if __name__ == "__main__":
    main()
