"""A workspace with its runner: jobs run while it is open."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from glotprompt.errors import ConfigError, in_words_of
from glotprompt.jobs.job import Job
from glotprompt.jobs.runner import PROGRAM, Runner
from glotprompt.jobs.ways import BackboneOptions, Orders
from glotprompt.jobs.wording import in_browser
from glotprompt.jobs.workspace import Workspace
from glotprompt.storage import atomic


@dataclass(frozen=True)
class Workbench:
    """A workspace, its jobs, and who puts new ones together."""

    workspace: Workspace
    runner: Runner
    orders: Orders
    backbone: BackboneOptions

    @classmethod
    def of(
        cls,
        folder: Path,
        backbone: BackboneOptions,
        changed: Callable[[], object],
        program: Sequence[str] = PROGRAM,
    ) -> Workbench:
        """`changed` is called when a classifier came or was measured; `program` runs one command line."""
        workspace = Workspace(folder)

        def publish(job: Job) -> None:
            output = None if job.output is None else folder / job.output
            if output is not None and job.classifier is not None and output.is_file():
                workspace.keep_classifier(output, job.classifier)
            changed()

        runner = Runner(folder / "jobs", publish, program)
        return cls(workspace, runner, Orders(workspace, runner, backbone), backbone)

    @contextmanager
    def open(self) -> Generator[None]:
        """Run jobs inside the block. Raises `ConfigError` where another service has the workspace."""
        folder = self.workspace.folder
        try:
            with atomic.locked(folder / ".lock", wait=False), in_words_of(in_browser):
                self.runner.start()
                try:
                    yield
                finally:
                    self.runner.close()
        except BlockingIOError:
            raise ConfigError(
                f"--workspace {folder} is in use by another service; stop that, or name another"
            ) from None
