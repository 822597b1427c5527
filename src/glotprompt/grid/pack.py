"""All results of a grid in one compressed file, so that tables can be drawn, and cells skipped, without its folder.

Gzipped JSON lines: a header, then one line for each experiment, test set and result, in an order that keeps the bytes
the same. A test set's row ids and gold labels are stored once; predictions are label indices. The file holds results,
not trained weights.
"""

from __future__ import annotations

import gzip
import json
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from glotprompt.config import identity_of
from glotprompt.errors import DataError
from glotprompt.grid.store import RESULT, STEP, ExperimentRecord, Store
from glotprompt.storage import atomic

ENDING = ".jsonl.gz"
HEADER = {"glotprompt results": 1}
LABELLINGS = ("all", "own")
"""The two kinds of predictions in a result: over all labels, and over those of the test set."""
_PLACES = ("--output", "--data-dir", "--known")
"""Options whose values are of one machine."""


def pack(store: Store, file: Path) -> Path:
    """Write all experiments of a store and the results of their cells. Raises `DataError` where there is none."""
    lines = [HEADER, *({"experiment": _without_places(record)} for record in store.experiments())]
    names = sorted({cell["result"] or "" for record in store.experiments() for cell in record["cells"]} - {""})
    results = {name: result for name in names if (result := store.result_of(name)) is not None}
    tests: dict[str, dict[str, Any]] = {}
    packed = [{"step": name, "result": _packed(result, tests)} for name, result in results.items()]
    lines += [{"test": name, **test} for name, test in tests.items()] + packed
    text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
    return atomic.write(file, gzip.compress(text.encode(), 9, mtime=0))


def unpack(file: Path, store: Store) -> None:
    """Add the content of a packed file to a store, but for steps that another process is writing. Raises `DataError`
    for any other file."""
    tests: dict[str, dict[str, Any]] = {}
    for line in _lines(file):
        if "experiment" in line:
            if store.experiment(line["experiment"]["name"]) is None:
                store.write_experiment(line["experiment"])
        elif "test" in line:
            tests[line["test"]] = line
        elif not store.has(line["step"]):
            contents = {RESULT: _unpacked(line["result"], tests), STEP: {"unpacked_from": file.name}}
            with suppress(BlockingIOError), store.claimed(line["step"], wait=False):
                outcome = store.outcome(line["step"])
                for name, content in contents.items():
                    (outcome / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
                store.publish(line["step"])


def steps_of(file: Path) -> set[str]:
    """Names of the steps whose results a packed file holds."""
    return {line["step"] for line in _lines(file) if "step" in line}


def _without_places(record: ExperimentRecord) -> ExperimentRecord:
    """An experiment's record whose command names no folder of the machine it ran on."""
    words = shlex.split(record["command"])
    shared = ["DIR" if before in _PLACES else word for before, word in zip(["", *words], words, strict=False)]
    return {**record, "command": shlex.join(shared)}


def _packed(result: dict[str, Any], tests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A result with its predictions as label indices; its test set is added to `tests`."""
    predictions = result.get("predictions")
    if predictions is None:
        return result
    labels = sorted({label for which in LABELLINGS for label in predictions[which]})
    number = {label: index for index, label in enumerate(labels)}
    test = {"ids": predictions["ids"], "gold": predictions["gold"]}
    name = identity_of(test)
    tests[name] = test
    numbers = {which: [number[label] for label in predictions[which]] for which in LABELLINGS}
    return {**result, "predictions": {"test": name, "labels": labels, **numbers}}


def _unpacked(result: dict[str, Any], tests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    predictions = result.get("predictions")
    if predictions is None:
        return result
    test, labels = tests[predictions["test"]], predictions["labels"]
    predicted = {which: [labels[index] for index in predictions[which]] for which in LABELLINGS}
    return {**result, "predictions": {"ids": test["ids"], "gold": test["gold"], **predicted}}


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """The lines after the header."""
    refusal = DataError(
        f"{file} is no file of results, or damaged; give one that `glotprompt report DIR --pack FILE` wrote, or copy it"
        " again"
    )
    try:
        with gzip.open(file, "rt", encoding="utf-8") as text:
            lines = [json.loads(line) for line in text]
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except (OSError, EOFError, ValueError):
        raise refusal from None
    if not lines or lines[0] != HEADER:
        raise refusal
    yield from lines[1:]
