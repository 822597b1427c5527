"""What a finished step found: the types behind its `result.json`, as it is written and reported. Needs no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, ValidationError

from glotprompt.errors import DataError
from glotprompt.records import LabelScores, Number, Record, first_error

Labels = Literal["all", "own"]
"""Which labels compete: all of the task's, or those that the target's test set has."""


class StageFigures(Record):
    """What the training of one stage noted, without its settings; what else its report says is kept beside these."""

    model_config = ConfigDict(extra="allow")

    trained_parameters: int
    """Parameters that were trained."""
    seconds: float
    tokens: int
    """Real tokens that were trained on."""
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
    """That it computed in."""


class StepNames(Record):
    """The steps that trained what was scored."""

    adapt: str | None
    tune: str


class RunInfo(Record):
    """What was run."""

    dataset: str
    source: str
    target: str
    method: str
    seed: int
    backbone: BackboneName
    config: dict[str, dict[str, Any] | None]
    """All settings by stage."""
    data: dict[str, Any]
    """What was read, and the hashes of its content."""
    steps: StepNames


class Scores(Record):
    """In per cent."""

    accuracy: float
    macro_f1: float
    per_label: dict[str, LabelScores]


class ScoresByLabels(Record):
    """The same predictions among all labels of the task, and among those that the test set has."""

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
    """In the order of the test set."""

    ids: list[str]
    gold: list[str]
    all: list[str]
    own: list[str]

    def among(self, labels: Labels) -> list[str]:
        return self.all if labels == "all" else self.own


class LayerChange(Record):
    """What stage 2 did to one layer's prompt."""

    layer: int
    """From 0."""
    mean_absolute: float
    """Mean absolute change of its values."""
    l2: float
    """Length of the change."""
    relative_l2: float
    """That length against the prompt's before."""
    cosine: float
    """Of the prompt before and after."""


class MetaInfo(Record):
    """Where, with what and when a step was run."""

    versions: dict[str, str]
    hardware: dict[str, str | int | None]
    finished: str
    """ISO time, UTC."""


class StepResult(Record):
    """What every step that is reported says."""

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
    """Why the run says little, in one line."""
    prompt_change: list[LayerChange] | None
    """None where no prompt went through both stages."""


class StageCosts(Record):
    """What one stage of a method costs, counted without training; `costs.StageCost` has more, kept beside these."""

    model_config = ConfigDict(extra="allow")

    trained_parameters: int
    trained_parameters_paper: int
    """As table 3 counts."""
    share: float
    """Of the backbone's parameters."""
    file_bytes: int


class Costs(Record):
    adapt: StageCosts | None
    """None for a method without stage 1; so of stage 2 where the method cannot be used with the backbone."""
    tune: StageCosts | None
    language_bytes: int | None
    """What one more language takes on disk; None without stage 1."""
    refusal: str | None
    """Why the method cannot be used with the backbone."""


class CostInfo(Record):
    """What was counted."""

    method: str
    backbone: dict[str, Any]


class CostResult(StepResult):
    """A method's costs on a backbone."""

    run_info: CostInfo
    cost: Costs


def step_result(value: Any, step: str) -> EvaluationResult | CostResult:
    """What a step's `result.json` says. Raises `DataError` for what another version has written."""
    kind = CostResult if isinstance(value, dict) and "cost" in value else EvaluationResult
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise DataError(
            f"results of another version: {step} ({first_error(error)}); delete its folder in steps and run the grid"
            " again, or report it with the version that wrote it"
        ) from None
