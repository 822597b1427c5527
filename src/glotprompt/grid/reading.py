"""What steps read: texts and examples of references and of own files, without evaluation text, the same at every place
that asks. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

from glotprompt.data.datasets.catalog import parse_reference
from glotprompt.data.decontamination import held_out_texts, refuse_evaluation_text, stage1_texts
from glotprompt.data.pairs import stage1_pairs
from glotprompt.data.readers.layout import read_records
from glotprompt.data.readers.records import Example, content_hash, content_of_pairs, generator, share_of, subsample
from glotprompt.data.sources import Reading, examples_of
from glotprompt.errors import DataError, counted, in_words_of

Input = Literal["article", "headline"]
PLAIN = Reading()


@dataclass(frozen=True)
class TextSource:
    """Unlabelled text of one language, as it is asked for."""

    references: tuple[str, ...]
    scored: tuple[str, ...]
    """References and files that are scored; nothing of them, nor of what lies beside the text, may be left in it."""
    most_characters: int | None = None
    share: float = 1.0
    seed: int = 0
    """Of the share; what `most_characters` draws is the same for all seeds."""
    read: Reading = PLAIN
    """How own files are read."""


@dataclass(frozen=True)
class Texts:
    """Text that stage 1 may read."""

    lines: list[str]
    content: str
    """Hash of what it says."""
    checked: dict[str, Any]
    """What was removed, for the report of what is trained."""


@dataclass(frozen=True)
class Pairs:
    """Parallel text that stage 1 may read."""

    pairs: list[tuple[str, str]]
    """(source, target)."""
    content: str
    checked: dict[str, Any]


@dataclass(frozen=True)
class ExampleSource:
    """Labelled examples, as they are asked for."""

    references: tuple[str, ...]
    input: Input = "article"
    most_per_label: int | None = None
    read: Reading = PLAIN
    """How own files are read."""
    fields: tuple[str, ...] = ()
    """Those that the task's template reads, of own files."""
    labels: tuple[str, ...] = ()
    """Those that own files may have; of the catalog's they are known."""


@lru_cache(maxsize=64)
def texts(source: TextSource, data_dir: Path | None) -> Texts:
    """Raises `DataError` for a reference to evaluation text, and where nothing is left."""
    reading = replace(source.read, data_dir=data_dir)
    with in_words_of(_in_the_file):
        held_out = held_out_texts(source.references, source.scored, reading)
        draw = list if source.most_characters is None else partial(_part_of, most_characters=source.most_characters)
        clean = stage1_texts({", ".join(source.references): source.references}, reading, held_out, draw=draw)
    (found,) = clean.values()
    kept = share_of(found.texts, source.share, source.seed)
    return Texts(kept, content_hash(kept), found.to_json())


@lru_cache(maxsize=64)
def pairs(source: TextSource, data_dir: Path | None) -> Pairs:
    """As `texts`, of parallel text."""
    for word in source.references:
        refuse_evaluation_text(word, "adapt")
    with in_words_of(_in_the_file):
        found = stage1_pairs(source.references, source.scored, replace(source.read, data_dir=data_dir))
    kept = [(pair.source, pair.target) for pair in share_of(found.pairs, source.share, source.seed)]
    return Pairs(kept, content_of_pairs(kept), found.report.to_json())


def _part_of(lines: Sequence[str], most_characters: int) -> list[str]:
    """Lines drawn until they have so many characters, in their order; draws of different sizes are nested."""
    chosen: list[int] = []
    left = most_characters
    for index in generator(0, "characters").permutation(len(lines)).tolist():
        if left <= 0:
            break
        chosen.append(index)
        left -= len(lines[index])
    return [lines[index] for index in sorted(chosen)]


def _in_the_file(name: str, value: str | None) -> str | None:
    """How an experiment's file says how own files are read."""
    if name == "on_bad_row" or name in (field.name for field in fields(Reading)):
        said = json.dumps("..." if value is None else value)
        return f"{name} = {f'[{said}, ...]' if name == 'columns' else said} (under [read] in the experiment)"
    return None


@lru_cache(maxsize=64)
def examples(source: ExampleSource, data_dir: Path | None) -> list[Example]:
    """The examples of all references in their order, at most so many of a label."""
    found = [example for word in source.references for example in _examples_of(word, source, data_dir)]
    if source.most_per_label is None:
        return found
    members: dict[str, list[int]] = {}
    for index, example in enumerate(found):
        members.setdefault(str(example.label), []).append(index)
    kept = [index for mine in members.values() for index in subsample(mine, source.most_per_label, 0)]
    return [found[index] for index in sorted(kept)]


@lru_cache(maxsize=256)
def examples_content(source: ExampleSource, data_dir: Path | None) -> str:
    """Hash of what the examples say and of their labels."""
    return content_hash(examples(source, data_dir))


def _examples_of(word: str, source: ExampleSource, data_dir: Path | None) -> list[Example]:
    found, reading = parse_reference(word), replace(source.read, data_dir=data_dir)
    layout = None if found is None else found.dataset.layout
    if found is None or source.input == "headline" or layout is None or not layout.columns.unread or not found.split:
        with in_words_of(_in_the_file):
            known = found.dataset.labels if found is not None else source.labels
            return examples_of(word, reading, source.fields, known)
    path, columns = found.dataset.place(found.language, found.split, data_dir, "auto", None)
    found_examples: list[Example] = []
    for record in read_records(path, columns, found.dataset.labels):
        short = record.example
        found_examples.append(Example.of("\n".join([short.fields["text"], *record.unread]), short.label, short.id))
    return found_examples


@lru_cache(maxsize=64)
def refuse_scored(train: ExampleSource, test: ExampleSource, data_dir: Path | None) -> None:
    """Raises `DataError` where examples of an own test file are trained on."""
    known = {tuple(example.fields.items()) for example in examples(train, data_dir)}
    scored = examples(test, data_dir)
    both = sum(tuple(example.fields.items()) in known for example in scored)
    if both:
        raise DataError(
            f"{', '.join(test.references)}: {both:,} of {counted(len(scored), 'example')} stand among the training"
            f" examples ({', '.join(train.references)}), too; take them out of one of them"
        )


def check_training(references: Sequence[str], target_language: str) -> None:
    """Raises `DataError` for labelled text that is the target's evaluation text in another language."""
    for word in references:
        refuse_evaluation_text(word, "tune", target_language)
