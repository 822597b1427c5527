"""What the bundled backbones know of languages: the table of their card (assets/mini/README.md), measured on SIB-200.

Retrieval: each test sentence of a language looks for its English translation among all of the test, and each English
one for the language's: nearest by cosine of the mean-pooled last states, less their language's mean in the test. LR:
logistic regression on the English training sentences' states, less their mean and divided by one number, the standard
deviation of all their values; for three C, of which English dev prefers one. (The card's figures are those of C = 1.)
Prompt tuning, where the backbone has an LM head: on the English training sentences, without adaptation; as it is, and
with label offsets for a uniform prior, fitted on unlabelled training sentences of the language. Beside them: how long
each backbone takes to load in a fresh process after imports, and the peak of memory that this adds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from memory import figures_of, resident
from numpy.typing import NDArray
from report import DTYPES, add_outputs, positive, precision_of, show, write
from sklearn.linear_model import LogisticRegression

import glotprompt as gp
from glotprompt.data.datasets.catalog import dataset
from glotprompt.data.languages import language
from glotprompt.data.readers.records import Example
from glotprompt.inference.classifier import PromptClassifier
from glotprompt.model.loading import BUNDLED
from glotprompt.records import EvaluationReport
from glotprompt.training.calibration import fit_offsets, with_offsets
from glotprompt.training.memory import PeakMemory
from glotprompt.training.objectives.inputs import Input
from glotprompt.training.objectives.scoring import report

SIB = dataset("sib200")
SOURCE = "eng"
LANGUAGES = (SOURCE, "swh", "nya", "sna", "yor", "lug", "ibo", "lin", "tir", "quy", "ayr", "grn")
"""Those of the card."""
MAX_LENGTH = 96
PENALTIES = (0.01, 0.1, 1.0)
"""C of the logistic regressions."""
TASK = gp.Task(
    "topics",
    "{mask} : {text}",
    {
        "entertainment": "entertainment",
        "geography": "nature",  # `geography` and `politics` are no single pieces of the vocabulary
        "health": "health",
        "politics": "political",
        "science/technology": "technology",
        "sports": "sports",
        "travel": "travel",
    },
)

WAYS = ("as it is", "uniform prior")
"""Prompt tuning's two columns."""

States = NDArray[np.float32]
"""[sentence, hidden]"""
Corpus = Mapping[str, Mapping[str, Sequence[gp.Example]]]
"""Examples by language and split; a test sentence has its translations at the same place."""


@dataclass(frozen=True)
class TransferScores:
    """One classifier on one target, three ways."""

    as_is: EvaluationReport
    """Over all labels of the source."""
    own_labels: EvaluationReport
    """Over the labels that the target has."""
    offset: EvaluationReport
    """The latter with label offsets fitted on unlabelled target text, prior uniform over the target's own labels."""


def transfer_scores(
    classifier: PromptClassifier, test: Sequence[Example], own_labels: Sequence[str], prior_texts: Sequence[Input]
) -> TransferScores:
    """Score a classifier all three ways, reading every text once. `prior_texts` must not be the test's."""
    names = classifier.task.labels
    allowed = classifier.task.indices(own_labels)
    assert allowed is not None
    log_probs = classifier.log_probabilities(test)
    offsets = fit_offsets(classifier.log_probabilities(prior_texts), [float(i in allowed) for i in range(len(names))])
    gold = [str(example.label) for example in test]

    def scores(offsets: NDArray[np.float64] | None, allowed: Sequence[int] | None) -> EvaluationReport:
        best = with_offsets(log_probs, offsets, allowed).argmax(axis=1)
        return report(gold, [names[index] for index in best])

    return TransferScores(scores(None, None), scores(None, allowed), scores(offsets, allowed))


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    if options.load_of:
        print(json.dumps(loading(options.load_of)))
        return
    options.precision = precision_of(options)
    corpus = _read(options)
    figures: dict[str, Any] = {"test_sentences": len(corpus[SOURCE]["test"]), "backbones": {}}
    for name in options.backbones:
        loaded = figures_of(__file__, ["--load-of", name])
        backbone = gp.Backbone.load(name, precision=options.precision, device="cpu")
        results = _by_states(backbone, corpus)
        if backbone.has_lm_head:
            tuned = [_prompt_tuning(backbone, corpus, seed, options) for seed in range(options.seeds)]
            for code, scores in results["languages"].items():
                scores["prompt_tuning"] = {way: [one[code][way] for one in tuned] for way in WAYS}
        figures["backbones"][name] = {"loading": loaded, **results}
    _print(figures, options)
    write(options, "probe", figures)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--backbones", nargs="+", choices=BUNDLED, default=list(BUNDLED))
    parser.add_argument("--languages", nargs="+", help="SIB-200's codes; by default the card's that the folder has")
    parser.add_argument("--seeds", type=positive, default=3, help="of prompt tuning")
    parser.add_argument("--epochs", type=positive, default=6, help="of prompt tuning")
    parser.add_argument("--batch", type=positive, default=16, help="of prompt tuning")
    parser.add_argument("--learning-rate", type=float, default=2e-2, help="of prompt tuning")
    parser.add_argument("--prior-texts", type=positive, default=200, help="training sentences that fit the offsets")
    parser.add_argument("--precision", choices=("auto", *DTYPES), default="fp32")
    parser.add_argument("--data-dir", type=Path, help="folder with sib200; by default that of GLOTPROMPT_DATA")
    add_outputs(parser)
    parser.add_argument("--load-of", choices=BUNDLED, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _read(options: argparse.Namespace) -> dict[str, dict[str, Sequence[gp.Example]]]:
    """English, and then the languages that were asked for or, of the card's, those that the folder has."""
    try:
        folder = SIB.folder(options.data_dir)
        codes = [SIB.language(code) for code in options.languages or LANGUAGES]
        if not options.languages:
            codes = [code for code in codes if SIB.place(code, "test", folder, "folder", None)[0].is_file()]
        return {
            code: {split: SIB.examples(code, split, folder) for split in ("train", "dev", "test")}
            for code in dict.fromkeys((SOURCE, *codes))
        }
    except gp.UserError as error:
        raise SystemExit(f"probe.py: {error}") from None


# ---------------------------------------------------------------------------------------------------------------
# Loading


def loading(name: str) -> dict[str, float]:
    """Seconds and peak bytes of loading a backbone in fp32, beyond what the process holds with its imports."""
    for module in ("gguf", "transformers.models.xlm_roberta.modeling_xlm_roberta"):
        import_module(module)  # what loading would import

    before, peak = resident(), PeakMemory()
    start, busy = time.perf_counter(), time.process_time()
    backbone = gp.Backbone.load(name, precision="fp32", device="cpu")
    return {
        "seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - busy,
        "peak_bytes": peak.bytes() - before, "model_bytes": 4 * backbone.num_parameters,
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------
# States


def centred(states: States) -> States:
    """Less their mean."""
    return states - states.mean(axis=0)


def retrieval(one: States, other: States) -> float:
    """How often, in per cent, a sentence's nearest by cosine is its translation, which stands at the same place; the
    mean of both directions."""
    first, second = (states / np.linalg.norm(states, axis=1, keepdims=True) for states in (one, other))
    cosines = first @ second.T
    places = np.arange(len(one))
    return 50 * float(np.mean(cosines.argmax(axis=1) == places) + np.mean(cosines.argmax(axis=0) == places))


@dataclass(frozen=True)
class LinearProbe:
    """Logistic regressions on the states of one language, by their C."""

    mean: States
    scale: float
    regressions: dict[float, LogisticRegression]

    @classmethod
    def fit(cls, states: States, labels: Sequence[str]) -> LinearProbe:
        mean, scale = states.mean(axis=0), float(states.std())
        scaled = (states - mean) / scale
        return cls(mean, scale, {c: LogisticRegression(C=c, max_iter=2000).fit(scaled, labels) for c in PENALTIES})

    def accuracies(self, states: States, labels: Sequence[str], mean: States | None = None) -> dict[float, float]:
        """In per cent, by C. `mean` is that of the states' language (None: of the one it was fitted on)."""
        scaled = (states - (self.mean if mean is None else mean)) / self.scale
        return {c: 100 * float(one.score(scaled, labels)) for c, one in self.regressions.items()}


def _by_states(backbone: gp.Backbone, corpus: Corpus) -> dict[str, Any]:
    """Retrieval and LR of every language, and the C that English dev prefers."""

    def read(code: str, split: str) -> tuple[States, list[str]]:
        examples = corpus[code][split]
        states = backbone.embed([example.fields["text"] for example in examples], max_length=MAX_LENGTH)
        return states, [str(example.label) for example in examples]

    probe = LinearProbe.fit(*read(SOURCE, "train"))
    dev = probe.accuracies(*read(SOURCE, "dev"))
    tests = {code: read(code, "test") for code in corpus}
    source = centred(tests[SOURCE][0])
    return {
        "chosen_c": max(dev, key=lambda c: dev[c]),
        "languages": {
            code: {
                "retrieval": retrieval(centred(states), source),
                "linear": probe.accuracies(states, labels, None if code == SOURCE else states.mean(axis=0)),
            }
            for code, (states, labels) in tests.items()
        },
    }


# ---------------------------------------------------------------------------------------------------------------
# Prompt tuning


def _prompt_tuning(
    backbone: gp.Backbone, corpus: Corpus, seed: int, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Accuracies of every language by one classifier, as it is and under a uniform prior."""
    config = gp.TuneConfig(
        method="prompt-tuning", epochs=options.epochs, batch_size=options.batch, max_length=MAX_LENGTH,
        learning_rate=options.learning_rate, seed=seed,
    )  # fmt: skip
    runtime = gp.RuntimeConfig(progress=False, no_samples=True)
    source = corpus[SOURCE]
    classifier = gp.tune(backbone, None, source["train"], TASK, config, runtime, source["dev"])
    accuracies: dict[str, dict[str, float]] = {}
    for code, parts in corpus.items():
        scores = transfer_scores(classifier, parts["test"], TASK.labels, parts["train"][: options.prior_texts])
        accuracies[code] = dict(zip(WAYS, (scores.as_is.accuracy, scores.offset.accuracy), strict=True))
    return accuracies


# ---------------------------------------------------------------------------------------------------------------


def _print(figures: dict[str, Any], options: argparse.Namespace) -> None:
    rows: list[list[str]] = []
    for name, results in figures["backbones"].items():
        load = results["loading"]
        rows.append([
            name,
            f"{load['seconds']:.1f}",
            f"{load['processor_seconds']:.1f}",
            f"{load['peak_bytes'] / 2**20:,.0f}",
            f"{load['peak_bytes'] / load['model_bytes']:.2f}",
        ])  # fmt: skip
    columns = ("loading, fp32", "seconds", "of processor time", "peak, MB", "in models of fp32")
    show("Loading in a fresh process, after imports", columns, rows)
    for name, results in figures["backbones"].items():
        rows = [
            [
                language(code).name, f"{scores['retrieval']:.1f}", *(f"{one:.1f}" for one in scores["linear"].values()),
                *(_seeds(values) for values in scores.get("prompt_tuning", {}).values()),
            ]
            for code, scores in results["languages"].items()
        ]  # fmt: skip
        linear = [f"LR, C {c:g}" + (" (by dev)" if c == results["chosen_c"] else "") for c in PENALTIES]
        tuned = [f"prompt tuning, {way}" for way in results["languages"][SOURCE].get("prompt_tuning", ())]
        title = f"{name}, {options.precision}: SIB-200, {figures['test_sentences']} test sentences a language, %"
        show(title, ("language", "retrieval", *linear, *tuned), rows)


def _seeds(values: Sequence[float]) -> str:
    """Every seed, mean and standard deviation."""
    each = " ".join(f"{value:.1f}" for value in values)
    return each if len(values) == 1 else f"{each}: {statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


if __name__ == "__main__":
    main(sys.argv[1:])
