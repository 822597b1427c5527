"""Results of demos: the types of `result.json` (docs/demo.md). No torch."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from glotprompt.records import Number, Record

Guesses = list[tuple[str, float]]
"""The likeliest words and their probabilities, 0 to 1."""


class DemoTask(Record):
    """The task of a demo."""

    name: str
    source: str
    """Language code; so target."""
    target: str
    source_name: str
    target_name: str
    labels: list[str]
    unit: str
    """Name of the classified items: passages."""
    template: str | None = None
    """None where no cloze is read; so is verbalizer."""
    verbalizer: dict[str, list[str]] | None = None


class DemoSplit(Record):
    """Size of a part of the demo's data."""

    split: str
    language: str
    items: int
    chapters: int | None
    """None for text that is not in chapters."""
    note: str


class DemoRow(Record):
    """One method and seed; accuracies in per cent, 95 % intervals as (low, high). `seconds` and `tokens` count both
    stages, `trained_parameters` the larger one."""

    method: str
    backbone: str | None = None
    seed: int = 0
    source_dev_accuracy: float | None = None
    source_test_accuracy: float | None = None
    target_test_accuracy: float
    target_test_accuracy_interval: tuple[float, float] | None = None
    target_test_accuracy_centred: float | None = None
    target_test_accuracy_centred_interval: tuple[float, float] | None = None
    target_test_accuracy_own_labels: float | None = None
    macro_f1: float | None = None
    collapsed_label: str | None = None
    collapsed_share: float | None = None
    """Fraction of the texts given that label, 0 to 1."""
    trained_parameters: int = 0
    tokens: int | None = None
    file_bytes: int = 0
    seconds: float | None = None
    peak_memory_bytes: int | None = None


class HeldOutLoss(Record):
    step: int
    held_out_loss: Number


class TrainingLoss(Record):
    step: int
    loss: Number


class DemoReading(Record):
    """Masked tokens of text that no training has seen, before and after: MLM loss in nats, accuracies in per cent."""

    language: str
    language_name: str
    mlm_loss_before: float
    mlm_loss_after: float
    top1_before: float
    top1_after: float
    top5_before: float
    top5_after: float
    num_masked: int
    curve: list[HeldOutLoss]
    train_curve: list[TrainingLoss]
    steps: int
    seconds: float
    tokens: int
    tokens_per_second: float
    trained_parameters: int
    file_bytes: int
    peak_memory_bytes: int
    learning_rate: float
    prompt_length: int

    @property
    def learned(self) -> bool:
        """Whether the MLM loss fell."""
        return self.mlm_loss_after < self.mlm_loss_before


class Retrieval(Record):
    step: int
    retrieval: Number


class DemoAlignment(Record):
    """Figures of an alignment; retrieval in per cent."""

    method: str
    retrieval_before: float
    retrieval_after: float
    cosine_before: float
    cosine_after: float
    source_cosine_before: float
    source_cosine_after: float
    loss_before: float
    loss_after: float
    pairs: int
    held_out_pairs: int
    curve: list[Retrieval]
    steps: int
    tokens: int
    seconds: float
    trained_parameters: int
    file_bytes: int
    peak_memory_bytes: int
    learning_rate: float


class DemoGuess(Record):
    """A text with one word masked, and the model's guesses."""

    reference: str
    left: str
    answer: str
    right: str
    before: Guesses
    after: Guesses


class DemoExample(Record):
    """A test text with the label and its probability that each method gives."""

    reference: str
    text: str
    gold: str
    predictions: dict[str, tuple[str, float]]


class DemoFiles(Record):
    """Saved files, and commands to try them."""

    model_config = ConfigDict(populate_by_name=True)

    prompt: str | None = None
    """None where embedding alone is worth using."""
    classifier: str
    commands: list[str] = Field(validation_alias="try", serialization_alias="try")
    """To try them."""


class DemoMeta(Record):
    """Machine, versions and time of the demo."""

    versions: dict[str, str]
    hardware: str
    precision: str
    date: str
    seconds: float
    peak_memory_bytes: int
    backbone: str
    """Names of all; so fingerprint."""
    fingerprint: str


class DemoFigures(Record):
    """The figures of a demo, before anything is concluded from them."""

    title: str
    command: str
    task: DemoTask
    data: list[DemoSplit]
    rows: list[DemoRow]
    alignment: list[DemoAlignment]
    settings: dict[str, Any]
    language: DemoReading | None = None
    """None for a demo without masked language modelling; there are then no guesses or examples."""
    guesses: list[DemoGuess] = Field(default_factory=list[DemoGuess])
    examples: list[DemoExample] = Field(default_factory=list[DemoExample])


class DemoResult(DemoFigures):
    """The whole result of a demo."""

    conclusion: list[str]
    saved: DemoFiles
    meta: DemoMeta

    def to_json(self) -> dict[str, Any]:
        """As in `result.json`: rows with all their columns, of the rest what was set."""
        content = self.model_dump(mode="json", exclude_unset=True, by_alias=True)
        return {**content, "rows": [row.model_dump(mode="json") for row in self.rows]}
