"""The engine that hands steps to workers of Ray, on this machine or on a cluster.

A worker is a process (an actor) that keeps one backbone loaded and is given one step at a time, with CPUs and a GPU of
its own. This process knows what each step waits for and gives a free worker the next one that is ready. What steps find
goes through the store, which all machines share: nothing but steps and outcomes travels through Ray.

A worker that dies is started again by Ray, and so is its step, which goes on from its checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from glotprompt.cluster.remote import RemoteStore
from glotprompt.errors import ConfigError, MissingExtraError, UserError, in_a_line
from glotprompt.grid.store import Store

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError:
    raise MissingExtraError("--engine ray", "ray") from None

from glotprompt.cluster.machines import Share, check_device, connected, passed_on, share_of_all

# A worker imports this file before its environment is set: nothing here may import torch or transformers.
if TYPE_CHECKING:
    from glotprompt.grid.steps import Step, Workplace
    from glotprompt.grid.work import Outcome, Tell

RETRIES = 3
"""Number of retries of a step whose worker died; a step that takes too much memory would kill workers forever."""


class RayEngine:
    """Runs steps in workers (`Engine`): on the cluster at `address`, else on this machine."""

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        self.workers, self.address = workers, address

    def run(self, steps: Sequence[Step], workplace: Workplace, tell: Tell) -> list[Outcome]:
        """See `Engine.run`. Raises `ConfigError` where the cluster does not answer or does not share the store."""
        if not steps:
            return []
        check_device(workplace.device)
        store = workplace.store if isinstance(workplace.store, RemoteStore) else Store(workplace.store.root.absolute())
        data_dir = workplace.data_dir and workplace.data_dir.absolute()
        runtime = workplace.runtime.replace(progress=False)
        workplace = replace(workplace, store=store, data_dir=data_dir, runtime=runtime)
        with connected(self.address):
            share = share_of_all(self.workers, workplace.device, option="--workers", here=self.address is None)
            return _Pool(share, workplace, tell).run(steps)


class _Worker:
    """The actor that runs steps."""

    def __init__(self, environment: Mapping[str, str], folder: str, threads: int) -> None:
        os.environ.update(environment)
        with suppress(OSError):  # relative paths mean the same as where the grid was started
            os.chdir(folder)
        import torch

        torch.set_num_threads(threads)

    def sees(self, store: Store, sign: str) -> bool:
        return store.sees(sign)

    def attempt(self, step: Step, place: Workplace) -> Outcome:
        from glotprompt.grid import work

        return work.attempt(step, place)


class _Pool:
    """Workers and their current steps."""

    def __init__(self, share: Share, place: Workplace, tell: Tell) -> None:
        self.place, self.tell = place, tell
        kind: Any = ray.remote(_Worker).options(  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
            num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=-1, max_task_retries=RETRIES
        )
        self.workers: list[Any] = [kind.remote(passed_on(), os.getcwd(), share.cpus) for _ in range(share.workers)]
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, Step]] = {}
        """Worker and step by Ray's object reference."""

    def run(self, steps: Sequence[Step]) -> list[Outcome]:
        """See `Engine.run`."""
        waiting = {step.name: step for step in steps}
        outcomes: list[Outcome] = []
        try:
            with self.place.store.signed() as sign:
                coming = {worker.sees.remote(self.place.store, sign): worker for worker in self.workers}
                while waiting or self.busy:
                    self._hand_out(waiting)
                    (ready,), _ = ray.wait([*coming, *self.busy], num_returns=1)
                    if ready in coming:
                        self._welcome(ready, coming.pop(ready))
                    else:
                        outcomes.append(self._take(ready))
        finally:
            # One that is at a step ends with the connection: of what is killed Ray says that it will be tried again.
            at_work = {id(worker) for worker, _ in self.busy.values()}
            for worker in self.workers:
                if id(worker) not in at_work:
                    ray.kill(worker)
        return outcomes

    def _hand_out(self, waiting: dict[str, Step]) -> None:
        """Give idle workers the first steps that are ready."""
        unfinished = {*waiting, *(step.name for _, step in self.busy.values())}
        for step in list(waiting.values()):
            if not self.idle:
                return
            if unfinished.isdisjoint(before.name for before in _before(step)):
                worker = self.idle.pop()
                del waiting[step.name]
                self.tell(step, None)
                self.busy[worker.attempt.remote(step, self.place)] = worker, step

    def _welcome(self, ready: Any, worker: Any) -> None:
        try:
            sees = ray.get(ready)
        except UserError as error:  # no driver there for the URL, no credentials ...
            raise ConfigError(f"a worker of Ray cannot use the store: {getattr(error, 'cause', error)}") from None
        except RayError as error:
            raise ConfigError(f"a worker of Ray cannot start: {in_a_line(error)}") from None
        if not sees:
            raise ConfigError(
                f"a worker does not see {self.place.store}; --output must be a folder or URL that all machines share"
            )
        self.idle.append(worker)

    def _take(self, ready: Any) -> Outcome:
        """The outcome of a step."""
        from glotprompt.grid.work import Outcome

        worker, step = self.busy.pop(ready)
        try:
            outcome: Outcome = ray.get(ready)
        except (UserError, RayTaskError) as error:  # what a step raises is an outcome: the store itself fails
            raise getattr(error, "cause", error) from None
        except RayError as error:
            line = f"{in_a_line(error)} (its worker was started {1 + RETRIES} times; perhaps memory ran out)"
            self.place.store.keep_failure(step.name, line, str(error))
            outcome = Outcome(step.name, "failed", error=line)
        self.idle.append(worker)
        self.tell(step, outcome)
        return outcome


def _before(step: Step) -> list[Step]:
    """Steps that must be over before a step begins."""
    after: Step | None = getattr(step, "after", None)
    return [*step.needs] if after is None else [*step.needs, after]
