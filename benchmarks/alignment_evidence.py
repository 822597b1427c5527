"""Does alignment help a language that the backbone knows little of? Topics of 1,077 verses, per language, method, seed.

Stage 1 aligns the bundled sentence encoder on other verses; the classifier is cross-fitted (`glotprompt.verses`). Each
finished run is appended to the JSON lines file and passed over when the program is run again, so it can be stopped. The
rival without alignment (embedding) is run first, once per language and seed. At the end: accuracies, and the paired
bootstrap of each method against embedding over the verses, seeds averaged within a verse.

    GLOTPROMPT_DATA=DIR python benchmarks/alignment_evidence.py --json evidence.jsonl
    ... --steps 50 100 300 1000 --json steps.jsonl       # a curve over steps
    ... --pairs 300 1000 all --json pairs.jsonl          # a curve over pairs
    ... --json evidence.jsonl --figure docs/does_it_help.svg --languages     # draw what was run, run nothing more
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from glotprompt.config import RuntimeConfig, identity_of
from glotprompt.data.languages import language as language_of
from glotprompt.model.backbones import MINI_SENTENCE
from glotprompt.model.encoder import Encoder
from glotprompt.report.significance import paired_bootstrap
from glotprompt.verses import VerseExperiment, verse_topics

Run = dict[str, Any]
RIVAL = "embedding"
COLOURS = {RIVAL: "#b8bec4", "soft-prompt": "#0b6e99", "lora": "#a25bd8"}
READINGS = ("target", "target_centred", "source")


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    encoder = Encoder.load(MINI_SENTENCE, precision=options.precision)
    for language in options.languages:
        wanted = [run for run in _runs(options, language) if _key(run, encoder) not in _done(options.json)]
        if not wanted:
            continue
        experiment = VerseExperiment(encoder, verse_topics(language, options.data_dir, _say))
        for run in wanted:
            method, seed, steps, pairs = run["method"], run["seed"], run["steps"], run["num_pairs"]
            found = experiment.figures(method, seed, steps or 0, pairs, RuntimeConfig(progress=options.progress))
            line = {**found, "run": run, "key": _key(run, encoder)}
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            _say(_sentence(line))
    lines = list(_lines(options.json))
    _print_table(lines)
    if options.figure is not None:
        _draw(lines, options.figure)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--languages", nargs="*", default=["glv", "cni", "quc"])
    made.add_argument("--methods", nargs="+", choices=["soft-prompt", "lora"], default=["soft-prompt", "lora"])
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--steps", nargs="+", type=int, default=[300])
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


def _key(run: Run, encoder: Encoder) -> str:
    return identity_of([run, encoder.fingerprint, encoder.precision])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The finished runs; a last line that a kill cut short is not one."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            _say(f"{path}: passed over a line that was cut short")


def _done(path: Path) -> set[str]:
    return {line["key"] for line in _lines(path)}


def _sentence(line: dict[str, Any]) -> str:
    accuracies = ", ".join(f"{name} {line[f'{name}_accuracy']:.1f}" for name in READINGS)
    found = f"scored verses found {line['retrieval_scored']:.1f}"
    if "retrieval_after" in line:
        found += f", held-out pairs {line['retrieval_before']:.1f} -> {line['retrieval_after']:.1f}"
        found += f", {line['seconds']:.0f} s, {line['tokens']:,} tokens"
    return f"{json.dumps(line['run'])}: {accuracies}; {found}"


def _print_table(lines: Sequence[dict[str, Any]]) -> None:
    """Means over seeds, per cent; differences to embedding on the same seeds, in points."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in lines:
        run = line["run"]
        groups.setdefault((run["language"], run["method"], run["steps"], run["num_pairs"]), []).append(line)
    print("language method steps pairs seeds | found target centred source | target - embedding, centred - embedding's")
    for (language, method, steps, pairs), runs in groups.items():
        rivals = [line for line in groups.get((language, RIVAL, None, None), []) if _seed(line) in map(_seed, runs)]
        figures = [np.mean([line[name] for line in runs]) for name in ("retrieval_scored", *_columns())]
        shown = "  ".join(f"{value:5.1f}" for value in figures)
        name = f"{language} {method:11} {steps or '-':>5} {pairs or 'all':>5} {len(runs):2}"
        print(f"{name} | {shown} | {_compared(runs, rivals) if method != RIVAL else '-'}")


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
    """Accuracy by language and method with the classifier on English as a line, and over steps and pairs."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    def of(language: str, method: str, steps: int | None, pairs: int | None) -> list[float]:
        wanted = (language, method, steps, pairs)
        kept = [
            one for one in lines if tuple(one["run"][n] for n in ("language", "method", "steps", "num_pairs")) == wanted
        ]
        return [one["target_accuracy"] for one in kept]

    languages = list(dict.fromkeys(line["run"]["language"] for line in lines))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "evidence", "font.size": 9}):
        figure = Figure(figsize=(9, 3), layout="constrained")
        bars, steps, pairs = figure.subplots(1, 3, sharey=True)
        sides = (
            (RIVAL, None, "embedding"),
            ("soft-prompt", 300, "soft prompt, aligned"),
            ("lora", 300, "LoRA, aligned"),
        )
        for place, (method, at, name) in enumerate(sides):
            values = [of(language, method, at, None) for language in languages]
            x = [i + 0.27 * (place - 1) for i in range(len(languages))]
            means = [float(np.mean(one)) if one else np.nan for one in values]
            bars.bar(x, means, width=0.25, color=COLOURS[method], label=name)
            for where, one in zip(x, values, strict=True):
                bars.plot([where] * len(one), one, ".", color="#333", markersize=3)
        for i, language in enumerate(languages):
            english = np.mean([one["source_accuracy"] for one in lines if one["run"]["language"] == language])
            bars.plot(
                [i - 0.4, i + 0.4], [english] * 2, color="#333", linewidth=1, label=(i == 0 and "on English") or None
            )
        bars.axhline(lines[0]["majority"], color="#999", linewidth=1, linestyle=":", label="majority")
        bars.set_xticks(range(len(languages)), [language_of(code).name for code in languages])
        bars.set_ylabel("verses whose topic is right, %")
        bars.set_ylim(0, 100)
        bars.legend(frameon=False, fontsize=7, ncols=2, loc="upper left")
        for axes, name, label in ((steps, "steps", "steps of alignment"), (pairs, "num_pairs", "pairs of verses")):
            for language in languages:
                runs = [one for one in lines if one["run"]["language"] == language and one["run"]["seed"] == 0]
                other = ("num_pairs", None) if name == "steps" else ("steps", 300)
                runs = [
                    one for one in runs if one["run"]["method"] == "soft-prompt" and one["run"][other[0]] == other[1]
                ]
                points = sorted(
                    (one["steps"] if name == "steps" else one["pairs"], one["target_accuracy"]) for one in runs
                )
                if len(points) > 1:
                    points = [(0, of(language, RIVAL, None, None)[0]), *points]
                    axes.plot(*zip(*points, strict=True), "o-", markersize=3, label=language_of(language).name)
            axes.set_xlabel(label)
            axes.legend(frameon=False, fontsize=7)
        for axes in (bars, steps, pairs):
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
