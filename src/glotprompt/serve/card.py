"""Descriptions of classifiers for people, read from their files without tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter

from glotprompt.data.languages import known_name
from glotprompt.data.samples import Samples, Side
from glotprompt.inference.measurements import measurements_of, sentence
from glotprompt.inference.served import Served
from glotprompt.records import AdaptReport, TuneReport
from glotprompt.storage.metadata import Measurement


@dataclass(frozen=True)
class Card:
    """The language, task and training of a classifier; null or empty where its file does not say."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(use_attribute_docstrings=True)

    name: str
    language: str
    """ISO 639-3 code."""
    language_name: str | None
    """In English."""
    task: str
    labels: tuple[str, ...]
    fields: tuple[str, ...]
    """What an item needs: "text", or "premise" and "hypothesis" in the order of the template."""
    method: str
    backbone: str
    """Name of the model that it was made for, without the folder where it was one."""
    prompt_length: int | None
    finds_language: bool
    """Whether it is among those that language "auto" chooses from."""
    max_length: int
    """Tokens of a whole input, template included."""
    target_texts: int | None
    """Lines of unlabelled text in its language that stage 1 read."""
    source_texts: int | None
    """The same of the source language."""
    num_examples: int | None
    """Labelled examples it was trained on."""
    dev_accuracy: float | None
    """In per cent, on labelled examples of the source language that were held out."""
    measured: str
    """Its newest accuracy in its language with the 95 % interval, in words; or that it was not measured there."""
    measurements: tuple[Measurement, ...]
    """Accuracies on labelled examples, each with their language; the newest last."""
    offsets: bool
    """Whether label offsets are applied."""
    made: str
    """When its file was written, in UTC (ISO 8601)."""
    num_bytes: int
    """Size of its file."""
    sample_texts: tuple[str | tuple[str, ...], ...]
    """To try it on: each a text or, where there are several fields, a list of their texts."""
    sample_side: Side | None
    """Whose language these texts are in: the classifier's, or that of its labelled examples."""

    @classmethod
    def of(
        cls, served: Served, metadata: Mapping[str, Any], report: TuneReport | None, num_bytes: int, modified: float
    ) -> Card:
        """The card from the metadata and the report of a file; `modified` in seconds since 1970."""
        samples = Samples.in_file(metadata)
        stage1 = None if report is None else report.language_prompt
        adapted = stage1 if isinstance(stage1, AdaptReport) else None
        measurements = measurements_of(metadata)
        return cls(
            name=served.name,
            language=served.language,
            language_name=known_name(served.language),
            task=served.task.name,
            labels=tuple(metadata["labels"]),
            fields=served.task.template.fields,
            method=metadata["method"],
            backbone=Path(metadata["backbone"]["name"]).name,
            prompt_length=metadata["prompt_length"],
            finds_language=served.mixes,
            max_length=served.max_length,
            target_texts=None if adapted is None else adapted.target_lines,
            source_texts=None if adapted is None else adapted.source_lines,
            num_examples=None if report is None else report.examples,
            dev_accuracy=None if report is None else report.dev_accuracy,
            measured=sentence(measurements, served.language),
            measurements=measurements,
            offsets=metadata["offsets"] is not None,
            made=datetime.fromtimestamp(modified, UTC).isoformat(timespec="seconds"),
            num_bytes=num_bytes,
            sample_texts=() if samples is None else samples.texts,
            sample_side=None if samples is None else samples.side,
        )

    def checked(self) -> Card:
        """Validate the card and return it. Raises `ValueError` for a value of another type, or one that cannot be
        encoded in a response: one bad file must not spoil the list of all."""
        return _CHECK.validate_python(asdict(self))


_CHECK = TypeAdapter(Card)
