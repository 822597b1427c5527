"""The demo: classifies a little-known language with every method and recommends one.

`bible`: English King James text to Chichewa, which book a passage is like. `news`: MasakhaNEWS headlines from Hausa.
`manx`: topics of verses in a language that the backbone does not know. It runs an experiment (`demo.data`, written into
the output folder as demo.toml) with the runner of all experiments and reports its results. An interrupted demo resumes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from glotprompt.config import RuntimeConfig
from glotprompt.data.languages import language
from glotprompt.data.samples import Samples
from glotprompt.demo.conclusions import Reading, conclusions
from glotprompt.demo.data import DemoData, bible, manx, news
from glotprompt.demo.output import Used, alignment, meta, save, write_result
from glotprompt.demo.result import (
    DemoAlignment,
    DemoExample,
    DemoFigures,
    DemoFiles,
    DemoGuess,
    DemoReading,
    DemoResult,
    DemoRow,
    HeldOutLoss,
    TrainingLoss,
)
from glotprompt.errors import UserError
from glotprompt.grid.experiment import Experiment, load
from glotprompt.grid.plan import Plan, add_experiment
from glotprompt.grid.step_results import EvaluationResult, step_result
from glotprompt.grid.steps import AdaptStep, EvaluateStep, PlannedBackbone, Workplace
from glotprompt.grid.store import ADAPTED, CLASSIFIER, Store
from glotprompt.grid.work import SerialEngine, backbone_of, loaded_backbone, scored_classifier
from glotprompt.inference.classifier import Adapted, LanguagePrompt, PromptClassifier, load_adapted
from glotprompt.records import EvaluationReport, MaskedTokenScores
from glotprompt.training.memory import PeakMemory
from glotprompt.training.objectives.batches import token_sequences
from glotprompt.training.objectives.blanks import blank_words, guess_words
from glotprompt.training.objectives.scoring import evaluation_batches, report, score_masked_tokens

CENTRED = "-centred"
"""Ending of systems that read another system's sentence vectors, centred."""

READING_SEED = 7
NUM_GUESSES = 5
NUM_PASSAGES = 6


def run_demo(
    *,
    scenario: str = "bible",
    target: str | None = None,
    data_dir: Path | None = None,
    fast: bool = False,
    seeds: Sequence[int] | None = None,
    steps: int | None = None,
    output: Path = Path("demo-output"),
    command: str = "glotprompt demo",
    precision: Any = "auto",
    tell: Callable[[str], None] = lambda line: None,
) -> DemoResult:
    """Run the whole demo and return its result, as saved to `output/result.json` (docs/demo.md). `seeds` and `steps` of
    the alignments are those of manx. `tell` gets a line as each step begins."""
    start, memory = time.perf_counter(), PeakMemory()
    match scenario:
        case "bible":
            data = bible(fast, precision)
        case "news":
            data = news(data_dir, target or "sna", fast, precision)
        case _:
            seeds, steps = seeds or ([0] if fast else [0, 1, 2]), steps or (60 if fast else None)
            data = manx(data_dir, target or "glv", seeds, steps, precision)
    experiment = load(data.write(output))
    workplace = Workplace(Store(output / "work"), data.data_dir, runtime=RuntimeConfig())
    plan = Plan()
    backbones: dict[str, Used] = {}

    def open_backbone(name: str, of: Experiment) -> tuple[PlannedBackbone, int]:
        backbone = loaded_backbone(name, of.precision, "auto")
        backbones[name] = Used.of(backbone)
        return PlannedBackbone(backbone.fingerprint, of.precision, name), backbone.num_layers

    add_experiment(plan, experiment, open_backbone, data.data_dir, command=command)
    _run(plan, workplace, tell)
    demo = _Demo(data, plan, workplace, output)
    figures = demo.figures(command)
    sentences, use = conclusions(figures, demo.right)
    saved = demo.save(use)
    return write_result(output, figures, sentences, saved, meta(start, memory, backbones.values()))


def _run(plan: Plan, workplace: Workplace, tell: Callable[[str], None]) -> None:
    """Run the missing steps. Raises `UserError` where a step fails."""
    workplace.store.write_experiment(plan.records[0])
    workplace = replace(workplace, retry_failed=True)
    missing = plan.missing(workplace.store.finished())
    for number, step in enumerate(missing, 1):
        tell(f"[{number}/{len(missing)}] {step} ...")
        (outcome,) = SerialEngine().run([step], workplace, lambda *_: None)
        if outcome.status in ("failed", "skipped"):
            raise UserError(f"{step}: {outcome.error}")


class _Demo:
    """The report of a finished experiment."""

    def __init__(self, data: DemoData, plan: Plan, workplace: Workplace, output: Path) -> None:
        self.data, self.plan, self.workplace, self.store, self.output = data, plan, workplace, workplace.store, output
        self.right: dict[Reading, list[list[int]]] = {}
        self._scored: dict[str, list[EvaluateStep]] = {}
        """By system, a step for each seed."""
        for cell in plan.records[0]["cells"]:
            step = plan.steps[str(cell["result"])]
            assert isinstance(step, EvaluateStep)
            self._scored.setdefault(cell["method"], []).append(step)
        first = next(iter(self._scored.values()))[0]
        self.gold = self._result(first)[0].predictions.gold

    # Sentence vectors and clozes

    def figures(self, command: str) -> DemoFigures:
        """All figures: every system and seed, the alignments; and where masks are read, examples with what each method
        says, and reading."""
        rows, alignments = [self._majority()], list[DemoAlignment]()
        names = [name for name in self._scored if not name.endswith(CENTRED)]
        for name in names:
            for step in self._scored[name]:
                rows.append(self._row(name, step))
            adapted = self._scored[name][0].adapted
            if adapted is not None and adapted.config.objective == "alignment":
                training = self._load(adapted).training
                size = (self.store.folder(adapted.name) / ADAPTED).stat().st_size
                alignments.append(alignment(name, training, size))
        shown: dict[str, Any] = {}
        if self._reads_masks:
            shown = {"examples": self._examples(names), "language": self.reading(), "guesses": self.guesses()}
        return DemoFigures(
            title=self.data.title,
            command=command,
            task=self.data.about_task(),
            data=self.data.data,
            rows=rows,
            alignment=alignments,
            settings=self.settings(),
            **shown,
        )

    def _load(self, step: AdaptStep) -> Adapted:
        backbone = backbone_of(step.backbone, self.workplace.device)
        return load_adapted(self.store.folder(step.name) / ADAPTED, backbone)

    def _result(self, step: EvaluateStep) -> tuple[EvaluationResult, EvaluationReport]:
        """A step's result, and its predictions over all labels compared with the truth."""
        result = step_result(self.store.result_of(step.name), step.name)
        assert isinstance(result, EvaluationResult)
        return result, report(result.predictions.gold, result.predictions.all)

    def _row(self, name: str, step: EvaluateStep) -> DemoRow:
        result, scores = self._result(step)
        self._note(Reading(name), scores)
        centred: dict[str, Any] = {}
        for other in self._scored.get(f"{name}{CENTRED}", ()):
            if other.tuned.config.seed != step.tuned.config.seed:
                continue
            centred_scores = self._result(other)[1]
            self._note(Reading(name, centred=True), centred_scores)
            centred = {
                "target_test_accuracy_centred": centred_scores.accuracy,
                "target_test_accuracy_centred_interval": centred_scores.interval,
            }
        own = None
        if len(self.data.own_labels) < len(self.data.task.labels):
            own = result.scores.own.accuracy
        adapt, tune = result.train_info.adapt, result.train_info.tune
        stages = [tune] if adapt is None else [adapt, tune]
        english = result.source_accuracy
        saved = self.store.folder(step.tuned.name) / CLASSIFIER
        if step.folds is not None and step.adapted is not None:  # each fold has a classifier of its own, not kept
            saved = self.store.folder(step.adapted.name) / ADAPTED
        return DemoRow(
            method=name,
            backbone=step.backbone.name,
            seed=step.tuned.config.seed,
            source_dev_accuracy=tune.dev_accuracy if english is None else None,
            source_test_accuracy=english,
            target_test_accuracy=scores.accuracy,
            target_test_accuracy_interval=scores.interval,
            target_test_accuracy_own_labels=own,
            macro_f1=scores.macro_f1,
            collapsed_label=scores.collapsed_label,
            collapsed_share=scores.largest_share / 100,
            trained_parameters=max(stage.trained_parameters for stage in stages),
            tokens=sum(stage.tokens for stage in stages),
            file_bytes=saved.stat().st_size if saved.exists() else 0,
            seconds=sum(stage.seconds for stage in stages),
            peak_memory_bytes=max(stage.peak_memory_bytes for stage in stages),
            **centred,
        )

    def _note(self, reading: Reading, scores: EvaluationReport) -> None:
        right = [int(one == other) for one, other in zip(self.gold, scores.predictions, strict=True)]
        self.right.setdefault(reading, []).append(right)

    def _majority(self) -> DemoRow:
        """The label most frequent in the source's training examples, for every example."""
        scores = report(self.gold, [self.data.majority_label] * len(self.gold))
        return DemoRow(method="majority", target_test_accuracy=scores.accuracy)

    def _examples(self, names: Sequence[str]) -> list[DemoExample]:
        """A few test passages, sampled by seed, with every method's prediction."""
        test = self.data.test
        picks = np.random.default_rng(READING_SEED).permutation(len(test))[:NUM_PASSAGES]
        passages = [test[int(i)] for i in picks]
        # Backwards: the backbone of the last steps is still loaded.
        answers = {name: self._classifier(name)[1].predict(passages) for name in reversed(names)}
        return [
            DemoExample(
                reference=example.id,
                text=" ".join(example.fields.values()),
                gold=str(example.label),
                predictions={m: (answers[m][i].label, answers[m][i].scores[answers[m][i].label]) for m in names},
            )
            for i, example in enumerate(passages)
        ]

    def _classifier(self, name: str) -> tuple[Adapted | None, PromptClassifier]:
        """The classifier of the first seed, and the stage 1 behind it."""
        return scored_classifier(self._scored[name][0], self.store, self.workplace)

    # Masked language modelling

    @property
    def _reads_masks(self) -> bool:
        return "soft-prompt" in self._scored

    @property
    def _reader(self) -> AdaptStep:
        step = self._scored["soft-prompt"][0].adapted
        assert step is not None
        return step

    @cached_property
    def _prompt(self) -> LanguagePrompt:
        prompt = self._load(self._reader)
        assert isinstance(prompt, LanguagePrompt)
        return prompt

    def reading(self) -> DemoReading:
        """Masked tokens of text that no training has seen, before and after."""
        before, after = self._read(None), self._read(self._prompt)
        report = self._prompt.training
        return DemoReading(
            language=self.data.target,
            language_name=language(self.data.target).name,
            mlm_loss_before=before.loss,
            mlm_loss_after=after.loss,
            top1_before=before.top1,
            top1_after=after.top1,
            top5_before=before.top5,
            top5_after=after.top5,
            num_masked=after.num_masked,
            curve=[
                HeldOutLoss(step=step, held_out_loss=scores["held_out_loss"]) for step, scores in report.evaluations
            ],
            train_curve=[TrainingLoss(step=step, loss=loss) for step, loss in report.losses],
            steps=report.steps,
            seconds=report.seconds,
            tokens=report.tokens,
            tokens_per_second=report.tokens / report.seconds,
            trained_parameters=report.trained_parameters,
            file_bytes=(self.store.folder(self._reader.name) / ADAPTED).stat().st_size,
            peak_memory_bytes=report.peak_memory_bytes,
            learning_rate=report.learning_rate,
            prompt_length=self._prompt.prompt_length,
        )

    def _read(self, prompt: LanguagePrompt | None) -> MaskedTokenScores:
        backbone, config = backbone_of(self._reader.backbone, self.workplace.device), self._reader.config
        sequences = token_sequences(self.data.reading_texts, backbone.tokenizer, config.max_length, "full")
        batches = evaluation_batches(sequences, backbone, config.mask_rate, 32, READING_SEED)
        return score_masked_tokens(backbone, batches, None if prompt is None else prompt.prefix(backbone))

    def guesses(self) -> list[DemoGuess]:
        """Verses with one word masked, sampled by seed, and the model's guesses before and after."""
        backbone = backbone_of(self._reader.backbone, self.workplace.device)
        blanks = blank_words(self.data.guess_texts, backbone.tokenizer, NUM_GUESSES, READING_SEED)
        texts = [blank.ids for blank in blanks]
        before, after = guess_words(backbone, texts, None), guess_words(backbone, texts, self._prompt.prefix(backbone))
        return [
            DemoGuess(
                reference=blank.reference,
                left=blank.left,
                answer=blank.answer,
                right=blank.right,
                before=old,
                after=new,
            )
            for blank, old, new in zip(blanks, before, after, strict=True)
        ]

    # Saved files

    def save(self, use: Reading) -> DemoFiles:
        """The two files that a person takes away, and what to try with them: the classifier worth using, and the prompt
        behind it, or else the one that reads the language better."""
        code, name = self.data.target, use.method + CENTRED * use.centred
        adapted, classifier = self._classifier(name)
        samples = Samples.of_lines(text for _, text in self.data.guess_texts)
        classifier = replace(classifier, language=code, samples=samples)
        if adapted is None and self._reads_masks:
            adapted = self._prompt
        return save(self.output, code, self.data.task.name, classifier, adapted, self.data.sample)

    def settings(self) -> dict[str, Any]:
        """Every setting of both stages, flat; of alignment those that are not the defaults."""
        values: dict[str, Any] = {}
        if self._reads_masks:
            configs = {"adapt": self._reader.config, "tune": self._scored["soft-prompt"][0].tuned.config}
            values = {
                f"{stage}.{key}": value
                for stage, config in configs.items()
                for key, value in config.model_dump(mode="json").items()
            }
        for name, steps in self._scored.items():
            adapted = steps[0].adapted
            if not name.endswith(CENTRED) and adapted is not None and adapted.config.objective == "alignment":
                overrides = adapted.config.model_dump(mode="json", exclude_unset=True)
                values |= {f"align {name.removesuffix('-aligned')}.{key}": value for key, value in overrides.items()}
        return {**values, "seeds": self.plan.records[0]["seeds"]}
