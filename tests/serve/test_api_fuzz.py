"""Requests that nobody would send, drawn from the service's own description: every answer is one it promises."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hypothesis
import pytest
from hypothesis import strategies as st
from starlette.testclient import TestClient

import glotprompt as gp
from glotprompt.serve.api import make_app
from glotprompt.serve.registry import Registry
from glotprompt.serve.schemas import Limits
from glotprompt.serve.service import ServiceSettings

if TYPE_CHECKING:  # takes seconds, so the test that needs it imports it
    import schemathesis

EXAMPLES = 40
"""For each route."""


@pytest.fixture
def client(tmp_path: Path, backbone: gp.Backbone, four: dict[str, gp.PromptClassifier]) -> Generator[TestClient]:
    for name, classifier in four.items():
        classifier.save(tmp_path / f"{name}.safetensors")
    limits = Limits(items=8, characters=2000, body_bytes=20_000)
    app = make_app(backbone, Registry(tmp_path, backbone), ServiceSettings(limits))
    with TestClient(app) as client:
        yield client


@pytest.mark.long
def test_no_request_breaks_the_service(client: TestClient) -> None:
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    wanted = [
        not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
        checks.response_schema_conformance,
    ]  # fmt: skip
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    seen = set[str]()
    for result in schema.get_all_operations():
        operation = cast(Any, result).ok()
        seen.add(operation.path)

        @hypothesis.settings(
            max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )  # fmt: skip
        @hypothesis.given(case=operation.as_strategy())
        def ask(case: schemathesis.Case[Any]) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the libraries that draw and send
                case.call_and_validate(checks=wanted)

        ask()
    assert seen == {"/v1/predict", "/v1/classifiers", "/healthz", "/readyz", "/metrics"}


@pytest.mark.long
def test_any_text_is_answered(client: TestClient) -> None:
    """What the description alone seldom draws: items that are whole, with texts of any characters."""
    text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
    who = st.sampled_from(
        [{"classifier": "nya"}, {"classifier": "sna"}, {"language": "yor", "task": "topic"},
         {"language": "auto", "task": "topic"}]
    )  # fmt: skip
    single = st.builds(lambda chosen, text: {**chosen, "text": text}, who, text)
    pair = st.builds(lambda one, other: {"classifier": "nya-nli", "premise": one, "hypothesis": other}, text, text)
    answered = 0

    @hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @hypothesis.given(st.lists(single | pair, min_size=1, max_size=4))
    def ask(items: list[dict[str, str]]) -> None:
        nonlocal answered
        response = client.post("/v1/predict", json={"items": items})
        assert response.status_code in (200, 413, 422), response.text
        if response.status_code == 200:
            answered += 1
            for result in response.json()["results"]:
                assert sum(score["score"] for score in result["scores"]) == pytest.approx(1, abs=1e-6)

    ask()
    assert answered > 20
