"""Runs one step: a function of the step and the workplace that any process can call."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from glotprompt.data.datasets.bitext import verse_id
from glotprompt.data.readers.records import Example, folds_of, subsample
from glotprompt.errors import DataError, UserError, in_a_line
from glotprompt.grid import reading
from glotprompt.grid.reading import ExampleSource, Pairs, Texts, TextSource
from glotprompt.grid.results import Answers, cost_result, evaluate_result
from glotprompt.grid.steps import (
    AdaptStep,
    CostStep,
    EvaluateStep,
    PlannedBackbone,
    Step,
    TuneStep,
    Unlabelled,
    Workplace,
)
from glotprompt.grid.store import ADAPTED, CLASSIFIER, RESULT, STEP, Store
from glotprompt.inference.classifier import Adapted, Input, PromptClassifier, load_adapted
from glotprompt.methods import METHODS, for_language
from glotprompt.model.backbone import Backbone
from glotprompt.model.devices import Precision
from glotprompt.protocol import run_stage1
from glotprompt.records import Decontamination
from glotprompt.spec import done_or_train
from glotprompt.stages.closed_form import ReadOnce
from glotprompt.stages.self_training import self_train
from glotprompt.stages.stage1 import Stage1
from glotprompt.stages.stage2 import train_stage2
from glotprompt.stages.stage2_data import Stage2
from glotprompt.storage import artifact, atomic
from glotprompt.training.memory import PeakMemory

CENTRE_TEXTS = 300
"""Most target texts in the mean that centres sentence vectors; more are sampled down (seed 0)."""

Status = Literal["done", "cached", "failed", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a step."""

    step: str
    """Its name."""
    status: Status
    """cached: finished before; skipped: a step that it needs is missing; failed: now, or earlier and not retried."""
    seconds: float = 0.0
    error: str = ""


def attempt(step: Step, workplace: Workplace) -> Outcome:
    """Run a step unless it is finished, failed earlier or lacks a step that it needs. An error is kept in the store and
    not raised. Waits for any other process that runs the same step, here or on another machine."""
    store, start = workplace.store, time.perf_counter()
    with store.claimed(step.name):
        if store.has(step.name):
            store.forget_work(step.name)  # a kill may have come between the two
            return Outcome(step.name, "cached")
        missing = [need for need in step.needs if not store.has(need.name)]
        if missing:
            return Outcome(step.name, "skipped", error=f"needs {missing[0]}, which is not there")
        failure = store.failure(step.name)
        if failure is not None and not workplace.retry_failed:
            return Outcome(step.name, "failed", error=f"{failure['error']} (failed earlier; --retry-failed)")
        try:
            run_step(step, store, workplace)
        except Exception as error:  # kept with its traceback; the grid's exit status reports it
            line = f"{type(error).__name__}: " if not isinstance(error, UserError) else ""
            line += in_a_line(error, None)  # uncut: the remedy is at its end
            store.keep_failure(step.name, line, traceback.format_exc())
            return Outcome(step.name, "failed", time.perf_counter() - start, line)
    return Outcome(step.name, "done", time.perf_counter() - start)


def run_step(step: Step, store: Store, workplace: Workplace) -> None:
    """Run a step and publish its folder. Errors are raised."""
    start, memory = time.perf_counter(), PeakMemory()
    folder = store.outcome(step.name)
    for need in step.needs:
        store.fetch(need.name)
    match step:
        case AdaptStep():
            _adapt(step, store, workplace, folder)
        case TuneStep():
            _tune(step, store, workplace, folder)
        case EvaluateStep():
            _evaluate(step, store, workplace, folder)
        case CostStep():
            _write(folder / RESULT, cost_result(step).to_json())
    about = {
        "kind": step.kind,
        "identity": asdict(step.spec),
        "needs": [need.name for need in step.needs],
        "seconds": round(time.perf_counter() - start, 2),
        "peak_memory_bytes": memory.bytes(),
        "versions": artifact.versions(),
    }
    _write(folder / STEP, about)
    store.publish(step.name)


def _write(path: Path, value: Any) -> None:
    atomic.write(path, json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


@lru_cache(maxsize=1)
def loaded_backbone(name: str, precision: Precision, device: str) -> Backbone:
    return Backbone.load(name, precision=precision, device=device)


def backbone_of(planned: PlannedBackbone, device: str) -> Backbone:
    """The backbone of a step, loaded once per process. Raises `DataError` if its files changed since planning."""
    backbone = loaded_backbone(planned.name, planned.computed or planned.precision, device)
    if backbone.fingerprint != planned.fingerprint:
        raise DataError(
            f"{backbone.name} has the fingerprint {backbone.fingerprint}, the step was planned for"
            f" {planned.fingerprint}; run the grid again with --retry-failed"
        )
    return backbone


def _adapt(step: AdaptStep, store: Store, workplace: Workplace, folder: Path) -> None:
    backbone = backbone_of(step.backbone, workplace.device)
    texts, checked, pairs = dict[str, list[str]](), dict[str, Any](), None
    for name in ("target", "source") if "target" in step.texts else ():
        text = _texts(step.texts[name], step.contents[name], workplace)
        texts[name], checked[name] = text.lines, text.checked
    if "pairs" in step.texts:
        parallel = _pairs(step.texts["pairs"], step.contents["pairs"], workplace)
        pairs, checked["parallel"] = parallel.pairs, parallel.checked
    both = texts.get("target", []), texts.get("source", [])
    stage1 = Stage1.of(backbone, *both, step.language, step.config, parallel=pairs)
    decontamination = Decontamination.model_validate(checked)
    share = next(iter(step.texts.values())).share
    runtime = workplace.runtime.replace(no_samples=True)

    def train(checkpoints: Path) -> Adapted:
        adapted = run_stage1(backbone, stage1, runtime.replace(checkpoint_dir=checkpoints))
        return replace(adapted, report=adapted.training.replace(decontamination=decontamination, text_share=share))

    with _checkpoints(step, store) as checkpoints:
        done_or_train(
            step.spec, folder / ADAPTED, lambda path: load_adapted(path, backbone), train, checkpoints=checkpoints
        )


@contextmanager
def _checkpoints(step: AdaptStep, store: Store) -> Generator[Path]:
    """The folder for the checkpoints of stage 1. The first step trains the part that languages share; the others read
    it from a common folder, which is not removed while they run."""
    if step.shared is None:
        yield store.work(step.name)
        return
    name = _shared_name(step)
    folder = store.work(name)
    finished = folder / "finished"
    with store.claimed(name, shared=True):
        if finished.is_file():
            yield folder
            return
    with store.claimed(name):
        yield folder
        atomic.write(finished, "")


def _shared_name(step: AdaptStep) -> str:
    return f"source-{step.shared}"


def forget_shared(steps: Sequence[Step], store: Store) -> None:
    """Remove shared checkpoints of stage 1 that none of these steps needs any more, except those that another grid
    uses."""
    sharing = [step for step in steps if isinstance(step, AdaptStep) and step.shared is not None]
    finished = store.finished() if sharing else set[str]()
    needed = {_shared_name(step) for step in sharing if step.name not in finished}
    for name in {_shared_name(step) for step in sharing} - needed:
        with suppress(BlockingIOError), store.claimed(name, wait=False):
            store.forget_work(name)


def _texts(source: TextSource, content: str, workplace: Workplace) -> Texts:
    text = reading.texts(source, workplace.data_dir)
    _refuse_changed(source, text.content, content)
    return text


def _pairs(source: TextSource, content: str, workplace: Workplace) -> Pairs:
    pairs = reading.pairs(source, workplace.data_dir)
    _refuse_changed(source, pairs.content, content)
    return pairs


def _refuse_changed(source: TextSource, content: str, planned: str) -> None:
    if planned and content != planned:
        raise _changed(source.references)


def _inputs(source: Unlabelled, content: str, workplace: Workplace) -> Sequence[Input]:
    if isinstance(source, ExampleSource):
        return _examples(source, content, workplace)
    return _texts(source, content, workplace).lines


def _examples(source: ExampleSource, content: str, workplace: Workplace) -> list[Example]:
    if reading.examples_content(source, workplace.data_dir) != content:
        raise _changed(source.references)
    return reading.examples(source, workplace.data_dir)


def _changed(references: tuple[str, ...]) -> DataError:
    names = ", ".join(references)
    return DataError(f"{names} has changed since the step was planned; run the grid again with --retry-failed")


def _tune(step: TuneStep, store: Store, workplace: Workplace, folder: Path) -> None:
    backbone = backbone_of(step.backbone, workplace.device)
    train = _examples(step.train, step.train_content, workplace)
    start = None
    if step.start is not None:
        start = PromptClassifier.load(store.folder(step.start.name) / CLASSIFIER, backbone)
    adapted = _adapted(step.adapted, store, backbone)
    done_or_train(
        step.spec,
        folder / CLASSIFIER,
        lambda path: PromptClassifier.load(path, backbone),
        lambda work: _trained(backbone, step, adapted, train, _in(workplace, work), start),
        checkpoints=store.work(step.name),
    )


def _in(workplace: Workplace, checkpoints: Path | None) -> Workplace:
    """The same, where trainings save no samples of text."""
    return replace(workplace, runtime=workplace.runtime.replace(no_samples=True, checkpoint_dir=checkpoints))


def _adapted(step: AdaptStep | None, store: Store, backbone: Backbone) -> Adapted | None:
    return None if step is None else load_adapted(store.folder(step.name) / ADAPTED, backbone)


def _trained(
    backbone: Backbone,
    step: TuneStep,
    adapted: Adapted | None,
    train: Sequence[Example],
    workplace: Workplace,
    start: PromptClassifier | None = None,
) -> PromptClassifier:
    """Stage 2 on these source examples, or the self-training of `start`, a classifier of the same."""
    dev = None if step.dev is None else _examples(step.dev, step.dev_content, workplace)
    target = [] if step.target is None else _examples(step.target, step.target_content, workplace)
    if start is not None:
        assert step.unlabelled is not None
        texts = _inputs(step.unlabelled, step.unlabelled_content, workplace)
        options: dict[str, Any] = {"adapted": adapted, "dev": dev, "target_examples": target}
        return self_train(start, texts, train, None, workplace.runtime, **options)
    parallel = None if step.pairs is None else _pairs(step.pairs, step.pairs_content, workplace)
    pairs = () if parallel is None else parallel.pairs
    stage2 = Stage2.of(backbone, adapted, train, step.task, step.config, dev, target_examples=target, parallel=pairs)
    classifier = train_stage2(backbone, stage2, workplace.runtime, step.spec.identity)
    if parallel is None:
        return classifier
    return classifier.with_report(decontamination=Decontamination.model_validate({"parallel": parallel.checked}))


def _evaluate(step: EvaluateStep, store: Store, workplace: Workplace, folder: Path) -> None:
    test = _examples(step.test, step.test_content, workplace)
    if step.folds is not None:
        scored = _cross_fitted(step, step.folds, test, store, workplace)
    else:
        adapted, classifier = scored_classifier(step, store, workplace)
        log_probs = classifier.log_probabilities(test, workplace.runtime.eval_batch_size)
        scored = Answers(classifier, adapted, test, log_probs)
    _write(folder / RESULT, evaluate_result(step, scored).to_json())


def _cross_fitted(
    step: EvaluateStep, folds: int, test: Sequence[Example], store: Store, workplace: Workplace
) -> Answers:
    """Every test example, labelled by a classifier that was not trained on the example of the same id in the source
    language; and the accuracy of these classifiers on the source examples that they were not trained on."""
    tuned, batch_size = step.tuned, workplace.runtime.eval_batch_size
    backbone = backbone_of(step.backbone, workplace.device)
    adapted = _adapted(step.adapted, store, backbone)
    by_id = {one.id: one for one in _examples(tuned.train, tuned.train_content, workplace)}
    test = sorted((one for one in test if one.id in by_id), key=lambda one: verse_id(one.id))
    source = [by_id[one.id] for one in test]
    log_probs, right, place = np.zeros((len(test), len(tuned.task.labels))), 0, _in(workplace, None)
    classifier = None
    reader = ReadOnce(backbone) if METHODS[tuned.method].reads_vectors else backbone
    for rest, held in folds_of(len(test), folds, tuned.config.seed):
        classifier = _trained_anew(reader, tuned, adapted, [source[row] for row in rest], place)
        answers = classifier.log_probabilities([source[row] for row in held], batch_size).argmax(axis=1)
        right += sum(tuned.task.labels[answer] == source[row].label for answer, row in zip(answers, held, strict=True))
        classifier = _for_target(classifier, step, adapted, workplace)
        log_probs[held] = classifier.log_probabilities([test[row] for row in held], batch_size)
    assert classifier is not None
    return Answers(classifier, adapted, test, log_probs, 100 * right / len(test))


def _trained_anew(
    backbone: Backbone, step: TuneStep, adapted: Adapted | None, train: Sequence[Example], place: Workplace
) -> PromptClassifier:
    """Stage 2 on other source examples than the step's own, and self-training where that is the step's."""
    start = None if step.start is None else _trained(backbone, step.start, adapted, train, place)
    return _trained(backbone, step, adapted, train, place, start)


def scored_classifier(
    step: EvaluateStep, store: Store, workplace: Workplace
) -> tuple[Adapted | None, PromptClassifier]:
    """The classifier that a finished step scored, with the language's own module and centred sentence vectors, and the
    stage 1 before it. With cross-fitting, which scores several, one trained on all source examples."""
    backbone, tuned = backbone_of(step.backbone, workplace.device), step.tuned
    adapted = _adapted(step.adapted, store, backbone)
    if step.folds is None:
        classifier = PromptClassifier.load(store.folder(tuned.name) / CLASSIFIER, backbone)
    else:
        train = _examples(tuned.train, tuned.train_content, workplace)
        classifier = _trained_anew(backbone, tuned, adapted, train, _in(workplace, None))
    return adapted, _for_target(classifier, step, adapted, workplace)


def _for_target(
    classifier: PromptClassifier, step: EvaluateStep, adapted: Adapted | None, workplace: Workplace
) -> PromptClassifier:
    method = METHODS[classifier.method]
    if adapted is not None and method.tunes_once and not method.reads_vectors and not adapted.is_aligned:
        classifier = for_language(classifier, adapted)
    if step.centre is not None:
        texts = _inputs(step.centre, step.centre_content, workplace)
        classifier = classifier.with_target_text(subsample(texts, CENTRE_TEXTS, 0))
    return classifier


Tell = Callable[[Step, Outcome | None], None]
"""Called when a step begins (with None), and with its outcome."""


class Engine(Protocol):
    """Runs steps."""

    def run(self, steps: Sequence[Step], workplace: Workplace, tell: Tell) -> list[Outcome]:
        """Call `attempt` once on every step and return the outcomes, in any order.

        `steps` holds what each step `needs`, unless that is finished, before it, and an `AdaptStep`'s `after`, which
        should be over (whatever became of it) before the step begins. Errors of steps are outcomes, not exceptions.
        """
        ...


class SerialEngine:
    """Runs steps in this process, with one backbone that stays loaded."""

    def run(self, steps: Sequence[Step], workplace: Workplace, tell: Tell) -> list[Outcome]:
        """Run the steps one after another (`Engine.run`)."""
        outcomes: list[Outcome] = []
        for step in steps:
            tell(step, None)
            outcome = attempt(step, workplace)
            tell(step, outcome)
            outcomes.append(outcome)
        return outcomes
