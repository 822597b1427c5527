"""Connections of a service: limits on their number and on the time that each may keep it waiting.

uvicorn alone would wait for ever for the rest of a request's head, or for somebody to read an answer; a few hundred of
those are all the files that a process may open. `BoundedBody` bounds the time of bodies.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from glotprompt.errors import ConfigError

try:
    import resource
except ImportError:  # Windows, where sockets are no files
    resource = None

_Protocol: Any = asyncio.Protocol  # what uvicorn adds to it has no types

MOST = 1024
"""Connections at a time, where the limit of open files leaves room for as many."""
OWN_FILES = 64
"""Files that a service opens besides connections."""
SECONDS = 10.0
"""How long the head of a request may take, and how long somebody may read nothing of an answer."""
_NO_BOUND = 2**30
HEAD_BYTES = 2**16
"""Maximum size of a request's head. httptools, which uvicorn may use, has no bound."""


def room_for_connections() -> int:
    """Number of connections for which the limit of open files has room. As many again may arrive in one moment, and are
    open before the first of them is closed."""
    if resource is None:
        return _NO_BOUND
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _NO_BOUND if files == resource.RLIM_INFINITY else max(1, (files - OWN_FILES) // 2)


def most_connections(requested: int | None) -> int:
    """Maximum number of connections. Raises `ConfigError` where there is no room for the requested number."""
    room = room_for_connections()
    if requested is not None and requested > room:
        raise ConfigError(
            f"--max-connections {requested}: with the files that this process may open there is room for {room}; give"
            " no more, or raise the limit (ulimit -n)"
        )
    return min(MOST, room) if requested is None else requested


class BoundedConnection(_Protocol):
    """A connection of a service that has a bound on them; the next class of a `bounded` one is uvicorn's protocol. Of
    its own we look at `connections`, `cycle` (the request whose head came last), `flow` and `transport`."""

    most: int
    """Connections at a time."""
    awaited: dict[Any, None]
    """Of all connections those that have to send or to read something, the longest first."""
    _deadline: asyncio.TimerHandle | None = None
    _unread = 0
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most and self.awaited:
            next(iter(self.awaited)).leave()
        self._look()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # A body may go on behind an answer that did not want it.
        in_body = self._is_asked() or (self.cycle is not None and self.cycle.more_body)
        self._head_bytes = 0 if in_body else self._head_bytes + len(data)
        if self._head_bytes > HEAD_BYTES:
            self.leave()
        else:
            self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def leave(self) -> None:
        self._forget()
        self.connections.discard(self)  # at once: the next one may be counted before this one is lost
        self.transport.abort()

    def _is_asked(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        """Check the connection's state."""
        is_asked, reads = self._is_asked(), self.flow.write_paused
        if is_asked and not reads and not self.cycle.more_body:
            self._forget()
            return
        self.awaited.setdefault(self)
        if is_asked and not reads:
            self._set_deadline(None)
        elif self._deadline is None:
            self._set_deadline(SECONDS)

    def _at_deadline(self) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread in (0, self._unread):
            self.leave()
        else:  # an answer is being read, however slowly
            self._unread = unread
            self._set_deadline(SECONDS)

    def _set_deadline(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._at_deadline)

    def _forget(self) -> None:
        self.awaited.pop(self, None)
        self._set_deadline(None)


def bounded(most: int, base: Any = AutoHTTPProtocol) -> type[asyncio.Protocol]:
    """uvicorn's protocol for `most` connections at a time. Where one more comes, that one is closed which has kept the
    service waiting longest; where none has, `limit_concurrency` is what refuses the new one's request."""
    return type("Bounded", (BoundedConnection, base), {"most": most, "awaited": {}})
