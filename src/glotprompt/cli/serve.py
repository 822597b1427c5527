"""`serve`: classifiers of many languages over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from glotprompt.cli.backbone import open_backbone, open_recorded, recorded_backbone
from glotprompt.cli.declare import Params
from glotprompt.cli.program import words_of
from glotprompt.cli.screen import note
from glotprompt.errors import ArtifactError, ConfigError, UserError, counted
from glotprompt.jobs.ways import BackboneOptions
from glotprompt.jobs.workbench import Workbench
from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import MINI_SENTENCE, absolute
from glotprompt.serve.api import Access, Blueprint, url
from glotprompt.serve.connections import bounded, most_connections, room_for_connections
from glotprompt.serve.observed import log_to_stderr
from glotprompt.serve.registry import KIND, PATTERN, Registry
from glotprompt.serve.schemas import Limits
from glotprompt.serve.service import ServiceSettings
from glotprompt.storage import atomic
from glotprompt.storage.artifact import NO_BACKBONE
from glotprompt.storage.metadata import describe

_GRACE_SECONDS = 60
"""How long answers that are under way may take once the service is told to stop."""


def serve(params: Params) -> None:
    """Serve until it is stopped."""
    engine, host, port = params["engine"], params["host"], params["port"]
    if engine == "uvicorn" and (params["replicas"], params["address"], params["take_over"]) != (None, None, False):
        raise ConfigError("--replicas, --address and --take-over are for --engine ray; give it, or leave them out")
    if engine == "ray" and params["max_connections"] is not None:
        raise ConfigError("--max-connections is for --engine uvicorn; Ray's proxy takes the connections")
    token = None if params["token_file"] is None else _token(params["token_file"])
    _check_training(params)
    first = _first_classifier(params["places"] or (), params["workspace"])
    if engine == "ray":
        is_complete = _serve_by_ray(_blueprint(params, token), first, params)
    else:
        is_complete = True
        with _listening(host, port) as listening:  # before the backbone is loaded, which takes a while
            _serve_here(_blueprint(params, token), first, listening, params)
    last = "everything that was taken has been answered" if is_complete else "Ray did not say whether all was answered"
    note(f"stopped; {last}")


def _check_training(params: Params) -> None:
    """Refuse a workspace that others could train in, unless --allow-training and a token are given."""
    workspace, allow = params["workspace"], params["allow_training"]
    if params["places"] is None and workspace is None:
        raise ConfigError("nothing to serve; give classifiers, folders with some, or --workspace FOLDER to train some")
    if workspace is None and allow:
        raise ConfigError("--allow-training has no effect without --workspace; leave it out")
    if workspace is None:
        return
    if params["engine"] == "ray":
        raise ConfigError("--workspace is for --engine uvicorn; leave one of them out")
    if workspace.exists() and not workspace.is_dir():
        raise ConfigError(f"--workspace {workspace} is a file; give a folder")
    here = _is_loopback(params["host"]) and not params["allow_host"] and not params["allow_origin"]
    if here and allow:
        raise ConfigError(
            "--allow-training has no effect: the service is reached from this machine alone; leave it out"
        )
    if not here and not (allow and params["token_file"]):
        raise ConfigError(
            "with --host, --allow-host or --allow-origin others could train on this machine: give --allow-training and"
            " --token-file, or leave --workspace out"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _blueprint(params: Params, token: str | None) -> Blueprint:
    limits = {"items": "max_items", "characters": "max_characters", "body_bytes": "max_body"}
    bounds: dict[str, Any] = {name: params[limit] for name, limit in limits.items() if params[limit] is not None}
    queue = () if params["queue_tokens"] is None else (params["queue_tokens"],)
    own_names = ("localhost", "127.0.0.1", "::1", params["host"], socket.gethostname())
    access = Access(token, tuple(params["allow_origin"] or ()), (*own_names, *(params["allow_host"] or ())))
    settings = ServiceSettings(Limits(**bounds), *queue, poll_seconds=params["poll"] or None)
    workspace = params["workspace"]
    places = [*(params["places"] or ()), *([] if workspace is None else [workspace / "classifiers"])]
    cache_bytes = params["cache_megabytes"] * 2**20
    return Blueprint(tuple(places), settings, cache_bytes, access, may_be_empty=workspace is not None)


def _serve_here(plan: Blueprint, first: Path | None, listening: socket.socket, params: Params) -> None:
    most, machine = most_connections(params["max_connections"]), (params["precision"], params["device"])
    kept = None if params["workspace"] is None else params["workspace"] / "model.txt"
    if first is None:
        of_workspace = kept.read_text(encoding="utf-8").strip() if kept is not None and kept.is_file() else ""
        backbone = open_backbone(params["model"] or of_workspace or MINI_SENTENCE, *machine)
    else:
        backbone = open_recorded(first, (KIND,), params["model"], *machine)
    log_to_stderr()  # from here on: the registry tells of files that it cannot serve
    registry = plan.registry(backbone)
    bench = None if params["workspace"] is None else _workbench(params, backbone, registry)
    app = plan.app(backbone, registry, bench=bench)
    with nullcontext() if bench is None else bench.open():
        if kept is not None and params["model"]:  # for the next start, whose classifiers need the same one
            atomic.write(kept, f"{absolute(params['model'])}\n")
        note(f"{counted(len(registry.names()), 'classifier')} at {url(*listening.getsockname()[:2])} (Ctrl-C stops)")
        _run(app, listening, most)


def _serve_by_ray(plan: Blueprint, first: Path | None, params: Params) -> bool:
    from glotprompt.cluster.replicas import RayServe, ServedBackbone  # with Ray, which may not be installed

    host, port, address = params["host"], params["port"], params["address"]
    if address is None:
        with _listening(host, port) as listening:  # only to see that it can be, and which port is free
            host, port = listening.getsockname()[:2]
    elif port == 0:
        raise ConfigError("--port 0 takes a free port of this machine; with --address give a number")
    assert first is not None  # without a workspace there is a classifier
    place = absolute(params["model"] or recorded_backbone(first, (KIND,))[0])
    plan = replace(plan, places=tuple(path.absolute() for path in plan.places))  # replicas start in other folders
    ray = RayServe(params["replicas"], address, host, port, _GRACE_SECONDS, params["take_over"])
    return ray.run(ServedBackbone(place, params["precision"], params["device"]), plan, note)


def _workbench(params: Params, backbone: Backbone, registry: Registry) -> Workbench:
    machine = tuple(words_of("serve", params, ("precision", "device")))
    options = BackboneOptions(absolute(backbone.name), backbone.num_layers, backbone.has_lm_head, machine)
    return Workbench.of(params["workspace"].absolute(), options, registry.reload)


def _run(app: FastAPI, listening: socket.socket, most: int) -> None:
    config = uvicorn.Config(
        app, http=bounded(most), ws="none", log_config=None, access_log=False, server_header=False,
        limit_concurrency=most + 1, backlog=min(2048, room_for_connections()),
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # how it is meant to be stopped; the server has shut down by now
        return


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ConfigError(f"--token-file {path} is no UTF-8 text; write one line into it") from None
    # ASCII alone: browsers cannot send a header with anything else.
    if not token or not token.isprintable() or not token.isascii() or " " in token:
        raise ConfigError(
            f"--token-file {path} holds no token; write one line of unaccented letters, digits and signs into it,"
            " without spaces"
        )
    return token


def _first_classifier(places: Sequence[Path], workspace: Path | None) -> Path | None:
    """The first readable classifier, preferably one with a backbone, which serves all. None with a workspace, unless it
    is among the other `places`: of the workspace's own, each training may have chosen another backbone. Raises
    `ArtifactError`."""
    reason, without = "", list[Path]()
    if workspace is not None:
        (workspace / "classifiers").mkdir(parents=True, exist_ok=True)
    for place in places:
        if not place.exists():
            raise ArtifactError(f"{place} does not exist; give classifiers that tune wrote, or folders with some")
        for path in sorted(place.glob(PATTERN)) if place.is_dir() else [place]:
            try:
                if describe(path, (KIND,))["backbone"] != NO_BACKBONE:
                    return path
                without.append(path)
            except UserError as error:
                reason = reason or f" ({error})"
    if workspace is not None:
        return None
    if without:
        return without[0]
    raise ArtifactError(f"no classifier in {', '.join(map(str, places))}{reason}; `glotprompt tune` makes one")


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise ConfigError(f"--host {host} is no address of this machine; give one such as 127.0.0.1") from None
    # With its protocol: asyncio then turns Nagle's algorithm off, without which an answer may wait 40 ms.
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        reason = error.strerror or error
        raise ConfigError(
            f"cannot listen on {host}, port {port}: {reason}; give another --port (0 takes a free one) or --host"
        ) from None
    return listening
