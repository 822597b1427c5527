"""Does alignment help a language that the backbone knows little of? Topics of 1,077 verses, per language, method, seed.

Stage 1 aligns the bundled sentence encoder on other verses; the classifier is cross-fitted
(`glotprompt.demo.verse_topics`). Each finished run is appended to the JSON lines file and passed over when the
program is run again, so it can be stopped. The rival without alignment (embedding) is run first, once per language
and seed. At the end: accuracies, and the paired bootstrap of each method against embedding over the verses, seeds
averaged within a verse.

    GLOTPROMPT_DATA=DIR python benchmarks/alignment_evidence.py --json evidence.jsonl
    ... --steps 50 100 300 1000 --json steps.jsonl       # a curve over steps
    ... --pairs 300 1000 all --json pairs.jsonl          # a curve over pairs
    ... --json evidence.jsonl --figure docs/does_it_help.svg --languages     # draw what was run, run nothing more
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
from glotprompt.data.languages import language as language_of
from glotprompt.demo.verse_topics import VerseExperiment, verse_topics
from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import MINI_SENTENCE
from glotprompt.report.significance import paired_bootstrap
from glotprompt.report.tables import look

Run = dict[str, Any]
RIVAL = "embedding"
STEPS = 300
"""Of the figure's bars: those of the preset alignment."""
READINGS = ("target", "target_centred", "source")


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    backbone = Backbone.load(MINI_SENTENCE, precision=options.precision)
    for language in options.languages:
        wanted = [run for run in _runs(options, language) if _key(run, backbone) not in _done(options.json)]
        if not wanted:
            continue
        experiment = VerseExperiment(backbone, verse_topics(language, options.data_dir, _say))
        for run in wanted:
            method, seed, steps, pairs = run["method"], run["seed"], run["steps"], run["num_pairs"]
            found = experiment.figures(method, seed, steps or 0, pairs, RuntimeConfig(progress=options.progress))
            line = {**found, "run": run, "key": _key(run, backbone)}
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            _say(_sentence(line))
    lines = list(finished_runs(options.json))
    _print_table(lines)
    if options.figure is not None:
        _draw(lines, options.figure)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--languages", nargs="*", default=["glv", "cni", "quc"])
    made.add_argument("--methods", nargs="+", choices=["soft-prompt", "lora"], default=["soft-prompt", "lora"])
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--steps", nargs="+", type=int, default=[STEPS])
    made.add_argument("--pairs", nargs="+", type=_count, default=[None], help="of pairs that stage 1 reads, or all")
    made.add_argument("--data-dir", type=Path, help="default: the variable GLOTPROMPT_DATA")
    made.add_argument("--precision", default="auto")
    made.add_argument("--progress", action="store_true")
    made.add_argument("--json", type=Path, required=True, help="JSON lines, one per run")
    made.add_argument("--figure", type=Path, help="SVG of all lines of the file")
    return made.parse_args(arguments)


def _count(word: str) -> int | None:
    return None if word == "all" else int(word)


def _runs(options: argparse.Namespace, language: str) -> list[Run]:
    """The rival of every seed, then every method; the rival reads no pairs, but for the mean that centres it."""
    rivals = [(RIVAL, seed, None, None) for seed in options.seeds]
    methods = list(product(options.methods, options.seeds, options.steps, options.pairs))
    names = ("method", "seed", "steps", "num_pairs")
    return [{"language": language, **dict(zip(names, run, strict=True))} for run in (*rivals, *methods)]


def _key(run: Run, backbone: Backbone) -> str:
    return identity_of([run, backbone.fingerprint, backbone.precision])


def _done(path: Path) -> set[str]:
    return {line["key"] for line in finished_runs(path)}


def _sentence(line: dict[str, Any]) -> str:
    accuracies = ", ".join(f"{name} {line[f'{name}_accuracy']:.1f}" for name in READINGS)
    found = f"scored verses found {line['retrieval_scored']:.1f}"
    if "retrieval_after" in line:
        found += f", held-out pairs {line['retrieval_before']:.1f} -> {line['retrieval_after']:.1f}"
        found += f", {line['seconds']:.0f} s, {line['tokens']:,} tokens"
    return f"{json.dumps(line['run'])}: {accuracies}; {found}"


def _print_table(lines: Sequence[dict[str, Any]]) -> None:
    """Means over seeds, per cent; differences to embedding on the same seeds, in points."""
    groups = _groups(lines)
    print("language method steps pairs seeds | found target centred source | target - embedding, centred - embedding's")
    for (language, method, steps, pairs), runs in groups.items():
        rivals = [line for line in groups.get((language, RIVAL, None, None), []) if _seed(line) in map(_seed, runs)]
        figures = [np.mean([line[name] for line in runs]) for name in ("retrieval_scored", *_columns())]
        shown = "  ".join(f"{value:5.1f}" for value in figures)
        name = f"{language} {method:11} {steps or '-':>5} {pairs or 'all':>5} {len(runs):2}"
        print(f"{name} | {shown} | {_compared(runs, rivals) if method != RIVAL else '-'}")


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


def _compared(runs: Sequence[dict[str, Any]], rivals: Sequence[dict[str, Any]]) -> str:
    if len(rivals) < len(runs):
        return "embedding is not there for every seed"
    words: list[str] = []
    for name in ("target", "target_centred"):
        ours, theirs = (np.mean([line["right"][name] for line in side], axis=0) for side in (runs, rivals))
        found = paired_bootstrap([ours - theirs])
        assert found is not None
        words.append(f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]")
    return "  ".join(words)


def _draw(lines: Sequence[Run], path: Path) -> None:
    """Accuracy by language and method, with the classifier on English as a line, and over steps and pairs."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "evidence", "font.size": 9}):
        figure = Figure(figsize=(9, 3), layout="constrained")
        bars, steps, pairs = figure.subplots(1, 3, sharey=True)
        _draw_bars(bars, lines)
        _draw_curves(steps, lines, "steps", "num_pairs", "steps of alignment")
        _draw_curves(pairs, lines, "pairs", "steps", "pairs of verses")
        for axes in (bars, steps, pairs):
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})


def _draw_bars(axes: Any, lines: Sequence[Run]) -> None:
    groups = _groups(lines)
    languages = list(dict.fromkeys(line["run"]["language"] for line in lines))
    sides = ((RIVAL, RIVAL, None), ("soft-prompt", "soft-prompt-aligned", STEPS), ("lora", "lora-aligned", STEPS))
    for side, (method, name, steps) in enumerate(sides):
        for place, language in enumerate(languages):
            found = [line["target_accuracy"] for line in groups.get((language, method, steps, None), [])]
            where, label = place + 0.27 * (side - 1), look(name).name if place == 0 else None
            axes.bar(where, np.mean(found) if found else 0, width=0.25, color=look(name).colour, label=label)
            axes.plot([where] * len(found), found, ".", color="#333", markersize=3)
    for place, language in enumerate(languages):
        english = np.mean([line["source_accuracy"] for line in lines if line["run"]["language"] == language])
        label = "on English" if place == 0 else None
        axes.plot([place - 0.4, place + 0.4], [english] * 2, color="#333", linewidth=1, label=label)
    axes.axhline(lines[0]["majority"], color="#999", linewidth=1, linestyle=":", label=look("majority").name)
    axes.set_xticks(range(len(languages)), [language_of(code).name for code in languages])
    axes.set_ylabel("verses whose topic is right, %")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=7, loc="upper left")


def _draw_curves(axes: Any, lines: Sequence[Run], along: str, held: str, label: str) -> None:
    """Soft prompts of seed 0 over steps or pairs, the other of the two as in the bars; at 0 embedding."""
    seed = [line for line in lines if _seed(line) == 0]
    usual = {"steps": STEPS, "num_pairs": None}[held]
    for language in dict.fromkeys(line["run"]["language"] for line in seed):
        runs = [line for line in seed if line["run"]["language"] == language]
        rival = [(0, line["target_accuracy"]) for line in runs if line["run"]["method"] == RIVAL]
        prompts = [line for line in runs if line["run"]["method"] == "soft-prompt" and line["run"][held] == usual]
        if len(prompts) > 1:
            points = sorted(rival + [(line[along], line["target_accuracy"]) for line in prompts])
            axes.plot(*zip(*points, strict=True), "o-", markersize=3, label=language_of(language).name)
    axes.set_xlabel(label)
    axes.legend(frameon=False, fontsize=7)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
