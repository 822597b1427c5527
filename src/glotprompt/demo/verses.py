"""The demo on a language that no published list of the backbone's training text has with certainty: topics of verses.

Manx by default: aligned on Matthew, Mark and Luke, scored on the 1,077 verses of Taxi1500. Any other language of the
same layout works too. What a row is, is said in `verses`. Every finished run is kept in the output folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glotprompt.config import RuntimeConfig, TuneConfig, identity_of, preset
from glotprompt.data.languages import language as language_of
from glotprompt.data.readers.records import content_hash
from glotprompt.demo.conclusions import BASELINE, Reading, conclusions
from glotprompt.demo.output import Used, alignment, meta, save, saved_size, write_result
from glotprompt.demo.result import DemoAlignment, DemoFigures, DemoFiles, DemoResult, DemoRow, DemoSplit, DemoTask
from glotprompt.demo.verse_topics import ALIGNED, NUM_FOLDS, TASK, VerseExperiment, verse_topics
from glotprompt.inference.classifier import Adapted, load_adapted
from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import MINI_SENTENCE
from glotprompt.protocol import run_stage1, tune
from glotprompt.spec import done_or_train
from glotprompt.storage import artifact, atomic
from glotprompt.training.memory import PeakMemory
from glotprompt.training.objectives.embedding import CENTRE_TEXTS


def run_verses(
    *,
    language: str = "glv",
    data_dir: Path | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int | None = None,
    num_pairs: int | None = None,
    output: Path = Path("demo-output"),
    command: str = "glotprompt demo --scenario manx",
    precision: Any = "auto",
) -> DemoResult:
    """Run the scenario and return its result, as saved to `output/result.json` (docs/demo.md)."""
    start, memory = time.perf_counter(), PeakMemory()
    notes: list[str] = []
    data = verse_topics(language, data_dir, notes.append)
    experiment = VerseExperiment(Backbone.load(MINI_SENTENCE, precision=precision), data)
    demo = _Verses(experiment, output, steps, num_pairs)
    majority = demo.figures(BASELINE, seeds[0])["majority"]
    rows = [DemoRow(method="majority", target_test_accuracy=majority, source_test_accuracy=majority)]
    rows += [demo.row(method, seed) for seed in seeds for method in (BASELINE, *ALIGNED)]
    name = language_of(language).name
    task = DemoTask(
        name=TASK.name,
        source="eng",
        target=language,
        source_name="English",
        target_name=name,
        labels=list(TASK.labels),
        unit="verses",
    )
    figures = DemoFigures(
        title=f"{name} on a frozen sentence encoder",
        command=command,
        task=task,
        data=_counts(experiment, notes),
        rows=rows,
        alignment=demo.alignments(seeds[0]),
        settings={
            "seeds": list(seeds),
            **({} if steps is None else {"steps": steps}),
            "pairs": num_pairs or "all",
            "folds": NUM_FOLDS,
            "centred by": f"the mean of {min(CENTRE_TEXTS, num_pairs or len(data.pairs)):,} verses of the pairs",
        },
    )
    sentences, use = conclusions(figures, demo.right)
    saved = demo.save(use, seeds[0])
    return write_result(output, figures, sentences, saved, meta(start, memory, [Used.of(experiment.backbone)]))


class _Verses:
    """The runs of one demo, each computed once and kept in `output/work`."""

    def __init__(self, experiment: VerseExperiment, output: Path, steps: int | None, num_pairs: int | None) -> None:
        self.experiment, self.output, self.steps, self.num_pairs = experiment, output, steps, num_pairs
        self.work = output / "work"
        self.right: dict[Reading, list[list[int]]] = {}

    def _path(self, method: str, seed: int) -> Path:
        data, backbone = self.experiment.data, self.experiment.backbone
        texts = [text for pair in data.pairs for text in (pair.source, pair.target)]
        settings = [preset("alignment", "adapt", method), self.steps, self.num_pairs]
        about = [data.language, seed, *settings, content_hash([*texts, *data.source, *data.target])]
        key = identity_of([*about, backbone.fingerprint, backbone.asked_precision, artifact.versions()])
        return self.work / f"{data.language}-{method}-{seed}-{key}.json"

    def adapted(self, method: str, seed: int) -> Adapted | None:
        """Stage 1 of a method and seed, or what an earlier, interrupted demo left; None for embedding."""
        if method == BASELINE:
            return None
        backbone, pairs = self.experiment.backbone, self.experiment.sample_pairs(self.num_pairs, seed)
        stage1 = self.experiment.stage1(method, seed, pairs, self.steps)

        def train(folder: Path) -> Adapted:
            return run_stage1(backbone, stage1, RuntimeConfig(checkpoint_dir=folder))

        path = self.work / f"{self.experiment.data.language}-{method}-{seed}.safetensors"
        return done_or_train(stage1.spec(backbone), path, lambda file: load_adapted(file, backbone), train)[0]

    def figures(self, method: str, seed: int) -> dict[str, Any]:
        """The figures of `VerseExperiment.scores`."""
        path = self._path(method, seed)
        if not path.is_file():
            pairs = self.experiment.sample_pairs(self.num_pairs, seed)
            figures = self.experiment.scores(self.adapted(method, seed), method, seed, pairs)
            atomic.write(path, json.dumps(figures))
        return json.loads(path.read_text(encoding="utf-8"))

    def row(self, method: str, seed: int) -> DemoRow:
        figures, adapted = self.figures(method, seed), self.adapted(method, seed)
        name = method if adapted is None else f"{method}-aligned"
        for reading, column in ((Reading(name), "target"), (Reading(name, centred=True), "target_centred")):
            self.right.setdefault(reading, []).append(figures["right"][column])
        return DemoRow(
            method=name,
            backbone=self.experiment.backbone.name,
            seed=seed,
            source_test_accuracy=figures["source_accuracy"],
            source_test_accuracy_interval=figures["source_interval"],
            target_test_accuracy=figures["target_accuracy"],
            target_test_accuracy_interval=figures["target_interval"],
            target_test_accuracy_centred=figures["target_centred_accuracy"],
            target_test_accuracy_centred_interval=figures["target_centred_interval"],
            macro_f1=figures["target_macro_f1"],
            trained_parameters=figures.get("trained_parameters", 0),
            tokens=figures["tokens_read"] + figures.get("tokens", 0),
            file_bytes=0 if adapted is None else saved_size(self.work, adapted),
            seconds=figures.get("seconds"),
            peak_memory_bytes=figures.get("peak_memory_bytes"),
        )

    def alignments(self, seed: int) -> list[DemoAlignment]:
        """Figures of the alignments of a seed."""
        results: list[DemoAlignment] = []
        for method in ALIGNED:
            adapted = self.adapted(method, seed)
            assert adapted is not None
            results.append(alignment(f"{method}-aligned", adapted.training, saved_size(self.work, adapted)))
        return results

    def save(self, use: Reading, seed: int) -> DemoFiles:
        """The classifier worth using, of all English verses, and the prompt behind it."""
        experiment, method = self.experiment, use.method.removesuffix("-aligned")
        adapted, data = self.adapted(method, seed), experiment.data
        config = TuneConfig(method=BASELINE, seed=seed, **preset("alignment", "tune"))
        classifier = tune(experiment.backbone, adapted, data.source, TASK, config)
        if use.centred:
            texts = [pair.target for pair in experiment.sample_pairs(self.num_pairs, seed)[:CENTRE_TEXTS]]
            classifier = classifier.with_target_text(texts)
        return save(self.output, data.language, TASK.name, classifier, adapted, data.pairs[0].target)


def _counts(experiment: VerseExperiment, notes: Sequence[str]) -> list[DemoSplit]:
    data = experiment.data
    rows = (
        ("stage-1 pairs", f"eng-{data.language}", len(data.pairs), "; ".join(notes)),
        (
            "scored",
            f"eng, {data.language}",
            len(data.source),
            f"each verse once, in one of {NUM_FOLDS} folds; Taxi1500",
        ),
    )
    return [
        DemoSplit(split=split, language=code, items=items, chapters=None, note=note)
        for split, code, items, note in rows
    ]
