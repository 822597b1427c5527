"""What target text is worth beside English labels: unlabelled (self-training), and a few labelled sentences a class.

Topics of SIB-200, test accuracy of method embedding: as it is; centred by the target's training sentences; self-trained
on these without their labels; with K of their labels a class, each of which weighs as much as an English one (means
over draws); and with both; beside tf-idf on the same K labels, and the largest label. SIB-200 has the same sentences in
every language, unlike what a real user has: "other sentences" takes English labels of every other sentence, and target
text and labels of the others; "same sentences" takes all of both. Intervals (95 %) are of means over
the languages, by a bootstrap over the test sentences: these are translations of one another, so a sentence is drawn in
all languages at once. They say nothing about other languages.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from probe import SIB, SOURCE, TASK
from report import add_outputs, positive, show, write

import glotprompt as gp
from glotprompt.compare.choice import majority
from glotprompt.data.readers.records import Example, shots_per_class
from glotprompt.model.loading import BUNDLED, MINI_SENTENCE
from glotprompt.report.significance import paired_bootstrap
from glotprompt.stages.closed_form import ReadOnce

CONFIG, CHARACTERS = gp.TuneConfig(method="embedding"), gp.TuneConfig(method="tf-idf")
QUIET = gp.RuntimeConfig(progress=False)
SETTINGS = {"other sentences": (1, 2), "same sentences": (0, 1)}  # first target sentence, and every which is taken
BASELINE = "English labels"
TWELVE = "nya dik lug sna yor tir ibo lin run quy ayr grn".split()

Right = NDArray[np.float64]
"""[test sentence]: 1 where the label is right; means over draws."""


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    backbone = ReadOnce(gp.Backbone.load(options.backbone))
    codes = [SIB.language(code) for code in options.languages]
    data = {
        code: {split: SIB.examples(code, split, options.data_dir) for split in ("train", "dev", "test")}
        for code in (SOURCE, *codes)
    }
    figures: dict[str, Any] = {}
    for name in options.settings:
        first, step = SETTINGS[name]
        source = {**data[SOURCE], "train": data[SOURCE]["train"][::step]}
        start = gp.tune(backbone, None, source["train"], TASK, CONFIG, QUIET, source["dev"])
        rights: dict[str, dict[str, Right]] = {}
        for code in codes:
            target = {**data[code], "train": data[code]["train"][first::step]}
            rights[code] = dict(_right(start, source, target, options))
            accuracies = {way: round(100 * float(right.mean()), 1) for way, right in rights[code].items()}
            print(name, code, accuracies, file=sys.stderr, flush=True)
        figures[name] = {way: _summary({code: rights[code][way] for code in codes}, rights) for way in rights[codes[0]]}
        _show(f"{backbone.name}, English labels and target text of the {name}", codes, figures[name])
    write(options, "few_labels", {"accuracy": figures})


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=BUNDLED, default=MINI_SENTENCE)
    parser.add_argument("--languages", nargs="+", default=TWELVE, help="SIB-200's codes")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--labels", nargs="*", type=positive, default=[5, 10, 20], help="of each class")
    parser.add_argument("--draws", type=positive, default=3, help="of the labels")
    parser.add_argument("--data-dir", type=Path, help="folder with sib200; by default that of GLOTPROMPT_DATA")
    add_outputs(parser)
    return parser.parse_args(arguments)


def _right(start: gp.PromptClassifier, source: Any, target: Any, options: Any) -> Iterator[tuple[str, Right]]:
    test, texts = target["test"], [one.fields["text"] for one in target["train"]]
    gold = np.array([str(one.label) for one in test])

    def scored(classifier: gp.PromptClassifier) -> Right:
        return (gold == np.array(gp.evaluate(classifier, test).predictions)).astype(float)

    def self_trained(classifier: gp.PromptClassifier, few: Sequence[Example] = ()) -> Right:
        shared: dict[str, Any] = {"dev": source["dev"], "held_out": [one.fields["text"] for one in test]}
        how = gp.SelfTrainConfig(), QUIET
        return scored(gp.self_train(classifier, texts, source["train"], *how, target_examples=few, **shared))

    yield "majority", (gold == majority(source["train"])).astype(float)
    yield BASELINE, scored(start)
    yield "centred", scored(start.with_target_text(texts))
    yield "self-trained", self_trained(start)
    for count in options.labels:
        draws: list[dict[str, Right]] = []
        for seed in range(options.draws):
            few = shots_per_class(target["train"], count, seed)
            shared = start.backbone, None, source["train"], TASK, CONFIG, QUIET, source["dev"]
            joint = gp.tune(*shared, target_examples=few)
            draws.append(
                {
                    "tf-idf": scored(gp.tune(start.backbone, None, few, TASK, CHARACTERS, QUIET)),
                    "and English ones": scored(joint),
                    "and English ones, self-trained": self_trained(joint, few),
                }
            )
        for way in draws[0]:
            yield f"{count} labels, {way}", np.mean([one[way] for one in draws], axis=0)


def _summary(right: Mapping[str, Right], rights: Mapping[str, Mapping[str, Right]]) -> dict[str, Any]:
    """Accuracies of one way, and what it gains over `BASELINE`; per cent and points."""
    gains = {code: one - rights[code][BASELINE] for code, one in right.items()}
    accuracies = {code: 100 * float(one.mean()) for code, one in right.items()}
    above = sum(int(one.mean() > 0) for one in gains.values())
    return {"languages": accuracies, "mean": _interval(right), "gain": _interval(gains), "above": above}


def _interval(rows: Mapping[str, Right]) -> list[float]:
    """Mean over the languages, and its ends."""
    interval = paired_bootstrap([np.mean(list(rows.values()), axis=0)])
    return [0.0] * 3 if interval is None else [interval.mean, interval.low, interval.high]


def _show(title: str, codes: Sequence[str], figures: Mapping[str, Any]) -> None:
    rows: list[list[str]] = []
    for way, row in figures.items():
        mean, gain = (f"{{:{sign}.1f}} [{{:{sign}.1f}}, {{:{sign}.1f}}]" for sign in ("", "+"))
        ends = [mean.format(*row["mean"]), gain.format(*row["gain"]), f"{row['above']} of {len(codes)}"]
        rows.append([way, *(f"{value:.1f}" for value in row["languages"].values()), *ends])
    show(title, ["", *codes, "mean", "gain", "above"], rows)


if __name__ == "__main__":
    main(sys.argv[1:])
