"""Every method on MasakhaNEWS headlines, from Hausa to the languages that XLM-R has not seen, on equal terms.

    python experiments/compare_methods.py grid  --data-dir DIR --work W [--methods ...]
    python experiments/compare_methods.py train --data-dir DIR --work W [--methods ...] [--targets ...] [--seeds N]
    python experiments/compare_methods.py table --data-dir DIR --work W [--json F]

`grid` tries the rates of `RATES_TRIED`, on the held-out masked-word loss of one target (stage 1) and on source dev
accuracy (stage 2). `train` makes one cell per method, language and seed: stage 1 (seed 0, once per language), stage 2,
and the log-probabilities of the target's texts, kept in W and never made twice; what needs no target is trained once
per seed for all targets. Soft prompts are also scored on every other target (the cross table). `table` reads W alone:
accuracies over all seven labels, over the target's own labels, and the latter with label offsets fitted on unlabelled
training headlines. All methods share steps, batches, lengths, epochs and the choice of the epoch on Hausa dev; only
the learning rates differ (`RATES`). DIR holds masakhanews/<language>/{train,dev,test}.tsv.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

import glotprompt as gp
from glotprompt.classifier import Adapted, load_adapted
from glotprompt.config import MethodName
from glotprompt.data import masakhanews
from glotprompt.data.records import Example, labels_of
from glotprompt.methods import METHODS, for_language
from glotprompt.train.criteria import Criterion
from glotprompt.train.criteria import scores as criterion_scores
from glotprompt.train.scoring import fit_offsets, report, with_offsets

SOURCE = "hau"
TARGETS = ("ibo", "lin", "lug", "pcm", "run", "sna", "tir", "yor")
BANTU = ("lin", "lug", "run", "sna")
"""Relatives among the targets."""
TASK = gp.Task.load("news")
STAGE1: dict[str, Any] = {"steps": 100, "batch_size": 16, "max_length": 64}
STAGE2: dict[str, Any] = {"epochs": 2, "batch_size": 16, "max_length": 64}
ALL_LAYERS = {"top_k_layers": 12}
"""Prompts: on this backbone a smaller K only hurts (docs/design.md, section 5)."""

RATES: dict[str, tuple[float | None, float]] = {
    "soft-prompt": (8e-2, 4e-2),
    "source-prompt": (8e-2, 4e-2),
    "prompt-average": (None, 4e-2),
    "prompt-tuning": (None, 4e-2),
    "fine-tuning": (None, 1e-4),
    "fine-tuning-mlm": (3e-4, 1e-4),
    "mad-x": (1e-2, 1e-2),
    "lora": (1e-2, 1e-3),
    "soft-prompt+task-adapter": (8e-2, 1e-2),
}
"""Learning rates of both stages, chosen by `grid`."""
RATES_TRIED: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "soft-prompt": ((2e-2, 4e-2, 8e-2), (1e-2, 2e-2, 4e-2)),
    "prompt-tuning": ((), (1e-2, 2e-2, 4e-2)),
    "fine-tuning": ((), (3e-5, 1e-4, 3e-4)),
    "fine-tuning-mlm": ((1e-4, 3e-4, 1e-3), ()),
    "mad-x": ((1e-3, 3e-3, 1e-2), (1e-3, 3e-3, 1e-2)),
    "lora": ((3e-3, 1e-2, 3e-2), (1e-3, 3e-3, 1e-2)),
    "soft-prompt+task-adapter": ((), (1e-3, 3e-3, 1e-2)),
}
GUARDED = (
    ("prompt-tuning", "soft-prompt"), ("prompt-tuning", "source-prompt"), ("source-prompt", "soft-prompt"),
    ("fine-tuning", "fine-tuning-mlm"), ("fine-tuning", "mad-x"), ("fine-tuning", "soft-prompt"),
)  # fmt: skip
"""Pairs between which the guard is tried."""
GRID_TARGET = "sna"
GRID_STEPS = 60


@dataclass(frozen=True)
class Words:
    """The command line."""

    data_dir: Path
    work: Path
    methods: Sequence[MethodName]
    targets: Sequence[str]
    seeds: int
    json: Path | None


# ---------------------------------------------------------------------------------------------------------------
# Data


@cache
def unlabelled_text(data_dir: Path, language: str) -> list[str]:
    return masakhanews.unlabelled(data_dir, language)


@cache
def target_texts(data_dir: Path, target: str) -> dict[str, list[Example]]:
    """Test and dev headlines, and every fourth training headline that neither repeats, used without labels."""
    test, dev, train = (masakhanews.load(data_dir, target, part) for part in ("test", "dev", "train"))
    text = masakhanews.headlines(masakhanews.without_held_out(train, [*test, *dev]))[::4]
    return {"test": masakhanews.headlines(test), "dev": masakhanews.headlines(dev), "text": text}


@cache
def own_labels(data_dir: Path, target: str) -> list[str]:
    """The labels that the target's publishers use."""
    return labels_of(masakhanews.headlines(masakhanews.load(data_dir, target, "train")))


@cache
def source_examples(data_dir: Path, part: str) -> list[Example]:
    return masakhanews.headlines(masakhanews.load(data_dir, SOURCE, part))  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------------------------------------------------------
# Training


def adapt_config(method: MethodName, **changes: Any) -> gp.AdaptConfig:
    rate = RATES[method][0]
    return gp.AdaptConfig(**{"method": method, **STAGE1, **({"learning_rate": rate} if rate else {}), **changes})


def tune_config(method: MethodName, seed: int, **changes: Any) -> gp.TuneConfig:
    prompts = ALL_LAYERS if METHODS[method].has_prompt else {}
    settings = {"method": method, **STAGE2, **prompts, "learning_rate": RATES[method][1], "seed": seed}
    return gp.TuneConfig(**{**settings, **changes})


def stage1(words: Words, encoder: gp.Encoder, method: MethodName, target: str) -> Adapted | None:
    """What stage 1 gives, kept in the work folder; one training of the source's part serves all targets."""
    start = METHODS[method].start
    if METHODS[start].stage1 is None:
        return None
    config = adapt_config(start)  # pyright: ignore[reportArgumentType]
    path = words.work / f"{start}-{target}-{config.identity()}.safetensors"
    if not path.is_file():
        text, source = unlabelled_text(words.data_dir, target), unlabelled_text(words.data_dir, SOURCE)
        runtime = gp.RuntimeConfig(checkpoint_dir=words.work / "checkpoints", checkpoint_every=3600)
        prompts = None
        if start == "prompt-average":
            others = [stage1(words, encoder, "soft-prompt", other) for other in words.targets if other != target]
            prompts = [(prompt, 1 / len(others)) for prompt in others if isinstance(prompt, gp.LanguagePrompt)]
        gp.adapt(encoder, text, source, target, config, runtime, prompts).save(path)
    return load_adapted(path, encoder)


def train(words: Words) -> None:
    """Every cell that is not there yet."""
    encoder = gp.Encoder.load("mini", precision="bf16")
    (words.work / "cells").mkdir(parents=True, exist_ok=True)
    for method in words.methods:
        for seed in range(words.seeds):
            shared: gp.PromptClassifier | None = None
            for target in words.targets:
                config = tune_config(method, seed)
                path = words.work / "cells" / f"{method}-{target}-{seed}-{config.identity()}"
                if path.with_suffix(".json").is_file():
                    continue
                adapted = stage1(words, encoder, method, SOURCE if method == "source-prompt" else target)
                if shared is None or not METHODS[method].tunes_once:
                    parts = [source_examples(words.data_dir, part) for part in ("train", "dev")]
                    shared = gp.tune(encoder, adapted, parts[0], TASK, config, dev=parts[1])
                swaps = adapted is not None and METHODS[method].tunes_once
                classifier = for_language(shared, adapted) if swaps else shared
                save_cell(words, path, classifier, adapted, method, target, seed)


def save_cell(
    words: Words,
    path: Path,
    classifier: gp.PromptClassifier,
    adapted: Adapted | None,
    method: str,
    target: str,
    seed: int,
) -> None:
    """The log-probabilities of all texts of the target (and, for a soft prompt, of the other targets' tests)."""
    texts = {f"{target}.{part}": found for part, found in target_texts(words.data_dir, target).items()}
    if method == "soft-prompt" and seed == 0:
        texts |= {f"{other}.test": target_texts(words.data_dir, other)["test"] for other in words.targets}
    found = {name: classifier.log_probabilities(part).astype(np.float32) for name, part in texts.items()}
    np.savez_compressed(path.with_suffix(".npz"), **found)  # pyright: ignore[reportArgumentType]
    first, second = ({} if adapted is None else dict(adapted.facts)), dict(classifier.facts)
    second.pop("language_prompt")
    value = {"method": method, "target": target, "seed": seed, "stage1": first, "stage2": second}
    path.with_suffix(".json").write_text(json.dumps(value))
    losses = [first[f"held_out_{when}"]["loss"] for when in ("before", "after")] if first else []
    gold = [str(example.label) for example in texts[f"{target}.test"]]
    accuracy = accuracy_of(found[f"{target}.test"], gold)
    print(f"{method} {target} {seed}: loss {losses}, dev {second['dev_accuracy']:.1f}, test {accuracy:.1f}", flush=True)


def grid(words: Words) -> None:
    """Short trainings at several rates: stage 1 by the target's held-out loss, stage 2 by source dev accuracy."""
    encoder = gp.Encoder.load("mini", precision="bf16")
    runtime = gp.RuntimeConfig(progress=False)
    path = words.work / "grid.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    known = {(row["method"], row["stage"], row["rate"]) for row in rows}
    text, source = unlabelled_text(words.data_dir, GRID_TARGET), unlabelled_text(words.data_dir, SOURCE)
    for method, (rates1, rates2) in RATES_TRIED.items():
        for stage, rates in ((1, rates1), (2, rates2)):
            for rate in rates:
                if method not in words.methods or (method, stage, rate) in known:
                    continue
                if stage == 1:
                    config = adapt_config(method, learning_rate=rate, steps=GRID_STEPS, eval_every=GRID_STEPS)  # pyright: ignore[reportArgumentType]
                    facts = gp.adapt(encoder, text, source, GRID_TARGET, config, runtime).facts
                    value = facts["evaluations"][-1][1]["held_out_loss"]
                else:
                    adapted = stage1(words, encoder, method, GRID_TARGET)  # pyright: ignore[reportArgumentType]
                    config = tune_config(method, 0, learning_rate=rate, epochs=1)  # pyright: ignore[reportArgumentType]
                    parts = [source_examples(words.data_dir, part) for part in ("train", "dev")]
                    facts = gp.tune(encoder, adapted, parts[0], TASK, config, runtime, dev=parts[1]).facts
                    value = facts["dev_accuracy"]
                speed = facts["tokens"] / facts["seconds"]
                rows.append(
                    {"method": method, "stage": stage, "rate": rate, "value": value, "tokens_per_second": speed}
                )
                print(rows[-1], flush=True)
                path.write_text(json.dumps(rows, indent=1))


# ---------------------------------------------------------------------------------------------------------------
# Tables


def accuracy_of(
    log_probs: NDArray[Any], gold: Sequence[str], allowed: Sequence[int] | None = None, text: NDArray[Any] | None = None
) -> float:
    """Per cent right; with `text`, after label offsets fitted on it, uniform over the allowed labels."""
    names = TASK.labels
    offsets = None
    if text is not None:
        offsets = fit_offsets(text.astype(float), [float(allowed is None or i in allowed) for i in range(len(names))])
    best = with_offsets(log_probs.astype(float), offsets, allowed).argmax(axis=1)
    return report(gold, [names[i] for i in best]).accuracy


def scores(words: Words, found: Any, target: str) -> dict[str, float]:
    """The three accuracies of one cell on one target's test headlines."""
    gold = [str(example.label) for example in target_texts(words.data_dir, target)["test"]]
    allowed = TASK.indices(own_labels(words.data_dir, target))
    log_probs = found[f"{target}.test"]
    result = {"all": accuracy_of(log_probs, gold), "own": accuracy_of(log_probs, gold, allowed)}
    if f"{target}.text" in found:
        result["offsets"] = accuracy_of(log_probs, gold, allowed, found[f"{target}.text"])
    return result


def table(words: Words) -> None:
    """All finished cells: a row per method, the cross table, costs."""
    cells: list[dict[str, Any]] = []
    for path in sorted((words.work / "cells").glob("*.json")):
        cell = json.loads(path.read_text())
        with np.load(path.with_suffix(".npz")) as found:
            targets = {name.split(".")[0] for name in found}
            cell["scores"] = {target: scores(words, found, target) for target in targets}
        cells.append({**cell, "name": path.stem})
    for column in ("all", "own", "offsets"):
        print(f"\n{column}\n{'method':26}" + "".join(f"{target:>12}" for target in words.targets) + f"{'mean':>8}")
        print(f"{'majority':26}" + "".join(f"{majority(words, target):12.1f}" for target in words.targets))
        for method in get_args(MethodName):
            print_row(words, [cell for cell in cells if cell["method"] == method], method, column)
    print_cross(words, [cell for cell in cells if cell["method"] == "soft-prompt" and cell["seed"] == 0])
    print_guard(words, cells)
    print_costs(cells)
    if words.json is not None:
        words.json.write_text(json.dumps(cells))


def majority(words: Words, target: str) -> float:
    labels = [example.label for example in target_texts(words.data_dir, target)["test"]]
    return 100 * max(labels.count(label) for label in set(labels)) / len(labels)


def print_row(words: Words, cells: Sequence[dict[str, Any]], method: str, column: str) -> None:
    line, means = f"{method:26}", []
    for target in words.targets:
        values = [cell["scores"][target][column] for cell in cells if cell["target"] == target]
        spread = f"±{statistics.stdev(values):4.1f}" if len(values) > 1 else ""
        line += f"{statistics.mean(values):7.1f}{spread:5}" if values else f"{'-':>12}"
        means += [statistics.mean(values)] if values else []
    some = f" of {len(means)}" if len(means) < len(words.targets) else ""
    print(line + (f"{statistics.mean(means):8.1f}{some}" if means else f"{'-':>8}"))


def print_cross(words: Words, cells: Sequence[dict[str, Any]]) -> None:
    """Every target's prompt on every target, over all labels and over the target's own."""
    for column in ("all", "own"):
        print(f"\nprompt of (row) on test of (column), {column}\n{'':6}" + "".join(f"{t:>7}" for t in words.targets))
        for cell in cells:
            row = (cell["scores"].get(target, {}).get(column) for target in words.targets)
            print(f"{cell['target']:6}" + "".join(f"{'-' if v is None else f'{v:.1f}':>7}" for v in row))
        kinds: dict[str, list[float]] = {"own prompt": [], "of a relative": [], "of a stranger": []}
        for cell in cells:
            for target, found in cell["scores"].items():
                related = cell["target"] in BANTU and target in BANTU
                kind = "own prompt" if cell["target"] == target else "of a relative" if related else "of a stranger"
                kinds[kind] += [found[column]] if target in BANTU else []
        means = ", ".join(f"{kind} {statistics.mean(values):.1f}" for kind, values in kinds.items() if values)
        print(f"the Bantu languages {', '.join(BANTU)}: {means}")


def print_guard(words: Words, cells: Sequence[dict[str, Any]]) -> None:
    """How often each criterion on unlabelled text (`tune --select-on-target`) picks the better of two methods."""
    first = {(cell["method"], cell["target"]): cell for cell in cells if cell["seed"] == 0}
    for criterion in get_args(Criterion):
        head = f"{'labels':>8}{'one':>7}{'other':>7}{'chosen':>8}{'best':>7}{'right':>8}"
        print(f"\n{f'choice by {criterion}':44}{head}")
        total = {"all": [0, 0], "own": [0, 0]}
        for one, other in GUARDED:
            targets = [target for target in words.targets if (one, target) in first and (other, target) in first]
            for column in ("all", "own") if targets else ():
                rows = [(first[one, target], first[other, target], target) for target in targets]
                pairs = [(a["scores"][t][column], b["scores"][t][column]) for a, b, t in rows]
                chosen = [pair[wins(words, criterion, *row, column)] for pair, row in zip(pairs, rows, strict=True)]
                values = (*np.mean(pairs, axis=0), np.mean(chosen), np.mean([max(pair) for pair in pairs]))
                right = sum(value == max(pair) for value, pair in zip(chosen, pairs, strict=True))
                total[column] = [total[column][0] + right, total[column][1] + len(pairs)]
                numbers = "{:7.1f}{:7.1f}{:8.1f}{:7.1f}".format(*values)
                print(f"{f'{one} / {other}':44}{column:>8}{numbers}{f'{right} of {len(pairs)}':>8}")
        print("right in " + ", ".join(f"{right} of {of} ({column})" for column, (right, of) in total.items()))


def wins(
    words: Words, criterion: Criterion, one: dict[str, Any], other: dict[str, Any], target: str, column: str
) -> bool:
    """Whether the criterion prefers the other cell on the target's unlabelled text."""
    allowed = None if column == "all" else TASK.indices(own_labels(words.data_dir, target))
    found: dict[str, NDArray[Any]] = {}
    for name, cell in (("one", one), ("other", other)):
        with np.load(words.work / "cells" / f"{cell['name']}.npz") as arrays:
            found[name] = arrays[f"{target}.text"]
    judged = criterion_scores(criterion, found, allowed)
    return judged["other"] > judged["one"]


def print_costs(cells: Sequence[dict[str, Any]]) -> None:
    print(
        f"\n{'method':26}{'values 1':>12}{'values 2':>12}{'seconds 1':>10}{'seconds 2':>10}{'peak MiB':>10}{'dev':>7}"
    )
    for method in get_args(MethodName):
        chosen = [cell for cell in cells if cell["method"] == method]
        if not chosen:
            continue
        first = [cell["stage1"] for cell in chosen if "seconds" in cell["stage1"]]
        second = [cell["stage2"] for cell in chosen]
        peak = max(stage["peak_memory_bytes"] for stage in (*first, *second)) / 2**20
        seconds = statistics.median(stage["seconds"] for stage in first) if first else 0
        values = first[0]["trained_values"] if first else 0
        print(
            f"{method:26}{values:12,}{second[0]['trained_values']:12,}{seconds:12.0f}"
            f"{statistics.median(stage['seconds'] for stage in second):12.0f}{peak:12.0f}"
            f"{statistics.mean(stage['dev_accuracy'] for stage in second):12.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "grid", "table"))
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("compare-work"))
    parser.add_argument("--methods", nargs="+", default=list(get_args(MethodName)), choices=get_args(MethodName))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--seeds", type=int, default=1, help="of stage 2")
    parser.add_argument("--json", type=Path)
    given = vars(parser.parse_args())
    what = given.pop("what")
    {"train": train, "grid": grid, "table": table}[what](Words(**given))


if __name__ == "__main__":
    main()
