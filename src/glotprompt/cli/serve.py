"""`serve`: classifiers of many languages over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from glotprompt.cli import options
from glotprompt.cli.screen import note
from glotprompt.errors import ArtifactError, ConfigError, MissingExtraError, UserError, counted

if TYPE_CHECKING:
    from fastapi import FastAPI

    from glotprompt.serve.api import Blueprint

_GRACE_SECONDS = 60
"""How long answers that are under way may take once the service is told to stop."""
_NETWORK, _LIMITS = "Network", "Limits"


def serve(
    places: Annotated[
        list[Path], typer.Argument(metavar="DIR|FILE...", help="Classifiers that tune wrote, or folders with some.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine's.", rich_help_panel=_NETWORK)
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.", rich_help_panel=_NETWORK)] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Answer only those who send the token in this file.", rich_help_panel=_NETWORK
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Pages from there may call the service from a browser, may be repeated. Default: only its own.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name by which the service is asked for, as behind a proxy, may be repeated. Known without it: this"
            " machine's own (localhost), and what --host says.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    max_connections: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Connections at a time. Default: 1024, or what the limit of open files (ulimit -n) leaves room for.",
            show_default=False,
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    poll: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.0, help="How often to look for new files; 0: never.")
    ] = 2.0,
    max_items: Annotated[
        int | None, typer.Option(min=1, help="Items in one request.", show_default=False, rich_help_panel=_LIMITS)
    ] = None,
    max_characters: Annotated[
        int | None,
        typer.Option(min=1, help="Characters of all texts of a request.", show_default=False, rich_help_panel=_LIMITS),
    ] = None,
    max_body: Annotated[
        int | None,
        typer.Option(min=1, help="Bytes of a request's body.", show_default=False, rich_help_panel=_LIMITS),
    ] = None,
    queue_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tokens that may wait; beyond, requests are told to come again.",
            show_default=False,
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    engine: Annotated[
        Literal["uvicorn", "ray"],
        typer.Option(help="Who answers: this process, or replicas on Ray.", rich_help_panel=options.MACHINE),
    ] = "uvicorn",
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Ray: processes that each hold the backbone. Default: one for each GPU, else for each machine.",
            show_default=False,
            rich_help_panel=options.MACHINE,
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray: the cluster to join. Default: one on this machine.",
            show_default=False,
            rich_help_panel=options.MACHINE,
        ),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over", help="Ray: take the place of the service that runs there.", rich_help_panel=options.MACHINE
        ),
    ] = False,
    cache_megabytes: Annotated[
        int, typer.Option(min=0, help="Memory for decoded classifiers.", rich_help_panel=options.MACHINE)
    ] = 256,
    model: options.ModelPlace = None,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
) -> None:
    """Serve classifiers over HTTP, with a page for the browser.

    POST /v1/predict takes texts of any languages and tasks, mixed; GET /openapi.json describes everything. Files that
    come, change or go are taken up while it runs. Stopped (Ctrl-C), it answers what it has taken.
    """
    for module in ("fastapi", "uvicorn", "prometheus_client"):
        if find_spec(module) is None:
            raise MissingExtraError("The service", "serve")
    if engine == "uvicorn" and (replicas is not None or address is not None or take_over):
        raise ConfigError("--replicas, --address and --take-over are for --engine ray; give it, or leave them out")
    if engine == "ray" and max_connections is not None:
        raise ConfigError("--max-connections is for --engine uvicorn; Ray's proxy takes the connections")
    token = None if token_file is None else _token(token_file)
    first = _first_classifier(places)
    limits: dict[str, Any] = {"items": max_items, "characters": max_characters, "body_bytes": max_body}

    def blueprint() -> Blueprint:
        from glotprompt.serve.api import Access, Blueprint
        from glotprompt.serve.schemas import Limits
        from glotprompt.serve.service import ServiceSettings

        of_requests = Limits(**{name: value for name, value in limits.items() if value is not None})
        settings = ServiceSettings(of_requests) if queue_tokens is None else ServiceSettings(of_requests, queue_tokens)
        access = Access(token, tuple(allow_origin or ()), _hosts(host, allow_host or ()))
        return Blueprint(tuple(places), settings, cache_megabytes * 2**20, access, poll or None)

    if engine == "ray":
        answered = _serve_by_ray(blueprint, first, host, port, replicas, address, take_over, model, precision, device)
    else:
        answered = True
        with _listening(host, port) as listening:  # before the backbone is loaded, which takes a while
            _serve_here(blueprint, first, listening, max_connections, model, precision, device)
    last = "everything that was taken has been answered" if answered else "Ray did not say whether all was answered"
    note(f"stopped; {last}")


def _serve_here(
    blueprint: Callable[[], Blueprint], first: Path, listening: socket.socket, max_connections: int | None,
    model: str | None, precision: Any, device: str,
) -> None:  # fmt: skip
    from glotprompt.cli.backbone import open_recorded
    from glotprompt.serve.api import url
    from glotprompt.serve.connections import most_connections
    from glotprompt.serve.observed import log_to_stderr
    from glotprompt.serve.registry import KIND

    most = most_connections(max_connections)
    encoder = open_recorded(first, (KIND,), model, precision, device)
    log_to_stderr()  # from here on: the registry tells of files that it cannot serve
    plan = blueprint()
    registry = plan.registry(encoder)
    app = plan.app(encoder, registry)
    note(f"{counted(len(registry.names()), 'classifier')} at {url(*listening.getsockname()[:2])} (Ctrl-C stops)")
    _run(app, listening, most)


def _serve_by_ray(
    blueprint: Callable[[], Blueprint], first: Path, host: str, port: int, replicas: int | None, address: str | None,
    take_over: bool, model: str | None, precision: Any, device: str,
) -> bool:  # fmt: skip
    from glotprompt.cluster.replicas import Backbone, RayServe

    if address is None:
        with _listening(host, port) as listening:  # only to see that it can be, and which port is free
            host, port = listening.getsockname()[:2]
    elif port == 0:
        raise ConfigError("--port 0 takes a free port of this machine; with --address give a number")
    from glotprompt.cli.backbone import recorded_backbone
    from glotprompt.model.backbones import absolute
    from glotprompt.serve.registry import KIND

    place = absolute(model or recorded_backbone(first, (KIND,))[0])
    plan = blueprint()
    plan = replace(plan, places=tuple(path.absolute() for path in plan.places))  # replicas start in other folders
    ray = RayServe(replicas, address, host, port, _GRACE_SECONDS, take_over)
    return ray.run(Backbone(place, precision, device), plan, note)


def _run(app: FastAPI, listening: socket.socket, most: int) -> None:
    import uvicorn

    from glotprompt.serve.connections import bounded, room_for_connections

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
    """The first file that can be read as a classifier: its backbone serves all."""
    from glotprompt.cli.backbone import recorded_backbone
    from glotprompt.serve.registry import KIND, PATTERN

    reason = ""
    for place in places:
        if not place.exists():
            raise ArtifactError(f"{place} does not exist; give classifiers that tune wrote, or folders with some")
        for path in sorted(place.glob(PATTERN)) if place.is_dir() else [place]:
            try:
                recorded_backbone(path, (KIND,))
                return path
            except UserError as error:
                reason = reason or f" ({error})"
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
