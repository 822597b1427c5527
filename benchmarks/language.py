"""language="auto" measured: how often is a text's language found among those that are served, and what does it cost?

A prompt for every language is trained on unlabelled text (or taken from --prompts, a folder of <code>.safetensors that
`glotprompt adapt` wrote) and served as it is. The texts are later lines of the same files, which training does not
read, cut to a few words. The cost is that of finding the language and predicting, in plain predictions. The bundled
random, whose vocabulary is small: with another the cost differs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from report import parser, positive, precision_of, show, write
from texts import find_data

import glotprompt as gp
from glotprompt.data.datasets.catalog import dataset
from glotprompt.inference.classifier import PromptClassifier
from glotprompt.inference.language import LanguageFinder
from glotprompt.inference.predictor import Predictor
from glotprompt.model.modules.soft_prompt import SoftPrompt

TASK = gp.Task.load("news")
LINE_WORDS = 60
"""What is read of a line: those of newspapers are whole articles."""
READINGS = (1, 2, 4)
LANGUAGES = {
    "masakhanews": ("ibo", "lin", "lug", "pcm", "run", "sna", "tir", "yor"),
    "americasnlp2021": ("aym", "bzd", "cni", "gn", "hch", "nah", "oto", "quy", "shp", "tar"),
}
"""The paper's unseen languages, by the dataset that has text in them."""


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    options.precision = precision_of(options)
    data = find_data(options.data_dir)
    if data is None:
        raise SystemExit("language.py needs real texts; give --data-dir")
    backbone = gp.Backbone.load("mini", precision=options.precision, device="cpu")
    classifiers: dict[str, PromptClassifier] = {}
    items: list[tuple[str, str]] = []
    for code, lines in _lines(data, options).items():
        prompt = _prompt(backbone, code, lines[options.texts :], options)
        module = SoftPrompt(prompt.key_values, positions=prompt.positions)
        classifiers[code] = PromptClassifier(backbone, module, TASK, code, options.length, characters=prompt.characters)
        items += [(code, " ".join(line.split()[: options.words])) for line in lines[: options.texts]]
    figures = _measured(Predictor(backbone, classifiers), list(classifiers), items, options)
    _print(figures, options)
    write(options, "language", figures)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    options = parser(__doc__ or "", batch=16, length=64, prompt_length=16, rounds=1)
    options.add_argument("--languages", type=positive, default=18, help="the first of them")
    options.add_argument("--prompts", type=Path, help="folder of saved prompts, instead of training some")
    options.add_argument("--steps", type=positive, default=50, help="of training a prompt")
    options.add_argument("--lines", type=positive, default=500, help="that a prompt is trained on")
    options.add_argument("--texts", type=positive, default=20, help="of each language that are asked")
    options.add_argument("--words", type=positive, default=20, help="of each of these texts")
    return options.parse_args(arguments)


def _lines(data: Path, options: argparse.Namespace) -> dict[str, list[str]]:
    """Lines of every language, in an order drawn by seed; the first are asked, the others trained on."""
    lines_by_code: dict[str, list[str]] = {}
    for name, codes in LANGUAGES.items():
        for code in codes[: options.languages - len(lines_by_code)]:
            lines = list(dict.fromkeys(line for line in dataset(name).texts(code, data_dir=data) if line.strip()))
            order = np.random.default_rng(0).permutation(len(lines))[: options.texts + options.lines]
            lines_by_code[code] = [" ".join(lines[i].split()[:LINE_WORDS]) for i in order]
    return lines_by_code


def _prompt(backbone: gp.Backbone, code: str, lines: list[str], options: argparse.Namespace) -> gp.LanguagePrompt:
    if options.prompts is not None:
        return gp.LanguagePrompt.load(options.prompts / f"{code}.safetensors", backbone)
    config = gp.AdaptConfig(
        steps=options.steps, batch_size=options.batch, max_length=options.length, source_share=0.0,
        prompt_length=options.prompt_length, learning_rate=8e-2, initialise="text",
    )  # fmt: skip
    prompt = gp.adapt(backbone, lines, [], code, config, gp.RuntimeConfig(progress=False))
    assert isinstance(prompt, gp.LanguagePrompt)
    return prompt


def _measured(
    predictor: Predictor, codes: list[str], items: list[tuple[str, str]], options: argparse.Namespace
) -> dict[str, Any]:
    plain = statistics.median(_seconds_plain(predictor, items) for _ in range(options.rounds)) / len(items)
    ways: dict[str, Any] = {}
    for readings in READINGS:
        finder = LanguageFinder(predictor, readings)
        seconds, hits, ranks = [], dict.fromkeys(codes, 0), list[int]()
        for code, text in items:
            start = time.perf_counter()
            query = finder.read(text, codes)
            order = sorted(finder.losses(query), key=lambda one: one.loss)
            nearest = next(one for one in query.queries if one.served is order[0].served)
            predictor.answer([nearest])
            seconds.append(time.perf_counter() - start)
            ranks.append([one.served.language for one in order].index(code))
            hits[code] += ranks[-1] == 0
        ways[str(readings)] = {
            "accuracy": 100 * sum(rank == 0 for rank in ranks) / len(ranks),
            "in_first_three": 100 * sum(rank < 3 for rank in ranks) / len(ranks),
            "milliseconds": 1000 * statistics.median(seconds),
            "plain_predictions": statistics.median(seconds) / plain,
            "by_language": {code: 100 * count / options.texts for code, count in hits.items()},
        }
    return {"plain_milliseconds": 1000 * plain, "readings": ways, "chance": 100 / len(codes)}


def _seconds_plain(predictor: Predictor, items: list[tuple[str, str]]) -> float:
    """One at a time, as the languages are found."""
    start = time.perf_counter()
    for item in items:
        predictor.predict([item])
    return time.perf_counter() - start


def _print(figures: dict[str, Any], options: argparse.Namespace) -> None:
    rows = [
        [
            readings, f"{way['accuracy']:.1f}", f"{way['in_first_three']:.1f}", f"{way['milliseconds']:.0f}",
            f"{way['plain_predictions']:.1f}",
        ]
        for readings, way in figures["readings"].items()
    ]  # fmt: skip
    title = (
        f"language=auto: mini, {options.precision}, {len(figures['readings']['1']['by_language'])}"
        f" languages, texts of {options.words} words; chance {figures['chance']:.1f} %, a plain prediction"
        f" {figures['plain_milliseconds']:.1f} ms"
    )
    show(title, ("readings", "found %", "among the first 3 %", "ms", "in plain predictions"), rows)
    codes = list(figures["readings"]["1"]["by_language"])
    ways = figures["readings"]
    rows = [[code, *(f"{ways[name]['by_language'][code]:.0f}" for name in ways)] for code in codes]
    show("Found, in per cent", ("language", *(f"{name} readings" for name in ways)), rows)


if __name__ == "__main__":
    main(sys.argv[1:])
