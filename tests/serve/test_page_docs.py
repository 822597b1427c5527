"""The description for programs, as a page in a real browser on the real service."""

from __future__ import annotations

import json
import shlex

import pytest

pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright (extra dev)")

from playwright.sync_api import expect

from .browser import Visit, controls_of, look


@pytest.mark.long
@pytest.mark.parametrize(("width", "colours"), [(390, "dark"), (1280, "light")])
def test_the_description_can_be_read(visit: Visit, width: int, colours: str) -> None:
    page = visit.open("docs", width=width, color_scheme=colours)
    look(page, "docs")
    routes = page.get_by_role("navigation", name="Routes").get_by_role("link")
    expect(routes).to_have_text(
        ["POST /v1/predict", "GET /v1/classifiers", "GET /healthz", "GET /readyz", "GET /metrics", "A refusal"]
    )
    assert [name for _, name in controls_of(page) if not name.strip()] == []
    predict = page.get_by_role("region", name="POST /v1/predict", exact=True)
    row = predict.get_by_role("row", name="items[].language")
    expect(row.get_by_role("rowheader")).to_have_text("items[].language string or null, may be left out")
    expect(row).to_contain_text('ISO 639-3 code, or "auto". Not empty. At most 200 characters.')
    expect(predict.get_by_role("row", name="results[].scores[].score")).to_contain_text("Probability")
    expect(predict.locator("dt")).to_have_text(["400", "401", "404", "408", "413", "422", "429", "503"])
    expect(page.get_by_role("row", name="error.message")).to_be_visible()
    expect(page.get_by_role("row", name="classifiers[].dev_accuracy")).to_contain_text("In per cent")
    routes.first.click()
    expect(page.locator("#post-v1-predict")).to_be_in_viewport()


@pytest.mark.long
def test_the_descriptions_example_can_be_sent(visit: Visit) -> None:
    page = visit.open("docs")
    words = shlex.split(page.locator("pre").first.inner_text().replace("\\\n", " "))
    assert words[:2] == ["curl", f"{visit.service.url}v1/predict"]
    body = json.loads(words[words.index("-d") + 1])
    headers = dict(words[place + 1].split(": ") for place, word in enumerate(words) if word == "-H")
    answer = page.request.post(words[1], data=body, headers=headers)
    assert answer.ok, answer.text()
    (result,) = answer.json()["results"]
    assert result["classifier"] == "sna-news"


@pytest.mark.slow
def test_a_description_of_a_service_that_is_gone(visit: Visit) -> None:
    page = visit.open("docs")
    page.route("**/openapi.json", lambda route: route.abort())
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("The service does not answer")
    visit.complaints = [said for said in visit.complaints if "ERR_FAILED" not in said]  # what `abort` writes
