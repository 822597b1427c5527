"""Sources of text: a user's files, and references to datasets such as masakhanews:sna:train."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from glotprompt.data.datasets.catalog import Reference, parse_reference
from glotprompt.data.parallel import read_parallel
from glotprompt.data.readers.files import read_examples, read_for_comparison, read_texts
from glotprompt.data.readers.layout import Input
from glotprompt.data.readers.normalise import normalise
from glotprompt.data.readers.records import Example, Pair
from glotprompt.data.readers.tables import ReadOptions, format_of
from glotprompt.errors import ConfigError, DataError, setting


@dataclass(frozen=True, slots=True)
class Reading(ReadOptions):
    """Options for reading sources: file options and column names, and where references are read from."""

    text: str | None = None
    """Column of texts in tables; None: "text". The same holds for the other columns."""

    label: str | None = None
    premise: str | None = None
    hypothesis: str | None = None
    data_dir: Path | None = None
    """Data folder; None: that of the environment variable, else the hub."""

    revision: str | None = None
    """Commit of a dataset on the hub; None: that of the catalog."""

    input: Input = "headline"
    """What is read of a dataset's news: headlines, or headline and body."""

    def __post_init__(self) -> None:
        ReadOptions.__post_init__(self)
        if self.input not in get_args(Input):
            raise ConfigError(f"{setting('input', self.input)} is not known; expected {' or '.join(get_args(Input))}")

    def is_table(self, source: str) -> bool:
        """Whether a file is a table, by its ending or by `format`."""
        return format_of(source, self) != "txt"


def texts_of(sources: Iterable[str], reading: Reading) -> list[str]:
    """Unlabelled texts of files and references, in order. For a labelled dataset see `Dataset.texts`."""
    result: list[str] = []
    for source in sources:
        reference = parse_reference(source)
        if reference is None:
            result += read_texts(source, reading.text if reading.is_table(source) else None, options=reading)
            continue
        texts = reference.dataset.texts(
            reference.language,
            reference.split or "train",
            reading.data_dir,
            revision=reading.revision,
            on_bad_row=reading.on_bad_row,
            report=reading.report,
        )
        result += map(normalise, texts) if reading.normalise else texts
    return result


def pairs_of(sources: Sequence[str], reading: Reading) -> list[Pair]:
    """Pairs (source, target) of tables and references, or of two line-aligned files."""
    return read_parallel(sources, data_dir=reading.data_dir, revision=reading.revision, options=reading)


def examples_of(
    source: str, reading: Reading, fields: Sequence[str] = ("text",), labels: Sequence[str] | None = None
) -> list[Example]:
    """Examples of a table or a reference, with the template's `fields` and a label among `labels` (None: labels are not
    needed, and not read from tables). Raises `ConfigError` for a reference that does not fit."""
    reference = parse_reference(source)
    if reference is not None:
        return _examples_of_reference(reference, reading, fields, labels)
    sides = {side: getattr(reading, side) or side for side in fields if side != "text"}
    label = None if labels is None else reading.label or "label"
    return read_examples(source, reading.text or "text", label, **sides, labels=labels, options=reading)


def _examples_of_reference(
    reference: Reference, reading: Reading, fields: Sequence[str], labels: Sequence[str] | None
) -> list[Example]:
    if reference.split is None:
        splits = ", ".join(reference.dataset.splits_of(reference.language))
        raise DataError(f"{reference}: which split? Write one of them behind it ({splits}): {reference}:test.")
    examples = reference.dataset.examples(
        reference.language,
        reference.split,
        reading.data_dir,
        revision=reading.revision,
        on_bad_row=reading.on_bad_row,
        input=reading.input,
        report=reading.report,
    )
    for example in examples[:1]:
        if not set(fields) <= set(example.fields):
            raise ConfigError(
                f"{reference} has {' and '.join(example.fields)}, the task's template reads {' and '.join(fields)};"
                f" give a task that fits, such as {setting('task', reference.dataset.task or 'FILE.toml')}"
            )
    other = sorted({str(example.label) for example in examples} - set(labels or ())) if labels is not None else []
    if other:
        raise ConfigError(
            f"{reference} has the labels {', '.join(other)}, which the task does not know; it has"
            f" {', '.join(labels or ())}. Make a task file with the labels of the data"
        )
    if not reading.normalise:
        return examples
    return [
        Example({name: normalise(text) for name, text in example.fields.items()}, example.label, example.id)
        for example in examples
    ]


def inputs_of(sources: Iterable[str], reading: Reading, fields: Sequence[str]) -> list[Example]:
    """Unlabelled inputs: lines of text, or table rows if the file is a table or the task has pairs."""
    inputs: list[Example] = []
    for source in sources:
        if reading.is_table(source) or "premise" in fields or parse_reference(source) is not None:
            inputs += examples_of(source, reading, fields)
        else:
            inputs += map(Example.of, texts_of([source], reading))
    return inputs


def texts_to_compare(source: str, reading: Reading) -> list[str]:
    """All texts of a file, or of the file of a reference's split, for overlap checks: not only the scored text
    (headlines) but also the rest (articles). Raises `ConfigError` for a reference without a split."""
    reference = parse_reference(source)
    if reference is None:
        named = [getattr(reading, column) or column for column in ("text", "premise", "hypothesis")]
        return read_for_comparison(source, reading, named)
    if reference.split is None:
        raise ConfigError(f"{reference}: which split? Write one behind it, such as {reference}:test")
    path, columns = reference.dataset.place(
        reference.language, reference.split, reading.data_dir, "auto", reading.revision
    )
    published = ReadOptions(
        quoting=columns.quoting, columns=columns.header, on_bad_row=reading.on_bad_row, report=reading.report
    )
    return read_for_comparison(path, published)
