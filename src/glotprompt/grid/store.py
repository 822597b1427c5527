"""The folder of a grid; no other module knows its layout.

    DIR/experiments/<name>.json     an experiment's plan, which a report draws
    DIR/precision.json              the precision that "auto" means in this folder
    DIR/steps/<kind>-<hash>/        a finished step; the folder appears when it is complete, and never before
    DIR/work/<kind>-<hash>/         checkpoints of a step under way, and beside it the lock of whoever works on it
    DIR/failed/<kind>-<hash>.json   a step that failed

`cluster.remote` keeps the same files behind a URL. Nothing here needs torch. A folder with `experiments` and the
`result.json` files of `steps` alone is a store, too.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypedDict, cast, get_args

from glotprompt.errors import ArtifactError, DataError
from glotprompt.storage import atomic

FORMAT = 1
STEP, RESULT = "step.json", "result.json"
ADAPTED, CLASSIFIER = "prompt.safetensors", "classifier.safetensors"
OUTCOME = "outcome"
"""The folder inside a step's work that is published."""


Settled = Literal["fp32", "bf16"]
"""Precisions that "auto" may become."""


class Cell(TypedDict):
    """One figure of an experiment."""

    method: str
    dataset: str | None
    target: str | None
    """Language code. None (as are dataset and seed) where nothing is trained (costs)."""
    seed: int | None
    varied: dict[str, Any]
    """The settings that are varied and move this method's numbers, by dotted name."""
    result: str | None
    """Name of the step that computes it."""


class _Later(TypedDict, total=False):
    """Keys that older records lack."""

    adapt_seed: int | None
    """The one seed of stage 1 that all seeds share; None: each has its own."""
    num_layers: int | None
    """Number of the backbone's layers."""
    reference: str | None
    """The method that the others are compared with; None: soft-prompt."""


class ExperimentRecord(_Later):
    """An experiment's plan, with all that a report needs."""

    format: int
    name: str
    title: str
    draw: str
    scale: str
    command: str
    """The command line, without passwords in URLs."""
    dataset: str | None
    source: str | None
    targets: list[str]
    groups: dict[str, list[str]]
    """Groups of targets by name; may be empty."""
    methods: list[str]
    seeds: list[int]
    varies: dict[str, list[Any]]
    cells: list[Cell]


class Failure(TypedDict):
    """A step that failed."""

    step: str
    error: str
    """One line."""
    traceback: str
    attempts: int
    when: str
    """ISO time, UTC."""


class Store:
    """The files of a grid in `root`. Reading creates no folder. It is sent to workers with the steps."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def __str__(self) -> str:
        """The path, for messages."""
        return str(self.root)

    # Experiments and results

    def experiments(self) -> list[ExperimentRecord]:
        """All experiments, sorted by name. Raises `DataError` for a folder without any, and for a file that is none."""
        files = sorted((self.root / "experiments").glob("*.json"))
        if not files:
            raise DataError(f"{self.root} holds no experiment; give the folder that `glotprompt grid --output` wrote")
        return [_read_record(file) for file in files]

    def experiment(self, name: str) -> ExperimentRecord | None:
        """The record of that name, if there is one."""
        file = self.record_file(name)
        return _read_record(file) if file.is_file() else None

    def write_experiment(self, record: ExperimentRecord) -> Path:
        """Write a record. It replaces an earlier one of the same name, whose cells are then no longer reported."""
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        return self.write(self.record_file(record["name"]), text)

    def record_file(self, name: str) -> Path:
        return self.root / "experiments" / f"{name}.json"

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """The result of the cell's step; None while it is missing."""
        return None if cell["result"] is None else self.result_of(cell["result"])

    def result_of(self, step: str) -> dict[str, Any] | None:
        """A step's result; None while it is missing, and for steps without one."""
        file = self.folder(step) / RESULT
        return _read(file) if file.is_file() else None

    # The precision of all steps

    def precision(self) -> Settled | None:
        """The precision that "auto" means for every step of this store; None before it is settled. Raises `DataError`
        for a damaged file."""
        if not self.precision_file.is_file():
            return None
        content = _read(self.precision_file)
        if not isinstance(content, dict) or content.get("auto") not in get_args(Settled):  # pyright: ignore[reportUnknownMemberType]
            raise DataError(f'{self.precision_file} is damaged; expected {{"auto": "bf16"}} or {{"auto": "fp32"}}')
        return cast(Settled, content["auto"])

    def settle_precision(self, choose: Callable[[], Settled]) -> Settled:
        """Settle the precision that "auto" means: the choice of the first grid, on whatever machine. Otherwise the
        numbers of one table could have several precisions: on a busy machine a probe may choose another."""
        with self.claimed("precision"):
            precision = self.precision()
            if precision is None:
                precision = choose()
                self.write(self.precision_file, json.dumps({"auto": precision}) + "\n")
        return precision

    @property
    def precision_file(self) -> Path:
        return self.root / "precision.json"

    # Steps

    def folder(self, step: str) -> Path:
        """The folder of a finished step."""
        return self.root / "steps" / step

    def has(self, step: str) -> bool:
        """Whether a step is finished."""
        return self.folder(step).is_dir()

    def finished(self) -> set[str]:
        """Names of all finished steps."""
        folder = self.folder("")
        return {entry.name for entry in folder.iterdir() if entry.is_dir()} if folder.is_dir() else set()

    def fetch(self, step: str) -> None:
        """Make the folder of a finished step readable on this machine."""

    def work(self, step: str) -> Path:
        """The folder of a step's checkpoints while it runs."""
        return self.root / "work" / step

    @contextmanager
    def claimed(self, name: str, *, shared: bool = False, wait: bool = True) -> Generator[None]:
        """Lock `name` against other processes, waiting until it is free; a killed process releases its lock at once.

        `shared`: a read lock, which several may hold. Without `wait`, raises `BlockingIOError` where it would have to
        wait."""
        with atomic.locked(self.root / "work" / f"{name}.lock", shared=shared, wait=wait):
            yield

    def outcome(self, step: str) -> Path:
        """An empty folder for the files of a step, to be published."""
        folder = self.work(step) / OUTCOME
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def publish(self, step: str) -> None:
        """Move the outcome to its final folder and remove checkpoints and failures. If another process published the
        step first, its files stay: the same identity has the same numbers."""
        final, work = self.folder(step), self.work(step)
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(work / OUTCOME, final)
        except OSError as error:
            if not final.is_dir():
                raise ArtifactError(f"cannot write {final}: {error.strerror or error}") from None
        atomic.onto_disk(final.parent)
        self.forget_work(step)
        self.failure_file(step).unlink(missing_ok=True)

    def forget_work(self, step: str) -> None:
        """Remove the checkpoints of a step."""
        shutil.rmtree(self.work(step), ignore_errors=True)

    # Failures

    def failures(self) -> list[Failure]:
        """All steps that failed and have not succeeded since."""
        files = sorted((self.root / "failed").glob("*.json"))
        return [_read(file) for file in files if not self.has(file.stem)]  # a kill may come before it is removed

    def failure(self, step: str) -> Failure | None:
        file = self.failure_file(step)
        return _read(file) if file.is_file() else None

    def keep_failure(self, step: str, error: str, traceback: str) -> Path:
        before = self.failure(step)
        failure: Failure = {
            "step": step,
            "error": error,
            "traceback": traceback,
            "attempts": 1 + (before["attempts"] if before else 0),
            "when": datetime.now(UTC).isoformat("T", "seconds"),
        }
        text = json.dumps(failure, indent=1, ensure_ascii=False) + "\n"
        return self.write(self.failure_file(step), text)

    def failure_file(self, step: str) -> Path:
        return self.root / "failed" / f"{step}.json"

    def write(self, file: Path, text: str | bytes) -> Path:
        """Write a file that several processes may write at the same time, as the grids of a job array do."""
        with self.claimed(f"write-{file.name}"):
            return atomic.write(file, text)

    # Sharing the store

    @contextmanager
    def signed(self) -> Generator[str]:
        """Create a file while the block lasts and give its name: a process that `sees` it shares this store."""
        sign = f"shared-{uuid.uuid4().hex}"
        file = atomic.write(self.work(sign), sign)
        try:
            yield sign
        finally:
            file.unlink(missing_ok=True)

    def sees(self, sign: str) -> bool:
        return self.work(sign).is_file()


def reported(files: Collection[str]) -> list[str]:
    """The files of a store that a report reads, by their paths in it: records and results of finished steps."""
    paths = set(files)

    def is_read(file: str) -> bool:
        match PurePosixPath(file).parts:
            case (_,) | ("experiments" | "failed", _):
                return True
            case ("steps", step, name):
                return name == RESULT and f"steps/{step}/{STEP}" in paths
            case _:
                return False

    return [file for file in files if is_read(file)]


def _read_record(file: Path) -> ExperimentRecord:
    content = _read(file)
    record: dict[str, Any] = content if isinstance(content, dict) else {}
    missing = ExperimentRecord.__required_keys__ - record.keys()
    if missing or record["format"] != FORMAT:
        lacks = f" (it lacks {', '.join(sorted(missing))})" if record and missing else ""
        raise DataError(f"{file} is no plan of this glotprompt's experiments{lacks}; delete it and run the grid again")
    return cast(ExperimentRecord, record)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is damaged ({error}); delete it and run the grid again") from None
