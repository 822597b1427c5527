"""Results of finished steps: the types of `result.json`, as it is written and reported. No torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, ValidationError

from glotprompt.errors import DataError
from glotprompt.records import LabelScores, Number, Record, first_error

Labels = Literal["all", "own"]
"""Which labels compete: all of the task's, or those that the target's test set has."""


class StageFigures(Record):
    """Figures of one stage's training, without its settings; the other fields of its report are kept as extras."""

    model_config = ConfigDict(extra="allow")

    trained_parameters: int
    """Parameters that were trained."""
    seconds: float
    tokens: int
    """Tokens that were trained on, padding not included."""
    peak_memory_bytes: int
    losses: list[tuple[int, Number]]
    """(step, mean training loss since the entry before), thinned."""
    dev_accuracy: float | None = None
    """Stage 2: best accuracy on dev examples, in per cent."""


class Stages(Record):
    """The trainings behind a result."""

    adapt: StageFigures | None
    """None for a method without stage 1."""
    tune: StageFigures


class BackboneName(Record):
    name: str
    fingerprint: str
    precision: str
    """Precision of the computation."""


class StepNames(Record):
    """Names of the steps that trained the classifier."""

    adapt: str | None
    tune: str


class RunInfo(Record):
    """Description of a run: data, method, settings and backbone."""

    dataset: str
    source: str
    target: str
    method: str
    seed: int
    backbone: BackboneName
    config: dict[str, dict[str, Any] | None]
    """All settings by stage."""
    data: dict[str, Any]
    """The texts and examples of the run, with the hashes of their content."""
    steps: StepNames


class Scores(Record):
    """Scores in per cent."""

    accuracy: float
    macro_f1: float
    per_label: dict[str, LabelScores]


class ScoresByLabels(Record):
    """Scores over all labels of the task, and over those that the test set has."""

    all: Scores
    own: Scores

    def among(self, labels: Labels) -> Scores:
        return self.all if labels == "all" else self.own


class Majority(Record):
    """The most frequent label of the test set."""

    label: str
    share: float
    """Per cent of the examples that have it."""


class Predictions(Record):
    """Predicted labels in the order of the test set."""

    ids: list[str]
    gold: list[str]
    all: list[str]
    own: list[str]

    def among(self, labels: Labels) -> list[str]:
        return self.all if labels == "all" else self.own


class LayerChange(Record):
    """The change of one layer's prompt in stage 2."""

    layer: int
    """From 0."""
    mean_absolute: float
    """Mean absolute change of its parameters."""
    l2: float
    """Length of the change."""
    relative_l2: float
    """That length, relative to the prompt's before."""
    cosine: float
    """Cosine of the prompt before and after."""


class MetaInfo(Record):
    """Machine, versions and time of a step."""

    versions: dict[str, str]
    hardware: dict[str, str | int | None]
    finished: str
    """ISO time, UTC."""


class StepResult(Record):
    """Fields common to the results of all steps."""

    format: int
    meta_info: MetaInfo


class EvaluationResult(StepResult):
    """A classifier's figures on a test set."""

    run_info: RunInfo
    train_info: Stages
    scores: ScoresByLabels
    majority: Majority
    predictions: Predictions
    collapsed: str | None
    """One line about a classifier that collapsed to one label."""
    prompt_change: list[LayerChange] | None
    """None where no prompt went through both stages."""
    fertility: float | None = None
    """Tokens per word of the test examples."""
    unknown_share: float | None = None
    """Share of these tokens that are the unknown token, from 0 to 1."""
    source_accuracy: float | None = None
    """Cross-fitting: accuracy of the same classifiers on the source examples, in per cent."""


class StageCosts(Record):
    """Costs of one stage of a method, counted without training; other fields of `costs.StageCost` are extras."""

    model_config = ConfigDict(extra="allow")

    trained_parameters: int
    trained_parameters_paper: int
    """Trained parameters as table 3 of the paper counts them."""
    share: float
    """Share of the backbone's parameters."""
    file_bytes: int


class Costs(Record):
    adapt: StageCosts | None
    """None for a method without stage 1; both stages are None where the method cannot be used with the backbone."""
    tune: StageCosts | None
    language_bytes: int | None
    """Disk space of one more language; None without stage 1."""
    refusal: str | None
    """Why the method cannot be used with the backbone."""


class CostInfo(Record):
    """The method and backbone of a cost."""

    method: str
    backbone: dict[str, Any]


class CostResult(StepResult):
    """A method's costs on a backbone."""

    run_info: CostInfo
    cost: Costs


def step_result(value: Any, step: str) -> EvaluationResult | CostResult:
    """Parse a step's `result.json`. Raises `DataError` for a result that another version has written."""
    kind = CostResult if isinstance(value, dict) and "cost" in value else EvaluationResult
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise DataError(
            f"results of another version: {step} ({first_error(error)}); delete its folder in steps and run the grid"
            " again, or report it with the version that wrote it"
        ) from None
