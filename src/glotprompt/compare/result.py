"""What a comparison found, as `compare.json` holds it."""

from __future__ import annotations

from pydantic import Field

from glotprompt.records import Record


class Gain(Record):
    """Accuracy of one candidate minus that of another on the same examples, in points, and its 95 % interval (paired
    bootstrap over the examples)."""

    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out on the side of a gain."""
        return self.low > 0


class CompareRow(Record):
    """A candidate."""

    name: str
    title: str
    accuracy: float | None = None
    """On the target labels, in per cent, mean over seeds: of a candidate that is trained on target labels by
    cross-validation. None: not run, or there are no target labels."""
    interval: tuple[float, float] | None = None
    """95 % interval of Wilson: what other examples like these would have given."""
    accuracies: list[float] = Field(default_factory=list[float])
    """By seed, from 0."""
    gain: Gain | None = None
    """Over the best baseline."""
    source_dev_accuracy: float | None = None
    """On held-out examples of the source language: it says nothing of the target language."""
    retrieval: tuple[float, float] | None = None
    """Held-out translations found before and after alignment, in per cent."""
    seconds: float = 0
    """Of training, all seeds and folds."""
    not_run: str | None = None
    """Why there are no figures; None: it was run."""


class Saved(Record):
    """The classifier for `predict`, `evaluate` and `serve`, trained on everything."""

    name: str
    """Of its candidate, the winner."""
    file: str


class CompareResult(Record):
    """A comparison."""

    language: str
    task: str
    model: str
    minutes: float
    """The budget."""
    target_labels: int
    folds: int
    """Of the cross-validation on the target labels; 0: there are none."""
    shared_words: float | None
    """Of the words of the target texts, those that occur in the translations, in per cent."""
    rows: list[CompareRow]
    baseline: str | None
    """The better one of the baselines."""
    winner: str
    """Chosen on the target labels; without any, recommended by what was measured on other languages."""
    advice: list[str]
    saved: Saved | None
    """None: the majority class is most accurate, and there is nothing to save."""
    commands: list[str]
    """Those that make what is saved again."""
