"""Builds `result.json` of a classifier and its test split. No sentence is written, only labels and row ids."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from glotprompt.data.readers.records import Example, labels_of
from glotprompt.estimate.costs import method_cost
from glotprompt.grid.reading import ExampleSource, TextSource
from glotprompt.grid.step_results import (
    BackboneName,
    CostInfo,
    CostResult,
    Costs,
    EvaluationResult,
    LayerChange,
    Majority,
    MetaInfo,
    Predictions,
    RunInfo,
    Scores,
    ScoresByLabels,
    StageFigures,
    Stages,
    StepNames,
)
from glotprompt.grid.steps import AdaptStep, CostStep, EvaluateStep
from glotprompt.grid.store import FORMAT
from glotprompt.inference.classifier import Adapted, LanguagePrompt, PromptClassifier
from glotprompt.methods import METHODS
from glotprompt.model.shapes import Shell
from glotprompt.records import AdaptReport, EvaluationReport, Training
from glotprompt.storage import artifact
from glotprompt.training.calibration import with_offsets
from glotprompt.training.objectives.scoring import report
from glotprompt.training.objectives.unknown import Vocabulary

MOST_LOSSES = 50
"""Points of a loss curve that are kept."""


@dataclass(frozen=True)
class Answers:
    """A classifier's answers on its test examples."""

    classifier: PromptClassifier
    """With cross-fitting, that of the last fold."""
    adapted: Adapted | None
    test: Sequence[Example]
    log_probs: Float[NDArray[np.float64], "example label"]
    source_accuracy: float | None = None
    """Cross-fitting: per cent of the source examples that are right."""


def evaluate_result(step: EvaluateStep, scored: Answers) -> EvaluationResult:
    """Scores over all labels and over those that the test set has, from one pass over the examples."""
    classifier, adapted, test, log_probs = scored.classifier, scored.adapted, scored.test, scored.log_probs
    names = classifier.task.labels
    gold = [str(example.label) for example in test]
    allowed = classifier.task.indices(labels_of(test))
    reports = {
        which: report(gold, [names[index] for index in with_offsets(log_probs, None, labels).argmax(axis=1)])
        for which, labels in (("all", None), ("own", allowed))
    }
    every, own = reports["all"], reports["own"]
    texts = Vocabulary(classifier.backbone.tokenizer, [text for one in test for text in one.fields.values()])
    return EvaluationResult(
        format=FORMAT,
        run_info=_run_info(step, classifier),
        train_info=Stages(
            adapt=None if adapted is None else stage_figures(adapted.training),
            tune=stage_figures(classifier.training),
        ),
        scores=ScoresByLabels(all=_scores(every), own=_scores(own)),
        source_accuracy=scored.source_accuracy,
        majority=Majority(label=every.majority_label, share=every.majority),
        predictions=Predictions(
            ids=[example.id for example in test], gold=gold, all=every.predictions, own=own.predictions
        ),
        collapsed=collapse(every),
        prompt_change=prompt_change(adapted, classifier),
        fertility=texts.pieces_per_word,
        unknown_share=texts.unknown_tokens / max(1, texts.num_tokens),
        meta_info=_meta(str(classifier.backbone.device)),
    )


def _run_info(step: EvaluateStep, classifier: PromptClassifier) -> RunInfo:
    adapted, backbone = step.adapted, classifier.backbone
    return RunInfo(
        dataset=step.dataset,
        source=step.source,
        target=step.target,
        method=step.method,
        seed=step.tuned.config.seed,
        backbone=BackboneName(name=backbone.name, fingerprint=backbone.fingerprint, precision=backbone.precision),
        config={
            "adapt": None if adapted is None else adapted.config.model_dump(mode="json"),
            "tune": step.tuned.config.model_dump(mode="json"),
        },
        data={
            "language": None if adapted is None else adapted.language,
            "target_texts": _stage1_read(adapted, "target"),
            "source_texts": _stage1_read(adapted, "source"),
            "pairs": _stage1_read(adapted, "pairs")
            or (step.tuned.pairs and _read(step.tuned.pairs, step.tuned.pairs_content)),
            "centre": step.centre and _read(step.centre, step.centre_content),
            "unlabelled": step.tuned.unlabelled and _read(step.tuned.unlabelled, step.tuned.unlabelled_content),
            "train": _read(step.tuned.train, step.tuned.train_content),
            "target_labels": step.tuned.target and _read(step.tuned.target, step.tuned.target_content),
            "dev": step.tuned.dev and _read(step.tuned.dev, step.tuned.dev_content),
            "test": _read(step.test, step.test_content),
            "task": step.tuned.task.to_dict(),
        },
        steps=StepNames(adapt=None if adapted is None else adapted.name, tune=step.tuned.name),
    )


def _stage1_read(adapted: AdaptStep | None, name: str) -> dict[str, Any] | None:
    if adapted is None or name not in adapted.texts:
        return None
    return _read(adapted.texts[name], adapted.contents[name])


def _read(source: TextSource | ExampleSource, content: str) -> dict[str, Any]:
    """The request, and the hash of its content; None where nothing was read."""
    of_files = ("read", "labels", "fields")
    request = {name: value for name, value in vars(source).items() if name not in of_files}
    return {**request, "content": content or None}


def stage_figures(report: Training) -> StageFigures:
    """A training's report without its settings, which `RunInfo.config` has."""
    return StageFigures.model_validate(_without_settings(report))


def _without_settings(training: Training) -> dict[str, Any]:
    figures = training.model_dump(
        mode="json", exclude_unset=True, exclude={"config", "language_prompt", "source_training"}
    )
    figures["losses"] = thinned(training.losses)
    if isinstance(training, AdaptReport) and training.source_training is not None:
        figures["source_training"] = _without_settings(training.source_training)
    return figures


def thinned(losses: Sequence[tuple[int, float | None]]) -> list[list[float | None]]:
    """Every nth point and the last one."""
    every = -(-len(losses) // MOST_LOSSES)
    points = losses[::-1][:: max(1, every)][::-1]
    return [[step, None if loss is None else round(loss, 4)] for step, loss in points]


def _scores(report: EvaluationReport) -> Scores:
    return Scores(accuracy=report.accuracy, macro_f1=report.macro_f1, per_label=report.per_label)


def collapse(report: EvaluationReport) -> str | None:
    """One line about a classifier that collapsed to one label; None for any other."""
    if report.collapsed_label is None:
        return None
    return f"{report.largest_share:.0f} % of the examples were labelled {report.collapsed_label!r}"


def prompt_change(adapted: Adapted | None, classifier: PromptClassifier) -> list[LayerChange] | None:
    """Change of each layer's prompt in stage 2 (section 5.4, figure 5); None where no prompt went through both."""
    if not isinstance(adapted, LanguagePrompt) or classifier.prompt is None:
        return None
    before, after = adapted.key_values.flatten(1), classifier.key_values.flatten(1)
    lengths = (after - before).norm(dim=1)
    relative, cosines = lengths / before.norm(dim=1), torch.nn.functional.cosine_similarity(before, after, dim=1)
    return [
        LayerChange(
            layer=layer,
            mean_absolute=float((after[layer] - before[layer]).abs().mean()),
            l2=float(lengths[layer]),
            relative_l2=float(relative[layer]),
            cosine=float(cosines[layer]),
        )
        for layer in range(len(before))
    ]


def cost_result(step: CostStep) -> CostResult:
    """A row of table 3."""
    shell = Shell.named(step.model)
    cost = method_cost(shell, METHODS[step.method], step.adapt, step.tune, "cpu")
    backbone = {"name": shell.name, "num_parameters": shell.num_parameters, "num_layers": shell.num_layers}
    return CostResult(
        format=FORMAT,
        run_info=CostInfo(method=step.method, backbone=backbone),
        cost=Costs.model_validate(cost.to_dict()),
        meta_info=_meta("none"),
    )


def _meta(device: str) -> MetaInfo:
    hardware: dict[str, str | int | None] = {"device": device, "machine": platform.machine(), "cores": os.cpu_count()}
    if device.startswith("cuda"):
        hardware["gpu"] = torch.cuda.get_device_name()
    return MetaInfo(
        versions=artifact.versions(), hardware=hardware, finished=datetime.now(UTC).isoformat("T", "seconds")
    )
