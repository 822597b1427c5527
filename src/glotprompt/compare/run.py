"""A comparison: every candidate that fits into the time is trained and scored, and the winner is saved.

What is finished is kept in a folder by identity: a killed comparison resumes when the same command is run again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from glotprompt.compare import choice
from glotprompt.compare.budget import Budget, OutOfTime
from glotprompt.compare.candidates import EMBEDDING, Candidate, Typed, adapt_config, commands, planned, tune_config
from glotprompt.compare.choice import Right
from glotprompt.compare.result import CompareResult, CompareRow, Saved
from glotprompt.compare.training import Trainer, texts_of
from glotprompt.config import identity_of
from glotprompt.data.languages import is_trained_on, name_of
from glotprompt.data.pairs import shared_words
from glotprompt.data.readers.records import Example, content_hash
from glotprompt.errors import UserError
from glotprompt.estimate.forecast import PROBE_TOKENS, SAMPLE_LINES, Forecaster, Probe, Text
from glotprompt.inference.classifier import Adapted
from glotprompt.model.backbone import Backbone
from glotprompt.quantities import duration
from glotprompt.records import AlignmentScores
from glotprompt.stages.stage1 import Stage1
from glotprompt.storage import artifact, atomic
from glotprompt.training.objectives.scoring import wilson_interval

SEEDS = (0, 1, 2)
PROBE_SECONDS = 1.0
"""Of the steps that are timed where no earlier training stands for a candidate."""
FORECAST_SHARE = 0.1
"""Of the time, in which all forecasts begin. On a busy machine each takes long, too."""
RESULT, PLOT = "compare.json", "compare.svg"
CLASSIFIER, ADAPTED = "classifier.safetensors", "adapted.safetensors"


@dataclass
class _Runs:
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
    budget: Budget | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> CompareResult:
    """Compare what the data of the trainer allows, save the winner and the figures in `output`, and say what to do.

    A candidate begins where its forecast fits into what is left of the budget (default: 30 minutes from now), and is
    stopped at its end. `typed`: how the person named the data, for the commands. `DataError` where a target label has
    too few examples to choose on."""
    run = _Comparison(trainer, budget or Budget(), tell)
    run.all()
    return run.result(typed, output)


class _Comparison:
    def __init__(self, trainer: Trainer, budget: Budget, tell: Callable[[str], None]) -> None:
        self.trainer, self.material, self.budget, self.tell = trainer, trainer.material, budget, tell
        self.folds = choice.label_folds(self.material.labels) if self.material.labels else []
        self.gold = [str(one.label) for one in self.material.labels]
        texts = texts_of([*self.material.target, *self.material.labels])
        sides = [target for _, target in self.material.pairs or ()]
        self.shared_words = shared_words(sides, texts) if sides and texts else None
        self.runs: dict[Candidate, _Runs] = {}
        self._forecasters: dict[str, Forecaster] = {}
        self._forecasts: dict[Candidate, float] = {}
        """Seconds that candidates were forecast to take before any was run."""
        self._deadline = 0.0
        """Of the candidate that is run now."""
        self._stage1 = dict[tuple[str, int], float]()
        """Seconds of a stage 1 by its name and seed."""
        self._beyond_reading = dict[tuple[bool, bool], float]()
        """Seconds that candidates took besides reading texts: of those with target labels, and of self-trained ones."""
        trainer.runtime = trainer.runtime.replace(on_step=self._stop_in_time)

    # -----------------------------------------------------------------------------------------------------------
    # What is run

    def all(self) -> None:
        """One seed of everything that fits, then other seeds of what is random, the best first."""
        if self.shared_words is not None:
            self.tell(f"{self.shared_words:.0f} % of the words of your texts occur in the translations")
        target, labels = bool(self.material.target), bool(self.material.labels)
        candidates = planned(target=target, parallel=bool(self.material.pairs), labels=labels)
        first = candidates.index(EMBEDDING) + 1
        self.trainer.backbone(EMBEDDING)  # without it nothing can be compared, so its errors are the comparison's
        for candidate in candidates[:first]:
            self._try(candidate, 0)
        for candidate in candidates[first:]:  # so that what does not fit is told with what it needs
            with suppress(UserError):
                if self.budget.elapsed < FORECAST_SHARE * 60 * self.budget.minutes and not self._is_done(candidate, 0):
                    self._forecasts[candidate] = self._needed(candidate, 0)
        for candidate in candidates[first:]:
            self._try(candidate, 0)
        rights = self.rights()  # without labels there are none, and nothing would be learned of what can be chosen
        for candidate in sorted((one for one in rights if one.is_random), key=lambda one: -rights[one].mean()):
            for seed in SEEDS[1:]:
                self._try(candidate, seed)

    def rights(self) -> dict[Candidate, Right]:
        """By candidate that was scored on target labels, for each of these the share of its seeds that were right."""
        return {
            candidate: np.mean(self._right_by_seed(scored), axis=0)
            for candidate, scored in self.runs.items()
            if self.gold and scored.predictions
        }

    def _right_by_seed(self, scored: _Runs) -> list[list[bool]]:
        """For each seed, which of the target labels were predicted."""
        return [[a == b for a, b in zip(self.gold, one, strict=True)] for one in scored.predictions.values()]

    def _try(self, candidate: Candidate, seed: int) -> None:
        """Run a candidate, or say why not."""
        scored, reason, about = self.runs.setdefault(candidate, _Runs()), None, None
        began, is_late = self.budget.elapsed, False
        try:
            # Without baselines the others say nothing; what is kept takes no time.
            if not candidate.is_baseline and not self._is_done(candidate, seed):
                seconds = self._seconds_left(candidate)
                needed = self._needed(candidate, seed) if seconds > 0 else self._earlier_forecast(candidate)
                if needed is not None and 10 * PROBE_SECONDS < seconds < needed < 4 * seconds:
                    # The machine may have been busy when it was timed.
                    self._forecasters.clear()
                    needed = min(needed, self._needed(candidate, seed))
                reason, about = (
                    choice.why_not(needed, self._seconds_left(candidate)),
                    needed and f", about {duration(needed)}",
                )
                is_late = reason is not None
            if reason is None:
                self._deadline = self.budget.elapsed + self._seconds_left(candidate)
                self.tell(f"[{self.budget}] {candidate.title}{f', seed {seed}' if seed else ''}{about or ''} ...")
                scored.predictions[seed] = self._score(candidate, seed, scored)
        except OutOfTime:
            reason, is_late = f"stopped after {duration(self.budget.elapsed - began)}: the time was up", True
        except UserError as error:  # the others may still do
            reason = str(error)
        if not seed:
            scored.not_run, scored.out_of_time = reason, is_late

    def _seconds_left(self, candidate: Candidate) -> float:
        """Seconds that a candidate may take: in the end the winner is trained once more."""
        run = [one for one, scored in self.runs.items() if scored.predictions]
        return self.budget.left - max(self._again(one) for one in (candidate, *run))

    def _again(self, candidate: Candidate) -> float:
        """Seconds of the last training of a candidate, if it wins."""
        if candidate.reads != "embedding":  # tf-idf takes none, and a cloze's classifier is kept
            return 0.0
        beyond = self._beyond_reading.get((candidate.labels, candidate.self_trained), 0.0)
        return self._reading(self.trainer.all_read(candidate)) + beyond / len(self._parts(candidate))

    def _stop_in_time(self, step: Mapping[str, Any]) -> None:
        """Called after each step of a training, whose checkpoints stay."""
        if self.budget.elapsed > self._deadline:
            raise OutOfTime

    def _needed(self, candidate: Candidate, seed: int) -> float:
        """A forecast in seconds, from earlier runs or a few timed steps."""
        backbone, seconds = self.trainer.backbone(candidate), 0.0
        if candidate.stage1 and not self.trainer.has_adapted(candidate, seed):
            durations = [
                self._stage1[candidate.stage1, one] for one in SEEDS if (candidate.stage1, one) in self._stage1
            ]
            seconds = (
                durations[0] if durations else self._forecast_stage1(backbone, self.trainer.stage1(candidate, seed))
            )
        if candidate.reads == "embedding":
            beyond = self._beyond_reading.get((candidate.labels, candidate.self_trained), 0.0)
            return seconds + self._reading(self.trainer.unread(candidate, seed)) + beyond
        return seconds + self._forecast_stage2(candidate, seed)

    def _earlier_forecast(self, candidate: Candidate) -> float | None:
        """The forecast of a candidate without timing anything; None: there is none."""
        if candidate.reads == "embedding" and not candidate.stage1 and self.runs[EMBEDDING].predictions:
            return self._needed(candidate, 0)
        return self._forecasts.get(candidate)

    def _reading(self, characters: float) -> float:
        """Seconds that sentence vectors of so much text take: as plain ones took, or by a few timed steps."""
        plain = self.runs.get(EMBEDDING, _Runs())
        took = plain.seconds if plain.predictions else self._forecast_stage2(EMBEDDING, 0)
        return took * characters / max(1.0, self.trainer.all_read(EMBEDDING))

    def _forecast_stage2(self, candidate: Candidate, seed: int) -> float:
        backbone = self.trainer.backbone(candidate)
        config = tune_config(candidate, seed, backbone.name)
        adapt = adapt_config(candidate, seed, backbone.name) if candidate.stage1 else None
        num = len(self.material.train), len(self.material.dev or ())
        fields = [one.fields for one in self.material.train]
        return self._forecaster(backbone).tune(config, adapt, self.material.task, fields, num).seconds or 0

    def _forecast_stage1(self, backbone: Backbone, stage1: Stage1) -> float:
        lines = list(stage1.target) if stage1.pairs is None else [side for pair in stage1.pairs for side in pair]
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

    def _score(self, candidate: Candidate, seed: int, scored: _Runs) -> list[str]:
        """Predictions for all target labels. What is trained on target labels is trained on the other folds. Raises
        `OutOfTime` where the next fold would end too late."""
        adapted = self.trainer.adapt(candidate, seed)
        if adapted is not None:
            self._stage1[candidate.stage1, seed] = adapted.training.seconds
            self._note_retrieval(adapted, scored)
        predictions, parts = [""] * len(self.gold), self._parts(candidate)
        unread = self.trainer.unread(candidate, seed) if candidate.reads == "embedding" else 0
        before = scored.seconds
        for number, (rows, few, others) in enumerate(parts):
            if (
                number
                and not candidate.is_baseline
                and (scored.seconds - before) / number > self._seconds_left(candidate)
            ):
                raise OutOfTime
            for row, label in zip(rows, self._part(candidate, seed, (few, others), scored), strict=True):
                predictions[row] = label
        if candidate != EMBEDDING and candidate.reads == "embedding":
            beyond = scored.seconds - before - self._reading(unread)
            kind = candidate.labels, candidate.self_trained
            self._beyond_reading[kind] = max(0.0, beyond, self._beyond_reading.get(kind, 0.0))
        return predictions

    @staticmethod
    def _note_retrieval(adapted: Adapted, scored: _Runs) -> None:
        """Keep what alignment of the first seed found."""
        before, after = adapted.training.held_out_before, adapted.training.held_out_after
        if scored.retrieval is None and isinstance(before, AlignmentScores) and isinstance(after, AlignmentScores):
            scored.retrieval = before.retrieval, after.retrieval

    def _parts(self, candidate: Candidate) -> list[tuple[Sequence[int], list[Example], list[Example]]]:
        """Rows of target labels, those that are trained on, and those of the rows."""
        labels = self.material.labels
        if not candidate.labels and candidate.reads != "majority":
            return [(range(len(labels)), [], list(labels))]
        return [
            (fold, [one for row, one in enumerate(labels) if row not in fold], [labels[row] for row in fold])
            for fold in self.folds
        ]

    def _file(self, candidate: Candidate, seed: int, few: Sequence[Example], others: Sequence[Example]) -> Path:
        """The file of the predictions for `others`."""
        identity = self.trainer.identity(candidate, seed, few)
        return self.trainer.work / f"{identity_of([identity, content_hash(others), artifact.versions()])}.json"

    def _is_done(self, candidate: Candidate, seed: int) -> bool:
        """Whether all of it is kept."""
        if candidate.stage1 and not self.trainer.has_adapted(candidate, seed):
            return False
        return all(self._file(candidate, seed, few, others).is_file() for _, few, others in self._parts(candidate))

    def _part(
        self, candidate: Candidate, seed: int, part: tuple[Sequence[Example], Sequence[Example]], scored: _Runs
    ) -> list[str]:
        """`part` is (trained on, predicted): predictions of what was trained on some target labels for the others, as
        they are kept or made now."""
        few, others = part
        path = self._file(candidate, seed, few, others)
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(path.read_text(encoding="utf-8"))
            if len(record["predictions"]) == len(others):
                scored.source_dev, scored.seconds = record["source_dev"], scored.seconds + record["seconds"]
                return record["predictions"]
        began, source_dev = self.budget.elapsed, None
        if candidate.reads == "majority":
            predictions = [choice.majority(few)] * len(others)
        else:
            train = self.trainer.whole if candidate.reads == "cloze" else self.trainer.classifier
            classifier = train(candidate, seed, few)
            source_dev = None if few else classifier.training.dev_accuracy
            size = self.trainer.runtime.eval_batch_size
            predictions = [one.label for one in classifier.predict(others, batch_size=size)]
        seconds = self.budget.elapsed - began
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, json.dumps({"predictions": predictions, "source_dev": source_dev, "seconds": seconds}))
        scored.source_dev, scored.seconds = source_dev, scored.seconds + seconds
        return predictions

    # -----------------------------------------------------------------------------------------------------------
    # What comes of it

    def result(self, typed: Typed, output: Path) -> CompareResult:
        """Choose, and leave the winner and the figures in a folder."""
        rights, name = self.rights(), name_of(self.material.language)
        retrieval = next((one.retrieval[0] for one in self.runs.values() if one.retrieval is not None), None)
        baseline: Candidate | None = None
        if rights:
            decision = choice.choose(rights)
            winner, baseline, to_save = decision.winner, decision.baseline, decision.to_save
            advice = choice.advice(rights, decision, name)
        else:
            run = [one for one, scored in self.runs.items() if scored.not_run is None]
            is_listed = is_trained_on(self.material.language, self.trainer.names[0])
            winner = to_save = choice.recommend(run, retrieval, self.shared_words, is_listed)
            advice = choice.advice_without_labels(winner, retrieval, name, bool(self.material.pairs))
        late = [one.title for one, scored in self.runs.items() if scored.out_of_time]
        outcome = CompareResult(
            language=self.material.language,
            task=self.material.task.name,
            model=self.trainer.names[0],
            minutes=self.budget.minutes,
            target_labels=len(self.gold),
            folds=len(self.folds),
            shared_words=self.shared_words,
            rows=[self._row(candidate, rights, baseline) for candidate in self.runs],
            baseline=None if baseline is None else baseline.name,
            winner=winner.name,
            advice=[
                *advice,
                *choice.spelling(self.shared_words, name),
                *choice.left_out(late, self.budget.minutes),
            ],
            saved=None if to_save is None else Saved(name=to_save.name, file=str(output / CLASSIFIER)),
            commands=[]
            if to_save is None
            else commands(to_save, typed, self.trainer.backbone(to_save).name, str(output)),
        )
        self._leave(outcome, to_save, output)
        return outcome

    def _row(self, candidate: Candidate, rights: Mapping[Candidate, Right], baseline: Candidate | None) -> CompareRow:
        scored = self.runs[candidate]
        row = CompareRow(
            name=candidate.name,
            title=candidate.title,
            source_dev_accuracy=scored.source_dev,
            retrieval=scored.retrieval,
            seconds=scored.seconds + sum(self._stage1.get((candidate.stage1, seed), 0) for seed in scored.predictions),
            not_run=scored.not_run,
        )
        if candidate not in rights:
            return row
        right = rights[candidate]
        return row.replace(
            accuracy=100 * float(right.mean()),
            interval=wilson_interval(round(float(right.sum())), len(right)),
            accuracies=[100 * fmean(one) for one in self._right_by_seed(scored)],
            gain=None if baseline is None or candidate == baseline else choice.gain(right, rights[baseline]),
        )

    def _leave(self, outcome: CompareResult, winner: Candidate | None, output: Path) -> None:
        """Write the figures and the winner's files. An earlier comparison's are removed first: whenever it is killed,
        no figures lie beside a classifier that they are not of."""
        results: dict[str, Any] = {}
        self._deadline = float("inf")
        if winner is not None:
            self.tell(f"[{self.budget}] training {winner.title} on everything ...")
            results[CLASSIFIER] = self.trainer.whole(winner, 0, self.material.labels if winner.labels else ())
            results[ADAPTED] = self.trainer.adapt(winner, 0)
        for name in (RESULT, PLOT, CLASSIFIER, ADAPTED):
            (output / name).unlink(missing_ok=True)
        for name, saved in results.items():
            if saved is not None:
                saved.save(output / name)
        atomic.write(output / RESULT, json.dumps(outcome.to_json(), ensure_ascii=False, indent=1) + "\n")
