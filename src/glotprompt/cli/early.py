"""What is wrong with a command line and can be said before torch is imported, which takes seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from glotprompt.cli.declare import Params
from glotprompt.cli.files import how_to_read, without_weight
from glotprompt.data.datasets.catalog import parse_reference
from glotprompt.data.languages import checked_code
from glotprompt.data.readers.lines import read_lines
from glotprompt.data.sources import examples_of
from glotprompt.errors import ConfigError
from glotprompt.storage.kinds import STAGE1_KINDS, check_exists
from glotprompt.task import Task

LABELLED = ("train", "dev", "target_labels")
FILES = (
    *LABELLED,
    *("data", "target", "source", "parallel", "target_text", "held_out", "unlabelled", "input", "text", "prior_text"),
)
"""Parameters that name files or references."""
SAVED = {
    "prompt": STAGE1_KINDS,
    "init_prompt": STAGE1_KINDS[:1],
    "classifier": ("classifier",),
}
"""Parameters that name saved files, and of what kind these are."""
WRITTEN = ("output", "json", "save_offsets")
"""Parameters that name files which are written. Offsets may be kept in the classifier itself."""
MOST_BYTES = 10**7
"""Larger tables are not read for this, as they are read again."""


def check(params: Params) -> None:
    """Raise what the command would raise for an unknown language code or task, a file or saved file that is not there,
    and a row whose label the task lacks."""
    if params.get("language") is not None:
        checked_code(params["language"])
    for name in FILES:
        for file in _files(params, name):
            if "=" not in file and not Path(file).exists():
                next(read_lines(file))
    for name, expected in SAVED.items():
        for file in _files(params, name):
            check_exists(Path(without_weight(file)), expected)
    _check_written(params)
    _check_labelled_once(params)
    if params.get("task") is None:
        return
    task, how = Task.load(params["task"]), replace(how_to_read(params), report=lambda line: None)
    for name in LABELLED:
        for file in _files(params, name):
            if Path(file).is_file() and Path(file).stat().st_size <= MOST_BYTES:
                examples_of(file, how, task.template.fields, task.labels)


def _check_written(params: Params) -> None:
    """Refuse to write over what is read."""
    for written in WRITTEN:
        path = params.get(written)
        if path is None or not Path(path).is_file():
            continue
        for name in (*FILES, *SAVED):
            files = map(Path, map(without_weight, _files(params, name)))
            is_its_own = (written, name) == ("save_offsets", "classifier")
            if not is_its_own and any(file.exists() and file.samefile(path) for file in files):
                option, other = (f"--{one.replace('_', '-')}" for one in (written, name))
                raise ConfigError(f"{option} {path} is what {other} reads; give another name")


def _check_labelled_once(params: Params) -> None:
    """Refuse a file as labels of the source language and of the target."""
    train = [Path(file) for file in _files(params, "train") if Path(file).exists()]
    for file in map(Path, _files(params, "target_labels")):
        if file.exists() and any(file.samefile(other) for other in train):
            raise ConfigError(
                f"--target-labels {file} is what --train reads, too; give examples in the target language, or leave"
                " --target-labels out"
            )


def _files(params: Params, name: str) -> list[str]:
    """The files that a parameter names, without references and standard input."""
    given = params.get(name) or ()
    words = [str(one) for one in (given if isinstance(given, list | tuple) else [given])]
    return [word for word in words if word != "-" and parse_reference(word) is None]
