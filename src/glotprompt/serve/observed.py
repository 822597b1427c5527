"""Metrics and logs of the service: counts for Prometheus, whose labels hold nothing that a request can choose, and one
JSON object per line on standard error, which never holds a text."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from glotprompt.serve.batching import Pass
from glotprompt.serve.registry import Registry

FIELDS = "fields"
"""Name under which a log record carries its own figures."""
LOGGER = "glotprompt.serve"

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_POWERS = tuple(2**exponent for exponent in range(0, 15, 2))


class _OfReplica(Collector):
    """Another collector's metrics with an additional label."""

    def __init__(self, collector: Collector, replica: str) -> None:
        self._metrics, self._replica = collector, replica

    def collect(self) -> Iterator[Metric]:
        for metric in self._metrics.collect():
            metric.samples = [
                sample._replace(labels={**sample.labels, "replica": self._replica}) for sample in metric.samples
            ]
            yield metric


class Metrics:
    """Metrics of one application, labelled with `replica` where it is one of several that serve the same."""

    def __init__(self, replica: str | None = None) -> None:
        registry = CollectorRegistry()
        self._collector = registry if replica is None else _OfReplica(registry, replica)
        self._requests = Counter("glotprompt_requests", "Requests.", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            "glotprompt_request_seconds",
            "From a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue_seconds = Histogram(
            "glotprompt_queue_seconds", "Until the model began with a request.", buckets=_SECONDS, registry=registry
        )
        self._items = Counter("glotprompt_items", "Items answered.", registry=registry)
        self._tokens = Counter("glotprompt_tokens", "Tokens read by the model.", registry=registry)
        self._pass_items = Histogram(
            "glotprompt_batch_items", "Items answered together.", buckets=_POWERS, registry=registry
        )
        self._pass_seconds = Histogram(
            "glotprompt_batch_seconds", "What a batch took.", buckets=_SECONDS, registry=registry
        )
        self._gauges = {
            name: Gauge(f"glotprompt_{name}", help, registry=registry)
            for name, help in (
                ("queue_tokens", "Tokens that wait."),
                ("classifiers", "Classifiers that are served."),
                ("classifier_errors", "Files that cannot be served as they are."),
                ("decoded_bytes", "Decoded classifiers kept in memory."),
            )
        }

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request; `route` is the application's, never the requested path."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def on_reply(self, items: int, queue_seconds: float) -> None:
        self._items.inc(items)
        self._queue_seconds.observe(queue_seconds)

    def on_pass(self, batch: Pass) -> None:
        self._tokens.inc(batch.tokens)
        self._pass_items.observe(batch.questions)
        self._pass_seconds.observe(batch.seconds)

    def exposition(self, registry: Registry, waiting_tokens: int) -> bytes:
        """The metrics in Prometheus's text format."""
        now = {
            "queue_tokens": waiting_tokens,
            "classifiers": len(registry.snapshot()),
            "classifier_errors": len(registry.errors()),
            "decoded_bytes": registry.cached_bytes,
        }
        for name, value in now.items():
            self._gauges[name].set(value)
        return generate_latest(self._collector)


class JsonLines(logging.Formatter):
    """Formats log records as JSON objects."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": moment, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, FIELDS, {})
        if record.exc_info and record.exc_info[1] is not None:
            line |= described(record.exc_info[1])
        return json.dumps(line)


def described(error: BaseException) -> dict[str, Any]:
    """Type and location of an error, without its message, which may quote a text."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    frames = traceback.extract_tb(chain[-1].__traceback__)[-8:]
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": [type(one).__name__ for one in chain], "where": where}


def log_to_stderr() -> None:
    """Write all log records of the service and the server as lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("glotprompt", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
