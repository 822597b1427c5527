"""A browser on the running service, and what people do in it."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

from .live import Live

ACCESSIBILITY = (Path(__file__).parent / "accessibility.js").read_text(encoding="utf-8")
SHOTS = os.environ.get("GLOTPROMPT_SCREENSHOTS")
"""A folder for pictures of the page, for a person to look at."""
CONTROLS = {
    "button", "textbox", "searchbox", "combobox", "checkbox", "link", "listbox", "option", "progressbar",
    "ComboBoxMenuButton", "DisclosureTriangle",
}  # fmt: skip
"""Roles, as Chromium calls them, of what people operate."""

expect.set_options(timeout=20_000)


class Visit:
    """A browser window on the service; at the end it must have asked nobody else and met no error."""

    def __init__(self, browser: Browser, service: Live) -> None:
        self._browser, self.service = browser, service
        self.complaints: list[str] = []
        self.batches: list[int] = []
        """Items of each request that was answered."""
        self._asked: list[str] = []
        self._contexts: list[Any] = []

    def _note_console(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    def open(self, path: str = "", width: int = 1280, height: int = 900, **options: Any) -> Page:
        context = self._browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", **options
        )
        self._contexts.append(context)
        page: Page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._asked.append(request.url))
        page.on("response", self._count)
        page.goto(self.service.url + path)
        page.locator("body[data-ready]").wait_for(state="attached")
        return page

    def _count(self, response: Any) -> None:
        if response.url.endswith("/v1/predict") and response.ok:
            self.batches.append(len(response.request.post_data_json["items"]))

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        ours = (self.service.url, f"blob:{self.service.url}")
        assert [url for url in self._asked if not url.startswith(ours)] == []
        assert self._asked, "a page that asks for nothing was not watched"
        # Chromium writes each answer of 4xx and 5xx to the console by itself.
        assert [said for said in self.complaints if "the server responded with a status of" not in said] == []


def look(page: Page, name: str) -> None:
    """What an automatic check can find, and a picture where one is wanted."""
    assert page.evaluate(ACCESSIBILITY) == [], name
    size = page.viewport_size
    assert size is not None
    for width in (size["width"], 320):
        page.set_viewport_size({**size, "width": width})
        sideways = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert sideways == 0, f"{name} scrolls sideways by {sideways} px at {width} px"
    page.set_viewport_size(size)
    if SHOTS:
        colours = page.evaluate("document.documentElement.dataset.theme")
        page.screenshot(path=f"{SHOTS}/{name}-{size['width']}-{colours}.png", full_page=True)


def tree_of(page: Page) -> list[dict[str, Any]]:
    """Chromium's accessibility tree: role, name and properties of each node, as a screen reader gets them."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    return [
        {
            "role": node["role"]["value"], "name": node.get("name", {}).get("value", ""),
            **{one["name"]: one["value"].get("value") for one in node.get("properties", [])},
        }
        for node in nodes if not node["ignored"]
    ]  # fmt: skip


def controls_of(page: Page) -> list[tuple[str, str]]:
    """Role and name of all that can be operated."""
    return [(node["role"], node["name"]) for node in tree_of(page) if node["role"] in CONTROLS]


def text_area(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Text", exact=True)


def choose(page: Page, title: str, query: str, label: str = "Language and task") -> None:
    field = page.get_by_role("combobox", name=label)
    field.click()
    field.fill(query)
    page.get_by_role("option", name=title).click()


def classify(page: Page, text: str) -> None:
    text_area(page).fill(text)
    page.get_by_role("button", name=re.compile("^(Classify|Compare)")).click()


def take_file(page: Page, name: str, text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    page.get_by_label("File", exact=True).set_input_files({"name": name, "mimeType": "text/plain", "buffer": data})


def downloaded(page: Page) -> list[dict[str, str]]:
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download the predictions").click()
    text = Path(waiting.value.path()).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
