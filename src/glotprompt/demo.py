"""The demo: classify a language that the bundled backbones know little of, in every way there is, and say what to use.

`bible`: English King James text to Chichewa, which book a passage is like. `news`: MasakhaNEWS headlines from Hausa.
What is run is an experiment (`demo_data`, written into the output folder as demo.toml), by the runner of all
experiments; here its results are told. A killed demo goes on where it was.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glotprompt import artifact, atomic
from glotprompt.classifier import Adapted, LanguagePrompt, PromptClassifier, load_adapted
from glotprompt.config import RuntimeConfig
from glotprompt.data.samples import Samples
from glotprompt.demo_data import DemoData, bible, news
from glotprompt.errors import UserError
from glotprompt.grid.engine import SerialEngine, Tell
from glotprompt.grid.experiment import Experiment, load
from glotprompt.grid.plan import Plan, add_experiment
from glotprompt.grid.steps import AdaptStep, Backbone, EvaluateStep, Workplace
from glotprompt.grid.store import ADAPTED, CLASSIFIER, Store
from glotprompt.grid.work import encoder_of, loaded_encoder, scored_classifier
from glotprompt.model.encoder import Encoder
from glotprompt.records import AdaptReport, EvaluationReport, MaskedWordScores
from glotprompt.report.conclusions import Reading, conclusions
from glotprompt.report.tables import Part
from glotprompt.train.batches import token_sequences
from glotprompt.train.memory import PeakMemory
from glotprompt.train.reading import blank_words, guess_words
from glotprompt.train.scoring import evaluation_batches, report, score_masked_words

CENTRED = "-centred"
"""How systems end that read another's sentence vectors, centred."""

READING_SEED = 7
NUM_GUESSES = 5
NUM_PASSAGES = 6


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method and seed; accuracies in per cent, 95 % intervals as (low, high). `seconds` and `tokens` count both
    stages, `trained_values` the larger one."""

    method: str
    backbone: str | None = None
    seed: int = 0
    source_dev_accuracy: float | None = None
    source_test_accuracy: float | None = None
    source_test_accuracy_interval: Sequence[float] | None = None
    target_test_accuracy: float
    target_test_accuracy_interval: Sequence[float] | None = None
    target_test_accuracy_centred: float | None = None
    target_test_accuracy_centred_interval: Sequence[float] | None = None
    target_test_accuracy_own_labels: float | None = None
    macro_f1: float | None = None
    collapsed_label: str | None = None
    collapsed_share: float | None = None
    trained_values: int = 0
    tokens: int | None = None
    file_bytes: int = 0
    seconds: float | None = None
    peak_memory_bytes: int | None = None


def run_demo(
    *,
    scenario: str = "bible",
    target: str | None = None,
    data_dir: Path | None = None,
    fast: bool = False,
    output: Path = Path("demo-output"),
    command: str = "glotprompt demo",
    precision: Any = "auto",
    tell: Tell = lambda step, outcome: None,
) -> dict[str, Any]:
    """Run the whole demo and return its result, as saved to `output/result.json` (schema: docs/demo.md). `tell` hears
    of each step."""
    start, memory = time.perf_counter(), PeakMemory()
    data = bible(fast, precision) if scenario == "bible" else news(data_dir, target or "sna", fast, precision)
    experiment = load(data.write(output))
    place = Workplace(Store(output / "work"), data.data_dir, runtime=RuntimeConfig())
    plan = Plan()
    used: dict[str, Used] = {}

    def open_backbone(name: str, of: Experiment) -> tuple[Backbone, int]:
        encoder = loaded_encoder(name, of.precision, "auto")
        used[name] = Used.of(encoder)
        return Backbone(encoder.fingerprint, of.precision, name), encoder.num_layers

    add_experiment(plan, experiment, open_backbone, data.data_dir, command=command)
    _run(plan, place, tell)
    demo = _Demo(data, plan, place, output)
    result: dict[str, Any] = {
        "title": data.title, "command": command, "task": data.description(), "data": data.data,
        **demo.classified(), "language": demo.reading(), "guesses": demo.guesses(), "settings": demo.settings(),
    }  # fmt: skip
    result["conclusion"], use = conclusions(Part(result), demo.right)
    result["saved"] = demo.save(use)
    result["meta"] = meta(start, memory, used.values())
    atomic.write(output / "result.json", json.dumps(result, indent=1, ensure_ascii=False))
    return result


def _run(plan: Plan, place: Workplace, tell: Tell) -> None:
    """Run what is not there yet. Raises `UserError` where a step fails."""
    place.store.write_experiment(plan.records[0])
    place = replace(place, retry_failed=True)
    for step in plan.missing(place.store.finished()):
        (outcome,) = SerialEngine().run([step], place, tell)
        if outcome.status in ("failed", "skipped"):
            raise UserError(f"{step}: {outcome.error}")


class _Demo:
    """What is told of a finished experiment."""

    def __init__(self, data: DemoData, plan: Plan, place: Workplace, output: Path) -> None:
        self.data, self.plan, self.place, self.store, self.output = data, plan, place, place.store, output
        self.right: dict[Reading, list[list[int]]] = {}
        self._scored: dict[str, list[EvaluateStep]] = {}
        """By system, a step for each seed."""
        for cell in plan.records[0]["cells"]:
            step = plan.steps[str(cell["result"])]
            assert isinstance(step, EvaluateStep)
            self._scored.setdefault(cell["method"], []).append(step)

    # Sentence vectors and clozes

    def classified(self) -> dict[str, Any]:
        """Every system and seed; the courses of the alignments; and examples with what each method says."""
        rows, courses = [self._majority()], list[dict[str, Any]]()
        names = [name for name in self._scored if not name.endswith(CENTRED)]
        for name in names:
            for step in self._scored[name]:
                rows.append(self._row(name, step))
            adapted = self._scored[name][0].adapted
            if adapted is not None and adapted.config.objective == "alignment":
                told = self._opened(adapted).training
                size = (self.store.folder(adapted.name) / ADAPTED).stat().st_size
                courses.append({**course(name, told), "file_bytes": size})
        return {"rows": [asdict(row) for row in rows], "alignment": courses, "examples": self._examples(names)}

    def _opened(self, step: AdaptStep) -> Adapted:
        encoder = encoder_of(step.backbone, self.place.device)
        return load_adapted(self.store.folder(step.name) / ADAPTED, encoder)

    def _found(self, step: EvaluateStep) -> tuple[Mapping[str, Any], EvaluationReport]:
        """A step's result, and its predictions over all labels compared with the truth."""
        result = self.store.result_of(step.name)
        assert result is not None
        return result, report(result["predictions"]["gold"], result["predictions"]["all"])

    def _row(self, name: str, step: EvaluateStep) -> Row:
        result, found = self._found(step)
        self._note(Reading(name), found)
        centred: dict[str, Any] = {}
        for other in self._scored.get(f"{name}{CENTRED}", ()):
            moved = self._found(other)[1]
            self._note(Reading(name, centred=True), moved)
            centred = {
                "target_test_accuracy_centred": moved.accuracy, "target_test_accuracy_centred_interval": moved.interval
            }  # fmt: skip
        own = None
        if len(self.data.own_labels) < len(self.data.task.labels):
            own = result["scores"]["own"]["accuracy"]
        stages = [stage for stage in result["train_info"].values() if stage is not None]
        return Row(
            method=name,
            backbone=step.backbone.name,
            seed=step.tuned.config.seed,
            source_dev_accuracy=result["train_info"]["tune"]["dev_accuracy"],
            target_test_accuracy=found.accuracy,
            target_test_accuracy_interval=found.interval,
            target_test_accuracy_own_labels=own,
            macro_f1=found.macro_f1,
            collapsed_label=found.collapsed_label,
            collapsed_share=found.largest_share / 100,
            trained_values=max(stage["trained_values"] for stage in stages),
            tokens=sum(stage["tokens"] for stage in stages),
            file_bytes=(self.store.folder(step.tuned.name) / CLASSIFIER).stat().st_size,
            seconds=sum(stage["seconds"] for stage in stages),
            peak_memory_bytes=max(stage["peak_memory_bytes"] for stage in stages),
            **centred,
        )

    def _note(self, reading: Reading, found: EvaluationReport) -> None:
        gold = [str(example.label) for example in self.data.test]
        right = [int(one == other) for one, other in zip(gold, found.predictions, strict=True)]
        self.right.setdefault(reading, []).append(right)

    def _majority(self) -> Row:
        """The label most frequent in the source's training examples, for every example."""
        gold = [str(example.label) for example in self.data.test]
        found = report(gold, [self.data.majority_label] * len(gold))
        return Row(method="majority", target_test_accuracy=found.accuracy)

    def _examples(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """A few test passages, drawn by seed, with every method's prediction."""
        test = self.data.test
        picks = np.random.default_rng(READING_SEED).permutation(len(test))[:NUM_PASSAGES]
        chosen = [test[int(i)] for i in picks]
        # Backwards: the backbone of the last steps is still loaded.
        answers = {name: self._classifier(name).predict(chosen) for name in reversed(names)}
        return [
            {
                "reference": example.id, "text": " ".join(example.fields.values()), "gold": str(example.label),
                "predictions": {m: [answers[m][i].label, answers[m][i].scores[answers[m][i].label]] for m in names},
            }
            for i, example in enumerate(chosen)
        ]  # fmt: skip

    def _classifier(self, name: str) -> PromptClassifier:
        """Of the first seed."""
        return scored_classifier(self._scored[name][0], self.store, self.place)[1]

    # Masked language modelling

    @property
    def _reader(self) -> AdaptStep:
        step = self._scored["soft-prompt"][0].adapted
        assert step is not None
        return step

    @cached_property
    def _prompt(self) -> LanguagePrompt:
        found = self._opened(self._reader)
        assert isinstance(found, LanguagePrompt)
        return found

    def reading(self) -> dict[str, Any]:
        """Masked tokens of text that no training has seen, before and after."""
        before, after = self._read(None), self._read(self._prompt)
        told = self._prompt.training
        figures = {
            f"{name}_{when}": value
            for when, scores in (("before", before), ("after", after))
            for name, value in (("mlm_loss", scores.loss), ("top1", scores.top1), ("top5", scores.top5))
        }
        return {
            "language": self.data.target, "language_name": self.data.description()["target_name"], **figures,
            "num_masked": after.num_masked,
            "curve": [{"step": step, "held_out_loss": entry["held_out_loss"]} for step, entry in told.evaluations],
            "train_curve": [{"step": step, "loss": loss} for step, loss in told.losses],
            "steps": told.steps, "seconds": told.seconds, "tokens": told.tokens,
            "tokens_per_second": told.tokens / told.seconds, "trained_values": told.trained_values,
            "file_bytes": (self.store.folder(self._reader.name) / ADAPTED).stat().st_size,
            "peak_memory_bytes": told.peak_memory_bytes, "learning_rate": told.learning_rate,
            "prompt_length": self._prompt.prompt_length,
        }  # fmt: skip

    def _read(self, prompt: LanguagePrompt | None) -> MaskedWordScores:
        encoder, config = encoder_of(self._reader.backbone, self.place.device), self._reader.config
        sequences = token_sequences(self.data.reading_texts, encoder.tokenizer, config.max_length, "full")
        batches = evaluation_batches(sequences, encoder, config.mask_rate, 32, READING_SEED)
        return score_masked_words(encoder, batches, None if prompt is None else prompt.prefix(encoder))

    def guesses(self) -> list[dict[str, Any]]:
        """Verses with one word masked, drawn by seed, and the model's guesses before and after."""
        encoder = encoder_of(self._reader.backbone, self.place.device)
        blanks = blank_words(self.data.guess_texts, encoder.tokenizer, NUM_GUESSES, READING_SEED)
        texts = [blank.ids for blank in blanks]
        before, after = guess_words(encoder, texts, None), guess_words(encoder, texts, self._prompt.prefix(encoder))
        return [
            {
                "reference": blank.reference, "left": blank.left, "answer": blank.answer, "right": blank.right,
                "before": old, "after": new,
            }
            for blank, old, new in zip(blanks, before, after, strict=True)
        ]  # fmt: skip

    # What a person takes away

    def save(self, use: Reading) -> dict[str, Any]:
        """The two files that a person takes away, and what to try with them: the classifier worth using, and the prompt
        behind it, or else the one that reads the language better."""
        code, name = self.data.target, use.method + CENTRED * use.centred
        adapted, classifier = scored_classifier(self._scored[name][0], self.store, self.place)
        samples = Samples.of_lines(text for _, text in self.data.guess_texts)
        classifier = replace(classifier, language=code, samples=samples)
        return save(self.output, code, self.data.task.name, classifier, adapted or self._prompt, self.data.sample)

    def settings(self) -> dict[str, Any]:
        """Every setting of both stages, flat; of alignment those that are not the defaults."""
        first = self._scored["soft-prompt"][0]
        values = {
            f"{stage}.{key}": value
            for stage, config in (("adapt", self._reader.config), ("tune", first.tuned.config))
            for key, value in config.model_dump(mode="json").items()
        }
        for name, steps in self._scored.items():
            adapted = steps[0].adapted
            if not name.endswith(CENTRED) and adapted is not None and adapted.config.objective == "alignment":
                given = adapted.config.model_dump(mode="json", exclude_unset=True)
                values |= {f"align {name.removesuffix('-aligned')}.{key}": value for key, value in given.items()}
        return {**values, "seeds": self.plan.records[0]["seeds"]}


def course(method: str, told: AdaptReport) -> dict[str, Any]:
    """How an alignment went, for the report."""
    held_out = {
        f"{name}_{when}": value
        for when, scores in (("before", told.held_out_before), ("after", told.held_out_after))
        for name, value in vars(scores).items()
        if name != "num_pairs"
    }
    kept = {
        "pairs", "held_out_pairs", "steps", "tokens", "seconds", "trained_values", "learning_rate", "peak_memory_bytes",
    }  # fmt: skip
    return {
        "method": method, **held_out, **told.model_dump(include=kept),
        "curve": [{"step": step, "retrieval": entry["retrieval"]} for step, entry in told.evaluations],
    }  # fmt: skip


def save(
    output: Path, code: str, task: str, classifier: PromptClassifier, taken: Adapted | None, sample: str
) -> dict[str, Any]:
    """Write classifier and prompt; their paths, and commands to try."""
    path = classifier.save(output / f"{code}-{task}.safetensors")
    commands = [shlex.join(["glotprompt", "predict", "--classifier", str(path), sample])]
    if taken is None:
        return {"classifier": str(path), "try": commands}
    prompt = taken.save(output / f"{code}.safetensors")
    yours = " --train YOUR.tsv --task YOUR.toml --output yours.safetensors"
    commands.append(shlex.join(["glotprompt", "tune", "--prompt", str(prompt)]) + yours)
    return {"prompt": str(prompt), "classifier": str(path), "try": commands}


@dataclass(frozen=True)
class Used:
    """A backbone that a demo used."""

    name: str
    fingerprint: str
    precision: str

    @classmethod
    def of(cls, encoder: Encoder) -> Used:
        return cls(encoder.name, encoder.fingerprint, encoder.precision)


def meta(start: float, memory: PeakMemory, backbones: Iterable[Used]) -> dict[str, Any]:
    """Where and with what a demo ran. `start`: of `time.perf_counter`."""
    used = list(backbones)
    return {
        "versions": artifact.versions(), "hardware": _hardware(), "precision": used[0].precision,
        "date": date.today().isoformat(), "seconds": time.perf_counter() - start,
        "peak_memory_bytes": memory.bytes(), "backbone": ", ".join(one.name for one in used),
        "fingerprint": ", ".join(one.fingerprint for one in used),
    }  # fmt: skip


def saved_size(work: Path, thing: Adapted | PromptClassifier) -> int:
    """Bytes of the file that a person would keep."""
    path = thing.save(work / "size.safetensors")
    size = path.stat().st_size
    path.unlink()
    return size


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
