"""Connections over real sockets: half requests lock nobody out, slow ones end, and foreign hosts are not served."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from glotprompt.errors import ConfigError
from glotprompt.serve import connections, middleware
from glotprompt.serve.connections import bounded, most_connections
from glotprompt.serve.middleware import BoundedBody, KnownHost, Observed
from glotprompt.serve.observed import Metrics

HEAD = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
LARGE = 2**24
"""Bytes: more than the system holds for a connection."""
ARRIVED, MAY_END = threading.Event(), threading.Event()
"""A request for /later is with the service; it may be answered."""


def make_app() -> FastAPI:
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(await request.body())

    @app.get("/later")
    async def later() -> Response:  # pyright: ignore[reportUnusedFunction]
        ARRIVED.set()
        await asyncio.to_thread(MAY_END.wait, 60)
        return Response()

    @app.get("/large")
    async def large() -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(b"x" * LARGE)

    app.add_middleware(BoundedBody, most_bytes=1000)
    app.add_middleware(Observed, metrics=Metrics())
    return app


@contextmanager
def serving(protocol: type[Any], most: int) -> Generator[int]:
    """A port on which `make_app` is served, as the command serves."""
    config = uvicorn.Config(
        make_app(), http=bounded(most, protocol), ws="none", log_config=None, limit_concurrency=most + 1
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = server.force_exit = True
        thread.join(30)


@pytest.fixture(params=[H11Protocol, HttpToolsProtocol])
def protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """Each of uvicorn's; all times are short."""
    monkeypatch.setattr(connections, "SECONDS", 0.5)
    monkeypatch.setattr(middleware, "BODY_SECONDS", 1.0)
    return request.param


def echo(port: int) -> str:
    return httpx2.post(f"http://localhost:{port}/echo", content="hello", timeout=30).raise_for_status().text


def rest_of(client: socket.socket) -> bytes:
    """What comes until the service closes the connection."""
    client.settimeout(10)
    found = b""
    try:
        while piece := client.recv(2**16):
            found += piece
    except ConnectionResetError:
        pass
    return found


@pytest.mark.slow
@pytest.mark.parametrize("half", [b"", b"POST /ec", HEAD, HEAD + b"\r\nhel"], ids=["nothing", "line", "head", "body"])
def test_half_requests_lock_nobody_out(protocol: type[Any], half: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SECONDS", 60.0)
    monkeypatch.setattr(middleware, "BODY_SECONDS", 60.0)
    with serving(protocol, 20) as port, ExitStack() as held:
        clients = [held.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(60)]
        for client in clients:
            client.sendall(half)
        started = time.monotonic()
        assert [echo(port) for _ in range(5)] == ["hello"] * 5
        assert time.monotonic() - started < 30, "somebody was waited for, whose time is 60 s"
        assert rest_of(clients[0]) == b"", "who came first has waited longest"


@pytest.mark.slow
@pytest.mark.parametrize("half", [b"", b"POST /ec", HEAD])
def test_a_head_that_does_not_come_ends_the_connection(protocol: type[Any], half: bytes) -> None:
    with serving(protocol, 20) as port, socket.create_connection(("127.0.0.1", port)) as client:
        started = time.monotonic()
        client.sendall(half)
        stop = threading.Event()
        drip = threading.Thread(target=_drip, args=(client, stop))
        if half:  # a byte now and then does not help
            drip.start()
        assert rest_of(client) == b""
        assert 0.3 < time.monotonic() - started < 5
        stop.set()
        if half:
            drip.join()


def _drip(client: socket.socket, stop: threading.Event) -> None:
    while not stop.wait(0.1):
        try:
            client.sendall(b"x")
        except OSError:
            return


@pytest.mark.slow
def test_a_second_head_on_a_connection_is_waited_for_no_longer(protocol: type[Any]) -> None:
    with serving(protocol, 20) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(HEAD + b"\r\n0123456789" + HEAD)
        found = rest_of(client)
    assert found.endswith(b"0123456789")
    assert found.count(b"200 OK") == 1


@pytest.mark.slow
def test_a_body_that_does_not_come_is_refused(protocol: type[Any]) -> None:
    with serving(protocol, 20) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(HEAD + b"\r\nhel")
        found = rest_of(client)
    assert found.startswith(b"HTTP/1.1 408")
    assert b'"code":"too_slow"' in found


def test_a_head_without_end_is_not_kept(protocol: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SECONDS", 60.0)
    with serving(protocol, 20) as port, socket.create_connection(("127.0.0.1", port)) as client:
        try:
            for _ in range(100):
                client.sendall(HEAD + b"x: " + b"y" * 20_000 + b"\r\n")
                time.sleep(0.01)
        except OSError:
            return
        pytest.fail("2 MB were taken")


@pytest.mark.slow
def test_who_reads_no_answer_is_left_and_who_reads_slowly_is_not(protocol: type[Any]) -> None:
    ask = b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with serving(protocol, 20) as port, ExitStack() as held:
        deaf, slow = (held.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(2))
        for client in (deaf, slow):
            client.sendall(ask)
        found, started = 0, time.monotonic()
        slow.settimeout(10)
        while piece := slow.recv(2**20):
            found += len(piece)
            time.sleep(0.1)
        assert time.monotonic() - started > 1.5, "longer than anybody is waited for"
        assert found > LARGE
        assert len(rest_of(deaf)) < LARGE


@pytest.mark.slow
def test_who_is_being_answered_stays(protocol: type[Any]) -> None:
    """One more is refused, and no other is closed for it."""
    ask = b"GET /later HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    ARRIVED.clear()
    MAY_END.clear()
    with serving(protocol, 1) as port:
        with socket.create_connection(("127.0.0.1", port)) as first:
            first.sendall(ask)
            assert ARRIVED.wait(30)
            assert httpx2.get(f"http://localhost:{port}/later", timeout=30).status_code == 503
            MAY_END.set()
            assert rest_of(first).startswith(b"HTTP/1.1 200")
        assert echo(port) == "hello"


def test_room_for_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    assert most_connections(None) == most_connections(96) == 96
    with pytest.raises(ConfigError, match=r"--max-connections 97: .* room for 96; give no more, or raise"):
        most_connections(97)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert (most_connections(None), most_connections(5000)) == (1024, 5000)


# --- hosts


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Of an answer to a request with some Host header, by a service that knows some hosts."""
    from starlette.testclient import TestClient

    def ask(hosts: list[str], *given: str) -> int:
        app = FastAPI()
        app.add_middleware(KnownHost, hosts=hosts)
        with TestClient(app) as client:
            answer = client.get("/openapi.json", headers=[("Host", host) for host in given])
        assert answer.status_code == 200 or answer.json()["error"]["code"] == "unknown_host"
        return answer.status_code

    return ask


def test_hosts_that_are_known(status: Callable[..., int]) -> None:
    known = ["localhost", "::1", "Example.org"]
    for host in ("localhost", "LOCALHOST:8000", "localhost.", "[::1]:8000", "[::1]", "example.org:80"):
        assert status(known, host) == 200, host
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1", "::1", "", "x@localhost", "localhost:80:80"):
        assert status(known, host) == 400, host
    assert status(known, "localhost", "evil.example") == 400


def test_old_http_names_no_host() -> None:
    """As the health checks of some proxies do; with HTTP 1.1 a missing name is refused, and a wrong one always."""

    async def ask(version: str, *headers: tuple[bytes, bytes]) -> list[int]:
        told: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            told.append(200)

        async def send(message: Any) -> None:
            told.extend([message["status"]] if "status" in message else [])

        scope: Any = {"type": "http", "http_version": version, "headers": list(headers)}
        await KnownHost(app, ["localhost"])(scope, None, send)  # pyright: ignore[reportArgumentType]
        return told

    assert asyncio.run(ask("1.0")) == [200]
    assert asyncio.run(ask("1.1")) == [400]
    assert asyncio.run(ask("1.0", (b"host", b"evil.example"))) == [400]


def test_all_addresses_let_in_addresses_and_no_names(status: Callable[..., int]) -> None:
    for every in ("0.0.0.0", "::"):
        for host in ("10.0.0.7:8000", "[fe80::1]:80"):
            assert status([every], host) == 200
        assert status([every], "evil.example") == 400
