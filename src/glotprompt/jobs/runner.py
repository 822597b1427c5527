"""Jobs on disk, run one at a time: a job that was running when the service was killed is resumed by the next one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from glotprompt.errors import ArtifactError, ConfigError, UserError, visible
from glotprompt.jobs.job import Choice, Job, Kind, Progress, Status, Step
from glotprompt.jobs.wording import IN_BROWSER
from glotprompt.storage import atomic
from glotprompt.training.progress import PROGRESS_FILE

PROGRAM = (sys.executable, "-u", "-m", "glotprompt.jobs.child")
MOST_JOBS = 500
"""Jobs that a workspace keeps."""
LOG_BYTES = 2**18
"""Bytes of a log's end that are shown."""
_GRACE_SECONDS = 15.0
"""How long a cancelled command may take to end; it ends itself in less."""


def now() -> str:
    """The present time in UTC (ISO 8601)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Runner:
    """The jobs of a folder, and the thread that runs them in the order of their numbers."""

    def __init__(self, folder: Path, on_success: Callable[[Job], None], program: Sequence[str] = PROGRAM) -> None:
        """`on_success` gets a job whose commands have all ended well; `program` runs one command line, whose words come
        behind it."""
        self.folder, self._on_success, self._program = folder, on_success, program
        self._changed = threading.Condition()
        self._stopping = False
        self._running: int | None = None
        self._began = time.monotonic()
        """Start of its present command, by `time.monotonic`."""
        self._to_cancel: int | None = None
        """The job that is to be cancelled."""
        self._unwritten: dict[int, Status] = {}
        """How jobs stand whose file could not be read or written at their end."""
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self.jobs: dict[int, Job] = {}
        for path in sorted(self.folder.glob("*/job.json")):
            job = Job.of(_read(path), str(path))
            self.jobs[job.number] = job

    def start(self) -> None:
        """Run jobs. Until then nothing is written: another service may have the folder."""
        for number in self.jobs:
            if (status := self.status(number)).state == "running":  # the service was killed
                self._write(number, status.replace(state="waiting"))
        self._thread.start()

    def close(self) -> None:
        """Interrupt what runs; the next service resumes it."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    # -----------------------------------------------------------------------------------------------------------
    # What people ask for

    def next_number(self) -> int:
        """A number, with a folder that nobody else gets. Raises `ConfigError` where the workspace is full."""
        if len(self.jobs) >= MOST_JOBS:
            raise ConfigError(f"the workspace has {MOST_JOBS} jobs; start the service with another --workspace")
        number = max(self.jobs, default=0) + 1
        while True:
            try:
                self.place(number).mkdir(parents=True)
                return number
            except FileExistsError:  # of an order at the same time, or of one that was refused
                number += 1

    def place(self, number: int) -> Path:
        return self.folder / f"{number:04}"

    def add(
        self, number: int, kind: Kind, title: str, steps: list[Step], *, choice: Choice | None = None, **more: Any
    ) -> Job:
        """A new job, which runs when those before it are done. `more`: other fields of `Job`."""
        job = Job(number=number, kind=kind, title=title, steps=steps, created=now(), choice=choice, **more)
        with self._changed:
            self._write(number, Status())
            atomic.write(self.place(number) / "job.json", job.model_dump_json(indent=1))
            self.jobs[number] = job
            self._changed.notify_all()
        return job

    def cancel(self, number: int) -> None:
        """End a job; what it has trained is kept for `resume`."""
        with self._changed:
            status = self.status(number)
            if number == self._running:
                self._to_cancel = number
            elif status.state == "waiting":
                self._write(number, status.replace(state="cancelled", finished=now()))
            self._changed.notify_all()

    def resume(self, number: int) -> None:
        """Let a cancelled or failed job wait again."""
        with self._changed:
            status = self.status(number)
            if status.state in ("cancelled", "failed"):
                self._write(number, status.replace(state="waiting", finished=None, message=""))
            self._changed.notify_all()

    def status(self, number: int) -> Status:
        path = self.place(number) / "status.json"
        return self._unwritten.get(number) or Status.of(_read(path), str(path))

    def progress(self, number: int) -> Progress | None:
        """The progress of a running job; None for any other."""
        path = self.place(number) / "progress.json"
        if number != self._running:
            return None
        seconds = time.monotonic() - self._began
        try:
            return Progress.of({**_read(path), "seconds": seconds}, str(path))
        except ArtifactError:  # nothing is trained yet, or the loss is no number
            return Progress(seconds=seconds)

    def log(self, number: int) -> str:
        """The end of the output of its commands."""
        path = self.place(number) / "log.txt"
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(map(visible, text.splitlines()))

    def results(self, number: int) -> dict[str, Any]:
        """The figures that exist so far, by kind (`Job.results`)."""
        places = {name: self.folder.parent / file for name, file in self.jobs[number].results.items()}
        return {name: _read(place) for name, place in places.items() if place.is_file()}

    # -----------------------------------------------------------------------------------------------------------
    # The thread

    def _work(self) -> None:
        while True:
            with self._changed:
                job = self._next()
                while job is None and not self._stopping:
                    self._changed.wait()
                    job = self._next()
                if self._stopping or job is None:
                    return
                self._running = job.number
            try:
                self._run(job)
            except Exception as error:  # whatever it is, the jobs behind it must have their turn
                self._fail(job.number, visible(str(error)))
            finally:
                with self._changed:
                    self._running = self._to_cancel = None

    def _next(self) -> Job | None:
        for number in sorted(self.jobs):
            with suppress(UserError, OSError):  # a status that cannot be read stops this job alone
                if self.status(number).state == "waiting":
                    return self.jobs[number]
        return None

    def _run(self, job: Job) -> None:
        status = self.status(job.number)
        status = status.replace(state="running", step=0, started=status.started or now())
        self._write(job.number, status)
        message = ""
        # A job that was stopped begins again, too: what is done finds itself done, and another job may have written the
        # stage 1 that they share.
        for place, step in enumerate(job.steps):
            if step.measures and not self._has_output(job):
                continue
            began = self._began = time.monotonic()
            exit_status = self._command(job, step)
            status = self.status(job.number)
            status = status.replace(seconds=status.seconds + time.monotonic() - began)
            if exit_status is None and self._stopping:  # it stays "running", for the next service
                self._write(job.number, status)
                return
            is_done = exit_status is not None and (step.measures or exit_status in step.accepts)
            self._write(job.number, status.replace(step=place + is_done))
            if exit_status is None:
                self._end(job.number, "cancelled")
                return
            message = "" if exit_status in step.accepts else self._reason(job.number, exit_status)
            if not is_done:
                self._end(job.number, "failed", message)
                return
        self._on_success(job)
        self._end(job.number, "finished", message)

    def _has_output(self, job: Job) -> bool:
        return job.output is not None and (self.folder.parent / job.output).is_file()

    def _command(self, job: Job, step: Step) -> int | None:
        """The exit status of a step; None: it was interrupted."""
        place = self.place(job.number)
        (place / "progress.json").unlink(missing_ok=True)
        environment = {**os.environ, PROGRESS_FILE: str(place.absolute() / "progress.json"), IN_BROWSER: "1"}
        with (place / "log.txt").open("ab") as log:
            log.write(f"{now()} {step.title}\n".encode())
            log.flush()
            with subprocess.Popen(
                [*self._program, *step.words], stdin=subprocess.PIPE, stdout=log, stderr=log,
                cwd=self.folder.parent, env=environment,
                start_new_session=True,  # Ctrl-C is for the service, which ends its commands itself
            ) as child:  # fmt: skip
                while child.poll() is None:
                    with self._changed:
                        if not self._stopping and self._to_cancel != job.number:
                            self._changed.wait(0.1)
                            continue
                    assert child.stdin is not None
                    child.stdin.close()
                    try:
                        child.wait(_GRACE_SECONDS)
                    except subprocess.TimeoutExpired:
                        child.kill()
                    log.write(f"{now()} stopped\n".encode())
                    return None
            return child.returncode

    def _reason(self, number: int, exit_status: int) -> str:
        """The last line of the output, which is the error."""
        lines = [line for line in self.log(number).splitlines() if line.strip()]
        last = lines[-1].removeprefix("error: ") if lines else "it said nothing"
        if exit_status == -9 or last.startswith("out of memory"):  # SIGKILL, a name that Windows lacks
            last = "the computer's memory ran out; close other programs, or give fewer texts, and resume"
        return f"{last} (exit status {exit_status})"

    def _end(self, number: int, state: Any, message: str = "") -> None:
        self._write(number, self.status(number).replace(state=state, finished=now(), message=message))

    def _fail(self, number: int, message: str) -> None:
        try:
            self._end(number, "failed", message)
        except UserError:  # the disk is full, or the folder was removed
            self._unwritten[number] = Status(state="failed", finished=now(), message=message)

    def _write(self, number: int, status: Status) -> None:
        atomic.write(self.place(number) / "status.json", status.model_dump_json(indent=1))
        self._unwritten.pop(number, None)


def _read(path: Path) -> Any:
    """The JSON value of a file. Raises `ArtifactError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); remove its folder") from None
