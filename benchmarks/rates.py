"""Are a method's learning rates right on the bundled backbone? Half, once and twice those of the preset `quick`.

On the texts and English labels of `glotprompt demo`. Stage 1 is judged by held-out MLM loss in Chichewa and by
English dev accuracy after a stage 2 at its own rate; stage 2 by English dev accuracy after a stage 1 at its own. No
Chichewa labels are read. A line of the JSON file per run, passed over when the program is run again.

    python benchmarks/rates.py --json rates.jsonl [--methods mad-x lora --seeds 0 1 2 --steps 75]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from report import finished_runs

import glotprompt as gp
from glotprompt.config import preset
from glotprompt.data.datasets.bible import TARGET, DemoCorpus
from glotprompt.demo.data import GENRE_TASK, bible_corpus

FACTORS = ((0.5, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, 0.5), (1.0, 2.0))
"""Of the preset's rates in stages 1 and 2."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["lora", "mad-x", "fine-tuning-mlm"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=75, help="of stage 1")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", type=Path, required=True, help="JSON lines, one per run")
    options = parser.parse_args(arguments)
    backbone = gp.Backbone.load("mini", precision=options.precision)
    text = bible_corpus(fast=False)
    for method, seed in product(options.methods, options.seeds):
        adapted: dict[float, Any] = {}
        for first, second in FACTORS:
            run = {"method": method, "seed": seed, "steps": options.steps, "factors": [first, second]}
            if any(line.items() >= run.items() for line in finished_runs(options.json)):
                continue
            if first not in adapted:
                adapted[first] = _adapt(backbone, text, method, seed, options.steps, first)
            line = run | _tune(backbone, text, adapted[first], method, seed, second)
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)
    _print(finished_runs(options.json))


def _adapt(backbone: gp.Backbone, text: DemoCorpus, method: str, seed: int, steps: int, factor: float) -> Any:
    settings: dict[str, Any] = {**preset("quick", "adapt", method), "eval_every": 25, "eval_sequences": 64}
    settings |= {"method": method, "seed": seed, "steps": steps, "learning_rate": factor * settings["learning_rate"]}
    return gp.adapt(backbone, text.target_texts, text.source_texts, TARGET, gp.AdaptConfig(**settings))


def _tune(
    backbone: gp.Backbone, text: DemoCorpus, adapted: Any, method: str, seed: int, factor: float
) -> dict[str, float | list[float]]:
    settings = preset("quick", "tune", method)
    settings |= {"method": method, "seed": seed, "learning_rate": factor * settings["learning_rate"]}
    tuned = gp.tune(backbone, adapted, text.labelled, GENRE_TASK, gp.TuneConfig(**settings), dev=text.source_dev)
    return {
        "rates": [adapted.training.config["learning_rate"], settings["learning_rate"]],
        "loss_before": adapted.training.held_out_before.loss,
        "loss_after": adapted.training.held_out_after.loss,
        "dev_accuracy": tuned.training.dev_accuracy,
    }


def _print(lines: Iterable[dict[str, Any]]) -> None:
    """Mean and standard deviation over seeds, a row per method and pair of rates."""
    runs: defaultdict[tuple[str, float, float], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        runs[(line["method"], *line["rates"])].append(line)
    for (method, first, second), group in sorted(runs.items()):
        figures = [
            f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"
            for name in ("loss_before", "loss_after", "dev_accuracy")
            for values in [[float(line[name]) for line in group]]
        ]
        print(f"{method:16} stage 1 {first:<8g} stage 2 {second:<8g} seeds {len(group)}  {'   '.join(figures)}")


if __name__ == "__main__":
    main(sys.argv[1:])
