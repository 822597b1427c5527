"""MasakhaNEWS headlines from Hausa to unseen languages: without adaptation, with the target's own prompt, and with
another language's prompt (the control), several seeds of stage 2.

    python experiments/news_transfer.py --data-dir DIR --targets sna lug yor --seeds 3 --json news.json

DIR holds masakhanews/<language>/{train,dev,test}.tsv. Every classifier is scored on every target, so each cell of the
table is one language's prompt on one language's test headlines. Stage 1 is run once per language (seed 0). Finished
prompts are kept in --work and taken up again. Columns: over all seven labels, over the target's own labels, and the
latter with label offsets fitted on a quarter of the target's training headlines, unlabelled (uniform prior over its
own labels).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import glotprompt as gp
from glotprompt.data import masakhanews
from glotprompt.data.records import labels_of
from glotprompt.transfer import transfer_scores

SOURCE = "hau"


def language_prompt(encoder: gp.Encoder, language: str, arguments: argparse.Namespace) -> gp.LanguagePrompt:
    """Stage 1 on the language's own training articles, beside Hausa ones."""
    config = gp.AdaptConfig(
        steps=arguments.steps, learning_rate=arguments.adapt_rate, batch_size=arguments.batch_size, max_length=64
    )
    path = arguments.work / f"{language}-{config.identity()}.safetensors"
    if not path.is_file():
        texts, source = (masakhanews.unlabelled(arguments.data_dir, code) for code in (language, SOURCE))
        runtime = gp.RuntimeConfig(checkpoint_dir=arguments.work / "checkpoints")
        gp.adapt(encoder, texts, source, language, config, runtime).save(path)
    return gp.LanguagePrompt.load(path, encoder)


def score(classifier: gp.PromptClassifier, target: str, data_dir: Path) -> dict[str, float | str | None]:
    """The three accuracies of a classifier on a target's test headlines."""
    test = masakhanews.headlines(masakhanews.load(data_dir, target, "test"))
    held_out = masakhanews.load(data_dir, target, "test")
    unlabelled = masakhanews.headlines(
        masakhanews.without_held_out(masakhanews.load(data_dir, target, "train"), held_out)
    )
    found = transfer_scores(classifier, test, labels_of(unlabelled), unlabelled[::4])
    return {
        "accuracy": found.as_is.accuracy, "macro_f1": found.as_is.macro_f1,
        "own_labels": found.own_labels.accuracy, "own_labels_offset": found.offset.accuracy,
        "collapsed_label": found.as_is.collapsed_label,
    }  # fmt: skip


def arguments_of_person() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--targets", nargs="+", default=["sna", "lug", "yor"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="steps of stage 1")
    parser.add_argument("--adapt-rate", type=float, default=4e-2)
    parser.add_argument("--tune-rate", type=float, default=2e-2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16, help="of both stages")
    parser.add_argument("--top-k", type=int, default=12)
    parser.add_argument("--work", type=Path, default=Path("news-work"), help="folder for prompts and classifiers")
    parser.add_argument("--json", type=Path, default=Path("news.json"))
    return parser.parse_args()


def main() -> None:
    arguments = arguments_of_person()
    encoder = gp.Encoder.load("mini")
    task = gp.Task.load("news")
    train, dev = (
        masakhanews.headlines(masakhanews.load(arguments.data_dir, SOURCE, part)) for part in ("train", "dev")
    )
    cells: list[dict[str, Any]] = []
    for name in ("none", *arguments.targets):
        prompt = None if name == "none" else language_prompt(encoder, name, arguments)
        for seed in range(arguments.seeds):
            config = gp.TuneConfig(
                epochs=arguments.epochs,
                batch_size=arguments.batch_size,
                learning_rate=arguments.tune_rate,
                max_length=64,
                top_k_layers=arguments.top_k,
                seed=seed,
            )
            stage1 = (
                "none"
                if prompt is None
                else f"{name}-{prompt.facts['config']['steps']}-{arguments.batch_size}-{arguments.adapt_rate:g}"
            )
            path = arguments.work / f"classifier-{stage1}-{config.identity()}.safetensors"
            if not path.is_file():
                gp.tune(encoder, prompt, train, task, config, dev=dev).save(path)
            classifier = gp.PromptClassifier.load(path, encoder)
            for target in arguments.targets:
                known = {"prompt": name, "target": target, "seed": seed, "source_dev": classifier.facts["dev_accuracy"]}
                cells.append({**known, **score(classifier, target, arguments.data_dir)})
            print(
                name,
                seed,
                [(cell["target"], cell["accuracy"]) for cell in cells[-len(arguments.targets) :]],
                flush=True,
            )
            settings = {key: str(value) for key, value in vars(arguments).items()}
            result = {"settings": settings, "precision": encoder.precision, "cells": cells}
            arguments.json.write_text(json.dumps(result, indent=1))
        if prompt is not None:
            losses = [prompt.facts[f"held_out_{when}"]["loss"] for when in ("before", "after")]
            print(
                f"{name}: held-out loss {losses[0]:.2f} -> {losses[1]:.2f}, {prompt.facts['seconds']:.0f} s", flush=True
            )
    print_table(cells)


def print_table(cells: list[dict[str, Any]]) -> None:
    """Mean and standard deviation over seeds, a line per prompt and target."""
    print(f"{'prompt':8}{'target':8}{'source dev':>14}{'7 labels':>14}{'own labels':>14}{'own + offset':>14}")
    for prompt, target in dict.fromkeys((cell["prompt"], cell["target"]) for cell in cells):
        chosen = [cell for cell in cells if (cell["prompt"], cell["target"]) == (prompt, target)]
        line = f"{prompt:8}{target:8}"
        for column in ("source_dev", "accuracy", "own_labels", "own_labels_offset"):
            values = [cell[column] for cell in chosen]
            spread = f" ±{statistics.stdev(values):4.1f}" if len(values) > 1 else ""
            line += f"{statistics.mean(values):8.1f}{spread}"
        print(line)


if __name__ == "__main__":
    main()
