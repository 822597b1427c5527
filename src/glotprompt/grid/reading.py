"""Reading for steps: texts and examples of references and own files, without evaluation text, the same wherever a step
is planned or run. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from glotprompt.data import MAX_LINES
from glotprompt.data.datasets.catalog import parse_reference
from glotprompt.data.decontamination import (
    CleanText,
    OverlapCheck,
    held_out_texts,
    refuse_evaluation_text,
    stage1_texts,
)
from glotprompt.data.pairs import stage1_pairs
from glotprompt.data.readers.layout import Input
from glotprompt.data.readers.records import (
    Example,
    content_hash,
    content_of_pairs,
    most_per_label,
    share_of,
    subsample,
)
from glotprompt.data.sources import Reading, examples_of
from glotprompt.errors import DataError, counted, in_words_of

PLAIN = Reading()


@dataclass(frozen=True)
class TextSource:
    """A request for unlabelled text of one language."""

    references: tuple[str, ...]
    scored: tuple[str, ...]
    """References and files that are scored. Their texts are removed, and those of evaluation files beside the text."""
    share: float = 1.0
    max_lines: int = MAX_LINES
    """Largest number of lines; more are sampled down."""
    seed: int = 0
    """Seed of both samples."""
    read: Reading = PLAIN
    """How own files are read."""


@dataclass(frozen=True)
class Texts:
    """Text that stage 1 may train on."""

    lines: list[str]
    content: str
    """Hash of the lines."""
    checked: dict[str, Any]
    """The decontamination record, for the training's report."""


@dataclass(frozen=True)
class Pairs:
    """Parallel text that stage 1 may train on."""

    pairs: list[tuple[str, str]]
    """(source, target)."""
    content: str
    checked: dict[str, Any]


@dataclass(frozen=True)
class ExampleSource:
    """A request for labelled examples."""

    references: tuple[str, ...]
    input: Input = "article"
    read: Reading = PLAIN
    """How own files are read."""
    fields: tuple[str, ...] = ()
    """Fields of the task's template, which own files must have."""
    labels: tuple[str, ...] = ()
    """Labels that own files may have; the catalog has those of its datasets."""
    half: Literal[0, 1] | None = None
    """Every other example, from the first or the second on."""
    scored: tuple[str, ...] = ()
    """References and files whose texts are left out."""
    most_per_label: int | None = None
    """Largest number of examples of each label; more are sampled down."""
    seed: int = 0
    """Seed of that sample."""


@lru_cache(maxsize=64)
def texts(source: TextSource, data_dir: Path | None) -> Texts:
    """Read unlabelled text. Raises `DataError` for a reference to evaluation text, and where nothing is left."""
    text = _clean_text(source.references, source.scored, replace(source.read, data_dir=data_dir))
    lines = subsample(share_of(text.texts, source.share, source.seed), source.max_lines, source.seed)
    return Texts(lines, content_hash(lines), text.report.to_json())


@lru_cache(maxsize=64)
def _clean_text(references: tuple[str, ...], scored: tuple[str, ...], reading: Reading) -> CleanText:
    with in_words_of(_in_the_file):
        held_out = held_out_texts(references, scored, reading)
        (text,) = stage1_texts({", ".join(references): references}, reading, held_out).values()
    return text


@lru_cache(maxsize=64)
def pairs(source: TextSource, data_dir: Path | None) -> Pairs:
    """Read parallel text; raises as `texts` does."""
    for word in source.references:
        refuse_evaluation_text(word, "adapt")
    with in_words_of(_in_the_file):
        clean = stage1_pairs(source.references, source.scored, replace(source.read, data_dir=data_dir))
    translations = [(pair.source, pair.target) for pair in share_of(clean.pairs, source.share, source.seed)]
    return Pairs(translations, content_of_pairs(translations), clean.report.to_json())


def _in_the_file(name: str, value: str | None) -> str | None:
    """The line of an experiment's file that sets a reading option; used in error messages."""
    if name == "on_bad_row" or name in (field.name for field in fields(Reading)):
        text = json.dumps("..." if value is None else value)
        return f"{name} = {f'[{text}, ...]' if name == 'columns' else text} (under [read] in the experiment)"
    return None


@lru_cache(maxsize=64)
def examples(source: ExampleSource, data_dir: Path | None) -> list[Example]:
    """The examples of all references in their order, or what is asked of them: `half`, without `scored`, and of these
    at most `most_per_label` of each label."""
    if source.most_per_label is not None:
        everything = examples(replace(source, most_per_label=None, seed=0), data_dir)
        return most_per_label(everything, source.most_per_label, source.seed)
    everything = [example for word in source.references for example in _examples_of(word, source, data_dir)]
    everything = everything if source.half is None else everything[source.half :: 2]
    check = OverlapCheck(held_out_texts((), source.scored, replace(source.read, data_dir=data_dir)))
    return [one for one in everything if not any([*map(check.holds, one.fields.values())])]


@lru_cache(maxsize=256)
def examples_content(source: ExampleSource, data_dir: Path | None) -> str:
    """Hash of the examples' texts and labels."""
    return content_hash(examples(source, data_dir))


def _examples_of(word: str, source: ExampleSource, data_dir: Path | None) -> list[Example]:
    reference, reading = parse_reference(word), replace(source.read, data_dir=data_dir, input=source.input)
    with in_words_of(_in_the_file):
        labels = reference.dataset.labels if reference is not None else source.labels
        return examples_of(word, reading, source.fields, labels)


@lru_cache(maxsize=64)
def refuse_scored(train: ExampleSource, test: ExampleSource, data_dir: Path | None) -> None:
    """Raises `DataError` where examples of an own test file are trained on."""
    trained = {tuple(example.fields.items()) for example in examples(train, data_dir)}
    scored = examples(test, data_dir)
    both = sum(tuple(example.fields.items()) in trained for example in scored)
    if both:
        raise DataError(
            f"{', '.join(test.references)}: {both:,} of {counted(len(scored), 'example')} stand among the training"
            f" examples ({', '.join(train.references)}), too; take them out of one of them"
        )


@lru_cache(maxsize=64)
def check_folds(train: ExampleSource, test: ExampleSource, folds: int, data_dir: Path | None) -> None:
    """Raises `DataError` where too few test examples have the id of a training example for cross-fitting."""
    known = {one.id for one in examples(train, data_dir)}
    both = [one.id for one in examples(test, data_dir) if one.id in known]
    if len(set(both)) < len(both) or len(both) < folds:
        raise DataError(
            f"{', '.join(test.references)}: {counted(len(both), 'example')} with the id of an example of"
            f" {', '.join(train.references)}; folds = {folds} needs as many or more, each id once. Rows of your own"
            " tables have no ids: leave folds out for them"
        )


def check_training(references: Sequence[str], target_language: str) -> None:
    """Raises `DataError` for labelled text that is the target's evaluation text in another language."""
    for word in references:
        refuse_evaluation_text(word, "tune", target_language)
