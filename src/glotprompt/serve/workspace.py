"""The routes of a workspace: uploads, jobs, and labels that people give.

A page of another origin cannot call them in somebody's browser: bodies are JSON or `application/octet-stream`, and a
browser sends neither abroad without asking first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from glotprompt.data.languages import all_languages
from glotprompt.errors import UserError
from glotprompt.jobs.job import Choice, Job, Progress, Status
from glotprompt.jobs.runner import Runner
from glotprompt.jobs.workbench import Workbench
from glotprompt.jobs.workspace import MOST_UPLOADS, Side, Upload, Use, Workspace
from glotprompt.serve.middleware import refusal_response
from glotprompt.serve.registry import Registry
from glotprompt.serve.schemas import Refusal

UPLOAD_ROUTE, UPLOAD_BYTES = "/v1/uploads", 20 * 2**20
"""Where uploads go, and bytes of one."""
SHOWN_JOBS, SHOWN_TEXTS = 50, 2000
BINARY = "application/octet-stream"

_Name = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000, strip_whitespace=True)]


class _Body(BaseModel):
    """The body of a request, whose fields are all known."""

    model_config = ConfigDict(extra="forbid")


class Order(_Body):
    """A training."""

    way: _Name = Field(description="compare, embedding, aligned or masked.")
    language: _Name = Field(description="ISO 639-3 code of the target language.")
    task: _Name = Field(description="What the labels are about.")
    uploads: list[int] = Field(max_length=MOST_UPLOADS)
    minutes: float = Field(default=30, gt=0, le=24 * 60, description="Budget of compare.")
    steps: int | None = Field(default=None, ge=1, le=1_000_000, description="Of learning the language.")
    baseline: _Name | None = Field(default=None, description="A classifier of the workspace to compare with.")


class Again(_Body):
    """The training that made a classifier, with the labels that there are by now."""

    classifier: _Name


class Check(_Body):
    """A look at an upload before anything is trained."""

    upload: int
    language: _Name
    labels_of: list[int] = Field(default=[], max_length=MOST_UPLOADS)


class GivenLabel(_Body):
    """A label that a person gave to a text."""

    language: _Name
    task: _Name
    side: Side = Field(description="test: it measures. train: the next training reads it.")
    text: _Text
    label: _Name


class Nothing(_Body):
    """A body that says nothing more."""


class JobState(BaseModel):
    """A job and how it stands."""

    job: Job
    status: Status
    progress: Progress | None
    results: dict[str, Any] | None = Field(default=None, description="Figures; of one job alone.")


class WorkspaceState(BaseModel):
    uploads: list[Upload]
    jobs: list[JobState] = Field(description="The newest first.")
    masked: bool = Field(description="Whether the backbone predicts masked tokens.")
    upload_bytes: int


@dataclass(frozen=True)
class Labels:
    """Labels of a language and a task, by text."""

    test: dict[str, str]
    train: dict[str, str]


def add_workspace_routes(app: FastAPI, bench: Workbench, registry: Registry, documented: Sequence[Any]) -> None:
    """Add the routes; `documented`: dependencies that describe access."""
    guarded: dict[str, Any] = {"dependencies": documented, "tags": ["workspace"]}
    app.add_exception_handler(UserError, _on_user_error)
    _add_uploads(app, bench, guarded)
    _add_labels(app, bench.workspace, guarded)
    _add_orders(app, bench, registry, guarded)
    _add_jobs(app, bench, guarded)


def _add_uploads(app: FastAPI, bench: Workbench, guarded: dict[str, Any]) -> None:
    workspace = bench.workspace

    @app.post(UPLOAD_ROUTE, **guarded)
    async def upload(  # pyright: ignore[reportUnusedFunction]
        request: Request, use: Use, name: Annotated[str, Query(min_length=1, max_length=200)]
    ) -> Upload:
        """Send a file: lines (target), or a table with a header line and tabs (text, label; source, target)."""
        if request.headers.get("content-type") != BINARY:
            raise Refusal(422, "invalid_request", f"send the file with Content-Type: {BINARY}")
        return await asyncio.to_thread(workspace.add_upload, use, name, await request.body())

    @app.get("/v1/uploads/{number}/texts", **guarded)
    def texts(number: int) -> list[str]:  # pyright: ignore[reportUnusedFunction]
        """The first texts of an upload."""
        return workspace.texts(number)[:SHOWN_TEXTS]

    @app.post("/v1/uploads/{number}/remove", **guarded)
    def remove(number: int, body: Nothing) -> Upload:  # pyright: ignore[reportUnusedFunction]
        """Forget an upload."""
        return workspace.remove_upload(number)


def _add_labels(app: FastAPI, workspace: Workspace, guarded: dict[str, Any]) -> None:
    @app.get("/v1/labels", **guarded)
    def labels(language: _Name, task: _Name) -> Labels:  # pyright: ignore[reportUnusedFunction]
        """The labels that were given."""
        return Labels(workspace.labels(language, task, "test"), workspace.labels(language, task, "train"))

    @app.post("/v1/labels", **guarded)
    def give(body: GivenLabel) -> dict[Side, int]:  # pyright: ignore[reportUnusedFunction]
        """Keep a label; returns how many there are on each side."""
        return workspace.give_label(body.language, body.task, body.side, body.text, body.label)


def _add_orders(app: FastAPI, bench: Workbench, registry: Registry, guarded: dict[str, Any]) -> None:
    runner, orders = bench.runner, bench.orders

    @app.post("/v1/jobs/check", **guarded)
    def check(body: Check) -> JobState:  # pyright: ignore[reportUnusedFunction]
        """Look at an upload, as `glotprompt doctor` does."""
        return _state_of(runner, orders.doctor(body.upload, body.language, body.labels_of))

    @app.post("/v1/jobs/train", **guarded)
    def train(body: Order) -> JobState:  # pyright: ignore[reportUnusedFunction]
        """Train a classifier."""
        return _state_of(runner, orders.train(Choice(**body.model_dump(exclude={"baseline"})), body.baseline))

    @app.post("/v1/jobs/again", **guarded)
    def again(body: Again) -> JobState:  # pyright: ignore[reportUnusedFunction]
        """Train as a classifier was trained, with all labels that were given since, and compare the two."""
        jobs = [job for job in runner.jobs.values() if job.classifier == body.classifier and job.choice is not None]
        if not jobs or jobs[-1].choice is None:
            raise Refusal(404, "unknown_classifier", f"{body.classifier!r} was not trained in this workspace")
        return _state_of(runner, orders.train(jobs[-1].choice, body.classifier))

    @app.post("/v1/jobs/evaluate", **guarded)
    def evaluate(body: Again) -> JobState:  # pyright: ignore[reportUnusedFunction]
        """Measure a classifier of the workspace on the labels that measure."""
        served = registry.snapshot().get(body.classifier)
        if served is None:
            raise Refusal(404, "unknown_classifier", f"no classifier {body.classifier!r}")
        return _state_of(runner, orders.evaluate(body.classifier, served.language, served.task.name))


def _add_jobs(app: FastAPI, bench: Workbench, guarded: dict[str, Any]) -> None:
    workspace, runner = bench.workspace, bench.runner

    @app.get("/v1/workspace", **guarded)
    def state() -> WorkspaceState:  # pyright: ignore[reportUnusedFunction]
        """Uploads, and the newest jobs."""
        newest = sorted(runner.jobs, reverse=True)[:SHOWN_JOBS]
        return WorkspaceState(
            uploads=list(workspace.uploads.values()),
            jobs=[_state_of(runner, runner.jobs[number]) for number in newest],
            masked=bench.backbone.masked,
            upload_bytes=UPLOAD_BYTES,
        )

    @app.get("/v1/languages", **guarded)
    def languages() -> list[tuple[str, str]]:  # pyright: ignore[reportUnusedFunction]
        """Codes and names of ISO 639-3."""
        return all_languages()

    @app.get("/v1/jobs/{number}", **guarded)
    def job(number: int) -> JobState:  # pyright: ignore[reportUnusedFunction]
        """A job with its figures."""
        return _state_of(runner, _job(runner, number), whole=True)

    @app.get("/v1/jobs/{number}/log", response_class=PlainTextResponse, **guarded)
    def log(number: int) -> str:  # pyright: ignore[reportUnusedFunction]
        """What its commands said."""
        return runner.log(_job(runner, number).number)

    @app.post("/v1/jobs/{number}/cancel", **guarded)
    def cancel(number: int, body: Nothing) -> JobState:  # pyright: ignore[reportUnusedFunction]
        """Stop a job; what it has trained is kept."""
        runner.cancel(_job(runner, number).number)
        return _state_of(runner, _job(runner, number))

    @app.post("/v1/jobs/{number}/resume", **guarded)
    def resume(number: int, body: Nothing) -> JobState:  # pyright: ignore[reportUnusedFunction]
        """Let a stopped job run again, from its last checkpoint."""
        runner.resume(_job(runner, number).number)
        return _state_of(runner, _job(runner, number))


def _job(runner: Runner, number: int) -> Job:
    if number not in runner.jobs:
        raise Refusal(404, "unknown_job", f"there is no job {number}")
    return runner.jobs[number]


def _state_of(runner: Runner, job: Job, whole: bool = False) -> JobState:
    number = job.number
    results = runner.results(number) if whole else None
    return JobState(job=job, status=runner.status(number), progress=runner.progress(number), results=results)


async def _on_user_error(request: Request, error: Exception) -> Response:
    return refusal_response(Refusal(422, "cannot_be_used", str(error)))
