"""A person's files and references to datasets, read with the options of the command line; errors name these options."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from shlex import quote
from typing import Any

from glotprompt.cli.screen import note
from glotprompt.data import catalog, files
from glotprompt.data.normalise import normalise
from glotprompt.data.parallel import read_parallel
from glotprompt.data.records import Example, Pair
from glotprompt.data.tables import ReadOptions, format_of
from glotprompt.errors import ConfigError, DataError, UserError, nearest
from glotprompt.templates import Task, Template

_FORMATS = ("txt", "tsv", "csv", "jsonl")
"""Formats that are text in some encoding."""
_KEYS = ("format", "delimiter", "quoting", "columns", "encoding")
_AS_OPTIONS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\b(text|label|premise|hypothesis)=(?=[\s,.]|$)"), r"--\1-column"),
    (
        re.compile(rf'\b({"|".join(_KEYS)})=(?:"([^"]*)"|([^\s".,;]*))'),
        lambda found: "--read " + quote(f"{found[1]}={found[2] or found[3] or ''}"),  # a shell would end at a ;
    ),
    (re.compile(r'\bon_bad_row="?(\w*)"?'), r"--on-bad-row \1"),
    (re.compile(r"\bdata_dir="), "--data-dir"),
    (re.compile(r'pass source="hub" and revision='), "give --revision COMMIT and no data folder"),
    (re.compile(r'pass source="hub"'), "give no data folder, to read the hub"),
    (re.compile(r"\brevision=(?:'([^']*)')?"), lambda found: f"--revision {found[1] or 'COMMIT'}"),
)


def how_to_read(params: Mapping[str, Any]) -> dict[str, Any]:
    """A command's `--read key=value ...` and its kin as arguments of the functions below. `params` are its parameters;
    what it does not offer keeps its default."""
    options: dict[str, Any] = {
        "report": _note_with_options, "on_bad_row": params.get("on_bad_row", "error"),
        "normalise": params.get("normalise", False), "data_dir": params.get("data_dir"),
        "revision": params.get("revision"),
    }  # fmt: skip
    for pair in params["read"] or ():
        key, equals, value = pair.partition("=")
        if key == "on_bad_row":
            raise ConfigError(f"--read {pair}: this is an option of its own; write --on-bad-row {value or 'skip'}")
        if not equals or key not in _KEYS:
            hint = nearest(key, _KEYS)
            raise ConfigError(f"--read {pair!r}: expected KEY=VALUE, where KEY is one of {', '.join(_KEYS)}.{hint}")
        options[key] = value.split(",") if key == "columns" else "\t" if value in ("\\t", "tab") else value
    return options


def texts_of(sources: Sequence[str], column: str | None, how: Mapping[str, Any]) -> list[str]:
    """The unlabelled texts of several files or references; the column is that of the tables among them."""
    lines: list[str] = []
    for source in sources:
        reference = catalog.parse_reference(source)
        if reference is not None:
            with speaking_of_options():
                found = catalog.texts_of(reference, **_of_references(how))
            lines += [normalise(text) for text in found] if how["normalise"] else found
            continue
        wanted = column if is_table(source, how) else None
        with speaking_of_options():
            lines += files.read_texts(source, wanted, **_of_files(how))
    return lines


def pairs_of(sources: Sequence[str], how: Mapping[str, Any]) -> list[Pair]:
    """The (source, target) pairs of tables and references, or of two files line by line."""
    with speaking_of_options():
        return read_parallel(sources, **how)


def texts_to_compare(source: str, how: Mapping[str, Any]) -> list[str]:
    """Every text of a file or reference, to look for it in others."""
    reference = catalog.parse_reference(source)
    with speaking_of_options():
        if reference is None:
            return files.read_for_comparison(
                source, **{name: value for name, value in _of_files(how).items() if name != "normalise"}
            )
        options = {name: how[name] for name in ("revision", "on_bad_row", "report")}
        return catalog.texts_to_compare(reference, how["data_dir"], **options)


def _of_files(how: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in how.items() if name not in ("data_dir", "revision")}


def _of_references(how: Mapping[str, Any]) -> dict[str, Any]:
    return {name: how[name] for name in ("data_dir", "revision", "on_bad_row", "report")}


def check_reading(
    params: Mapping[str, Any],
    sources: Sequence[str],
    *,
    pairs: bool = False,
    labelled: Sequence[str] = (),
    compared: Sequence[str] = (),
) -> None:
    """Refuse an option on how to read that none of a command's files has a use for. `params` are the command's
    parameters; `pairs`: whether the task reads pairs; `labelled`: which of the sources have labels; `compared`: files
    that are read for comparison, whose columns are not asked for."""
    how = how_to_read(params)
    references = [source for source in (*sources, *compared) if catalog.parse_reference(source) is not None]
    files = [source for source in (*sources, *compared) if source not in references]
    tables = [source for source in sources if source in files and is_table(source, how)]
    of_pairs, of_texts = "the task reads single texts", "the task reads pairs, whose columns have options of their own"
    reasons = {
        "text_column": of_texts if pairs else _no_table(references, tables),
        "label_column": _no_table(references, [source for source in tables if source in labelled]),
        "premise_column": _no_table(references, tables) if pairs else of_pairs,
        "hypothesis_column": _no_table(references, tables) if pairs else of_pairs,
        "data_dir": "" if references else "none of the files is a reference such as masakhanews:sna:test",
        "revision": "" if references else "none of the files is a reference such as masakhanews:sna:test",
        "on_bad_row": "" if sources or params.get("on_bad_row") != "skip" else "no file is read",
        "read": "" if files else f"{references[0]} is read as it was published" if references else "no file is read",
    }
    for name, reason in reasons.items():
        if params.get(name) and reason:
            raise ConfigError(f"--{name.replace('_', '-')} has nothing to work on: {reason}; leave it out")
    formats = {_format_of(file, how) for file in files}
    for keys, wanted in ((("delimiter", "quoting", "columns"), {"tsv", "csv"}), (("encoding",), {*_FORMATS})):
        idle = next((key for key in keys if key in how and not formats & wanted), None)
        if idle is not None:
            raise ConfigError(
                f"--read {idle}= has nothing to work on: none of the files is {' or '.join(sorted(wanted))}; leave it"
                " out, or say --read format=tsv"
            )


def _no_table(references: Sequence[str], tables: Sequence[str]) -> str:
    """Why a column has nothing to name; "" where it has."""
    if tables:
        return ""
    if references:
        return f"the columns of {references[0]} are known"
    return "none of the files is a table by its ending (.tsv, .csv, .jsonl or .parquet; else say --read format=tsv)"


def examples_of(
    source: str, template: Template, columns: Mapping[str, Any], how: Mapping[str, Any], labels: Sequence[str] | None
) -> list[Example]:
    """The examples of a table or reference, with the fields that the task's template wants and a label among `labels`;
    None: they need no label.

    `columns` are a command's parameters, of which `text_column` and its kin are looked at."""
    reference = catalog.parse_reference(source)
    if reference is not None:
        return _published(reference, template, how, labels)
    pairs = "premise" in template.fields
    sides = ("premise", "hypothesis") if pairs else ()
    names = {side: columns[f"{side}_column"] or side for side in sides}
    text = columns["text_column"] or "text"
    label = None if labels is None else columns["label_column"] or "label"
    with speaking_of_options():
        return files.read_examples(source, text, label, **names, labels=labels, **_of_files(how))


def _published(
    reference: catalog.Reference, template: Template, how: Mapping[str, Any], labels: Sequence[str] | None
) -> list[Example]:
    """The examples of a reference, checked against the task."""
    with speaking_of_options():
        found = catalog.examples_of(reference, **_of_references(how))
    for example in found[:1]:
        if not set(template.fields) <= set(example.fields):
            raise ConfigError(
                f"{reference} has {' and '.join(example.fields)}, the task's template reads"
                f" {' and '.join(template.fields)}; give a task that fits, such as --task"
                f" {reference.dataset.task or 'FILE.toml'}"
            )
    other = sorted({str(example.label) for example in found} - set(labels or ())) if labels is not None else []
    if other:
        raise ConfigError(
            f"{reference} has the labels {', '.join(other)}, which the task does not know; it has"
            f" {', '.join(labels or ())}. Make a task file with the labels of the data"
        )
    if not how["normalise"]:
        return found
    return [
        Example({name: normalise(text) for name, text in example.fields.items()}, example.label, example.id)
        for example in found
    ]


def inputs_of(
    sources: Sequence[str], template: Template, columns: Mapping[str, Any], how: Mapping[str, Any]
) -> list[Example]:
    """Unlabelled inputs: lines of text, or rows of a table where the file is one or the task reads pairs."""
    found: list[Example] = []
    for source in sources:
        if is_table(source, how) or "premise" in template.fields or catalog.parse_reference(source) is not None:
            found += examples_of(source, template, columns, how, None)
        else:
            found += [Example.of(text) for text in texts_of([source], columns["text_column"], how)]
    return found


def is_table(source: str, how: Mapping[str, Any]) -> bool:
    """Whether a file is a table, by its ending or by `--read format=`."""
    return _format_of(source, how) != "txt"


def _format_of(source: str, how: Mapping[str, Any]) -> str:
    with speaking_of_options():
        return format_of(source, ReadOptions(how.get("format")))


def chosen_labels(words: str | None, task: Task) -> list[str] | None:
    """The labels of `--labels a,b`, checked; None: all of them."""
    if words is None:
        return None
    names = [name.strip() for name in words.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"--labels {words!r} names none; the classifier has {', '.join(task.labels)}")
    task.indices(names)
    return names


def label_prior(value: str | None, labels: Sequence[str]) -> dict[str, float]:
    """`uniform` over the labels, or the numbers of a TOML or JSON file."""
    if value is None or value == "uniform":
        return dict.fromkeys(labels, 1.0)
    try:
        found = files.read_mapping(value, "uniform, or a TOML or JSON file of label = number")
    except DataError as error:
        raise DataError(f"--label-prior {error}") from None
    if not all(_is_share(number) for number in found.values()):
        raise DataError(f"--label-prior {value}: expected one number of 0 or more per label, for example sports = 0.2")
    prior = {label: float(number) for label, number in found.items()}
    for label in prior:
        if label not in labels:
            raise DataError(
                f"--label-prior {value}: no label {label!r} among {', '.join(labels)}.{nearest(label, labels)}"
            )
    if not sum(prior.values()):
        raise DataError(f"--label-prior {value}: all its numbers are 0; at least one must be more")
    return prior


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


@contextmanager
def speaking_of_options() -> Generator[None]:
    """Errors of the data room name arguments (`text=`); here they name the options that set them."""
    try:
        yield
    except UserError as error:
        raise type(error)(as_options(str(error))) from None


def as_options(message: str) -> str:
    """A sentence of the data room with the options that set what it names; not in the file's name at its start, which
    may look like a setting (encoding=latin.txt)."""
    place, colon, said = message.partition(": ")
    if not colon:
        place, said = "", message
    for pattern, option in _AS_OPTIONS:
        said = pattern.sub(option, said)
    return f"{place}{colon}{said}"


def _note_with_options(sentence: str) -> None:
    note(as_options(sentence))
