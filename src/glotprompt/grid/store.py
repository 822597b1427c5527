"""The folder of a grid: the only file that knows what lies where in it.

    DIR/experiments/<name>.json     an experiment's plan: what a report draws
    DIR/precision.json              what the precision "auto" means here
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
"""Of a step's work, the folder that is published."""


Settled = Literal["fp32", "bf16"]
"""What the precision "auto" may come to."""


class Cell(TypedDict):
    """One figure of an experiment."""

    method: str
    dataset: str | None
    target: str | None
    """Language code. None, as dataset and seed, where nothing is trained (costs)."""
    seed: int | None
    varied: dict[str, Any]
    """The settings that are varied and move this method's numbers, by dotted name."""
    result: str | None
    """Name of the step that has it."""


class _Later(TypedDict, total=False):
    """What older records lack."""

    adapt_seed: int | None
    """The one seed of stage 1 that all seeds share; None: each has its own."""
    num_layers: int | None
    """Of the backbone."""


class ExperimentRecord(_Later):
    """What a report needs to know of an experiment."""

    format: int
    name: str
    title: str
    draw: str
    scale: str
    command: str
    """The command line as it was given; of a URL in it no password."""
    dataset: str | None
    source: str | None
    targets: list[str]
    groups: dict[str, list[str]]
    """Names of groups of targets and who is in them; may be empty."""
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
    """What a grid keeps in `root`. Reading makes no folder. It is sent to workers with the steps."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def __str__(self) -> str:
        """Where it is, for a person."""
        return str(self.root)

    # Experiments and results

    def experiments(self) -> list[ExperimentRecord]:
        """All experiments by name. Raises `DataError` for a folder without any, and a file that is none."""
        files = sorted((self.root / "experiments").glob("*.json"))
        if not files:
            raise DataError(f"{self.root} holds no experiment; give the folder that `glotprompt grid --output` wrote")
        return [_read_record(file) for file in files]

    def experiment(self, name: str) -> ExperimentRecord | None:
        """The record of that name, if there is one."""
        file = self.record_file(name)
        return _read_record(file) if file.is_file() else None

    def write_experiment(self, record: ExperimentRecord) -> Path:
        """In the place of an earlier record of the same name, whose cells are then no longer reported."""
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        return self.write(self.record_file(record["name"]), text)

    def record_file(self, name: str) -> Path:
        return self.root / "experiments" / f"{name}.json"

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """What the cell's step found; None when it is not there (yet)."""
        return None if cell["result"] is None else self.result_of(cell["result"])

    def result_of(self, step: str) -> dict[str, Any] | None:
        """What a step found; None when it is not there (yet), or finds nothing that a report reads."""
        file = self.folder(step) / RESULT
        return _read(file) if file.is_file() else None

    # What all its steps share

    def precision(self) -> Settled | None:
        """What "auto" means for every step of this store, if that is settled. Raises `DataError` for a file that does
        not say so."""
        if not self.precision_file.is_file():
            return None
        found = _read(self.precision_file)
        if not isinstance(found, dict) or found.get("auto") not in get_args(Settled):  # pyright: ignore[reportUnknownMemberType]
            raise DataError(f'{self.precision_file} is damaged; expected {{"auto": "bf16"}} or {{"auto": "fp32"}}')
        return cast(Settled, found["auto"])

    def settle_precision(self, choose: Callable[[], Settled]) -> Settled:
        """What "auto" means from now on: what the first grid chose, whichever machine and worker computes. Else numbers
        of one table would be of several precisions: a probe may find another on a busy machine."""
        with self.claimed("precision"):
            found = self.precision()
            if found is None:
                found = choose()
                self.write(self.precision_file, json.dumps({"auto": found}) + "\n")
        return found

    @property
    def precision_file(self) -> Path:
        return self.root / "precision.json"

    # Steps

    def folder(self, step: str) -> Path:
        """Where a finished step lies."""
        return self.root / "steps" / step

    def has(self, step: str) -> bool:
        """Whether a step is finished."""
        return self.folder(step).is_dir()

    def finished(self) -> set[str]:
        """All finished steps, asked for at once."""
        folder = self.folder("")
        return {entry.name for entry in folder.iterdir() if entry.is_dir()} if folder.is_dir() else set()

    def fetch(self, step: str) -> None:
        """See to it that the folder of a finished step can be read."""

    def work(self, step: str) -> Path:
        """Where checkpoints of a step lie as long as it is under way."""
        return self.root / "work" / step

    @contextmanager
    def claimed(self, name: str, *, shared: bool = False, wait: bool = True) -> Generator[None]:
        """Waits until nobody else works on `name`, in this or another process; a killed process lets go at once.

        `shared`: to read what lies there, together with others who read it. Without `wait` a claim that would have to
        wait raises `BlockingIOError`."""
        with atomic.locked(self.root / "work" / f"{name}.lock", shared=shared, wait=wait):
            yield

    def outcome(self, step: str) -> Path:
        """An empty folder for what a step leaves, to be published."""
        folder = self.work(step) / OUTCOME
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def publish(self, step: str) -> None:
        """Give the outcome its final place and forget the checkpoints and failures. Who comes second is passed over:
        the same identity has the same numbers."""
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
        """All steps that failed and were not made good since."""
        files = sorted((self.root / "failed").glob("*.json"))
        return [_read(file) for file in files if not self.has(file.stem)]  # a kill may come before it is removed

    def failure(self, step: str) -> Failure | None:
        file = self.failure_file(step)
        return _read(file) if file.is_file() else None

    def keep_failure(self, step: str, error: str, traceback: str) -> Path:
        before = self.failure(step)
        failure: Failure = {
            "step": step, "error": error, "traceback": traceback,
            "attempts": 1 + (before["attempts"] if before else 0), "when": datetime.now(UTC).isoformat("T", "seconds"),
        }  # fmt: skip
        text = json.dumps(failure, indent=1, ensure_ascii=False) + "\n"
        return self.write(self.failure_file(step), text)

    def failure_file(self, step: str) -> Path:
        return self.root / "failed" / f"{step}.json"

    def write(self, file: Path, text: str | bytes) -> Path:
        """A file that several may write at one instant, as the grids of a job array do."""
        with self.claimed(f"write-{file.name}"):
            return atomic.write(file, text)

    # Who shares the store

    @contextmanager
    def signed(self) -> Generator[str]:
        """The name of a sign, for as long as the block lasts: who `sees` it shares this store."""
        sign = f"shared-{uuid.uuid4().hex}"
        file = atomic.write(self.work(sign), sign)
        try:
            yield sign
        finally:
            file.unlink(missing_ok=True)

    def sees(self, sign: str) -> bool:
        return self.work(sign).is_file()


def reported(files: Collection[str]) -> list[str]:
    """Of a store's files, given by their paths in it, those that a report reads: all small ones of finished steps."""
    there = set(files)

    def wanted(file: str) -> bool:
        match PurePosixPath(file).parts:
            case (_,) | ("experiments" | "failed", _):
                return True
            case ("steps", step, name):
                return name == RESULT and f"steps/{step}/{STEP}" in there
            case _:
                return False

    return [file for file in files if wanted(file)]


def _read_record(file: Path) -> ExperimentRecord:
    found = _read(file)
    record: dict[str, Any] = found if isinstance(found, dict) else {}
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
