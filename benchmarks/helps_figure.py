"""The figure of docs/does_it_help.md, from the results of experiments/helps_unseen.toml and helps_topics.toml, of which
those of tf-idf may stand in an experiment of their own.

python benchmarks/helps_figure.py results/helps.jsonl.gz docs/does_it_help.svg
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from glotprompt.data.languages import language
from glotprompt.grid.pack import unpack
from glotprompt.grid.store import Store
from glotprompt.report.results import Experiment, Run, read_results
from glotprompt.report.tables import look

BARS = ("embedding", "soft-prompt-aligned", "lora-aligned")


def main(results: Path, output: Path) -> None:
    with TemporaryDirectory() as folder:
        unpack(results, Store(folder))
        experiments = {one.name: one for one in read_results(Path(folder)).experiments}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "helps", "font.size": 9}):
        figure = Figure(figsize=(9, 3), layout="constrained")
        bars, curve = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
        _draw_bars(bars, experiments["helps_unseen"])
        _draw_curve(curve, [experiments[name] for name in ("helps_topics", "helps_tfidf") if name in experiments])
        for axes in (bars, curve):
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_ylim(0, 100)
            axes.legend(frameon=False, fontsize=7, loc="upper left")
        figure.savefig(output, metadata={"Date": None})


def _mean(experiment: Experiment, method: str, target: str, name: str = "accuracy") -> float | None:
    """Over the seeds that are there."""
    runs = [run for run in experiment.done if (run.method, run.target) == (method, target)]
    values = [value for run in runs if (value := _value(run, name)) is not None]
    return sum(values) / len(values) if values else None


def _value(run: Run, name: str) -> float | None:
    return run.source_accuracy if name == "source" else run.score()


def _draw_bars(axes: Any, experiment: Experiment) -> None:
    """Verses: a group of bars for each language, and the classifier on English as a line over it."""
    targets = sorted(experiment.targets, key=lambda target: -(_mean(experiment, "lora-aligned", target) or 0))
    for side, method in enumerate(BARS):
        heights = [_mean(experiment, method, target) or 0 for target in targets]
        where = [place + 0.27 * (side - 1) for place in range(len(targets))]
        axes.bar(where, heights, width=0.25, color=look(method).colour, label=look(method).name)
    for place, target in enumerate(targets):
        english = _mean(experiment, "embedding", target, "source")
        if english is not None:
            label = "on English" if place == 0 else None
            axes.plot([place - 0.4, place + 0.4], [english] * 2, color="#333", linewidth=1, label=label)
    axes.axhline(
        experiment.majority(targets[-1]), color="#999", linewidth=1, linestyle=":", label=look("majority").name
    )
    axes.set_xticks(range(len(targets)), [re.split("[ -]", language(code).name)[0] for code in targets], fontsize=8)
    axes.set_title("topics of verses, languages it does not know", fontsize=9)
    axes.set_ylabel("right, %")


def _draw_curve(axes: Any, experiments: Sequence[Experiment]) -> None:
    """Topics: the mean over the languages by labels a class of the target language, beside English labels and alone."""
    curves = (
        ("embedding", "labels-", "English and target labels"),
        ("tf-idf", "tf-idf-", "tf-idf on target labels alone"),
    )
    levels = {name: level for one in experiments for name in one.plan["methods"] if (level := _level(one, name))}
    for method, prefix, label in curves:
        by_count = {int(name.removeprefix(prefix)): levels[name] for name in levels if name.startswith(prefix)}
        by_count |= {0: levels[method]} if method in levels else {}
        counts = sorted(by_count)
        heights = [by_count[count] for count in counts]
        axes.plot(counts, heights, "o-", markersize=3, color=look(method).colour, label=label)
    if "self-trained" in levels:
        axes.axhline(levels["self-trained"], color="#2a9d8f", linewidth=1, label="self-trained, no target labels")
    axes.set_xlabel("target labels a class")
    axes.set_title("topics of sentences, twelve languages", fontsize=9)


def _level(experiment: Experiment, name: str) -> float | None:
    """Mean over the languages; None where one is missing."""
    values = [_mean(experiment, name, target) for target in experiment.targets]
    return None if None in values else sum(filter(None, values)) / len(values)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
