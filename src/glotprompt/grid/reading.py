"""What steps read: texts and examples of references and of own files, with the guards of honest splits, the same at
every place that asks. No torch."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from glotprompt.data import catalog
from glotprompt.data.files import read_examples, read_for_comparison, read_texts
from glotprompt.data.guards import evaluation_beside, refuse_evaluation_text, without_overlap
from glotprompt.data.layout import read_records
from glotprompt.data.records import Example, content_hash, generator, share_of, subsample
from glotprompt.data.tables import ReadOptions, format_of
from glotprompt.errors import DataError, counted

Input = Literal["article", "headline"]
Reading = tuple[tuple[str, Any], ...]
"""Settings of `read_examples` and their values."""
_COLUMNS = ("text", "label", "premise", "hypothesis")
_KEYS = (*_COLUMNS, "delimiter", "quoting", "columns", "encoding", "on_bad_row")


@dataclass(frozen=True)
class TextSource:
    """Unlabelled text of one language, as it is asked for."""

    references: tuple[str, ...]
    held_out: tuple[str, ...]
    """References to evaluation text, none of which may be left in it."""
    most_characters: int | None = None
    share: float = 1.0
    seed: int = 0
    """Of the share; what `most_characters` draws is the same for all seeds."""
    read: Reading = ()
    """How own files are read."""


@dataclass(frozen=True)
class Texts:
    """Text that stage 1 may read."""

    lines: list[str]
    content: str
    """Hash of what it says."""
    record: dict[str, Any]
    """What the guards removed, for the facts of what is trained."""


@dataclass(frozen=True)
class ExampleSource:
    """Labelled examples, as they are asked for."""

    references: tuple[str, ...]
    input: Input = "article"
    most_per_label: int | None = None
    read: Reading = ()
    """How own files are read."""
    labels: tuple[str, ...] = ()
    """Those that own files may have; of the catalog's they are known."""


def evaluation_text(training: Sequence[str], scored: Sequence[str]) -> tuple[str, ...]:
    """What must not be in stage 1: what is scored, and what lies beside the training text."""
    beside = [str(place) for word in training for place in evaluation_beside(word)]
    return tuple(dict.fromkeys([*scored, *beside]))


@lru_cache(maxsize=64)
def texts(source: TextSource, data_dir: Path | None) -> Texts:
    """Raises `DataError` for a reference to evaluation text, and where nothing is left."""
    for word in source.references:
        refuse_evaluation_text(word, "adapt")
    lines = list(_all_texts(source.references, source.read, data_dir))
    if source.most_characters is not None:
        lines = _part_of(lines, source.most_characters)
    guarded = without_overlap(lines, {word: _to_compare(word, source.read, data_dir) for word in source.held_out})
    if not guarded.texts:
        raise DataError(f"all text of {', '.join(source.references)} is evaluation text; give other text")
    kept = share_of(guarded.texts, source.share, source.seed)
    return Texts(kept, content_hash(kept), guarded.facts())


@lru_cache(maxsize=64)
def _all_texts(references: tuple[str, ...], read: Reading, data_dir: Path | None) -> tuple[str, ...]:
    found: list[str] = []
    for word in references:
        known = catalog.parse_reference(word)
        if known is not None:
            found += catalog.texts_of(known, data_dir)
        else:
            how: dict[str, Any] = {name: value for name, value in read if name not in _COLUMNS}
            is_table = format_of(word, ReadOptions()) != "txt"
            with _naming_the_keys():
                found += read_texts(word, dict(read).get("text", "text") if is_table else None, **how)
    return tuple(found)


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


@contextmanager
def _naming_the_keys() -> Generator[None]:
    """What goes wrong with an own file names settings of reading; say where they stand."""
    try:
        yield
    except DataError as error:
        named = re.search(rf"\b({'|'.join(_KEYS)})=", str(error))
        hint = f" ({named[1]} stands under [read] in the experiment)" if named else ""
        raise DataError(f"{error}{hint}") from None


@lru_cache(maxsize=64)
def _to_compare(word: str, read: Reading, data_dir: Path | None) -> list[str]:
    known = catalog.parse_reference(word)
    if known is not None:
        return catalog.texts_to_compare(known, data_dir)
    how: dict[str, Any] = {name: value for name, value in read if name not in (*_COLUMNS, "normalise")}
    with _naming_the_keys():
        return read_for_comparison(word, **how)


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
    found = catalog.parse_reference(word)
    if found is None:
        how: dict[str, Any] = dict(source.read)
        with _naming_the_keys():
            return read_examples(word, **how, labels=source.labels)
    layout = found.dataset.layout
    if source.input == "headline" or layout is None or not layout.columns.unread or found.split is None:
        return catalog.examples_of(found, data_dir)
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
