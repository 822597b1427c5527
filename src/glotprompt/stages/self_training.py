"""Self-training: a classifier labels unlabelled target text, and stage 2 is trained anew on the source examples and on
the labels that it is surest of (Scudder 1965; Yarowsky 1995)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from pydantic import Field

from glotprompt.config import Config, RuntimeConfig, TuneConfig
from glotprompt.data.decontamination import EvaluationText, decontaminated_examples
from glotprompt.data.readers.records import Example, Labelled, content_hash, examples_from, text_key
from glotprompt.errors import ConfigError, DataError, counted, setting
from glotprompt.inference.classifier import Adapted, Input, PromptClassifier, fields_of
from glotprompt.methods import METHODS
from glotprompt.model.modules.stack import packed
from glotprompt.records import Decontamination, SelfTrainingReport, SelfTrainingRound
from glotprompt.spec import RunSpec
from glotprompt.stages.stage2 import train_stage2
from glotprompt.stages.stage2_data import Stage2
from glotprompt.storage import artifact
from glotprompt.training.calibration import fit_offsets, with_offsets

COLLAPSE_SHARE = 0.9
"""Predictions have collapsed where one label gets a larger share of them than this, and than the prior gives it."""
EXPECTED = 5
"""They have, too, where a label gets none and the prior expects at least so many."""


class SelfTrainConfig(Config):
    """Self-training; stage 2 keeps the settings that the classifier was tuned with."""

    rounds: int = Field(default=1, ge=1)
    """How often the text is labelled and stage 2 trained on it."""
    keep: float = Field(default=0.5, gt=0, le=1)
    """Share of the texts of each predicted label that are trained on, the surest ones."""
    label_prior: dict[str, float] | None = None
    """How frequent the labels are in the target text, to which the predictions are calibrated before they are believed;
    None: all alike that the classifier has learned."""


@dataclass(frozen=True)
class SelfTraining:
    """A self-training that is ready to run."""

    classifier: PromptClassifier
    unlabelled: Sequence[Example]
    """Target text without what will be scored and what has a label already."""
    examples: Sequence[Example]
    config: SelfTrainConfig
    tune: TuneConfig
    """That of the classifier."""
    adapted: Adapted | None
    dev: Sequence[Example] | None
    target_examples: Sequence[Example]
    decontamination: Decontamination | None

    @classmethod
    def of(
        cls,
        classifier: PromptClassifier,
        unlabelled: Sequence[Input],
        examples: Sequence[Example],
        config: SelfTrainConfig | None = None,
        *,
        adapted: Adapted | None = None,
        dev: Sequence[Example] | None = None,
        target_examples: Sequence[Example] = (),
        held_out: EvaluationText = (),
    ) -> SelfTraining:
        """The arguments are those of `self_train`, which says what is refused."""
        _check_start(classifier, adapted, bool(target_examples))
        config = config or SelfTrainConfig()
        classifier.task.indices(None if config.label_prior is None else list(config.label_prior))
        texts, decontamination = [Example(fields_of(item)) for item in unlabelled], None
        if len(held_out):
            texts, report = decontaminated_examples(texts, held_out, "unlabelled text")
            decontamination = Decontamination.model_validate({"target": report.to_json()})
        labelled = set(map(text_key, target_examples))
        texts = [one for one in texts if text_key(one) not in labelled]
        if not texts:
            raise DataError("there is no unlabelled target text to learn from; give at least one text")
        tune = TuneConfig(**classifier.training.config)
        return cls(classifier, texts, examples, config, tune, adapted, dev, target_examples, decontamination)

    @property
    def strength(self) -> float | None:
        """C of the classifier's logistic regression, where it has one."""
        return self.classifier.training.strength

    @property
    def prior(self) -> list[float]:
        """The share of each label, in the task's order."""
        prior = self.classifier.uniform_prior() if self.config.label_prior is None else self.config.label_prior
        weights = [prior.get(label, 0.0) for label in self.classifier.task.labels]
        return [weight / (sum(weights) or 1.0) for weight in weights]

    def stage2(self, pseudo: Sequence[Example] = ()) -> Stage2:
        """Stage 2 of the classifier's method, on pseudo-labelled examples of the target, too. These judge no epoch:
        whatever is surest of the labels that it was taught would seem best. Nor is the penalty of logistic regression
        chosen again: source dev examples would take a weaker one, which reads the target worse (docs/log.md,
        2026-11-30)."""
        language = self.classifier.language if self.adapted is None else ""
        stage2 = Stage2.of(
            self.classifier.backbone, self.adapted, self.examples, self.classifier.task,
            self.tune, self.dev, target_examples=self.target_examples, language=language,
        )  # fmt: skip
        return replace(
            stage2,
            target=[*stage2.target, *pseudo],
            target_train=[*stage2.target_train, *pseudo],
            strengths=stage2.strengths if self.strength is None else (self.strength,),
        )

    def spec(self) -> RunSpec:
        """It as a run, which builds on what the classifier has learned."""
        described, tensors = packed(self.classifier.body, self.classifier.head)
        learned = artifact.digest({name: value.detach().cpu() for name, value in tensors.items()}, described)
        spec = self.stage2().spec(self.classifier.backbone)
        settings = {**self.config.model_dump(mode="json"), "target_weight": self.tune.target_weight}
        settings["strength"] = self.strength
        return replace(
            spec,
            kind="self-train",
            settings={**spec.settings, **settings},
            contents={**spec.contents, "unlabelled": content_hash(self.unlabelled)},
            builds_on=[*spec.builds_on, learned],
        )


def self_train(
    classifier: PromptClassifier,
    unlabelled: Sequence[Input],
    examples: Labelled,
    config: SelfTrainConfig | None = None,
    runtime: RuntimeConfig | None = None,
    *,
    adapted: Adapted | None = None,
    dev: Labelled | None = None,
    target_examples: Labelled = (),
    held_out: EvaluationText = (),
) -> PromptClassifier:
    """Teach a classifier its target language by its own predictions on unlabelled text.

    Each round labels the text, calibrated to `SelfTrainConfig.label_prior`, takes the surest `keep` of each label and
    trains stage 2 anew on the source `examples` and these, which weigh as `target_examples` do in `tune`. Method and
    settings are the classifier's own. The result is not calibrated. Where predictions collapse, the classifier is
    returned as it was before that round, and `training.self_training.stopped` says why.

    `examples` and `dev` are those that the classifier was tuned on, in any form that `tune` takes. `adapted` is what
    stage 1 gave, which stage 2 starts from. `target_examples` are labelled ones of the target, as in `tune`. `held_out`
    are texts that will be scored: what is one of them, or shares 13 words in a row with one, is not learned from.
    Raises `ConfigError` where `adapted` is missing or another language's, `DataError` where no text is left.
    """
    fields = classifier.task.template.fields
    training = SelfTraining.of(
        classifier,
        unlabelled,
        examples_from(examples, fields),
        config,
        adapted=adapted,
        dev=None if dev is None else examples_from(dev, fields),
        target_examples=examples_from(target_examples, fields),
        held_out=held_out,
    )
    return run_self_training(training, runtime)


def run_self_training(training: SelfTraining, runtime: RuntimeConfig | None = None) -> PromptClassifier:
    """`self_train`, from what it is to read."""
    runtime, identity = runtime or RuntimeConfig(), training.spec().identity
    current, rounds = training.classifier, list[SelfTrainingRound]()
    before = _Labels.of(current, training, runtime)
    stopped = _collapse(before.calibrated, training)
    while stopped is None and len(rounds) < training.config.rounds:
        chosen = before.surest(training.config.keep)
        pseudo = [replace(training.unlabelled[row], label=label) for row, label in chosen.items()]
        of_round = f"{identity}-{len(rounds) + 1}"
        learned = train_stage2(current.backbone, training.stage2(pseudo), runtime, of_round)
        after = _Labels.of(learned, training, runtime)
        stopped = _collapse(after.calibrated, training) or _collapse(after.as_it_is, training, missing=False)
        if stopped is None:
            counts = {name: sum(label == name for label in chosen.values()) for name in current.task.labels}
            agreement = 100 * float((before.calibrated == after.calibrated).mean())
            rounds.append(SelfTrainingRound(kept=counts, agreement=agreement))
            current, before = learned, after
    earlier = training.classifier.training.self_training
    report = SelfTrainingReport(
        rounds=rounds or ([] if earlier is None else earlier.rounds),
        texts=len(training.unlabelled),
        keep=training.config.keep,
        prior=dict(zip(current.task.labels, training.prior, strict=True)),
        stopped=stopped,
    )
    current = current.with_report(self_training=report)
    return (
        current if training.decontamination is None else current.with_report(decontamination=training.decontamination)
    )


@dataclass(frozen=True)
class _Labels:
    """What a classifier takes the unlabelled text for."""

    names: Sequence[str]
    as_it_is: Int[NDArray[np.int64], " text"]
    """Index of the most probable label, without calibration."""
    probabilities: Float[NDArray[np.float64], "text label"]
    """Calibrated to the prior."""

    @classmethod
    def of(cls, classifier: PromptClassifier, training: SelfTraining, runtime: RuntimeConfig) -> _Labels:
        log_probs = classifier.log_probabilities(training.unlabelled, runtime.eval_batch_size)
        probabilities = with_offsets(log_probs, fit_offsets(log_probs, training.prior))
        return cls(classifier.task.labels, log_probs.argmax(axis=1), probabilities)

    @property
    def calibrated(self) -> Int[NDArray[np.int64], " text"]:
        return self.probabilities.argmax(axis=1)

    def surest(self, share: float) -> dict[int, str]:
        """The labels of the most probable `share` of each label's texts, at least one, by the text's row."""
        found: dict[int, str] = {}
        labels, sure = self.calibrated, self.probabilities.max(axis=1)
        for index, name in enumerate(self.names):
            rows = np.flatnonzero(labels == index)
            most = int(np.ceil(share * len(rows)))
            found |= dict.fromkeys(rows[np.argsort(-sure[rows], kind="stable")][:most].tolist(), name)
        return dict(sorted(found.items()))


def _collapse(labels: Int[NDArray[np.int64], " text"], training: SelfTraining, *, missing: bool = True) -> str | None:
    """How predictions have collapsed, in a sentence; None: they have not. `missing`: whether a label without any text
    counts as that."""
    names, prior = training.classifier.task.labels, training.prior
    for name, count, share in zip(names, np.bincount(labels, minlength=len(names)), prior, strict=True):
        if count > max(COLLAPSE_SHARE, share) * len(labels):
            return f"{100 * count / len(labels):.0f} % of the texts were taken for {name!r}"
        if missing and not count and share * len(labels) >= EXPECTED:
            expected = f"{share * len(labels):.0f}; if there are fewer, say so with {setting('label_prior')}"
            return f"no text was taken for {name!r}, where the prior expects {expected}"
    return None


def _check_start(classifier: PromptClassifier, adapted: Adapted | None, has_labels: bool) -> None:
    """Raises `ConfigError` where stage 2 could not start from what the classifier did."""
    method, learned = METHODS[classifier.method], classifier.training
    rounds = [] if learned.self_training is None else learned.self_training.rounds
    labels = (learned.target_examples or 0) - sum(rounds[-1].kept.values() if rounds else ())
    if labels > 0 and not has_labels:
        raise ConfigError(
            f"the classifier has learned from {counted(labels, 'target label')}, too; give them as"
            f" {setting('target_labels')}"
        )
    if learned.pairs:
        raise ConfigError("the classifier maps its language by translations, and would be tuned without; give another")
    if learned.centred_on is not None:
        raise ConfigError("the classifier is centred by target text, and would be tuned without; give one that is not")
    stands_on_stage_1 = method.stage1 is not None or (method.reads_vectors and bool(classifier.body.tensors()))
    if adapted is None and stands_on_stage_1:
        raise ConfigError(
            f"stage 2 starts anew from what adapt made of {classifier.language}, which the classifier does not hold;"
            f" give it as {setting('adapted')}"
        )
    if adapted is not None and not stands_on_stage_1:
        raise ConfigError(
            f"this classifier of method {method.name} starts from no stage 1; leave {setting('adapted')} out"
        )
    if adapted is not None and adapted.language != classifier.language:
        raise ConfigError(
            f"the classifier is for {classifier.language}, stage 1 read {adapted.language}; give its own stage 1"
        )
