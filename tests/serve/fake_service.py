"""What the page needs of the HTTP service, with canned answers: the page's tests can then make it busy, broken or
locked at will."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

PAGE = files("glotprompt.serve") / "page"
KINDS = {
    "html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}  # fmt: skip
POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
LABELS = ["business", "culture", "health", "politics", "sports"]
BAD_WORD = "refuse-me"
"""A text with it is refused, as if it were too long."""


def card(name: str, language: str, language_name: str | None, task: str = "news", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "language": language, "language_name": language_name, "task": task, "labels": LABELS,
        "fields": ["text"], "method": "prompt", "backbone": "mini", "prompt_length": 32, "max_length": 128,
        "target_texts": 4210, "source_texts": 4210, "num_examples": 2200, "dev_accuracy": 73.4, "offsets": False,
        "made": "2026-11-20T08:30:00+00:00", "num_bytes": 1_190_000, "sample_texts": [], **more,
    }  # fmt: skip


CARDS = [
    card("hau-news", "hau", "Hausa", sample_texts=["The market opened late because of the rain."]),
    card("sna-news", "sna", "Shona", sample_texts=["A text of the file's own.", "<b>Not</b> bold & long " * 8]),
    card("tir-news", "tir", "Tigrinya", offsets=True, dev_accuracy=None, target_texts=None),
    card("yor-news", "yor", "Yorùbá"),
    card("xxx-news", "xxx", None, method="lora", prompt_length=None),
    card("quy-nli", "quy", "Quechua", "nli", labels=["entailment", "neutral", "contradiction"],
         fields=["premise", "hypothesis"], sample_texts=[["It rains.", "The street is wet."]]),
]  # fmt: skip


class FakeService(ThreadingHTTPServer):
    """Its public attributes may be changed while it runs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cards = CARDS
        self.limits = {"items": 8, "characters": 2000, "body_bytes": 8000}
        self.token: str | None = None
        self.busy = 0
        """So many requests for predictions are answered with 429 first."""
        self.failing = False
        """Answer predictions with 500."""
        self.seconds = 0.0
        """What a prediction takes."""
        self.paths: list[str] = []
        """What was asked for."""
        self.batches: list[int] = []
        """Items of each request that was answered."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


@contextmanager
def running() -> Iterator[FakeService]:
    """A service in a thread of its own, until the block ends."""
    service = FakeService()
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeService

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        path = self.path.partition("?")[0]
        if path == "/v1/classifiers":
            if self._is_allowed():
                errors = [{"file": "broken.safetensors", "error": "it is cut off; copy it again"}]
                body = {"classifiers": self.server.cards, "errors": errors, "limits": self.server.limits, "auto": True}
                self._send_json(200, body)
            return
        name = "index.html" if path == "/" else path.removeprefix("/static/")
        if name not in {entry.name for entry in PAGE.iterdir()}:
            self._refuse(404, "not_found", f"there is no {path}")
            return
        self._send(200, KINDS[name.rpartition(".")[2]], (PAGE / name).read_bytes())

    def do_POST(self) -> None:
        self.server.paths.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._is_allowed():
            return
        threading.Event().wait(self.server.seconds)
        items = json.loads(body)["items"]
        limits = self.server.limits
        if self.server.busy > 0:
            self.server.busy -= 1
            self._refuse(429, "busy", "the queue is full; try again", headers={"Retry-After": "1"})
        elif self.server.failing:
            self._refuse(500, "internal", "something broke")
        elif len(body) > limits["body_bytes"]:
            self._refuse(413, "body_too_large", f"the body has {len(body)} bytes; at most {limits['body_bytes']}")
        elif len(items) > limits["items"]:
            self._refuse(422, "too_many_items", f"{len(items)} items; at most {limits['items']}")
        elif sum(len(text) for item in items for text in texts_of(item)) > limits["characters"]:
            self._refuse(413, "too_many_characters", f"more than {limits['characters']} characters; send fewer")
        else:
            bad = [place for place, item in enumerate(items) if any(BAD_WORD in text for text in texts_of(item))]
            if bad:
                self._refuse(422, "bad_text", "the text cannot be read; leave it out", item=bad[0])
            else:
                self.server.batches.append(len(items))
                self._send_json(200, {"results": [self._answer(item) for item in items], "seconds": 0.01})

    def _answer(self, item: dict[str, Any]) -> dict[str, Any]:
        text = " ".join(texts_of(item))
        by_name = {one["name"]: one for one in self.server.cards}
        if item.get("language") == "auto":
            own = [one for one in self.server.cards if one["task"] == item["task"]]
        else:
            own = [by_name[item["classifier"]]]
        candidates = [
            {"language": one["language"], "classifier": one["name"], "loss": 3 + place / 4}
            for place, one in enumerate(own)
        ]
        found = own[0]
        # The label that the text names most often, so that tests can foresee it.
        ranked = sorted(found["labels"], key=lambda label: (-text.count(label), label))
        if found["name"] == "yor-news":
            ranked.reverse()
        shares = [2.0**-place for place in range(len(ranked))]
        scores = [{"label": label, "score": share / sum(shares)} for label, share in zip(ranked, shares, strict=True)]
        return {
            "classifier": found["name"], "language": found["language"], "label": ranked[0], "scores": scores,
            "unknown": [character for character in "ǃǁ" if character in text], "truncated": len(text) > 1000,
            "candidates": candidates if item.get("language") == "auto" else None,
        }  # fmt: skip

    def _is_allowed(self) -> bool:
        if self.server.token is None or self.headers.get("Authorization") == f"Bearer {self.server.token}":
            return True
        self._refuse(401, "unauthorized", "send the token", headers={"WWW-Authenticate": "Bearer"})
        return False

    def _refuse(
        self, status: int, code: str, message: str, item: int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self._send_json(status, {"error": {"code": code, "message": message, "item": item}}, headers)

    def _send_json(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(body).encode(), headers)

    def _send(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        sent = {"Content-Type": kind, "Content-Length": str(len(body)), "Content-Security-Policy": POLICY}
        for name, value in {**sent, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def texts_of(item: dict[str, Any]) -> list[str]:
    return [item[field] for field in ("text", "premise", "hypothesis") if field in item]
