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

from glotprompt.data.readers.records import Example, subsample
from glotprompt.errors import DataError, UserError, in_a_line
from glotprompt.grid import reading
from glotprompt.grid.reading import ExampleSource, Pairs, Texts, TextSource
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
            f" {backbone.fingerprint}; run the grid again with --retry-failed"
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
    dev = None if step.dev is None else _examples(step.dev, step.dev_content, workplace)
    adapted = None if step.adapted is None else load_adapted(store.folder(step.adapted.name) / ADAPTED, backbone)
    parallel = None if step.pairs is None else _pairs(step.pairs, step.pairs_content, workplace)
    given = () if parallel is None else parallel.pairs
    stage2 = Stage2.of(backbone, adapted, train, step.task, step.config, dev, parallel=given)
    runtime = workplace.runtime.replace(no_samples=True)

    def train_it(work: Path) -> PromptClassifier:
        made = train_stage2(backbone, stage2, runtime.replace(checkpoint_dir=work), step.spec.identity)
        if parallel is None:
            return made
        return made.with_report(decontamination=Decontamination.model_validate({"parallel": parallel.checked}))

    done_or_train(
        step.spec,
        folder / CLASSIFIER,
        lambda path: PromptClassifier.load(path, backbone),
        train_it,
        checkpoints=store.work(step.name),
    )


def _evaluate(step: EvaluateStep, store: Store, workplace: Workplace, folder: Path) -> None:
    adapted, classifier = scored_classifier(step, store, workplace)
    test = _examples(step.test, step.test_content, workplace)
    result = evaluate_result(step, classifier, adapted, test, workplace.runtime.eval_batch_size)
    _write(folder / RESULT, result.to_json())


def scored_classifier(
    step: EvaluateStep, store: Store, workplace: Workplace
) -> tuple[Adapted | None, PromptClassifier]:
    """The classifier that a finished step scored, with the language's own module and centred sentence vectors, and the
    stage 1 before it."""
    backbone = backbone_of(step.backbone, workplace.device)
    classifier = PromptClassifier.load(store.folder(step.tuned.name) / CLASSIFIER, backbone)
    adapted = None if step.adapted is None else load_adapted(store.folder(step.adapted.name) / ADAPTED, backbone)
    method = METHODS[classifier.method]
    if adapted is not None and method.tunes_once and not method.reads_vectors and not adapted.is_aligned:
        classifier = for_language(classifier, adapted)
    if step.centre is not None:
        lines = _texts(step.centre, step.centre_content, workplace).lines
        classifier = classifier.with_target_text(subsample(lines, CENTRE_TEXTS, 0))
    return adapted, classifier


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
