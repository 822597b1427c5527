"""`serve`: classifiers of many languages over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from glotprompt.cli.backbone import open_recorded, recorded_backbone
from glotprompt.cli.declare import Params
from glotprompt.cli.screen import note
from glotprompt.errors import ArtifactError, ConfigError, UserError, counted
from glotprompt.model.loading import absolute
from glotprompt.serve.api import Access, Blueprint, url
from glotprompt.serve.connections import bounded, most_connections, room_for_connections
from glotprompt.serve.observed import log_to_stderr
from glotprompt.serve.registry import KIND, PATTERN
from glotprompt.serve.schemas import Limits
from glotprompt.serve.service import ServiceSettings
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
    first = _first_classifier(params["places"])
    if engine == "ray":
        answered = _serve_by_ray(_blueprint(params, token), first, params)
    else:
        answered = True
        with _listening(host, port) as listening:  # before the backbone is loaded, which takes a while
            _serve_here(_blueprint(params, token), first, listening, params)
    last = "everything that was taken has been answered" if answered else "Ray did not say whether all was answered"
    note(f"stopped; {last}")


def _blueprint(params: Params, token: str | None) -> Blueprint:
    limits = {"items": "max_items", "characters": "max_characters", "body_bytes": "max_body"}
    given: dict[str, Any] = {name: params[limit] for name, limit in limits.items() if params[limit] is not None}
    queue = () if params["queue_tokens"] is None else (params["queue_tokens"],)
    access = Access(token, tuple(params["allow_origin"] or ()), _hosts(params["host"], params["allow_host"] or ()))
    settings = ServiceSettings(Limits(**given), *queue)
    return Blueprint(
        tuple(params["places"]), settings, params["cache_megabytes"] * 2**20, access, params["poll"] or None
    )


def _serve_here(plan: Blueprint, first: Path, listening: socket.socket, params: Params) -> None:
    most = most_connections(params["max_connections"])
    backbone = open_recorded(first, (KIND,), params["model"], params["precision"], params["device"])
    log_to_stderr()  # from here on: the registry tells of files that it cannot serve
    registry = plan.registry(backbone)
    app = plan.app(backbone, registry)
    note(f"{counted(len(registry.names()), 'classifier')} at {url(*listening.getsockname()[:2])} (Ctrl-C stops)")
    _run(app, listening, most)


def _serve_by_ray(plan: Blueprint, first: Path, params: Params) -> bool:
    from glotprompt.cluster.replicas import RayServe, ServedBackbone  # with Ray, which may not be installed

    host, port, address = params["host"], params["port"], params["address"]
    if address is None:
        with _listening(host, port) as listening:  # only to see that it can be, and which port is free
            host, port = listening.getsockname()[:2]
    elif port == 0:
        raise ConfigError("--port 0 takes a free port of this machine; with --address give a number")
    place = absolute(params["model"] or recorded_backbone(first, (KIND,))[0])
    plan = replace(plan, places=tuple(path.absolute() for path in plan.places))  # replicas start in other folders
    ray = RayServe(params["replicas"], address, host, port, _GRACE_SECONDS, params["take_over"])
    return ray.run(ServedBackbone(place, params["precision"], params["device"]), plan, note)


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


def _hosts(host: str, more: Sequence[str]) -> tuple[str, ...]:
    """The names and addresses that the service answers to."""
    return ("localhost", "127.0.0.1", "::1", host, socket.gethostname(), *more)


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


def _first_classifier(places: Sequence[Path]) -> Path:
    """The first file that can be read as a classifier, if possible one with a backbone, which serves all."""
    reason, without = "", list[Path]()
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
