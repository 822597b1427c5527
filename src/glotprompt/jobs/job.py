"""Jobs: their steps, their state and their progress."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from glotprompt.records import Record

State = Literal["waiting", "running", "finished", "failed", "cancelled"]
Kind = Literal["doctor", "train", "evaluate"]


class Step(Record):
    """A command line of a job."""

    title: str
    words: list[str]
    """Arguments of `glotprompt`; paths are relative to the workspace."""
    accepts: list[int] = Field(default_factory=lambda: [0])
    """Exit statuses after which the job continues."""
    measures: bool = False
    """Whether it only measures what the steps before it made: it is left out where they made nothing, and the job goes
    on where it fails."""


class Choice(Record):
    """What a person chose for a training, so that it can be done again with more labels."""

    way: str
    language: str
    task: str
    """Name of the task."""
    uploads: list[int]
    minutes: float
    steps: int | None = None


class Job(Record):
    """A job as it was ordered; it does not change."""

    number: int
    kind: Kind
    title: str
    steps: list[Step]
    created: str
    """In UTC (ISO 8601)."""
    choice: Choice | None = None
    output: str | None = None
    """The classifier's file, below the workspace."""
    classifier: str | None = None
    """The name under which it is served, or of what is scored."""
    results: dict[str, str] = Field(default_factory=dict[str, str])
    """JSON files of figures by what they are: "compare", "evaluation", "doctor"."""


class Status(Record):
    """State of a job."""

    state: State = "waiting"
    step: int = 0
    """Steps that are done."""
    started: str | None = None
    finished: str | None = None
    seconds: float = 0
    """Running time, over all attempts."""
    message: str = ""
    """Why it failed, or was not measured, in one line."""


class Progress(Record):
    """Progress of the running command: the newest state of a training, as `training.progress` writes it."""

    seconds: float
    """Time since it began."""
    stage: str = ""
    """What is trained; "": nothing yet."""
    step: int = 0
    steps: int = 0
    loss: float | None = Field(default=None, allow_inf_nan=False)
    seconds_left: float | None = None
    """Of the stage."""
