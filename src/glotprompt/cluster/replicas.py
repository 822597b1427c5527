"""The service as a deployment of Ray Serve: replicas of the whole application behind Ray's HTTP proxy.

Every replica is a process that loads its own backbone, looks at the disk itself and has its own queue. What travels to
it are settings: the application is built where it runs.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from glotprompt.errors import ConfigError, MissingExtraError, ModelError, UserError, in_a_line

try:
    # Read when Ray is imported: lines of replicas that differ in figures alone would be left out, the rest coloured.
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException
    from ray.serve.schema import ApplicationStatus, LoggingConfig
except ImportError:
    raise MissingExtraError("--engine ray", "ray") from None

from glotprompt.cluster.machines import Share, check_device, connected, passed_on, share_of_all
from glotprompt.serve.api import Blueprint, url

if TYPE_CHECKING:
    from fastapi import FastAPI

NAME = "glotprompt"
"""Name of the application and its deployment."""
_LOOK_SECONDS = 0.5
"""Seconds between checks of the replicas while they start or stop."""
_WATCH_SECONDS = 5.0
"""Seconds between checks while they serve."""
_PATIENCE_SECONDS = 60.0
"""After so long without news the command says what it waits for."""
_LOGGING: dict[str, Any] = {"enable_access_log": False, "log_level": "CRITICAL"}
"""Ray's own access log would hold the paths that were asked for, and what goes wrong is said in a line of ours."""


@dataclass(frozen=True)
class ServedBackbone:
    """Files and settings of a replica."""

    model: str
    precision: Any
    """"auto", "fp32" or "bf16"."""
    device: str


@dataclass(frozen=True)
class RayServe:
    """Number of replicas, and their address."""

    replicas: int | None
    """None: one for each GPU, without GPUs one for each machine."""
    address: str | None
    """Of the cluster to join; None: Ray is started on this machine."""
    host: str
    port: int
    grace_seconds: float
    """How long answers that are under way may take once the service is told to stop."""
    take_over: bool
    """Put the service in the place of one that runs on the cluster, as after the `kill -9` of its command."""

    def run(self, served: ServedBackbone, blueprint: Blueprint, tell: Callable[[str], None]) -> bool:
        """Serve until a person or the system says stop; what was taken is answered then, and False says that Ray
        could not be seen to do so. `tell` is given lines for a person. Of a cluster that was joined only the own
        application is taken away. Raises `UserError` where the replicas cannot start."""
        check_device(served.device)
        logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
        with connected(self.address, show_logs=self.address is None):
            share = share_of_all(self.replicas, served.device, option="--replicas", here=self.address is None)
            with _told_to_stop() as stop, self._proxies(tell):
                _deploy(_deployment(served, blueprint, share, self.grace_seconds))
                try:
                    if _started(stop, tell):
                        where = "" if self.address is None else ", on every machine of the cluster that has a replica"
                        tell(f"{share.workers} replicas at {url(self.host, self.port)}{where} (Ctrl-C stops)")
                        _watch(stop, tell)
                finally:
                    is_answered = _taken_away()
        return is_answered

    @contextmanager
    def _proxies(self, tell: Callable[[str], None]) -> Generator[None]:
        """What takes connections; on a cluster it stays, as others may use it. Raises `ConfigError` where a service of
        ours runs there and is not to be taken over."""
        before = serve.status()
        if NAME in before.applications and not self.take_over:
            raise ConfigError(
                "a service of glotprompt runs on this cluster already; stop its command first, or give --take-over to"
                " put this one in its place"
            )
        if before.proxies:
            tell("Ray Serve runs on this cluster already, with the host and the port that it was started with")
        try:
            serve.start(http_options={"host": self.host, "port": self.port}, logging_config=LoggingConfig(**_LOGGING))
        except (RayError, RuntimeError, TimeoutError) as error:
            raise ConfigError(f"Ray Serve cannot start on port {self.port}: {in_a_line(error)}") from None
        try:
            yield
        finally:
            if self.address is None:
                with suppress(RayError, RayServeException, TimeoutError):
                    serve.shutdown()


class _Replica:
    """Ray's calls of a replica besides HTTP."""

    app: FastAPI

    def check_health(self) -> None:
        """Called by Ray every few seconds; one that raises is replaced."""
        if not self.app.state.service.batcher.is_open:
            raise RuntimeError("the model's thread has ended")


def _deployment(served: ServedBackbone, blueprint: Blueprint, share: Share, grace_seconds: float) -> serve.Application:
    def build() -> FastAPI:
        return _built(served, blueprint, share.cpus)

    ingress: Any = serve.ingress(build)(_Replica)
    kind = serve.deployment(
        name=NAME,
        num_replicas=share.workers,
        ray_actor_options={
            "num_cpus": share.cpus,
            "num_gpus": share.gpus,
            "runtime_env": {"env_vars": passed_on()},
        },
        # A request is one token at least: so it is the service that says when too much waits, and not Ray.
        max_ongoing_requests=blueprint.settings.queue_tokens,
        max_constructor_retry_count=1,  # a file that cannot be read stays so
        graceful_shutdown_timeout_s=grace_seconds,
        graceful_shutdown_wait_loop_s=_LOOK_SECONDS,
        logging_config=_LOGGING,
    )(ingress)
    return kind.bind()


def _built(served: ServedBackbone, blueprint: Blueprint, threads: int) -> FastAPI:
    """The application, in a replica's process."""
    import torch

    from glotprompt.model.backbone import Backbone
    from glotprompt.serve.observed import log_to_stderr

    torch.set_num_threads(threads)
    try:
        backbone = Backbone.load(served.model, precision=served.precision, device=served.device)
    except ModelError as error:
        raise ModelError(f"{error}; say with --model where all machines find the backbone") from None
    log_to_stderr()
    return blueprint.app(backbone, blueprint.registry(backbone), serve.get_replica_context().replica_id.unique_id)


def _deploy(application: serve.Application) -> None:
    try:
        serve.run_many([serve.RunTarget(application, name=NAME, route_prefix="/")], wait_for_applications_running=False)
    except (RayError, RayServeException, RuntimeError, ValueError) as error:
        raise ConfigError(f"Ray Serve does not take the service: {in_a_line(error)}") from None


def _taken_away() -> bool:
    """Wait until the replicas have answered and ended."""
    try:
        serve.delete(NAME)
    except (RayError, RayServeException, TimeoutError):
        return False
    return True


def _started(stop: threading.Event, tell: Callable[[str], None]) -> bool:
    """Wait until all replicas serve. False: told to stop before that."""
    waited, last = 0.0, ""
    while not stop.wait(_LOOK_SECONDS):
        status, message = _status()
        if status == ApplicationStatus.RUNNING:
            return True
        if status == ApplicationStatus.DEPLOY_FAILED:
            raise _reason(message)
        waited += _LOOK_SECONDS
        if waited >= _PATIENCE_SECONDS and message != last:
            reason = in_a_line(message) or "they wait for CPUs, or load the backbone"
            tell(f"the replicas are not there yet: {reason}")
            last = message
    return False


def _watch(stop: threading.Event, tell: Callable[[str], None]) -> None:
    """Report changes of the replicas' state until told to stop."""
    before = ApplicationStatus.RUNNING
    while not stop.wait(_WATCH_SECONDS):
        status, message = _status()
        if status != before:
            tell(f"the service is {status.value.lower()}{f': {in_a_line(message)}' if message else ''}")
            before = status


def _status() -> tuple[ApplicationStatus, str]:
    """The state of the application, and Ray's message about it."""
    try:
        application = serve.status().applications.get(NAME)
    except (RayError, RayServeException) as error:
        raise ConfigError(f"Ray has gone away: {in_a_line(error)}; start the service again") from None
    if application is None:
        raise ConfigError("the service was removed from the cluster by somebody else; start it again")
    messages = [application.message, *(one.message for one in application.deployments.values())]
    return application.status, "\n".join(message for message in messages if message)


def _reason(message: str) -> UserError:
    """Why the replicas did not start: Ray hands their traceback on as text, and the errors of a person's making are
    the lines that name their kind."""
    own = re.findall(r"^(?:\w+\.)*errors\.\w+Error: (.+)$", message, re.MULTILINE)
    return ConfigError(f"the replicas cannot start: {own[-1] if own else in_a_line(message)}")


@contextmanager
def _told_to_stop() -> Generator[threading.Event]:
    """Set by the first Ctrl-C or SIGTERM; the second one does not wait for answers."""
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
