"""The demo: teach the bundled backbone a language that it knows little of, and show what it learned.

`bible`: English King James text to Chichewa, which book a passage is like. `news`: MasakhaNEWS headlines from Hausa.
All trained rows are treated alike: same examples, epochs, rates and selection on source-language dev text. Every
finished piece is kept in the output folder, so a killed demo goes on where it was.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glotprompt import artifact, atomic
from glotprompt.classifier import LanguagePrompt, PromptClassifier
from glotprompt.config import AdaptConfig, RuntimeConfig, identity_of
from glotprompt.data.records import content_hash
from glotprompt.model.backbones import MINI
from glotprompt.model.encoder import Encoder
from glotprompt.run import adapt, evaluate, tune
from glotprompt.scenarios import Scenario, bible, news
from glotprompt.train.batches import token_sequences
from glotprompt.train.memory import PeakMemory
from glotprompt.train.reading import blank_words, guess_words
from glotprompt.train.scoring import (
    MaskedWordScores,
    evaluation_batches,
    score_masked_words,
)
from glotprompt.transfer import transfer_scores

READING_SEED = 7
NUM_GUESSES = 5
NUM_PASSAGES = 6


@dataclass(frozen=True)
class Row:
    """One method and seed; accuracies in per cent. `seconds` count both stages, `trained_values` the larger one."""

    method: str
    seed: int
    source_dev_accuracy: float | None
    target_dev_accuracy: float | None
    target_test_accuracy: float
    target_test_accuracy_offset: float | None
    target_test_accuracy_own_labels: float | None
    macro_f1: float | None
    collapsed_label: str | None
    collapsed_share: float | None
    trained_values: int
    file_bytes: int
    seconds: float | None
    peak_memory_bytes: int | None


def run_demo(
    *,
    task: str = "bible",
    target: str | None = None,
    data_dir: Path | None = None,
    fast: bool = False,
    output: Path = Path("demo-output"),
    command: str = "glotprompt demo",
    precision: Any = "auto",
) -> dict[str, Any]:
    """Run the whole demo and return its result, as saved to `output/result.json` (schema: docs/demo.md)."""
    start, memory = time.perf_counter(), PeakMemory()
    scenario = bible(fast) if task == "bible" else news(data_dir, target or "sna", fast)
    demo = _Demo(scenario, Encoder.load(MINI, precision=precision), output)
    ours = demo.language_prompt("soft-prompt")
    control = demo.language_prompt("source-prompt")
    language = demo.reading(ours, control)
    guesses = demo.guesses(ours)
    rows, first = demo.rows(ours, control)
    saved = demo.save(ours, first["soft-prompt"])
    result: dict[str, Any] = {
        "title": scenario.title, "command": command,
        "conclusion": conclusions(scenario, language, rows),
        "task": scenario.description(), "data": scenario.data, "language": language, "guesses": guesses,
        "rows": [asdict(row) for row in rows], "examples": demo.examples(first),
        "settings": demo.settings(), "saved": saved,
        "meta": {
            "versions": artifact.versions(), "hardware": _hardware(), "precision": demo.encoder.precision,
            "date": date.today().isoformat(), "seconds": time.perf_counter() - start,
            "peak_memory_bytes": memory.bytes(), "backbone": demo.encoder.name, "fingerprint": demo.encoder.fingerprint,
        },
    }  # fmt: skip
    atomic.write(output / "result.json", json.dumps(result, indent=1, ensure_ascii=False))
    return result


class _Demo:
    """The pieces of one demo, each computed once and kept in `output/work`."""

    def __init__(self, scenario: Scenario, encoder: Encoder, output: Path) -> None:
        self.scenario, self.encoder, self.output = scenario, encoder, output
        self.work = output / "work"
        self.runtime = RuntimeConfig(checkpoint_dir=self.work / "checkpoints")
        reading = token_sequences(scenario.reading_texts, encoder.tokenizer, scenario.adapt.max_length, "full")
        self.reading_batches = evaluation_batches(reading, encoder, scenario.adapt.mask_rate, 32, READING_SEED)

    def adapt_config(self, method: str) -> AdaptConfig:
        """The control differs in one thing: it reads source text only."""
        return self.scenario.adapt.replace(method=method)

    def language_prompt(self, method: str) -> LanguagePrompt:
        """Stage 1 (once, seed 0), or what an earlier, interrupted demo left."""
        scenario, config = self.scenario, self.adapt_config(method)
        texts = [content_hash(scenario.target_texts), content_hash(scenario.source_texts)]
        key = identity_of([config.identity(), *texts, *self._common_identity()])
        path = self.work / f"{method}-{key}.safetensors"
        if not path.is_file():
            language = scenario.target if method == "soft-prompt" else scenario.source
            adapt(self.encoder, scenario.target_texts, scenario.source_texts, language, config, self.runtime).save(path)
        return LanguagePrompt.load(path, self.encoder)

    def _common_identity(self) -> list[Any]:
        """What every kept piece depends on beside its own texts and settings."""
        return [self.encoder.fingerprint, self.encoder.asked_precision, artifact.versions()]

    def _forget_checkpoints(self) -> None:
        shutil.rmtree(self.work / "checkpoints", ignore_errors=True)

    def reading(self, ours: LanguagePrompt, control: LanguagePrompt) -> dict[str, Any]:
        """Part 1: masked words of text that no training has seen, before and after."""
        before = self._score(None)
        after = self._score(ours)
        facts, curve = ours.facts, ours.facts["evaluations"]
        figures = {
            f"{name}_{when}": value
            for when, scores in (("before", before), ("after", after))
            for name, value in (("mlm_loss", scores.loss), ("top1", scores.top1), ("top5", scores.top5))
        }
        return {
            "language": self.scenario.target, "language_name": self.scenario.target_name, **figures,
            "num_masked": after.num_masked, "source_prompt_loss": self._score(control).loss,
            "curve": [{"step": step, "held_out_loss": entry["held_out_loss"]} for step, entry in curve],
            "train_curve": [{"step": step, "loss": loss} for step, loss in facts["losses"]],
            "steps": facts["steps"], "seconds": facts["seconds"],
            "tokens_per_second": facts["tokens"] / facts["seconds"], "trained_values": facts["trained_values"],
            "file_bytes": _saved_size(self.work, ours), "peak_memory_bytes": facts["peak_memory_bytes"],
            "learning_rate": facts["learning_rate"], "prompt_length": ours.prompt_length,
        }  # fmt: skip

    def _score(self, prompt: LanguagePrompt | None) -> MaskedWordScores:
        prefix = None if prompt is None else prompt.prefix(self.encoder)
        return score_masked_words(self.encoder, self.reading_batches, prefix)

    def guesses(self, ours: LanguagePrompt) -> list[dict[str, Any]]:
        """Verses with one word masked, drawn by seed, and the model's guesses before and after."""
        blanks = blank_words(self.scenario.guess_texts, self.encoder.tokenizer, NUM_GUESSES, READING_SEED)
        texts = [blank.ids for blank in blanks]
        before = guess_words(self.encoder, texts, None)
        after = guess_words(self.encoder, texts, ours.prefix(self.encoder))
        return [
            {
                "reference": blank.reference, "left": blank.left, "answer": blank.answer, "right": blank.right,
                "before": old, "after": new,
            }
            for blank, old, new in zip(blanks, before, after, strict=True)
        ]  # fmt: skip

    def rows(self, ours: LanguagePrompt, control: LanguagePrompt) -> tuple[list[Row], dict[str, PromptClassifier]]:
        """Part 2: every method and seed; also the classifiers of the first seed."""
        rows = [self._majority()]
        first: dict[str, PromptClassifier] = {}
        for seed in self.scenario.seeds:
            for method, prompt in (("prompt-tuning", None), ("soft-prompt", ours), ("source-prompt", control)):
                classifier = self._classifier(method, prompt, seed)
                first.setdefault(method, classifier)
                rows.append(self._row(method, seed, prompt, classifier))
        return rows, first

    def _classifier(self, method: str, prompt: LanguagePrompt | None, seed: int) -> PromptClassifier:
        scenario, config = self.scenario, self.scenario.tune.replace(seed=seed)
        examples = [content_hash(scenario.labelled), content_hash(scenario.source_dev)]
        start = "" if prompt is None else content_hash([str(prompt.key_values.numpy().tobytes())])
        key = identity_of([config.identity(), scenario.task.identity(), *examples, start, *self._common_identity()])
        path = self.work / f"{method}-{seed}-{key}.safetensors"
        if not path.is_file():
            parts = scenario.labelled, scenario.task, config, self.runtime, scenario.source_dev
            tune(self.encoder, prompt, *parts).save(path)
            self._forget_checkpoints()
        return PromptClassifier.load(path, self.encoder)

    def _row(self, method: str, seed: int, prompt: LanguagePrompt | None, classifier: PromptClassifier) -> Row:
        scenario, facts = self.scenario, classifier.facts
        found = transfer_scores(classifier, scenario.target_test, scenario.own_labels, scenario.prior_texts)
        own = found.own_labels.accuracy if len(scenario.own_labels) < len(scenario.task.labels) else None
        stage1 = {"trained_values": 0, "seconds": 0.0, "peak_memory_bytes": 0} if prompt is None else prompt.facts
        return Row(
            method=method,
            seed=seed,
            source_dev_accuracy=facts["dev_accuracy"],
            target_dev_accuracy=evaluate(classifier, scenario.target_dev).accuracy,
            target_test_accuracy=found.as_is.accuracy,
            target_test_accuracy_offset=found.offset.accuracy,
            target_test_accuracy_own_labels=own,
            macro_f1=found.as_is.macro_f1,
            collapsed_label=found.as_is.collapsed_label,
            collapsed_share=found.as_is.largest_share / 100,
            trained_values=max(facts["trained_values"], stage1["trained_values"]),
            file_bytes=_saved_size(self.work, classifier),
            seconds=facts["seconds"] + stage1["seconds"],
            peak_memory_bytes=max(facts["peak_memory_bytes"], stage1["peak_memory_bytes"]),
        )

    def _majority(self) -> Row:
        """The label most frequent in the source's training examples, for every example."""
        label = Counter(example.label for example in self.scenario.labelled).most_common(1)[0][0]
        parts = (self.scenario.source_dev, self.scenario.target_dev, self.scenario.target_test)
        source, dev, test = (100 * sum(example.label == label for example in part) / len(part) for part in parts)
        return Row(
            method="majority",
            seed=0,
            source_dev_accuracy=source,
            target_dev_accuracy=dev,
            target_test_accuracy=test,
            target_test_accuracy_offset=None,
            target_test_accuracy_own_labels=None,
            macro_f1=None,
            collapsed_label=None,
            collapsed_share=None,
            trained_values=0,
            file_bytes=0,
            seconds=None,
            peak_memory_bytes=None,
        )

    def examples(self, classifiers: dict[str, PromptClassifier]) -> list[dict[str, Any]]:
        """A few test passages, drawn by seed, with every method's prediction."""
        test = self.scenario.target_test
        picks = np.random.default_rng(READING_SEED).permutation(len(test))[:NUM_PASSAGES]
        chosen = [test[int(i)] for i in picks]
        answers = {method: classifier.predict(chosen) for method, classifier in classifiers.items()}
        return [
            {
                "reference": example.id, "text": " ".join(example.fields.values()), "gold": str(example.label),
                "predictions": {m: [found[i].label, found[i].scores[found[i].label]] for m, found in answers.items()},
            }
            for i, example in enumerate(chosen)
        ]  # fmt: skip

    def save(self, ours: LanguagePrompt, classifier: PromptClassifier) -> dict[str, Any]:
        """The two files that a person takes away, and what to try with them."""
        code, task = self.scenario.target, self.scenario.task.name
        prompt = ours.save(self.output / f"{code}.safetensors")
        classifier = replace(classifier, language=code)
        path = classifier.save(self.output / f"{code}-{task}.safetensors")
        return {
            "prompt": str(prompt), "classifier": str(path),
            "try": [
                shlex.join(["glotprompt", "predict", "--classifier", str(path), self.scenario.sample]),
                shlex.join(["glotprompt", "tune", "--prompt", str(prompt)])
                + " --train YOUR.tsv --task YOUR.toml --output yours.safetensors",
            ],
        }  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """Every setting of both stages, flat."""
        stages = (("adapt", self.scenario.adapt), ("tune", self.scenario.tune))
        values = {
            f"{stage}.{key}": value for stage, config in stages for key, value in config.model_dump(mode="json").items()
        }
        return {**values, "seeds": list(self.scenario.seeds), **self.scenario.settings}


def conclusions(scenario: Scenario, language: dict[str, Any], rows: Sequence[Row]) -> list[str]:
    """What the figures say, in words that follow from them."""
    before, after = language["mlm_loss_before"], language["mlm_loss_after"]
    verb = "fell" if after < before else "did not fall: it went"
    sentences = [
        f"Reading: on unseen {scenario.target_name} text the masked-word loss {verb} from {before:.2f} to"
        f" {after:.2f}, and the right word is now first {language['top1_after']:.1f} % of the time instead of"
        f" {language['top1_before']:.1f} %;"
        f" a prompt trained on {scenario.source_name} alone reaches {language['source_prompt_loss']:.2f}."
    ]
    columns = (("as it is", "target_test_accuracy"), ("with label offsets", "target_test_accuracy_offset"))
    methods = ("prompt-tuning", "soft-prompt", "source-prompt")
    for name, column in columns:
        found = {m: np.array([getattr(row, column) for row in rows if row.method == m]) for m in methods}
        without, ours, control = (float(found[method].mean()) for method in methods)
        gains = found["soft-prompt"] - found["prompt-tuning"]
        sentences.append(
            f"Classifying, {name}: adaptation {_verdict(gains, without, len(scenario.target_test))} ({without:.1f} %"
            f" without, {ours:.1f} % with; better in {int((gains > 0).sum())} of {len(gains)} stage-2"
            f" seed{'s' if len(gains) > 1 else ''}, one stage 1; source-only control {control:.1f} %)."
        )
    return sentences


def _verdict(gains: NDArray[np.float64], without: float, num_test: int) -> str:
    """An effect is what goes one way in every seed, by more than a test of this size lets a difference vary."""
    noise = 200 * np.sqrt(2 * without / 100 * (1 - without / 100) / num_test)  # two standard errors, in per cent
    if len(gains) > 1 and abs(gains.mean()) > noise:
        if (gains > 0).all():
            return "helps"
        if (gains < 0).all():
            return "hurts"
    return "makes no difference that can be told from chance"


def _saved_size(work: Path, thing: LanguagePrompt | PromptClassifier) -> int:
    """Bytes of the file that a person would keep."""
    path = thing.save(work / "size.safetensors")
    size = path.stat().st_size
    path.unlink()
    return size


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
