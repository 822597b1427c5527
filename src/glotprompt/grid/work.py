"""Running one step: a function of the step and the workplace that any process can call."""

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

from glotprompt.data.readers.records import Example, subsample
from glotprompt.errors import DataError, UserError, in_a_line
from glotprompt.grid import reading
from glotprompt.grid.reading import ExampleSource, Texts, TextSource
from glotprompt.grid.results import cost_result, evaluate_result
from glotprompt.grid.steps import AdaptStep, CostStep, EvaluateStep, PlannedBackbone, Step, TuneStep, Workplace
from glotprompt.grid.store import ADAPTED, CLASSIFIER, RESULT, STEP, Store
from glotprompt.inference.classifier import Adapted, PromptClassifier, load_adapted
from glotprompt.methods import METHODS, for_language
from glotprompt.model.backbone import Backbone
from glotprompt.model.devices import Precision
from glotprompt.protocol import run_stage1
from glotprompt.records import Decontamination
from glotprompt.spec import done_or_train
from glotprompt.stages.stage1 import Stage1
from glotprompt.stages.stage2 import Stage2, train_stage2
from glotprompt.storage import artifact, atomic
from glotprompt.training.memory import PeakMemory

CENTRE_TEXTS = 300
"""So many target texts, drawn by seed 0, make the mean by which sentence vectors are centred, where there are more."""

Status = Literal["done", "cached", "failed", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """What became of a step."""

    step: str
    """Its name."""
    status: Status
    """cached: it was there already; skipped: what it needs is not there; failed: now, or earlier and not retried."""
    seconds: float = 0.0
    error: str = ""


def attempt(step: Step, place: Workplace) -> Outcome:
    """Run a step unless it is there, failed earlier or lacks what it needs; an error is kept in the store, not raised.

    Whoever else works on it, here or on another machine, is waited for."""
    store, start = place.store, time.perf_counter()
    with store.claimed(step.name):
        if store.has(step.name):
            store.forget_work(step.name)  # a kill may have come between the two
            return Outcome(step.name, "cached")
        missing = [need for need in step.needs if not store.has(need.name)]
        if missing:
            return Outcome(step.name, "skipped", error=f"needs {missing[0]}, which is not there")
        failure = store.failure(step.name)
        if failure is not None and not place.retry_failed:
            return Outcome(step.name, "failed", error=f"{failure['error']} (failed earlier; --retry-failed)")
        try:
            run_step(step, store, place)
        except Exception as error:  # kept with its traceback, and the grid's exit status tells
            line = f"{type(error).__name__}: " if not isinstance(error, UserError) else ""
            line += in_a_line(error, None)  # the remedy stands at its end
            store.keep_failure(step.name, line, traceback.format_exc())
            return Outcome(step.name, "failed", time.perf_counter() - start, line)
    return Outcome(step.name, "done", time.perf_counter() - start)


def run_step(step: Step, store: Store, place: Workplace) -> None:
    """Run a step and publish its folder. Raises what goes wrong."""
    start, memory = time.perf_counter(), PeakMemory()
    folder = store.outcome(step.name)
    for need in step.needs:
        store.fetch(need.name)
    match step:
        case AdaptStep():
            _adapt(step, store, place, folder)
        case TuneStep():
            _tune(step, store, place, folder)
        case EvaluateStep():
            _evaluate(step, store, place, folder)
        case CostStep():
            _write(folder / RESULT, cost_result(step).to_json())
    about = {
        "kind": step.kind, "identity": asdict(step.spec), "needs": [need.name for need in step.needs],
        "seconds": round(time.perf_counter() - start, 2), "peak_memory_bytes": memory.bytes(),
        "versions": artifact.versions(),
    }  # fmt: skip
    _write(folder / STEP, about)
    store.publish(step.name)


def _write(path: Path, value: Any) -> None:
    atomic.write(path, json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


@lru_cache(maxsize=1)
def loaded_backbone(name: str, precision: Precision, device: str) -> Backbone:
    return Backbone.load(name, precision=precision, device=device)


def backbone_of(planned: PlannedBackbone, device: str) -> Backbone:
    """The backbone of a step, loaded once per process. Raises `DataError` where another lies in its place by now."""
    backbone = loaded_backbone(planned.name, planned.computed or planned.precision, device)
    if backbone.fingerprint != planned.fingerprint:
        raise DataError(
            f"{backbone.name} has the fingerprint {backbone.fingerprint}, the step was planned for"
            f" {backbone.fingerprint}; run the grid again with --retry-failed"
        )
    return backbone


def _adapt(step: AdaptStep, store: Store, place: Workplace, folder: Path) -> None:
    backbone = backbone_of(step.backbone, place.device)
    if "pairs" in step.texts:
        read = reading.pairs(step.texts["pairs"], place.data_dir)
        _refuse_changed(step.texts["pairs"], read.content, step.contents["pairs"])
        stage1 = Stage1.of(backbone, (), (), step.language, step.config, parallel=read.pairs)
        decontamination = Decontamination.model_validate({"parallel": read.checked})
    else:
        target, source = (_texts(step.texts[name], step.contents[name], place) for name in ("target", "source"))
        stage1 = Stage1.of(backbone, target.lines, source.lines, step.language, step.config)
        decontamination = Decontamination.model_validate({"target": target.checked, "source": source.checked})
    share = next(iter(step.texts.values())).share
    runtime = place.runtime.replace(no_samples=True)

    def train(checkpoints: Path) -> Adapted:
        adapted = run_stage1(backbone, stage1, runtime.replace(checkpoint_dir=checkpoints))
        return replace(adapted, report=adapted.training.replace(decontamination=decontamination, text_share=share))

    with _checkpoints(step, store) as checkpoints:
        done_or_train(
            step.spec, folder / ADAPTED, lambda path: load_adapted(path, backbone), train, checkpoints=checkpoints
        )


@contextmanager
def _checkpoints(step: AdaptStep, store: Store) -> Generator[Path]:
    """The folder for a stage 1's checkpoints. What is shared between languages is trained by whoever comes first; the
    others find it finished in a folder that they share, and that nobody removes while they are at it."""
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
    """Remove what languages shared in stage 1, where none of these steps needs it any more. What another grid is at is
    left to that."""
    sharing = [step for step in steps if isinstance(step, AdaptStep) and step.shared is not None]
    finished = store.finished() if sharing else set[str]()
    needed = {_shared_name(step) for step in sharing if step.name not in finished}
    for name in {_shared_name(step) for step in sharing} - needed:
        with suppress(BlockingIOError), store.claimed(name, wait=False):
            store.forget_work(name)


def _texts(source: TextSource, content: str, place: Workplace) -> Texts:
    found = reading.texts(source, place.data_dir)
    _refuse_changed(source, found.content, content)
    return found


def _refuse_changed(source: TextSource, found: str, planned: str) -> None:
    if planned and found != planned:
        raise _changed(source.references)


def _examples(source: ExampleSource, content: str, place: Workplace) -> list[Example]:
    if reading.examples_content(source, place.data_dir) != content:
        raise _changed(source.references)
    return reading.examples(source, place.data_dir)


def _changed(references: tuple[str, ...]) -> DataError:
    words = ", ".join(references)
    return DataError(f"{words} has changed since the step was planned; run the grid again with --retry-failed")


def _tune(step: TuneStep, store: Store, place: Workplace, folder: Path) -> None:
    backbone = backbone_of(step.backbone, place.device)
    train = _examples(step.train, step.train_content, place)
    dev = None if step.dev is None else _examples(step.dev, step.dev_content, place)
    adapted = None if step.adapted is None else load_adapted(store.folder(step.adapted.name) / ADAPTED, backbone)
    stage2 = Stage2.of(backbone, adapted, train, step.task, step.config, dev)
    runtime = place.runtime.replace(no_samples=True)
    done_or_train(
        step.spec,
        folder / CLASSIFIER,
        lambda path: PromptClassifier.load(path, backbone),
        lambda work: train_stage2(backbone, stage2, runtime.replace(checkpoint_dir=work), step.spec.identity),
        checkpoints=store.work(step.name),
    )


def _evaluate(step: EvaluateStep, store: Store, place: Workplace, folder: Path) -> None:
    adapted, classifier = scored_classifier(step, store, place)
    test = _examples(step.test, step.test_content, place)
    result = evaluate_result(step, classifier, adapted, test, place.runtime.eval_batch_size)
    _write(folder / RESULT, result.to_json())


def scored_classifier(step: EvaluateStep, store: Store, place: Workplace) -> tuple[Adapted | None, PromptClassifier]:
    """What a finished step scored, with the stage 1 behind it: the language's own module in its place, and sentence
    vectors centred."""
    backbone = backbone_of(step.backbone, place.device)
    classifier = PromptClassifier.load(store.folder(step.tuned.name) / CLASSIFIER, backbone)
    adapted = None if step.adapted is None else load_adapted(store.folder(step.adapted.name) / ADAPTED, backbone)
    if adapted is not None and METHODS[classifier.method].tunes_once and not METHODS[classifier.method].reads_vectors:
        classifier = for_language(classifier, adapted)
    if step.centre is not None:
        lines = _texts(step.centre, step.centre_content, place).lines
        classifier = classifier.with_target_text(subsample(lines, CENTRE_TEXTS, 0))
    return adapted, classifier


Tell = Callable[[Step, Outcome | None], None]
"""Told when a step begins (None) and what became of it."""


class Engine(Protocol):
    """Runs steps."""

    def run(self, steps: Sequence[Step], place: Workplace, tell: Tell) -> list[Outcome]:
        """Call `attempt` on every step, once, and return what became of each, in any order.

        `steps` holds what each step `needs`, unless that is finished, before it, and an `AdaptStep`'s `after`, which
        should be over (whatever became of it) before the step begins. Errors of steps are outcomes, not exceptions.
        """
        ...


class SerialEngine:
    """In this process, with one backbone that stays loaded."""

    def run(self, steps: Sequence[Step], place: Workplace, tell: Tell) -> list[Outcome]:
        """See `Engine.run`."""
        outcomes: list[Outcome] = []
        for step in steps:
            tell(step, None)
            outcome = attempt(step, place)
            tell(step, outcome)
            outcomes.append(outcome)
        return outcomes
