"""What trainings and evaluations say of themselves in files and in the JSON of their commands: a field for every
figure. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from glotprompt.errors import ArtifactError, in_a_line

Number = float | None
"""A number; NaN and infinity, which JSON lacks, are None."""


class Record(BaseModel):
    """A frozen group of metadata; what a later version says besides is left alone."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return self.model_copy(update=changes)

    def to_json(self) -> dict[str, Any]:
        """A JSON value, without the fields that nobody set."""
        return self.model_dump(mode="json", exclude_unset=True)

    @classmethod
    def of(cls, value: Any, where: str) -> Self:
        """What `to_json` gave; `ArtifactError` naming `where` it stood for anything else."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ArtifactError(
                f"{where} is whole but cannot be used ({first_error(error)}); make it anew, or get another copy"
            ) from None


def first_error(error: ValidationError) -> str:
    """The first thing that is wrong with a value, and where in it, in one line."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {in_a_line(first['msg'], 150)}"


@dataclass(frozen=True)
class Trial:
    """A short run at one rate."""

    rate: float
    steps: int
    loss: float | None
    """Held-out loss at its end; None: it diverged."""


@dataclass(frozen=True)
class MaskedTokenScores:
    """How well masked tokens are read: mean cross-entropy (natural log) and accuracies in per cent."""

    loss: float
    top1: float
    top5: float
    num_masked: int


@dataclass(frozen=True)
class AlignmentScores:
    """How well translations are found among the held-out pairs."""

    retrieval: float
    """Per cent of the sentences whose nearest vector of the other side, by cosine, is their translation's: mean of both
    directions. The source side without a prompt; each side centred by its own mean."""
    cosine: float
    """Mean cosine of the target vectors to their teachers."""
    source_cosine: float
    """The same of the source sentences behind what was trained: 1 where they stayed in their places."""
    loss: float
    num_pairs: int


class UnknownShare(Record):
    """What the tokenizer does not know of a text."""

    unknown_share: float
    """Share of the tokens that are the unknown one, from 0 to 1."""
    touched_share: float
    """Share of the words with such a token, from 0 to 1."""
    characters: dict[str, int]
    """How often each unknown character occurs in what was counted."""


class Overlap(Record):
    """Texts that were removed because of one evaluation set."""

    same: int
    """Texts that are one of the set's."""
    shared: int
    """Other texts, that have many words in a row in common with one of the set's."""


class OverlapCheck(Record):
    """What a check of a text against evaluation sets removed."""

    ngram: int
    """Words in a row that count as overlap."""
    kept: int
    """Texts that are left."""
    removed: int
    held_out: dict[str, Overlap]
    """By evaluation set."""


class PairCheck(Record):
    """What a check of parallel text removed, and what it noticed."""

    read: int
    kept: int
    removed: dict[str, int]
    """Pairs by reason."""
    length_ratio: float | None
    """Median of the target's length divided by the source's, in characters."""
    held_out: dict[str, dict[str, Overlap]]
    """By side, then evaluation set."""
    out_of_step: list[dict[str, Any]]
    """Stretches that look shifted against each other (`data.pairs.OutOfStep`)."""


class Decontamination(Record):
    """Which text was kept from training because it will be scored."""

    target: OverlapCheck | None = None
    source: OverlapCheck | None = None
    parallel: PairCheck | None = None
    switches: list[str] | None = None
    """Options that switched a check off."""


class TextReport(Record):
    """How the text came to be that was trained on."""

    decontamination: Decontamination | None = None
    text_share: float | None = None
    """Share of the target's text that was read, where it was not all."""
    drawn_from_lines: dict[str, int] | None = None
    """Lines of a text ("target", "source") of which some were drawn."""
    normalised: bool | None = None
    """Whether the text was normalised; what is to be predicted should then be, too."""


class Ingredient(Record):
    """One prompt in a weighted sum."""

    language: str
    weight: float
    digest: str
    """Of its values."""


class Training(TextReport):
    """What both stages say of their training."""

    config: dict[str, Any]
    """All settings, as JSON (`AdaptConfig`, `TuneConfig`)."""
    precision: Literal["fp32", "bf16"]
    """Of the frozen body's arithmetic."""
    trained_parameters: int
    """Parameters that were trained."""
    steps: int
    """Optimiser steps that were made."""
    best_step: int
    """The step whose values were kept; 0: the start."""
    seconds: float
    """Training and its evaluations, interruptions aside."""
    tokens: int
    """Real tokens that were trained on."""
    losses: list[tuple[int, Number]]
    """(step, mean training loss since the entry before)."""
    evaluations: list[tuple[int, dict[str, Number]]]
    """(step, figures by name): held_out_loss, retrieval; dev_accuracy, dev_loss."""
    peak_memory_bytes: int
    """Of this process; on CUDA, of the GPU."""
    unknown: dict[str, UnknownShare] = {}
    """By text: "target", "source"; "labelled"."""
    made_from: str | None = None
    """Identity of the run (`RunSpec`) and the versions of what it ran on."""

    def with_text(self, text: TextReport) -> Self:
        """The same with another account of how the text came to be."""
        ours = self.model_fields_set - set(TextReport.model_fields)
        told = {name: getattr(self, name) for name in ours} | {
            name: getattr(text, name) for name in text.model_fields_set
        }
        return self.model_construct(_fields_set=set(told), **told)


class AdaptReport(Training):
    """What stage 1 says of itself."""

    learning_rate: float
    """Peak learning rate; of "auto", the one that was found."""
    rates_tried: list[Trial]
    """Short runs of `learning_rate="auto"`."""
    target_lines: int | None = None
    source_lines: int | None = None
    target_sequences: int | None = None
    """Packed sequences that were trained on; so of the source."""
    source_sequences: int | None = None
    pairs: int | None = None
    """Sentence pairs that were trained on."""
    held_out_pairs: int | None = None
    held_out_before: MaskedTokenScores | AlignmentScores
    """On held-out text that chose nothing, of the model without what was trained."""
    held_out_after: MaskedTokenScores | AlignmentScores
    improved: bool
    """Whether the held-out loss fell."""
    initial: list[Ingredient] | None = None
    """The saved prompts from whose sum it started."""
    source_training: AdaptReport | None = None
    """mad-x: of the source language's adapter."""

    @property
    def objective(self) -> str:
        """ "mlm" or "alignment"."""
        return str(self.config.get("objective"))


class Combined(Record):
    """A prompt that nobody trained: a weighted sum of others."""

    combined: list[Ingredient]


class Converted(Record):
    """What another program trained."""

    converted_from: Literal["PEFT", "AdapterHub"]
    origin: dict[str, Any]
    """What its files say of themselves."""


class LabelPrior(Record):
    """What the label offsets were fitted to."""

    prior: dict[str, float]
    num_texts: int


class SelfTrainingRound(Record):
    """One round of self-training."""

    kept: dict[str, int]
    """Texts of each predicted label that were trained on."""
    agreement: float
    """Per cent of the texts that the classifiers before and behind the round take for the same label."""


class SelfTrainingReport(Record):
    """What a classifier learned from its own predictions."""

    rounds: list[SelfTrainingRound]
    """Those whose classifier was kept."""
    texts: int
    """Unlabelled texts."""
    keep: float
    """Share of each predicted label's texts that were trained on."""
    prior: dict[str, float]
    """To which predictions were calibrated."""
    stopped: str | None
    """Why no further round was made or kept; None: all were."""


class TuneReport(Training):
    """What stage 2 says of itself."""

    examples: int
    """Labelled examples that were trained on."""
    dev_examples: int
    labels: dict[str, int]
    """Training examples of each label; so of dev."""
    dev_labels: dict[str, int]
    dev_accuracy: float
    """Accuracy on dev examples of the epoch or penalty that was kept, in per cent; with target labels the mean of both
    languages'."""
    target_examples: int | None = None
    """Target labels: how many of `examples` are of the target language; so of dev."""
    target_dev_examples: int | None = None
    target_weight: float | None = None
    """What one of them counted for in the loss, where a source example counts 1."""
    trained_layers: tuple[int, int] | None = None
    """Prompts: the first layer that was trained, from 0, and the one behind the last."""
    layer: int | None = None
    """embedding, head "pooled": the states behind so many layers are read."""
    strength: float | None = None
    """embedding, head "pooled": C of the logistic regression, with which a pooled head starts."""
    pairs: int | None = None
    """embedding: translations by which vectors of the target are mapped to those of the source."""
    language_prompt: AdaptReport | Combined | Converted | None = None
    """The report of stage 1."""
    label_prior: LabelPrior | None = None
    self_training: SelfTrainingReport | None = None
    centred_on: int | None = None
    """embedding, head "pooled": target texts by whose mean the sentence vectors were centred."""


Stage1Report = AdaptReport | Combined | Converted


def stage1_report(value: Any, where: str) -> Stage1Report | None:
    """The report in a file of stage 1, whatever made it; None where it has none."""
    if not value:
        return None
    kind = Combined if "combined" in value else Converted if "converted_from" in value else AdaptReport
    return kind.of(value, where)


class LabelScores(Record):
    """One label's figures."""

    precision: float
    """In per cent; so recall and F1. 0 for a label that is never predicted."""
    recall: float
    f1: float
    support: int
    """Examples that have the label."""


class EvaluationReport(Record):
    """How right a classifier's predictions are."""

    accuracy: float
    """In per cent."""
    interval: tuple[float, float]
    """95 % interval of the accuracy (Wilson 1927), ends in per cent."""
    majority_label: str
    """The label that most examples have."""
    majority: float
    """Accuracy of always answering it, in per cent."""
    macro_f1: float
    """Mean F1 of the labels that occur among the examples, in per cent."""
    macro_f1_all: float
    """Mean F1 of the labels that occur among examples or predictions, as scikit-learn has it, in per cent."""
    per_label: dict[str, LabelScores]
    """By label of examples or predictions."""
    confusion: dict[str, dict[str, int]]
    """`confusion[gold][predicted]`: how often."""
    predictions: list[str]
    """The predicted label of each example, in their order."""
    num_examples: int
    collapsed_label: str | None
    """A label predicted for most examples and for far more than have it (at least 60 % of them, and 1.5 times as many),
    else None: such figures say little."""
    largest_share: float
    """Per cent of the examples that got the most predicted label."""


Report = EvaluationReport
"""Its older name."""
