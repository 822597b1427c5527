"""A comparison: every candidate that fits into the time is trained and scored, and the winner is saved.

What is finished is kept in a folder by identity: a killed comparison resumes when the same command is run again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from glotprompt.compare import choice
from glotprompt.compare.candidates import (
    Candidate,
    Typed,
    adapt_config,
    clozes,
    commands,
    planned,
    self_trained,
    tune_config,
)
from glotprompt.compare.choice import Right
from glotprompt.compare.result import CompareResult, CompareRow, Saved
from glotprompt.compare.training import Trainer
from glotprompt.config import identity_of
from glotprompt.data.languages import name_of
from glotprompt.data.readers.records import Example, content_hash
from glotprompt.errors import UserError
from glotprompt.estimate.forecast import SAMPLE_LINES, Forecaster, Probe, Text
from glotprompt.inference.classifier import Adapted, PromptClassifier
from glotprompt.model.backbone import Backbone
from glotprompt.records import AlignmentScores
from glotprompt.spec import done_or_train
from glotprompt.stages.stage1 import Stage1
from glotprompt.storage import artifact, atomic
from glotprompt.training.objectives.scoring import wilson_interval

SEEDS = (0, 1, 2)
PROBE_SECONDS, PROBE_TOKENS = 2.0, 1024
"""Of the steps that are timed where no earlier training stands for a candidate."""
CLASSIFIER, ADAPTED = "classifier.safetensors", "adapted.safetensors"


@dataclass
class _Scored:
    """A candidate's runs."""

    predictions: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    """Of the target labels, by seed."""
    source_dev: float | None = None
    retrieval: tuple[float, float] | None = None
    seconds: float = 0
    not_run: str | None = None
    out_of_time: bool = False


def compare(
    trainer: Trainer,
    typed: Typed,
    output: Path,
    minutes: float = 30,
    tell: Callable[[str], None] = lambda line: None,
    clock: Callable[[], float] = time.monotonic,
) -> CompareResult:
    """Compare what the data of the trainer allows, save the winner in `output`, and say what to do.

    A candidate begins where its forecast fits into what is left of the minutes, and is then finished. `typed`: how the
    person named the data, for the commands. `DataError` where a target label has too few examples to choose on."""
    run = _Comparison(trainer, 60 * minutes, tell, clock)
    run.all()
    return run.result(typed, output, minutes)


class _Comparison:
    def __init__(
        self, trainer: Trainer, budget: float, tell: Callable[[str], None], clock: Callable[[], float]
    ) -> None:
        self.trainer, self.material, self.tell = trainer, trainer.material, tell
        self.folds = choice.label_folds(self.material.labels) if self.material.labels else []
        self.gold = [str(one.label) for one in self.material.labels]
        self.found: dict[Candidate, _Scored] = {}
        self._budget, self._began, self._clock = budget, clock(), clock
        self._forecasters: dict[str, Forecaster] = {}
        self._took: dict[Any, float] = {}
        """Seconds of a stage 2 by its kind, and of a stage 1 by its name and seed."""

    # -----------------------------------------------------------------------------------------------------------
    # What is run

    def all(self) -> None:
        """One seed of everything that fits, then other seeds of what is random, the best first."""
        target, labels = bool(self.material.target), bool(self.material.labels)
        for candidate in planned(target=target, parallel=bool(self.material.pairs), labels=labels):
            self._try(candidate, 0)
        if not labels:  # nothing would be learned of what can be chosen
            return
        if target:
            aligned = {one: right for one, right in self.rights().items() if one.stage1}
            for candidate in self_trained(choice.best(aligned).stage1 if aligned else ""):
                self._try(candidate, 0)
        for candidate in clozes(target=target):
            self._try(candidate, 0)
        rights = self.rights()
        for candidate in sorted((one for one in rights if one.is_random), key=lambda one: -rights[one].mean()):
            for seed in SEEDS[1:]:
                self._try(candidate, seed)

    def rights(self) -> dict[Candidate, Right]:
        """By candidate that was scored on target labels, for each of these the share of its seeds that were right."""
        return {
            candidate: np.mean(self._right_by_seed(scored), axis=0)
            for candidate, scored in self.found.items()
            if self.gold and scored.predictions
        }

    def _right_by_seed(self, scored: _Scored) -> list[list[bool]]:
        """For each seed, which of the target labels were predicted."""
        return [[a == b for a, b in zip(self.gold, one, strict=True)] for one in scored.predictions.values()]

    def _try(self, candidate: Candidate, seed: int) -> None:
        """Run a candidate, or say why not."""
        scored = self.found.setdefault(candidate, _Scored())
        try:
            # Without rivals the others say nothing; what is kept takes no time.
            if not candidate.is_rival and not self._is_done(candidate, seed):
                needed = self._needed(candidate, seed) if self._left() > 0 else None
                if needed is not None and needed > self._left():  # the machine may have been busy just then
                    self._forecasters.clear()
                    needed = min(needed, self._needed(candidate, seed))
                reason = choice.why_not(needed, self._left())
                if reason is not None:
                    if not seed:
                        scored.not_run, scored.out_of_time = reason, True
                    return
            self.tell(f"{candidate.title}{f', seed {seed}' if seed else ''} ...")
            adapted = self.trainer.adapt(candidate, seed)
            if adapted is not None:
                self._took[candidate.stage1, seed] = adapted.training.seconds
            began = self._clock()
            scored.predictions[seed] = self._score(candidate, seed, adapted, scored)
        except UserError as error:  # the others may still do
            if not seed:
                scored.not_run = str(error)
            return
        self._took[_kind(candidate)] = max(self._took.get(_kind(candidate), 0), self._clock() - began)

    def _left(self) -> float:
        """Seconds that candidates may take: the winner is trained once more at the end."""
        return self._budget - (self._clock() - self._began) - self._took.get(_kind(choice.EMBEDDING), 0)

    def _needed(self, candidate: Candidate, seed: int) -> float:
        """A forecast in seconds, from earlier runs of its kind or a few timed steps."""
        backbone, seconds = self.trainer.backbone(candidate), 0.0
        if candidate.stage1 and not self.trainer.has_adapted(candidate, seed):
            known = [self._took[candidate.stage1, one] for one in SEEDS if (candidate.stage1, one) in self._took]
            seconds = known[0] if known else self._forecast_stage1(backbone, self.trainer.stage1(candidate, seed))
        if _kind(candidate) in self._took:
            return seconds + self._took[_kind(candidate)]
        config = tune_config(candidate, seed, backbone.name)
        adapt = adapt_config(candidate, seed, backbone.name) if candidate.stage1 else None
        train, dev = (len(part or ()) for part in (self.material.train, self.material.dev))
        train += 2 * len(self.material.pairs or ()) if candidate.ridge else 0
        fields = [one.fields for one in self.material.train]
        given = self._forecaster(backbone).tune(config, adapt, self.material.task, fields, (train, dev))
        return seconds + (given.seconds or 0)

    def _forecast_stage1(self, backbone: Backbone, stage1: Stage1) -> float:
        lines = list(stage1.target) if stage1.pairs is None else [target for _, target in stage1.pairs]
        ids = backbone.tokenizer(lines[:SAMPLE_LINES], add_special_tokens=False)["input_ids"]
        forecast = self._forecaster(backbone).adapt(stage1.config, Text(lines, [len(row) for row in ids]))
        return forecast.seconds or 0

    def _forecaster(self, backbone: Backbone) -> Forecaster:
        if backbone.name not in self._forecasters:
            self._forecasters[backbone.name] = Forecaster.of(
                backbone, Probe(PROBE_SECONDS, PROBE_TOKENS), self.trainer.runtime
            )
        return self._forecasters[backbone.name]

    # -----------------------------------------------------------------------------------------------------------
    # One candidate

    def _score(self, candidate: Candidate, seed: int, adapted: Adapted | None, scored: _Scored) -> list[str]:
        """Predictions for all target labels. What is trained on target labels is trained on the other folds."""
        if adapted is not None:
            before, after = adapted.training.held_out_before, adapted.training.held_out_after
            if isinstance(before, AlignmentScores) and isinstance(after, AlignmentScores) and not seed:
                scored.retrieval = before.retrieval, after.retrieval
        predictions = [""] * len(self.gold)
        for rows, few, held in self._parts(candidate):
            for row, label in zip(rows, self._part(candidate, seed, few, held, scored), strict=True):
                predictions[row] = label
        return predictions

    def _parts(self, candidate: Candidate) -> list[tuple[Sequence[int], list[Example], list[Example]]]:
        """Rows of target labels, those that are trained on, and those of the rows."""
        labels = self.material.labels
        if not candidate.labels and candidate.reads != "majority":
            return [(range(len(labels)), [], list(labels))]
        return [
            (fold, [one for row, one in enumerate(labels) if row not in fold], [labels[row] for row in fold])
            for fold in self.folds
        ]

    def _kept(self, candidate: Candidate, seed: int, few: Sequence[Example], held: Sequence[Example]) -> Path:
        """The file of the predictions for `held`."""
        identity = self.trainer.identity(candidate, seed, few)
        return self.trainer.work / f"{identity_of([identity, content_hash(held), artifact.versions()])}.json"

    def _is_done(self, candidate: Candidate, seed: int) -> bool:
        """Whether all of it is kept."""
        if candidate.stage1 and not self.trainer.has_adapted(candidate, seed):
            return False
        return all(self._kept(candidate, seed, few, held).is_file() for _, few, held in self._parts(candidate))

    def _part(
        self, candidate: Candidate, seed: int, few: Sequence[Example], held: Sequence[Example], scored: _Scored
    ) -> list[str]:
        """Predictions for `held` of what was trained on `few` target labels, as they are kept or made now."""
        kept = self._kept(candidate, seed, few, held)
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(kept.read_text(encoding="utf-8"))
            if len(found["predictions"]) == len(held):
                scored.source_dev, scored.seconds = found["source_dev"], scored.seconds + found["seconds"]
                return found["predictions"]
        began, source_dev = self._clock(), None
        if candidate.reads == "majority":
            predictions = [choice.majority(few)] * len(held)
        else:
            classifier = self.trainer.classifier(candidate, seed, few, once=True)
            source_dev = None if few else classifier.training.dev_accuracy
            size = self.trainer.runtime.eval_batch_size
            predictions = [one.label for one in classifier.predict(held, batch_size=size)]
        seconds = self._clock() - began
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(kept, json.dumps({"predictions": predictions, "source_dev": source_dev, "seconds": seconds}))
        scored.source_dev, scored.seconds = source_dev, scored.seconds + seconds
        return predictions

    # -----------------------------------------------------------------------------------------------------------
    # What comes of it

    def result(self, typed: Typed, output: Path, minutes: float) -> CompareResult:
        """Choose, save the winner, and say so."""
        rights, name = self.rights(), name_of(self.material.language)
        retrieval = next((one.retrieval[0] for one in self.found.values() if one.retrieval is not None), None)
        rival: Candidate | None = None
        if rights:
            chosen = choice.choose(rights)
            winner, rival, to_save = chosen.winner, chosen.rival, chosen.to_save
            advice = choice.advice(rights, chosen, name)
        else:
            run = [one for one, scored in self.found.items() if scored.not_run is None]
            winner = to_save = choice.recommend(run, retrieval)
            advice = choice.advice_without_labels(winner, retrieval, name)
        advice += choice.left_out([one.title for one in self.found if self.found[one].out_of_time], minutes)
        saved = None if to_save is None else self._save(to_save, output)
        return CompareResult(
            language=self.material.language,
            task=self.material.task.name,
            model=self.trainer.names[0],
            minutes=minutes,
            target_labels=len(self.gold),
            folds=len(self.folds),
            rows=[self._row(candidate, rights, rival) for candidate in self.found],
            rival=None if rival is None else rival.name,
            winner=winner.name,
            advice=advice,
            saved=None if saved is None or to_save is None else Saved(name=to_save.name, file=str(saved)),
            commands=[]
            if to_save is None
            else commands(to_save, typed, self.trainer.backbone(to_save).name, str(output)),
        )

    def _row(self, candidate: Candidate, rights: Mapping[Candidate, Right], rival: Candidate | None) -> CompareRow:
        scored = self.found[candidate]
        row = CompareRow(
            name=candidate.name,
            title=candidate.title,
            source_dev_accuracy=scored.source_dev,
            retrieval=scored.retrieval,
            seconds=scored.seconds + sum(self._took.get((candidate.stage1, seed), 0) for seed in scored.predictions),
            not_run=scored.not_run,
        )
        if candidate not in rights:
            return row
        right = rights[candidate]
        return row.replace(
            accuracy=100 * float(right.mean()),
            interval=wilson_interval(round(float(right.sum())), len(right)),
            accuracies=[100 * fmean(one) for one in self._right_by_seed(scored)],
            gain=None if rival is None or candidate == rival else choice.gain(right, rights[rival]),
        )

    def _save(self, winner: Candidate, output: Path) -> Path:
        """Train the winner with the first seed on all that there is, as its plain commands do."""
        self.tell(f"training {winner.title} on everything ...")
        few, place = self.material.labels if winner.labels else (), output / CLASSIFIER
        adapted, backbone = self.trainer.adapt(winner, 0), self.trainer.backbone(winner)
        if adapted is not None:
            adapted.save(output / ADAPTED)
        spec = self.trainer.stage2(winner, 0, few)[0].spec(backbone)
        if winner.centred or winner.self_trained:
            about = {**spec.contents, "target_text": content_hash(self.material.target)}
            spec = replace(spec, kind="self-train" if winner.self_trained else spec.kind, contents=about)

        def train(folder: Path) -> PromptClassifier:
            return self.trainer.classifier(winner, 0, few, folder=folder)

        done_or_train(spec, place, lambda path: PromptClassifier.load(path, backbone), train)
        return place


def _kind(candidate: Candidate) -> tuple[str, bool, bool, bool, bool]:
    """Candidates whose stage 2 takes about as long."""
    return candidate.reads, candidate.labels, candidate.ridge, candidate.self_trained, bool(candidate.stage1)
