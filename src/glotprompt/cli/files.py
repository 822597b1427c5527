"""How a person's files and references are read: the options of the command line, and what is wrong with them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from glotprompt.cli.declare import Params
from glotprompt.cli.screen import note
from glotprompt.cli.wording import READING
from glotprompt.data.datasets.catalog import parse_reference
from glotprompt.data.decontamination import evaluation_beside
from glotprompt.data.readers import files
from glotprompt.data.readers.tables import format_of
from glotprompt.data.sources import Reading
from glotprompt.errors import ConfigError, DataError, nearest
from glotprompt.task import Task

_FORMATS = ("txt", "tsv", "csv", "jsonl")
"""Formats that are text in some encoding."""
_COLUMNS = ("text", "label", "premise", "hypothesis")


def how_to_read(params: Params) -> Reading:
    """Reading options of a command (`--read key=value ...` and its kin). `params` are its parameters; options that it
    lacks keep their defaults."""
    options: dict[str, Any] = {name: params.get(name) for name in ("on_bad_row", "normalise", "data_dir", "revision")}
    options |= {name: params.get(f"{name}_column") for name in _COLUMNS}
    for pair in params["read"] or ():
        key, equals, value = pair.partition("=")
        if key == "on_bad_row":
            raise ConfigError(f"--read {pair}: this is an option of its own; write --on-bad-row {value or 'skip'}")
        if not equals or key not in READING:
            hint = nearest(key, READING)
            raise ConfigError(f"--read {pair!r}: expected KEY=VALUE, where KEY is one of {', '.join(READING)}.{hint}")
        options[key] = "\t" if value in ("\\t", "tab") else value
        if key == "columns":
            options[key] = [name.strip() for name in value.split(",")]
    return Reading(report=note, **{name: value for name, value in options.items() if value is not None})


def without_weight(word: str) -> str:
    """The file of `FILE=WEIGHT`."""
    return word if Path(word).exists() else word.rpartition("=")[0] or word


def check_reading(
    params: Params,
    sources: Sequence[str],
    *,
    pairs: bool = False,
    labelled: Sequence[str] = (),
    compared: Sequence[str] = (),
) -> None:
    """Refuse an option on how to read that none of a command's files has a use for. The arguments are those of
    `idle_reading`."""
    for name, reason in idle_reading(params, sources, pairs=pairs, labelled=labelled, compared=compared).items():
        keys = [pair.partition("=")[0] for pair in params["read"] or ()]
        if params.get(name) or name.removeprefix("read ").removesuffix("=") in keys:
            raise ConfigError(f"--{name.replace('_', '-')} has nothing to work on: {reason}")


def idle_reading(
    params: Params,
    sources: Sequence[str],
    *,
    pairs: bool = False,
    labelled: Sequence[str] = (),
    compared: Sequence[str] = (),
) -> dict[str, str]:
    """The options on how to read that none of a command's files has a use for, with the reason; of `--read` the keys
    ("read delimiter="). `params` are the command's parameters; `pairs`: whether the task reads pairs; `labelled`: which
    of the sources are examples; `compared`: files that are read for comparison, whose columns are not asked for, as are
    the dev and test files beside the sources."""
    how = how_to_read(params)
    compared = [*compared, *(str(file) for source in sources for file in evaluation_beside(source))]
    references = [source for source in (*sources, *compared) if parse_reference(source) is not None]
    files = [source for source in (*sources, *compared) if source not in references]
    tables = [source for source in sources if source in files and how.is_table(source)]
    of_pairs, of_texts = "the task reads single texts", "the task reads pairs, whose columns have options of their own"
    no_reference = "" if references else "none of the files is a reference such as masakhanews:sna:test"
    reasons = {
        "text_column": of_texts if pairs else _no_table(references, tables),
        "label_column": _no_table(references, [source for source in tables if source in labelled]),
        "premise_column": _no_table(references, tables) if pairs else of_pairs,
        "hypothesis_column": _no_table(references, tables) if pairs else of_pairs,
        "data_dir": no_reference,
        "revision": no_reference,
        "on_bad_row": "" if sources or params.get("on_bad_row") != "skip" else "no file is read",
        "read": "" if sources or compared else "no file is read",
    }
    idle = {name: f"{reason}; leave it out" for name, reason in reasons.items() if reason}
    formats = {format_of(file, how) for file in files}
    for keys, of_format in ((("delimiter", "quoting", "columns"), {"tsv", "csv"}), (("encoding",), {*_FORMATS})):
        if not formats & of_format:
            kinds = f"none of the files is {' or '.join(sorted(of_format))}"
            idle |= dict.fromkeys((f"read {key}=" for key in keys), f"{kinds}; leave it out, or say --read format=tsv")
    if references and not files:
        published = f"{references[0]} is read as it was published; leave it out"
        idle |= dict.fromkeys((f"read {key}=" for key in READING if key != "input"), published)
    if not any(map(has_bodies, labelled)):
        idle["read input="] = "none of what is classified is a reference to news with bodies; leave it out"
    return idle


def has_bodies(source: str) -> bool:
    """Whether a file or reference is news of which headlines or whole articles can be read."""
    reference = parse_reference(source)
    layout = None if reference is None else reference.dataset.layout
    return layout is not None and bool(layout.columns.unread)


def _no_table(references: Sequence[str], tables: Sequence[str]) -> str:
    """The reason why an option for a column has no effect; "" where it has one."""
    if tables:
        return ""
    if references:
        return f"the columns of {references[0]} are known"
    return "none of the files is a table by its ending (.tsv, .csv, .jsonl or .parquet; else say --read format=tsv)"


def chosen_labels(words: str | None, task: Task) -> list[str] | None:
    """The labels of `--labels a,b`, checked; None: all of them. One with a comma stands in quotes."""
    if words is None:
        return None
    names = [name.strip() for row in csv.reader([words], skipinitialspace=True) for name in row if name.strip()]
    if not names:
        raise ConfigError(f"--labels {words!r} names none; the classifier has {', '.join(task.labels)}")
    task.indices(names)
    return names


def label_prior(value: str, labels: Sequence[str]) -> dict[str, float]:
    """The label prior: `label=number,...`, or the numbers of a TOML or JSON file. Raises `DataError`."""
    try:
        numbers = _numbers(value) or files.read_mapping(
            value, "uniform, LABEL=NUMBER,..., or a TOML or JSON file of label = number"
        )
    except DataError as error:
        raise DataError(f"--label-prior {error}") from None
    if not all(_is_share(number) for number in numbers.values()):
        raise DataError(f"--label-prior {value}: expected one number of 0 or more per label, for example sports = 0.2")
    prior = {label: float(number) for label, number in numbers.items()}
    for label in prior:
        if label not in labels:
            raise DataError(
                f"--label-prior {value}: no label {label!r} among {', '.join(labels)}.{nearest(label, labels)}"
            )
    if not sum(prior.values()):
        raise DataError(f"--label-prior {value}: all its numbers are 0; at least one must be more")
    return prior


def _numbers(value: str) -> dict[str, Any]:
    """The numbers of `label=number,...`, None for one that is invalid; empty where the value names a file."""
    if "=" not in value or Path(value).exists():
        return {}
    numbers: dict[str, Any] = {}
    for pair in value.split(","):
        label, _, number = (part.strip() for part in pair.rpartition("="))
        with suppress(ValueError):
            numbers[label] = float(number)
        numbers.setdefault(label, None)
    return numbers


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
