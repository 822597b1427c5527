"""Topics of Bible verses in a language that the backbone knows little of, with and without alignment on other verses.

The topics are those of Taxi1500 (English labels, 1,077 verses); stage 1 reads pairs of verses that are not among them.
A classifier on sentence vectors costs seconds, so every verse is scored once: of five folds by verse id, four train on
their English and the fifth is scored, in the target language and in English.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig, preset
from glotprompt.data.datasets.bitext import BIBLE_VERSES, in_books, verse_id
from glotprompt.data.datasets.topics import TAXI1500
from glotprompt.data.pairs import PairReport, check_pairs
from glotprompt.data.readers.records import Example, Pair, folds_of, split_held_out, subsample
from glotprompt.inference.classifier import Adapted
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.classification import EmbeddingHead
from glotprompt.protocol import run_stage1
from glotprompt.stages.stage1 import Stage1
from glotprompt.task import Task
from glotprompt.training.objectives.alignment import retrieval_accuracy
from glotprompt.training.objectives.cloze import Cloze, encode_without_mask
from glotprompt.training.objectives.embedding import CENTRE_TEXTS, Vectors, best_head, most_accurate, vectors_of
from glotprompt.training.objectives.scoring import report

TASK = Task("verse-topic", "{mask} : {text}", {label: label for label in TAXI1500.labels})
"""The template and its words are not used: sentence vectors need none."""

BOOKS: Mapping[str, tuple[int, ...]] = {"glv": (40, 41, 42)}
"""Books that stage 1 reads, by language; all of them where none are named. Of Matthew, Mark and Luke no verse is in
Taxi1500, and in Manx they are most of what there is."""

NUM_FOLDS = 5
ALIGNED = ("soft-prompt", "lora")
"""Methods of stage 1 that align."""


@dataclass(frozen=True)
class VerseTopics:
    """Data of one language's figures."""

    language: str
    pairs: Sequence[Pair]
    """English and target verses for stage 1, none of them scored."""
    source: Sequence[Example]
    """The scored verses in English, with their labels, by rising id."""
    target: Sequence[Example]
    """The same verses in the target language."""
    report: PairReport


def verse_topics(language: str, data_dir: Path | None = None, say: Callable[[str], None] | None = None) -> VerseTopics:
    """Pairs and scored verses of a language, found in the data folder (`data.dataset`). Verses that an edition lacks
    are not scored; their English is not trained on either."""
    sides: dict[str, dict[str, Example]] = {}
    for side, code in (("source", "eng"), ("target", language)):
        examples = [
            one for split in TAXI1500.splits for one in TAXI1500.examples(code, split, data_dir, on_bad_row="skip")
        ]
        sides[side] = {verse_id(one.id): one for one in examples}
    ids = sorted(sides["source"].keys() & sides["target"].keys())
    pairs = BIBLE_VERSES.pairs(language, "train", data_dir)
    if language in BOOKS:
        pairs = in_books(pairs, BOOKS[language])
    scored = {
        f"{side} topics": [one.fields["text"] for one in examples_by_id.values()]
        for side, examples_by_id in sides.items()
    }
    checked = check_pairs(pairs, scored, {*sides["source"], *sides["target"]})
    if say is not None:
        for line in (checked.report.sentence(), *checked.report.warnings()):
            say(f"{language}: {line}")
    source, target = ([sides[side][name] for name in ids] for side in ("source", "target"))
    return VerseTopics(language, checked.pairs, source, target, checked.report)


class _Vectors:
    """Sentence vectors of the last layer behind what stage 1 gave, each made once."""

    def __init__(self, backbone: Backbone, adapted: Adapted | None, texts: Mapping[str, Sequence[Cloze]]) -> None:
        self._backbone, self._adapted, self._texts = backbone, adapted, texts
        self._vectors_by_name: dict[str, Float[NDArray[np.float32], "text hidden"]] = {}
        self.tokens = 0
        """Tokens read so far."""

    def of(self, name: str) -> Float[NDArray[np.float32], "text hidden"]:
        if name not in self._vectors_by_name:
            layer = self._backbone.num_layers
            attached = nullcontext() if self._adapted is None else self._adapted.attached(self._backbone)
            with torch.no_grad(), attached as prefix:
                self._vectors_by_name[name] = vectors_of(self._backbone, self._texts[name], prefix, layer, 32)
            self.tokens += sum(len(cloze.input_ids) for cloze in self._texts[name])
        return self._vectors_by_name[name]


class VerseExperiment:
    """One language on one sentence encoder; what does not depend on a run is read once."""

    def __init__(self, backbone: Backbone, data: VerseTopics) -> None:
        self.backbone, self.data = backbone, data
        self._max_length = TuneConfig(**preset("alignment", "tune")).max_length
        self._gold = [TASK.labels.index(str(one.label)) for one in data.source]
        self._plain = self._vectors(None, data.pairs)

    def figures(
        self,
        method: str,
        seed: int = 0,
        steps: int | None = None,
        num_pairs: int | None = None,
        runtime: RuntimeConfig | None = None,
    ) -> dict[str, Any]:
        """Stage 1 of a method (soft-prompt, lora; embedding: none) and the cross-fitted classifier behind it. Stage 1
        trains for `steps` (None: the preset's) on `num_pairs` pairs sampled by the seed (None: all)."""
        pairs = self.sample_pairs(num_pairs, seed)
        adapted = None
        if method != "embedding":
            adapted = run_stage1(self.backbone, self.stage1(method, seed, pairs, steps), runtime)
        return self.scores(adapted, method, seed, pairs)

    def sample_pairs(self, num_pairs: int | None, seed: int) -> list[Pair]:
        """The pairs that stage 1 trains on."""
        return list(self.data.pairs) if num_pairs is None else subsample(self.data.pairs, num_pairs, seed)

    def stage1(self, method: str, seed: int, pairs: Sequence[Pair], steps: int | None = None) -> Stage1:
        """Stage 1 on the pairs, with the preset alignment but for `steps`, where given."""
        settings: dict[str, Any] = {
            **preset("alignment", "adapt", method),
            "method": method,
            "seed": seed,
        }
        if steps is not None:
            settings["steps"] = steps
        config = AdaptConfig(**settings)
        parallel = [(pair.source, pair.target) for pair in pairs]
        return Stage1.of(self.backbone, (), (), self.data.language, config, parallel=parallel)

    def scores(self, adapted: Adapted | None, method: str, seed: int, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Accuracies of the cross-fitted classifier, and how many of the scored verses are found by their vectors among
        all of them (`retrieval_scored`): no training saw one, and it is always the same task. JSON."""
        vectors = self._vectors(adapted, pairs) if adapted is not None or pairs != self.data.pairs else self._plain
        tokens_before = vectors.tokens
        predicted, fits = self._cross_fit(vectors, seed)
        gold = [str(one.label) for one in self.data.source]
        sides = (vectors.of("target"), self._plain.of("source"))
        figures: dict[str, Any] = {
            "language": self.data.language,
            "method": method,
            "seed": seed,
            "num_verses": len(gold),
            "precision": self.backbone.precision,
            "retrieval_scored": retrieval_accuracy(*map(torch.from_numpy, sides)),
            "chosen": fits,
            "right": {},
        }
        for name, labels in predicted.items():
            row = report(gold, labels)
            figures |= {f"{name}_accuracy": row.accuracy, f"{name}_interval": list(row.interval)}
            figures |= {f"{name}_macro_f1": row.macro_f1, f"{name}_largest_share": row.largest_share}
            figures |= {"majority": row.majority, "majority_label": row.majority_label}
            figures["right"][name] = [int(one == other) for one, other in zip(gold, labels, strict=True)]
        return figures | {"tokens_read": vectors.tokens - tokens_before, **_stage_1(adapted)}

    def _vectors(self, adapted: Adapted | None, pairs: Sequence[Pair]) -> _Vectors:
        centre = [Example.of(pair.target) for pair in subsample(pairs, CENTRE_TEXTS, 0)]
        texts = {"source": self.data.source, "target": self.data.target, "centre": centre}
        return _Vectors(self.backbone, adapted, {name: self._clozes(examples) for name, examples in texts.items()})

    def _clozes(self, examples: Sequence[Example]) -> list[Cloze]:
        fields = [one.fields for one in examples]
        return encode_without_mask(fields, TASK, self.backbone.tokenizer, self._max_length)

    def _cross_fit(self, vectors: _Vectors, seed: int) -> tuple[dict[str, list[str]], list[dict[str, Any]]]:
        """Predicted labels of all verses by reading (English, the target, and the target centred by the mean of the
        pairs' target side), and the penalty that dev verses chose in each fold."""
        names = ("source", "target", "target_centred")
        labels = {name: [""] * len(self._gold) for name in names}
        fits: list[dict[str, Any]] = []
        layer = self.backbone.num_layers
        english, other = vectors.of("source"), vectors.of("target")
        mean = torch.from_numpy(vectors.of("centre").mean(axis=0))
        for train, dev, test in self._folds(seed):
            train_vectors, dev_vectors = (
                Vectors(english[rows], [self._gold[i] for i in rows]) for rows in (train, dev)
            )
            # The penalty that docs/does_it_help.md was measured with; its trainings took hours.
            head, fit = best_head(layer, train_vectors, dev_vectors, len(TASK.labels), choose=most_accurate)
            fits.append(vars(fit))
            for name, reader in zip(names, (head, head, head.with_centre(mean)), strict=True):
                states = (english if name == "source" else other)[test]
                for row, index in zip(test, _answers(self.backbone, reader, states), strict=True):
                    labels[name][row] = TASK.labels[index]
        return labels, fits

    def _folds(self, seed: int) -> list[tuple[list[int], list[int], list[int]]]:
        """(train, dev, test) as rows of the verses; every verse is in one test fold. The dev share is that of stage
        2."""
        row_of = {id(one): row for row, one in enumerate(self.data.source)}
        share = TuneConfig().dev_share
        folds: list[tuple[list[int], list[int], list[int]]] = []
        for rest, test in folds_of(len(self._gold), NUM_FOLDS, seed):
            parts = split_held_out([self.data.source[row] for row in rest], share, seed)
            train, dev = ([row_of[id(one)] for one in part] for part in parts)
            folds.append((train, dev, test))
        return folds


def _answers(backbone: Backbone, head: EmbeddingHead, states: NDArray[np.float32]) -> list[int]:
    with torch.no_grad():
        return head.scores(backbone, torch.from_numpy(states)).argmax(dim=1).tolist()


def _stage_1(adapted: Adapted | None) -> dict[str, Any]:
    """Figures of an alignment; empty for None."""
    if adapted is None:
        return {}
    training = adapted.training
    names = {
        "pairs",
        "held_out_pairs",
        "steps",
        "best_step",
        "tokens",
        "seconds",
        "trained_parameters",
        "learning_rate",
        "peak_memory_bytes",
        "evaluations",
    }
    figures = training.model_dump(mode="json", include=names)
    for when, scores in (("before", training.held_out_before), ("after", training.held_out_after)):
        figures |= {f"{name}_{when}": value for name, value in vars(scores).items() if name != "num_pairs"}
    return figures
