"""Reports of trainings and evaluations, as saved files and `--json` hold them: a field for every figure. Needs no
torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from glotprompt.errors import ArtifactError, in_a_line

Number = float | None
"""A number, or None for NaN and infinity, which JSON lacks."""


class Record(BaseModel):
    """A frozen group of metadata; fields of a later version are ignored."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return self.model_copy(update=changes)

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON value, without unset fields."""
        return self.model_dump(mode="json", exclude_unset=True)

    @classmethod
    def of(cls, value: Any, where: str) -> Self:
        """The record from the JSON value of `to_json`. Raises `ArtifactError`, which names `where`, for any other
        value."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ArtifactError(
                f"{where} is intact but invalid ({first_error(error)}); create it again, or get another copy"
            ) from None


def first_error(error: ValidationError) -> str:
    """The first validation error and its location, in one line."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {in_a_line(first['msg'], 150)}"


@dataclass(frozen=True)
class Trial:
    """A trial run at one learning rate."""

    rate: float
    steps: int
    loss: float | None
    """Held-out loss at the end; None: it diverged."""


@dataclass(frozen=True)
class MaskedTokenScores:
    """Scores of masked language modelling: mean cross-entropy (natural log), and accuracies in per cent."""

    loss: float
    top1: float
    top5: float
    num_masked: int


@dataclass(frozen=True)
class NextTokenScores(MaskedTokenScores):
    """Scores of causal language modelling; `num_masked` counts all predicted tokens."""

    bits_per_byte: float
    """Loss in bits per byte of UTF-8, an end of line being one: comparable between tokenizers."""


ALREADY_ALIGNED = 90.0
"""Retrieval in per cent above which alignment gave nothing or a few points (docs/does_it_help.md)."""


@dataclass(frozen=True)
class AlignmentScores:
    """Scores of alignment on held-out pairs."""

    retrieval: float
    """Retrieval accuracy in per cent: sentences whose nearest vector of the other side, by cosine, is that of their
    translation; mean of both directions. The source side has no prompt; each side is centred by its own mean."""
    cosine: float
    """Mean cosine of the target vectors to their teachers."""
    source_cosine: float
    """Mean cosine of the source sentences, encoded with the trained module, to their own teachers; 1: unchanged."""
    loss: float
    num_pairs: int


@dataclass(frozen=True)
class JointScores:
    """Scores of MLM and alignment together."""

    loss: float
    """MLM loss + `alignment_weight` * alignment loss."""
    masked_tokens: MaskedTokenScores
    alignment: AlignmentScores


HeldOutScores = NextTokenScores | MaskedTokenScores | AlignmentScores | JointScores
"""Scores of stage 1, by its objective."""


class UnknownShare(Record):
    """Unknown tokens of a text."""

    unknown_share: float
    """Share of the tokens that are the unknown token, from 0 to 1."""
    touched_share: float
    """Share of the words with such a token, from 0 to 1."""
    characters: dict[str, int]
    """Occurrences of each unknown character in the counted text."""


class Overlap(Record):
    """Texts that were removed because of one evaluation set."""

    same: int
    """Texts identical to one of the set."""
    shared: int
    """Other texts that share many words in a row with one of the set."""


class OverlapCheck(Record):
    """Result of the overlap check of a text against evaluation sets."""

    ngram: int
    """Words in a row that count as overlap."""
    kept: int
    """Texts that remain."""
    removed: int
    held_out: dict[str, Overlap]
    """Overlaps by evaluation set."""


class PairCheck(Record):
    """Result of the check of parallel text: removals and warnings."""

    read: int
    kept: int
    removed: dict[str, int]
    """Pairs by reason."""
    length_ratio: float | None
    """Median of the target's length divided by the source's, in characters."""
    held_out: dict[str, dict[str, Overlap]]
    """Overlaps by side and evaluation set."""
    out_of_step: list[dict[str, Any]]
    """Stretches whose two sides look shifted against each other (`data.pairs.OutOfStep`)."""


class Decontamination(Record):
    """Text that was removed from training because it will be scored."""

    target: OverlapCheck | None = None
    source: OverlapCheck | None = None
    parallel: PairCheck | None = None
    switches: list[str] | None = None
    """Options that switched a check off."""


class TextReport(Record):
    """Preparation of the training text."""

    decontamination: Decontamination | None = None
    text_share: float | None = None
    """Share of the target text that was used, unless all of it was."""
    train_sources: dict[str, int] | None = None
    """Number of labelled examples by file or reference, if there were several."""
    drawn_from_lines: dict[str, int] | None = None
    """Number of lines by text ("target", "source") that the training lines were sampled from."""
    normalised: bool | None = None
    """Whether the text was normalised; texts to predict should then be normalised, too."""


class Ingredient(Record):
    """One prompt in a weighted sum."""

    language: str
    weight: float
    digest: str
    """Digest of its parameters."""


class Training(TextReport):
    """Fields of a training report that both stages share."""

    config: dict[str, Any]
    """All settings, as JSON (`AdaptConfig`, `TuneConfig`)."""
    precision: Literal["fp32", "bf16"]
    """Precision of the frozen body."""
    trained_parameters: int
    """Number of trained parameters."""
    steps: int
    """Optimiser steps."""
    best_step: int
    """Step whose parameters were saved; 0: the initial ones."""
    seconds: float
    """Time of training and its evaluations, without interruptions."""
    tokens: int
    """Tokens trained on, without padding."""
    losses: list[tuple[int, Number]]
    """(step, mean training loss since the previous entry)."""
    evaluations: list[tuple[int, dict[str, Number]]]
    """(step, scores by name): held_out_loss, retrieval; dev_accuracy, dev_loss."""
    peak_memory_bytes: int
    """Peak memory of this process; on CUDA, of the GPU."""
    unknown: dict[str, UnknownShare] = {}
    """Unknown tokens by text: "target", "source", "labelled"."""
    made_from: str | None = None
    """Hash of the run's identity (`RunSpec`) and of the library versions."""

    def with_text(self, text: TextReport) -> Self:
        """A copy with another text report."""
        fields = {name: getattr(self, name) for name in self.model_fields_set - set(TextReport.model_fields)}
        fields |= {name: getattr(text, name) for name in text.model_fields_set}
        return self.model_construct(_fields_set=set(fields), **fields)


LOSSES = {"mlm": "MLM loss", "clm": "loss per token", "spans": "span loss", "alignment": "alignment loss"}
"""The held-out loss of stage 1, by objective."""


class AdaptReport(Training):
    """Report of stage 1."""

    learning_rate: float
    """Peak learning rate; with "auto", the chosen one."""
    rates_tried: list[Trial]
    """Trial runs of `learning_rate="auto"`."""
    target_lines: int | None = None
    source_lines: int | None = None
    target_sequences: int | None = None
    """Packed training sequences of the target text; `source_sequences`: of the source text."""
    source_sequences: int | None = None
    pairs: int | None = None
    """Training pairs."""
    held_out_pairs: int | None = None
    held_out_before: HeldOutScores
    """Scores of the frozen model on the held-out half that was not used to choose the step."""
    held_out_after: HeldOutScores
    improved: bool
    """Whether the held-out loss fell."""
    initial: list[Ingredient] | None = None
    """Saved prompts whose weighted sum was the initial prompt."""
    source_training: AdaptReport | None = None
    """mad-x: report of the source language's adapter."""
    source_adapter: str | None = None
    """mad-x: digest of the ready adapter that stands for the source language's."""

    @property
    def objective(self) -> str:
        """That of its config."""
        return str(self.config.get("objective"))

    @property
    def loss_name(self) -> str:
        """What its held-out loss is, in print."""
        return LOSSES.get(self.objective, "MLM and alignment loss")


class Combined(Record):
    """Report of a weighted sum of prompts, which was not trained."""

    combined: list[Ingredient]


class Converted(Record):
    """Report of a prompt or adapter that another library trained."""

    converted_from: Literal["PEFT", "AdapterHub"]
    origin: dict[str, Any]
    """Metadata of its files."""


Stage1Report = AdaptReport | Combined | Converted


class LabelPrior(Record):
    """Label prior of the calibration."""

    prior: dict[str, float]
    num_texts: int


class SelfTrainingRound(Record):
    """One round of self-training."""

    kept: dict[str, int]
    """Training texts by predicted label."""
    agreement: float
    """Per cent of the texts with the same prediction before and after the round."""


class SelfTrainingReport(Record):
    """Report of self-training."""

    rounds: list[SelfTrainingRound]
    """Rounds whose classifier was kept."""
    texts: int
    """Unlabelled texts."""
    keep: float
    """Share of the texts of each predicted label that were trained on."""
    prior: dict[str, float]
    """Label prior to which predictions were calibrated."""
    stopped: str | None
    """Reason why self-training ended early; None: all rounds were kept."""


class TuneReport(Training):
    """Report of stage 2."""

    examples: int
    """Labelled training examples."""
    dev_examples: int
    labels: dict[str, int]
    """Training examples by label; `dev_labels`: dev examples by label."""
    dev_labels: dict[str, int]
    dev_accuracy: float
    """Accuracy on dev examples of the selected epoch or penalty, in per cent; with target labels the mean of both
    languages. Where there are no dev examples (tf-idf on too few for folds), that on the training examples."""
    target_examples: int | None = None
    """Target labels: number of `examples` in the target language; `target_dev_examples`: of `dev_examples`."""
    target_dev_examples: int | None = None
    target_weight: float | None = None
    """Weight of a target example in the loss, where a source example has weight 1."""
    trained_layers: tuple[int, int] | None = None
    """Prompts: trained layers as a half-open range, from 0."""
    layer: int | None = None
    """embedding, head "pooled": layer whose output is pooled (0: the embeddings)."""
    strength: float | None = None
    """embedding, tf-idf, head "pooled": C of the logistic regression, with which a pooled head starts."""
    folds: int | None = None
    """embedding with target labels, tf-idf: folds of the cross-validation that chose it. Examples of a fold were judged
    by a fit on the others, and all are trained on in the end."""
    pairs: int | None = None
    """embedding: sentence pairs that the ridge map from target to source vectors was fitted on."""
    language_prompt: Stage1Report | None = None
    """The report of stage 1."""
    label_prior: LabelPrior | None = None
    self_training: SelfTrainingReport | None = None
    centred_on: int | None = None
    """embedding, head "pooled": number of target texts whose mean centres the sentence vectors."""


def stage1_report(value: Any, where: str) -> Stage1Report | None:
    """The report of a stage 1 file, of whichever kind; None where the file has none."""
    if not value:
        return None
    kind = Combined if "combined" in value else Converted if "converted_from" in value else AdaptReport
    return kind.of(value, where)


class LabelScores(Record):
    """Scores of one label."""

    precision: float
    """In per cent, as recall and F1 are; 0 for a label that is never predicted."""
    recall: float
    f1: float
    support: int
    """Examples with the label."""


class EvaluationReport(Record):
    """Scores of a classifier on labelled examples."""

    accuracy: float
    """In per cent."""
    interval: tuple[float, float]
    """95 % interval of the accuracy (Wilson 1927), ends in per cent."""
    majority_label: str
    """The most frequent label."""
    majority: float
    """Accuracy of always predicting it, in per cent."""
    macro_f1: float
    """Mean F1 of the labels that occur among the examples, in per cent."""
    macro_f1_all: float
    """Mean F1 of the labels that occur among examples or predictions, as scikit-learn has it, in per cent."""
    per_label: dict[str, LabelScores]
    """Scores of every label that occurs among examples or predictions."""
    confusion: dict[str, dict[str, int]]
    """Counts as `confusion[gold][predicted]`."""
    predictions: list[str]
    """Predicted labels, in the order of the examples."""
    num_examples: int
    collapsed_label: str | None
    """A label that is predicted for at least 60 % of the examples and 1.5 times as often as it occurs, else None: such
    scores say little."""
    largest_share: float
    """Per cent of the examples with the most frequent prediction."""
