"""Middleware: counts and logs requests, checks the Host header and the token, and bounds bodies."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glotprompt.serve.observed import FIELDS, LOGGER, Metrics
from glotprompt.serve.schemas import Refusal

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
OPEN = ("/", "/docs", "/healthz", "/readyz")
OPEN_FOLDER = "/static/"
"""Paths that need no token: the health checks, and the pages, which hold no data and ask for the token."""

BODY_SECONDS = 30.0
"""Most seconds that a request's body may take."""
_HOST = re.compile(r"(?:\[([\da-f:.]+)\]|([^\s:@/\[\]]+?)\.?)(?::\d*)?", re.IGNORECASE)
"""The value of a Host header: an address of IPv6, or a name or other address; then a port."""

_log = logging.getLogger(f"{LOGGER}.requests")


def refusal_response(refusal: Refusal) -> JSONResponse:
    """The refusal as a response in the shape of `schemas.ErrorBody`."""
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    content = {"error": {"code": refusal.code, "message": refusal.message, "item": refusal.item}}
    return JSONResponse(content, refusal.status, headers)


class Observed:
    """Counts and logs requests, sets headers, and turns errors inside into answers."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0
        fields: dict[str, Any] = {}
        scope[FIELDS] = fields

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in HEADERS.items() if k.lower().encode() not in present),
                ]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            _log.error("failure", exc_info=error)
            if status:  # half an answer is out; the server closes the connection
                raise
            message = "something went wrong inside the service; its log has more"
            await refusal_response(Refusal(500, "internal", message))(scope, receive, watched)
        seconds = time.perf_counter() - start
        route = _route(scope)
        self._metrics.request(route, status, seconds)
        figures = {"method": scope["method"], "route": route, "status": status, "seconds": round(seconds, 6)}
        _log.info("request", extra={FIELDS: {**figures, **fields}})


def _route(scope: Scope) -> str:
    """The route's name in the application; paths may contain anything."""
    path = getattr(scope.get("route"), "path", None)
    if path is not None:
        return str(path)
    return OPEN_FOLDER if scope["path"].startswith(OPEN_FOLDER) else "other"


class KnownHost:
    """Answers requests for hosts that it knows, and no others: a page whose own name was made to lead here (DNS
    rebinding) would else count as ours in a browser. What starlette has cannot take addresses of any kind."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        """An unspecified address (0.0.0.0, ::) allows every address, since no page has an address as its name."""
        self._app = app
        self._hosts = {host.strip("[]").casefold() for host in hosts}
        self._all_addresses = any(_is_address(host) and ip_address(host).is_unspecified for host in self._hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._knows(scope):
            await self._app(scope, receive, send)
            return
        message = "the Host header names another host than this service's; start it with --allow-host NAME to add one"
        await refusal_response(Refusal(400, "unknown_host", message))(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if not values and scope["http_version"] == "1.0":  # health checks of proxies; every browser names a host
            return True
        match = _HOST.fullmatch(values[0]) if len(values) == 1 else None
        if match is None:
            return False
        host = (match[1] or match[2]).casefold()
        return host in self._hosts or (self._all_addresses and _is_address(host))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Authorised:
    """Checks the bearer token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or scope["path"].startswith(OPEN_FOLDER):
            await self._app(scope, receive, send)
            return
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = header.partition(b" ")
        # Compared in constant time, so that the time does not reveal how much of it was right.
        if hmac.compare_digest(token.strip(), self._token) and scheme.lower() == b"bearer":
            await self._app(scope, receive, send)
            return
        refusal = Refusal(401, "unauthorized", "give the service's token: Authorization: Bearer TOKEN")
        await refusal_response(refusal)(scope, receive, send)


class BoundedBody:
    """Reads whole bodies, up to a limit in size and time."""

    def __init__(self, app: ASGIApp, most_bytes: int, larger: tuple[str, int] | None = None) -> None:
        """`larger`: a path that takes more bytes, one body at a time."""
        self._app, self._most_bytes, self._larger = app, most_bytes, larger
        self._one = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._larger is None or scope["path"] != self._larger[0]:
            await self._bounded(scope, receive, send, self._most_bytes)
        elif self._one.locked():
            message = "another file is being sent; try again in a moment"
            await refusal_response(Refusal(429, "queue_full", message, retry_after=2))(scope, receive, send)
        else:
            async with self._one:
                await self._bounded(scope, receive, send, self._larger[1])

    async def _bounded(self, scope: Scope, receive: Receive, send: Send, most_bytes: int) -> None:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._read(receive, most_bytes)
        except TimeoutError:
            body = Refusal(408, "too_slow", f"the body did not come within {BODY_SECONDS:.0f} s; send it again")
        if isinstance(body, Refusal):
            response = refusal_response(body)
            response.headers["Connection"] = "close"  # its rest is not waited for
            await response(scope, receive, send)
        if not isinstance(body, bytes):
            return
        whole: Message | None = {"type": "http.request", "body": body, "more_body": False}

        async def replayed() -> Message:
            nonlocal whole
            if whole is not None:
                first, whole = whole, None
                return first
            return await receive()

        await self._app(scope, replayed, send)

    async def _read(self, receive: Receive, most_bytes: int) -> bytes | Refusal | None:
        """The body; None: the client has gone."""
        body, size = bytearray(), 0
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size <= most_bytes:
                body += part
            elif size > 8 * most_bytes:
                break  # so far we read on, because many clients only listen once they have sent everything
        if size > most_bytes:
            message = f"the body is larger than {most_bytes:,} bytes; send it in several requests"
            return Refusal(413, "body_too_large", message)
        return bytes(body)
