"""The four pages in a real browser: one look in both themes, on a phone and on a desk, and nobody shut out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glotprompt.demo.page import demo_page
from glotprompt.demo.result import DemoResult
from glotprompt.doctor.page import doctor_page
from glotprompt.report.results_page import write_report

from ..demo.invented import demo_result
from ..report.stores import answer, full_plans, write_store
from ..test_doctor_page import invented
from .axe import VARIABLE, violations

pytestmark = pytest.mark.long
SHOTS = os.environ.get("GLOTPROMPT_SCREENSHOTS")
WIDTHS = (320, 390, 1280)
ACCESSIBILITY = Path(__file__).with_name("accessibility.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The file of each page."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "doctor.html").write_text(doctor_page(invented()), encoding="utf-8")
    (folder / "demo.html").write_text(demo_page(DemoResult.of(demo_result(), "invented")), encoding="utf-8")
    store = write_store(folder / "grid", full_plans(seeds=(0, 1), targets=("sna", "yor", "ibo", "lin")), answer)
    (store / "reading.md").write_text("# In short\n\nInvented, **all** of it.\n\n- one\n- **two**\n", encoding="utf-8")
    write_report(store, folder / "report")
    return {name: folder / f"{name}.html" for name in ("doctor", "demo")} | {"report": folder / "report" / "index.html"}


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page = browser.new_page()
    yield page
    page.close()


@pytest.mark.parametrize("name", ["doctor", "demo", "report"])
def test_fits_and_can_be_read(page: Any, pages: dict[str, Path], name: str) -> None:
    page.goto(pages[name].as_uri())
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        for colours in ("light", "dark"):
            page.emulate_media(color_scheme=colours)
            sideways = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert sideways == 0, (width, colours)
            assert [said for said in page.evaluate(ACCESSIBILITY) if said.startswith("cut: ")] == [], (width, colours)
            if SHOTS and width != WIDTHS[0]:
                page.screenshot(path=f"{SHOTS}/{name}-{width}-{colours}.png", full_page=True)


@pytest.mark.parametrize("name", ["doctor", "demo", "report"])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing(page: Any, pages: dict[str, Path], name: str, colours: str) -> None:
    page.emulate_media(color_scheme=colours)
    page.goto(pages[name].as_uri())
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert violations(page) == []


@pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"needs axe-core: {VARIABLE} names axe.min.js")
def test_axe_finds_nothing_on_the_service(visit: Any) -> None:
    for place in ("#classify", "#file", "#classifiers", "docs"):
        for colours in ("light", "dark"):
            page = visit.open(place, color_scheme=colours)
            assert violations(page) == [], (place, colours)


def test_a_report_is_short_until_it_is_opened(page: Any, pages: dict[str, Path]) -> None:
    page.goto(pages["report"].as_uri())
    page.set_viewport_size({"width": 1280, "height": 844})
    height = "document.documentElement.scrollHeight"
    folded = page.evaluate(height)
    page.evaluate("for (const one of document.querySelectorAll('.experiment')) one.open = true")
    assert folded < page.evaluate(height) / 2
    assert folded < 6000
