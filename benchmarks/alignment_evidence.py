"""Does alignment help a language that the backbone knows little of? Topics of 1,077 verses, per language, method, seed.

Stage 1 aligns the bundled sentence encoder on other verses; the classifier is cross-fitted
(`glotprompt.demo.verse_topics`). Each finished run is appended to the JSON lines file and passed over when the
program is run again, so it can be stopped. The baseline without alignment (embedding) is run first, once per language
and seed. At the end: accuracies, and the paired bootstrap of each method against embedding over the verses, seeds
averaged within a verse.

    GLOTPROMPT_DATA=DIR python benchmarks/alignment_evidence.py --json evidence.jsonl
    ... --steps 50 100 300 1000 --json steps.jsonl       # a curve over steps
    ... --pairs 300 1000 all --json pairs.jsonl          # a curve over pairs
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from report import finished_runs

from glotprompt.config import RuntimeConfig, identity_of
from glotprompt.demo.verse_topics import VerseExperiment, verse_topics
from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import MINI_SENTENCE
from glotprompt.report.significance import paired_bootstrap

Run = dict[str, Any]
BASELINE = "embedding"
READINGS = ("target", "target_centred", "source")


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    backbone = Backbone.load(MINI_SENTENCE, precision=options.precision)
    for language in options.languages:
        runs = [run for run in _runs(options, language) if _key(run, backbone) not in _keys_of(options.json)]
        if not runs:
            continue
        experiment = VerseExperiment(backbone, verse_topics(language, options.data_dir, _say))
        for run in runs:
            method, seed, steps, pairs = run["method"], run["seed"], run["steps"], run["num_pairs"]
            figures = experiment.figures(method, seed, steps, pairs, RuntimeConfig(progress=options.progress))
            line = {**figures, "run": run, "key": _key(run, backbone)}
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            _say(_sentence(line))
    lines = list(finished_runs(options.json))
    _print_table(lines)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--languages", nargs="*", default=["glv", "cni", "quc"])
    parser.add_argument("--methods", nargs="+", choices=["soft-prompt", "lora"], default=["soft-prompt", "lora"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", nargs="+", type=int, default=[None], help="of each alignment; default: the preset's")
    parser.add_argument("--pairs", nargs="+", type=_count, default=[None], help="of pairs that stage 1 reads, or all")
    parser.add_argument("--data-dir", type=Path, help="default: the variable GLOTPROMPT_DATA")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--json", type=Path, required=True, help="JSON lines, one per run")
    return parser.parse_args(arguments)


def _count(word: str) -> int | None:
    return None if word == "all" else int(word)


def _runs(options: argparse.Namespace, language: str) -> list[Run]:
    """The baseline of every seed, then every method; the baseline reads no pairs, but for the mean that centres it."""
    baselines = [(BASELINE, seed, None, None) for seed in options.seeds]
    methods = list(product(options.methods, options.seeds, options.steps, options.pairs))
    names = ("method", "seed", "steps", "num_pairs")
    return [{"language": language, **dict(zip(names, run, strict=True))} for run in (*baselines, *methods)]


def _key(run: Run, backbone: Backbone) -> str:
    return identity_of([run, backbone.fingerprint, backbone.precision])


def _keys_of(path: Path) -> set[str]:
    return {line["key"] for line in finished_runs(path)}


def _sentence(line: dict[str, Any]) -> str:
    accuracies = ", ".join(f"{name} {line[f'{name}_accuracy']:.1f}" for name in READINGS)
    retrieval = f"scored verses found {line['retrieval_scored']:.1f}"
    if "retrieval_after" in line:
        retrieval += f", held-out pairs {line['retrieval_before']:.1f} -> {line['retrieval_after']:.1f}"
        retrieval += f", {line['seconds']:.0f} s, {line['tokens']:,} tokens"
    return f"{json.dumps(line['run'])}: {accuracies}; {retrieval}"


def _print_table(lines: Sequence[dict[str, Any]]) -> None:
    """Means over seeds, per cent; differences to embedding on the same seeds, in points."""
    groups = _groups(lines)
    print("language method steps pairs seeds | found target centred source | target - embedding, centred - embedding's")
    for (language, method, steps, pairs), runs in groups.items():
        baselines = [
            line for line in groups.get((language, BASELINE, None, None), []) if _seed(line) in map(_seed, runs)
        ]
        figures = [np.mean([line[name] for line in runs]) for name in ("retrieval_scored", *_columns())]
        cells = "  ".join(f"{value:5.1f}" for value in figures)
        name = f"{language} {method:11} {steps or '-':>5} {pairs or 'all':>5} {len(runs):2}"
        print(f"{name} | {cells} | {_compared(runs, baselines) if method != BASELINE else '-'}")


def _groups(lines: Sequence[Run]) -> dict[tuple[str, str, int | None, int | None], list[Run]]:
    """The runs of every language, method, number of steps and number of pairs, over seeds."""
    groups: dict[tuple[str, str, int | None, int | None], list[Run]] = {}
    for line in lines:
        run = line["run"]
        groups.setdefault((run["language"], run["method"], run["steps"], run["num_pairs"]), []).append(line)
    return groups


def _columns() -> list[str]:
    return [f"{name}_accuracy" for name in READINGS]


def _seed(line: dict[str, Any]) -> int:
    return line["run"]["seed"]


def _compared(runs: Sequence[dict[str, Any]], baselines: Sequence[dict[str, Any]]) -> str:
    if len(baselines) < len(runs):
        return "embedding is not there for every seed"
    words: list[str] = []
    for name in ("target", "target_centred"):
        ours, theirs = (np.mean([line["right"][name] for line in side], axis=0) for side in (runs, baselines))
        gap = paired_bootstrap([ours - theirs])
        assert gap is not None
        words.append(f"{gap.mean:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}]")
    return "  ".join(words)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
