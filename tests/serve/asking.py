"""What tests of the service ask, and what they expect."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

import glotprompt as gp

Four = dict[str, gp.PromptClassifier]
TEXT, PAIR = "the king water day", ("play field", "water night")


@asynccontextmanager
async def running(app: Any) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client of an application in this event loop, so that requests really stand side by side."""
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client,
    ):
        yield client


def item(classifier: str, content: str | tuple[str, str] = TEXT) -> dict[str, str]:
    if isinstance(content, str):
        return {"classifier": classifier, "text": content}
    return {"classifier": classifier, "premise": content[0], "hypothesis": content[1]}


def assert_as_offline(result: Mapping[str, Any], classifier: gp.PromptClassifier, content: Any = TEXT) -> None:
    (expected,) = classifier.predict([content])
    found = {score["label"]: score["score"] for score in result["scores"]}
    assert found == pytest.approx(expected.scores, abs=1e-5)
    assert result["label"] == expected.label
    assert list(found.values()) == sorted(found.values(), reverse=True)


def error_of(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["error"]
    assert body["error"]["code"] == code
    assert "\n" not in body["error"]["message"]
    return body["error"]
