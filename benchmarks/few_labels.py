"""What target text is worth beside English labels: unlabelled (self-training), and a few labelled sentences a class.

Topics of SIB-200, test accuracy of method embedding: as it is; calibrated to a uniform prior; self-trained on the
target's training sentences without their labels; with K of their labels a class (means over draws), which weigh as much
as all English ones together, or each as much as one; and with both; beside tf-idf on the same K labels. SIB-200 has the
same sentences in every language, unlike what a real user has: the second table takes English labels of every other
sentence, and target text and labels of the others.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from probe import SIB, SOURCE, TASK
from report import add_outputs, positive, show, write

import glotprompt as gp
from glotprompt.data.readers.records import Example, shots_per_class
from glotprompt.model.loading import BUNDLED, MINI_SENTENCE
from glotprompt.model.prefix import Prefix
from glotprompt.model.tokens import Sequences
from glotprompt.stages.rivals import fit_tfidf, majority
from glotprompt.training.objectives.scoring import report

CONFIG = gp.TuneConfig(method="embedding")
QUIET = gp.RuntimeConfig(progress=False)


class ReadsOnce(gp.Backbone):
    """Keeps the vector of every text, for all trainings here read the same ones."""

    def pooled_states(self, sequences: Sequences, prefix: Prefix | None, layer: int | None = None) -> torch.Tensor:
        assert prefix is None
        kept: dict[bytes, torch.Tensor] = self.__dict__.setdefault("kept", {})
        new = {row.tobytes(): row for row in sequences if row.tobytes() not in kept}
        if new:
            kept |= zip(new, super().pooled_states(list(new.values()), None, layer), strict=True)
        return torch.stack([kept[row.tobytes()] for row in sequences])


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    backbone = ReadsOnce.load(options.backbone)
    codes = [SIB.language(code) for code in options.languages]
    data = {
        code: {split: SIB.examples(code, split, options.data_dir) for split in ("train", "dev", "test")}
        for code in (SOURCE, *codes)
    }
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, first, step in (("same sentences", 0, 1), ("other sentences", 1, 2)):
        source = {**data[SOURCE], "train": data[SOURCE]["train"][::step]}
        start = gp.tune(backbone, None, source["train"], TASK, CONFIG, QUIET, source["dev"])
        for code in codes:
            target = {**data[code], "train": data[code]["train"][first::step]}
            found.setdefault(name, {})[code] = dict(_figures(start, source, target, options))
            print(name, code, found[name][code], file=sys.stderr, flush=True)
    for name, rows in found.items():
        ways = list(next(iter(rows.values())))
        figures = [[way, *(rows[code][way] for code in codes)] for way in ways]
        table = [[way, *(f"{value:.1f}" for value in (*values, statistics.mean(values)))] for way, *values in figures]
        show(f"{backbone.name}, English labels and target text of the {name}", ["", *codes, "mean"], table)
    write(options, "few_labels", {"accuracy": found})


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--backbone", choices=BUNDLED, default=MINI_SENTENCE)
    made.add_argument("--languages", nargs="+", default=["yor", "lug", "nya", "lin", "quy"], help="SIB-200's codes")
    made.add_argument("--labels", nargs="*", type=positive, default=[5, 20], help="of each class")
    made.add_argument("--draws", type=positive, default=3, help="of the labels")
    made.add_argument("--keep", nargs="+", type=float, default=[0.5], help="shares that self-training keeps")
    made.add_argument("--data-dir", type=Path, help="folder with sib200; by default that of GLOTPROMPT_DATA")
    add_outputs(made)
    return made.parse_args(arguments)


def _figures(start: gp.PromptClassifier, source: Any, target: Any, options: Any) -> Iterator[tuple[str, float]]:
    test, texts = target["test"], [one.fields["text"] for one in target["train"]]
    shared: dict[str, Any] = {"dev": source["dev"], "held_out": [one.fields["text"] for one in test]}

    def self_trained(classifier: gp.PromptClassifier, keep: float, few: Sequence[Example] = ()) -> float:
        how = gp.SelfTrainConfig(keep=keep), QUIET
        made = gp.self_train(classifier, texts, source["train"], *how, target_examples=few, **shared)
        return gp.evaluate(made, test).accuracy

    yield "majority", report([str(one.label) for one in test], majority(source["train"])(test)).accuracy
    yield "English labels", gp.evaluate(start, test).accuracy
    yield "calibrated", gp.evaluate(start, test, prior_text=texts).accuracy
    for keep in options.keep:
        yield f"self-trained, keep {keep:g}", self_trained(start, keep)
    for count in options.labels:
        figures: list[dict[str, float]] = []
        for seed in range(options.draws):
            few = shots_per_class(target["train"], count, seed)
            labels = fit_tfidf(few)(test)
            even, alike = (
                gp.tune(start.backbone, None, source["train"], TASK, config, QUIET, source["dev"], target_examples=few)
                for config in (CONFIG, CONFIG.replace(target_weight=1.0))
            )
            found = {
                "tf-idf": report([str(one.label) for one in test], labels).accuracy,
                "half the weight": gp.evaluate(even, test).accuracy,
                "weight 1": gp.evaluate(alike, test).accuracy,
                "weight 1, self-trained": self_trained(alike, options.keep[0], few),
            }
            figures.append(found)
        for way in figures[0]:
            yield f"{count} labels, {way}", statistics.mean(found[way] for found in figures)


if __name__ == "__main__":
    main(sys.argv[1:])
