"""The demo: classify a language that the bundled backbones know little of, in every way there is, and say what to use.

`bible`: English King James text to Chichewa, which book a passage is like. `news`: MasakhaNEWS headlines from Hausa.
Rows on the masked LM (`mini`) read a cloze; rows on the sentence encoder (`mini-sentence`) are logistic regression on
sentence vectors. All read the same labelled examples and choose on source-language dev text. Every finished piece is
kept in the output folder, so a killed demo goes on where it was.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glotprompt import artifact, atomic
from glotprompt.classifier import Adapted, LanguagePrompt, PromptClassifier, load_adapted
from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig, preset
from glotprompt.model.backbones import MINI, MINI_SENTENCE
from glotprompt.model.encoder import Encoder
from glotprompt.records import AdaptReport
from glotprompt.report.conclusions import RIVAL, Reading, conclusions
from glotprompt.report.tables import Part
from glotprompt.run import evaluate, run_stage1
from glotprompt.scenarios import Scenario, bible, news
from glotprompt.spec import done_or_train
from glotprompt.stage1 import Stage1
from glotprompt.stage2 import Stage2, train_stage2
from glotprompt.train.batches import token_sequences
from glotprompt.train.memory import PeakMemory
from glotprompt.train.reading import blank_words, guess_words
from glotprompt.train.scoring import MaskedWordScores, Report, evaluation_batches, report, score_masked_words

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
) -> dict[str, Any]:
    """Run the whole demo and return its result, as saved to `output/result.json` (schema: docs/demo.md)."""
    start, memory = time.perf_counter(), PeakMemory()
    chosen = bible(fast) if scenario == "bible" else news(data_dir, target or "sna", fast)
    encoders = {name: Encoder.load(name, precision=precision) for name in (MINI, MINI_SENTENCE)}
    demo = _Demo(chosen, encoders, output)
    prompt = demo.language_prompt()
    result: dict[str, Any] = {
        "title": chosen.title, "command": command, "task": chosen.description(), "data": chosen.data,
        "language": demo.reading(prompt), "guesses": demo.guesses(prompt), **demo.classified(prompt),
        "settings": demo.settings(),
    }  # fmt: skip
    result["conclusion"], use = conclusions(Part(result), demo.right)
    result["saved"] = demo.save(use, prompt)
    result["meta"] = meta(start, memory, encoders.values())
    atomic.write(output / "result.json", json.dumps(result, indent=1, ensure_ascii=False))
    return result


class _Demo:
    """The pieces of one demo, each computed once and kept in `output/work`."""

    def __init__(self, scenario: Scenario, encoders: Mapping[str, Encoder], output: Path) -> None:
        self.scenario, self.encoders, self.output = scenario, encoders, output
        self.mini, self.sentence = encoders[MINI], encoders[MINI_SENTENCE]
        self.work = output / "work"
        self.runtime = RuntimeConfig()
        reading = token_sequences(scenario.reading_texts, self.mini.tokenizer, scenario.adapt.max_length, "full")
        self.reading_batches = evaluation_batches(reading, self.mini, scenario.adapt.mask_rate, 32, READING_SEED)
        self.classifiers: dict[str, PromptClassifier] = {}
        """By row, of the first seed."""
        self.adapted: dict[str, Adapted] = {}
        """What stage 1 gave to the rows that are aligned."""
        self.right: dict[Reading, list[list[int]]] = {}

    def _adapt(self, name: str, encoder: Encoder, stage1: Stage1) -> Adapted:
        """Stage 1, or what an earlier, interrupted demo left."""

        def train(folder: Path) -> Adapted:
            return run_stage1(encoder, stage1, self.runtime.replace(checkpoint_dir=folder))

        path = self.work / f"{name}.safetensors"
        return done_or_train(stage1.spec(encoder), path, lambda file: load_adapted(file, encoder), train)[0]

    def language_prompt(self) -> LanguagePrompt:
        """Masked language modelling: once, seed 0."""
        scenario = self.scenario
        texts = scenario.target_texts, scenario.source_texts
        found = self._adapt("soft-prompt", self.mini, Stage1.of(self.mini, *texts, scenario.target, scenario.adapt))
        assert isinstance(found, LanguagePrompt)
        return found

    def _aligned(self, method: str, config: AdaptConfig) -> Adapted:
        pairs = [(pair.source, pair.target) for pair in self.scenario.pairs]
        stage1 = Stage1.of(self.sentence, (), (), self.scenario.target, config, parallel=pairs)
        return self._adapt(f"{method}-aligned", self.sentence, stage1)

    def reading(self, prompt: LanguagePrompt) -> dict[str, Any]:
        """Masked tokens of text that no training has seen, before and after."""
        before, after = self._score(None), self._score(prompt)
        told = prompt.training
        figures = {
            f"{name}_{when}": value
            for when, scores in (("before", before), ("after", after))
            for name, value in (("mlm_loss", scores.loss), ("top1", scores.top1), ("top5", scores.top5))
        }
        return {
            "language": self.scenario.target, "language_name": self.scenario.target_name, **figures,
            "num_masked": after.num_masked,
            "curve": [{"step": step, "held_out_loss": entry["held_out_loss"]} for step, entry in told.evaluations],
            "train_curve": [{"step": step, "loss": loss} for step, loss in told.losses],
            "steps": told.steps, "seconds": told.seconds, "tokens": told.tokens,
            "tokens_per_second": told.tokens / told.seconds, "trained_values": told.trained_values,
            "file_bytes": saved_size(self.work, prompt), "peak_memory_bytes": told.peak_memory_bytes,
            "learning_rate": told.learning_rate, "prompt_length": prompt.prompt_length,
        }  # fmt: skip

    def _score(self, prompt: LanguagePrompt | None) -> MaskedWordScores:
        prefix = None if prompt is None else prompt.prefix(self.mini)
        return score_masked_words(self.mini, self.reading_batches, prefix)

    def guesses(self, prompt: LanguagePrompt) -> list[dict[str, Any]]:
        """Verses with one word masked, drawn by seed, and the model's guesses before and after."""
        blanks = blank_words(self.scenario.guess_texts, self.mini.tokenizer, NUM_GUESSES, READING_SEED)
        texts = [blank.ids for blank in blanks]
        before = guess_words(self.mini, texts, None)
        after = guess_words(self.mini, texts, prompt.prefix(self.mini))
        return [
            {
                "reference": blank.reference, "left": blank.left, "answer": blank.answer, "right": blank.right,
                "before": old, "after": new,
            }
            for blank, old, new in zip(blanks, before, after, strict=True)
        ]  # fmt: skip

    def classified(self, prompt: LanguagePrompt) -> dict[str, Any]:
        """Every method and seed; the courses of the alignments; and examples with what each method says."""
        scenario = self.scenario
        rows = [self._majority()]
        for seed in scenario.seeds:
            config = scenario.tune.replace(seed=seed)
            rows.append(self._row("prompt-tuning", self.mini, None, config))
            rows.append(self._row("soft-prompt", self.mini, prompt, config))
        head = TuneConfig(method=RIVAL, **preset("alignment", "tune"))
        rows.append(self._row(RIVAL, self.sentence, None, head))
        courses: list[dict[str, Any]] = []
        for method, config in scenario.align.items():
            name = f"{method}-aligned"
            self.adapted[name] = self._aligned(method, config)
            courses.append({**course(name, self.adapted[name].training), "file_bytes": self._size(name)})
            rows.append(self._row(name, self.sentence, self.adapted[name], head))
        return {"alignment": courses, "rows": [asdict(row) for row in rows], "examples": self._examples()}

    def _size(self, name: str) -> int:
        return saved_size(self.work, self.adapted[name])

    def _classifier(self, name: str, encoder: Encoder, adapted: Adapted | None, config: TuneConfig) -> PromptClassifier:
        scenario = self.scenario
        stage2 = Stage2.of(encoder, adapted, scenario.labelled, scenario.task, config, scenario.source_dev)

        def train(folder: Path) -> PromptClassifier:
            return train_stage2(encoder, stage2, self.runtime.replace(checkpoint_dir=folder))

        path = self.work / f"{name}-{config.seed}.safetensors"
        return done_or_train(stage2.spec(encoder), path, lambda file: PromptClassifier.load(file, encoder), train)[0]

    def _row(self, method: str, encoder: Encoder, adapted: Adapted | None, config: TuneConfig) -> Row:
        scenario = self.scenario
        classifier = self._classifier(method, encoder, adapted, config)
        self.classifiers.setdefault(method, classifier)
        found = evaluate(classifier, scenario.target_test)
        self._note(Reading(method), found)
        centred: dict[str, Any] = {}
        if config.method == RIVAL:
            moved = evaluate(classifier.with_target_text(scenario.centre_texts), scenario.target_test)
            self._note(Reading(method, centred=True), moved)
            centred = {
                "target_test_accuracy_centred": moved.accuracy, "target_test_accuracy_centred_interval": moved.interval
            }  # fmt: skip
        own = None
        if len(scenario.own_labels) < len(scenario.task.labels):
            own = evaluate(classifier, scenario.target_test, labels=scenario.own_labels).accuracy
        stage2 = classifier.training
        stages = [stage2] if adapted is None else [stage2, adapted.training]
        return Row(
            method=method,
            backbone=encoder.name,
            seed=config.seed,
            source_dev_accuracy=stage2.dev_accuracy,
            target_test_accuracy=found.accuracy,
            target_test_accuracy_interval=found.interval,
            target_test_accuracy_own_labels=own,
            macro_f1=found.macro_f1,
            collapsed_label=found.collapsed_label,
            collapsed_share=found.largest_share / 100,
            trained_values=max(stage.trained_values for stage in stages),
            tokens=sum(stage.tokens for stage in stages),
            file_bytes=saved_size(self.work, classifier),
            seconds=sum(stage.seconds for stage in stages),
            peak_memory_bytes=max(stage.peak_memory_bytes for stage in stages),
            **centred,
        )

    def _note(self, reading: Reading, found: Report) -> None:
        gold = [str(example.label) for example in self.scenario.target_test]
        right = [int(one == other) for one, other in zip(gold, found.predictions, strict=True)]
        self.right.setdefault(reading, []).append(right)

    def _majority(self) -> Row:
        """The label most frequent in the source's training examples, for every example."""
        scenario = self.scenario
        label = str(Counter(example.label for example in scenario.labelled).most_common(1)[0][0])
        dev = 100 * sum(example.label == label for example in scenario.source_dev) / len(scenario.source_dev)
        found = report([str(example.label) for example in scenario.target_test], [label] * len(scenario.target_test))
        return Row(method="majority", source_dev_accuracy=dev, target_test_accuracy=found.accuracy)

    def _examples(self) -> list[dict[str, Any]]:
        """A few test passages, drawn by seed, with every method's prediction."""
        test = self.scenario.target_test
        picks = np.random.default_rng(READING_SEED).permutation(len(test))[:NUM_PASSAGES]
        chosen = [test[int(i)] for i in picks]
        answers = {method: classifier.predict(chosen) for method, classifier in self.classifiers.items()}
        return [
            {
                "reference": example.id, "text": " ".join(example.fields.values()), "gold": str(example.label),
                "predictions": {m: [found[i].label, found[i].scores[found[i].label]] for m, found in answers.items()},
            }
            for i, example in enumerate(chosen)
        ]  # fmt: skip

    def save(self, use: Reading, prompt: LanguagePrompt) -> dict[str, Any]:
        """The two files that a person takes away, and what to try with them: the classifier worth using, and the prompt
        behind it, or else the one that reads the language better."""
        code = self.scenario.target
        classifier = replace(self.classifiers[use.method], language=code)
        if use.centred:
            classifier = classifier.with_target_text(self.scenario.centre_texts)
        taken = self.adapted.get(use.method, prompt)
        return save(self.output, code, self.scenario.task.name, classifier, taken, self.scenario.sample)

    def settings(self) -> dict[str, Any]:
        """Every setting of both stages, flat; of alignment those of the preset that are its own."""
        stages = {"adapt": self.scenario.adapt, "tune": self.scenario.tune}
        values = {
            f"{stage}.{key}": value
            for stage, config in stages.items()
            for key, value in config.model_dump(mode="json").items()
        }
        for method, config in self.scenario.align.items():
            given = config.model_dump(mode="json", exclude_unset=True)
            values |= {f"align {method}.{key}": value for key, value in given.items()}
        return {**values, "seeds": list(self.scenario.seeds), **self.scenario.settings}


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


def meta(start: float, memory: PeakMemory, encoders: Iterable[Encoder]) -> dict[str, Any]:
    """Where and with what a demo ran. `start`: of `time.perf_counter`."""
    used = list(encoders)
    return {
        "versions": artifact.versions(), "hardware": _hardware(), "precision": used[0].precision,
        "date": date.today().isoformat(), "seconds": time.perf_counter() - start,
        "peak_memory_bytes": memory.bytes(), "backbone": ", ".join(encoder.name for encoder in used),
        "fingerprint": ", ".join(encoder.fingerprint for encoder in used),
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
