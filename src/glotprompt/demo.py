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
import shutil
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
from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig, identity_of, preset
from glotprompt.data.records import content_hash
from glotprompt.model.backbones import MINI, MINI_SENTENCE
from glotprompt.model.encoder import Encoder
from glotprompt.report.conclusions import RIVAL, Reading, conclusions
from glotprompt.report.tables import Part
from glotprompt.run import adapt, evaluate, tune
from glotprompt.scenarios import Scenario, bible, news
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
        self.runtime = RuntimeConfig(checkpoint_dir=self.work / "checkpoints")
        reading = token_sequences(scenario.reading_texts, self.mini.tokenizer, scenario.adapt.max_length, "full")
        self.reading_batches = evaluation_batches(reading, self.mini, scenario.adapt.mask_rate, 32, READING_SEED)
        self.classifiers: dict[str, PromptClassifier] = {}
        """By row, of the first seed."""
        self.adapted: dict[str, Adapted] = {}
        """What stage 1 gave to the rows that are aligned."""
        self.right: dict[Reading, list[list[int]]] = {}

    def _kept(self, name: str, about: Sequence[Any], encoder: Encoder) -> Path:
        """Where a piece is kept: it depends on the backbone and versions beside its own texts and settings."""
        key = identity_of([*about, encoder.fingerprint, encoder.asked_precision, artifact.versions()])
        return self.work / f"{name}-{key}.safetensors"

    def language_prompt(self) -> LanguagePrompt:
        """Masked language modelling (once, seed 0), or what an earlier, interrupted demo left."""
        scenario = self.scenario
        texts = scenario.target_texts, scenario.source_texts
        path = self._kept("soft-prompt", [scenario.adapt.identity(), *map(content_hash, texts)], self.mini)
        if not path.is_file():
            adapt(self.mini, *texts, scenario.target, scenario.adapt, self.runtime).save(path)
            self._forget_checkpoints()
        return LanguagePrompt.load(path, self.mini)

    def _aligned(self, method: str, config: AdaptConfig) -> Adapted:
        pairs = [(pair.source, pair.target) for pair in self.scenario.pairs]
        about = [config.identity(), content_hash([text for pair in pairs for text in pair])]
        path = self._kept(f"{method}-aligned", about, self.sentence)
        if not path.is_file():
            language = self.scenario.target
            adapt(self.sentence, language=language, config=config, runtime=self.runtime, parallel=pairs).save(path)
            self._forget_checkpoints()
        return load_adapted(path, self.sentence)

    def _forget_checkpoints(self) -> None:
        shutil.rmtree(self.work / "checkpoints", ignore_errors=True)

    def reading(self, prompt: LanguagePrompt) -> dict[str, Any]:
        """Masked tokens of text that no training has seen, before and after."""
        before, after = self._score(None), self._score(prompt)
        facts, curve = prompt.facts, prompt.facts["evaluations"]
        figures = {
            f"{name}_{when}": value
            for when, scores in (("before", before), ("after", after))
            for name, value in (("mlm_loss", scores.loss), ("top1", scores.top1), ("top5", scores.top5))
        }
        return {
            "language": self.scenario.target, "language_name": self.scenario.target_name, **figures,
            "num_masked": after.num_masked,
            "curve": [{"step": step, "held_out_loss": entry["held_out_loss"]} for step, entry in curve],
            "train_curve": [{"step": step, "loss": loss} for step, loss in facts["losses"]],
            "steps": facts["steps"], "seconds": facts["seconds"], "tokens": facts["tokens"],
            "tokens_per_second": facts["tokens"] / facts["seconds"], "trained_values": facts["trained_values"],
            "file_bytes": saved_size(self.work, prompt), "peak_memory_bytes": facts["peak_memory_bytes"],
            "learning_rate": facts["learning_rate"], "prompt_length": prompt.prompt_length,
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
            courses.append({**course(name, self.adapted[name].facts), "file_bytes": self._size(name)})
            rows.append(self._row(name, self.sentence, self.adapted[name], head))
        return {"alignment": courses, "rows": [asdict(row) for row in rows], "examples": self._examples()}

    def _size(self, name: str) -> int:
        return saved_size(self.work, self.adapted[name])

    def _classifier(self, name: str, encoder: Encoder, adapted: Adapted | None, config: TuneConfig) -> PromptClassifier:
        scenario = self.scenario
        examples = [content_hash(scenario.labelled), content_hash(scenario.source_dev)]
        start = [] if adapted is None else [artifact.digest(p.tensors, p.description) for p in adapted.parts.values()]
        path = self._kept(
            f"{name}-{config.seed}", [config.identity(), scenario.task.identity(), *examples, start], encoder
        )
        if not path.is_file():
            tuned = tune(encoder, adapted, scenario.labelled, scenario.task, config, self.runtime, scenario.source_dev)
            tuned.save(path)
            self._forget_checkpoints()
        return PromptClassifier.load(path, encoder)

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
        facts = classifier.facts
        stage1 = {} if adapted is None else adapted.facts
        return Row(
            method=method,
            backbone=encoder.name,
            seed=config.seed,
            source_dev_accuracy=facts["dev_accuracy"],
            target_test_accuracy=found.accuracy,
            target_test_accuracy_interval=found.interval,
            target_test_accuracy_own_labels=own,
            macro_f1=found.macro_f1,
            collapsed_label=found.collapsed_label,
            collapsed_share=found.largest_share / 100,
            trained_values=max(facts["trained_values"], stage1.get("trained_values", 0)),
            tokens=facts["tokens"] + stage1.get("tokens", 0),
            file_bytes=saved_size(self.work, classifier),
            seconds=facts["seconds"] + stage1.get("seconds", 0.0),
            peak_memory_bytes=max(facts["peak_memory_bytes"], stage1.get("peak_memory_bytes", 0)),
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


def course(method: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """How an alignment went, for the report."""
    held_out = {
        f"{name}_{when}": facts[f"held_out_{when}"][name]
        for when in ("before", "after")
        for name in ("retrieval", "cosine", "source_cosine", "loss")
    }
    kept = ("pairs", "held_out_pairs", "steps", "tokens", "seconds", "trained_values", "learning_rate")
    return {
        "method": method, **held_out, **{name: facts[name] for name in (*kept, "peak_memory_bytes")},
        "curve": [{"step": step, "retrieval": entry["retrieval"]} for step, entry in facts["evaluations"]],
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
