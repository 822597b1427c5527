"""What the service answers instead of predictions: a code for programs and a line for people."""

from __future__ import annotations


class Refusal(Exception):
    """An answer with a status of 4xx, or 503 where another attempt will do. Its message never quotes a text."""

    def __init__(
        self, status: int, code: str, message: str, item: int | None = None, retry_after: int | None = None
    ) -> None:
        """`item` is the place of what was refused among the request's items, `retry_after` in seconds."""
        super().__init__(message)
        self.status, self.code, self.item, self.retry_after = status, code, item, retry_after
        # Names of a request may hold half of a character, which no answer can be written with.
        self.message = " ".join(message.encode("utf-8", "replace").decode().split())
