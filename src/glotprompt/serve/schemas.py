"""Requests and responses: pydantic models, from which the OpenAPI description is made, and refusals."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from glotprompt.serve.card import Card

AUTO = "auto"
"""The language value that requests detection."""

_Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Limits(BaseModel):
    """Limits of one request."""

    model_config = ConfigDict(frozen=True)

    items: int = Field(default=64, ge=1)
    characters: int = Field(default=20_000, ge=1, description="Of all texts of a request together.")
    body_bytes: int = Field(default=1_000_000, ge=1)
    candidates: int = Field(default=64, ge=1, description='Classifiers that language "auto" may choose from.')


class Item(BaseModel):
    """A text, or a premise and a hypothesis, and which classifier is to read it: by its name, or by language and task
    ("auto": the language whose prompt fits the text best)."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"language": "sna", "task": "news", "text": "..."}}
    )

    classifier: _Name | None = Field(default=None, description="A name from GET /v1/classifiers.")
    language: _Name | None = Field(default=None, description='ISO 639-3 code, or "auto".')
    task: _Name | None = None
    text: str | None = None
    premise: str | None = None
    hypothesis: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        by_language = self.language is not None and self.task is not None
        if (self.classifier is None) != by_language or (self.language is None) != (self.task is None):
            raise ValueError("give classifier, or language and task")
        pair = self.premise is not None and self.hypothesis is not None
        if (self.text is None) != pair or (self.premise is None) != (self.hypothesis is None):
            raise ValueError("give text, or premise and hypothesis")
        for name in type(self).model_fields:
            if not _is_unicode(getattr(self, name) or ""):
                raise ValueError(f"{name} holds half of a character; send valid Unicode")
        if not all(text.strip() for text in self.texts):
            raise ValueError("a text is empty; give something to classify")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """One text, or premise and hypothesis."""
        return tuple(text for text in (self.text, self.premise, self.hypothesis) if text is not None)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of `texts`."""
        return ("text",) if self.text is not None else ("premise", "hypothesis")


def _is_unicode(text: str) -> bool:
    """Refuse half of a surrogate pair, which JSON can spell but which is no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class PredictRequest(BaseModel):
    """Items of any languages and tasks, mixed in any way."""

    model_config = ConfigDict(extra="forbid")

    items: list[Item] = Field(min_length=1)
    top_k: int | None = Field(default=None, ge=1, description="Give this many labels of each item; null: all.")


class LabelScore(BaseModel):
    label: str
    score: float = Field(description="Probability; those of all labels sum to 1.")


class Candidate(BaseModel):
    """A language that a text may be in."""

    language: str
    classifier: str
    loss: float = Field(description="Of masked tokens of the text behind this classifier's prompt; lower is nearer.")


class Result(BaseModel):
    classifier: str
    language: str
    label: str
    scores: list[LabelScore] = Field(description="The most probable first.")
    unknown: list[str] = Field(description="Characters of the item that the model's tokenizer does not know.")
    truncated: bool = Field(description="Whether the end of a text was cut off, for being too long for the classifier.")
    candidates: list[Candidate] | None = Field(
        default=None, description='For language "auto": what it was chosen from, the nearest first.'
    )


class PredictResponse(BaseModel):
    results: list[Result] = Field(description="In the order of the items.")
    seconds: float = Field(description="From the request to this answer.")
    queue_seconds: float = Field(description="Of these, until the model began with it.")


class FileError(BaseModel):
    file: str
    error: str


class ClassifierList(BaseModel):
    """What can be asked for."""

    classifiers: list[Card]
    errors: list[FileError] = Field(description="Files that are not served as they are on the disk, by their names.")
    limits: Limits
    auto: bool = Field(description='Whether language "auto" is offered.')
    trains: bool = Field(default=False, description="Whether classifiers can be trained here; see /v1/workspace.")


class ErrorFacts(BaseModel):
    code: str
    message: str
    item: int | None = Field(default=None, description="Which item is meant, counted from 0.")


class ErrorBody(BaseModel):
    """Every answer that is no success."""

    error: ErrorFacts


class Health(BaseModel):
    status: str


class Refusal(Exception):
    """An answer with a status of 4xx, or 503 where another attempt will do. Its message never quotes a text."""

    def __init__(
        self, status: int, code: str, message: str, item: int | None = None, retry_after: int | None = None
    ) -> None:
        """`item` is the place of what was refused among the request's items, `retry_after` in seconds."""
        super().__init__(message)
        self.status, self.code, self.item, self.retry_after = status, code, item, retry_after
        # Names of a request may hold half of a character, which no answer can be written with.
        self.message = " ".join(message.encode("utf-8", "replace").decode().split())
