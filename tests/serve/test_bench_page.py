"""The whole job in the browser: from a text file to a served classifier and a better one, without a terminal."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright (extra dev)")

from playwright.sync_api import Page, expect

from .axe import VARIABLE, violations
from .browser import ACCESSIBILITY, SHOTS

SLOW = 600_000
"""Milliseconds that a training may take on a busy machine."""


class Served:
    """The program as a process that may be killed and started again on the same port."""

    def __init__(self, folder: Path, tiny: Path) -> None:
        self.folder, self.tiny = folder, tiny
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        words = ["serve", "--workspace", self.folder, "--model", self.tiny, "--port", self.port, "--precision", "fp32"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "glotprompt", *map(str, words)], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self.process.stderr is not None
        assert any("startup complete" in line for line in self.process.stderr), "it did not start"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def served(tmp_path: Path, tiny_folder: Path) -> Iterator[Served]:
    served = Served(tmp_path / "work", tiny_folder)
    yield served
    served.process.send_signal(signal.SIGINT)
    served.process.communicate(timeout=60)


def seen(page: Page, name: str) -> None:
    """What automatic checks find, in both themes and at both widths; pictures where they are wanted."""
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        for colours in ("light", "dark"):
            page.get_by_label("Colours").select_option(colours)
            page.wait_for_timeout(300)  # colours change in steps
            assert page.evaluate(ACCESSIBILITY) == [], (name, width, colours)
            sideways = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert sideways == 0, (name, width)
            if os.environ.get(VARIABLE):
                assert violations(page) == [], (name, width, colours)
            if SHOTS:
                page.screenshot(path=f"{SHOTS}/{name}-{width}-{colours}.png", full_page=True)
    page.get_by_label("Colours").select_option("system")


def label_texts(page: Page, mode: str, keys: list[str]) -> None:
    page.get_by_role("radio", name=mode).check()
    page.get_by_role("button", name="Show texts").click()
    for place, key in enumerate(keys, 1):
        expect(page.get_by_role("heading", name=f"Text {place} of")).to_be_visible()
        page.keyboard.press(key)
    expect(page.get_by_role("heading", name=f"Text {len(keys) + 1} of")).to_be_visible()


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_from_a_text_file_to_a_served_classifier_and_a_better_one(
    browser: Any, served: Served, english_lines: list[str], invented_lines: list[str]
) -> None:
    page: Page = browser.new_page(reduced_motion="reduce")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served.url)

    # What do you have?
    expect(page.get_by_role("heading", name="What do you have?")).to_be_visible()
    field = page.get_by_role("combobox", name="Your language")
    field.fill("luganda")
    page.get_by_role("option", name="Luganda (lug)").click()
    rows = "".join(f"{text}\t{('sports', 'health')[i % 2]}\n" for i, text in enumerate(english_lines[:30]))
    labelled = page.get_by_role("region", name="Labelled texts in another language")
    table = f"what\tkind\n{rows}".encode()
    labelled.get_by_label("Choose a file").set_input_files({"name": "a.tsv", "mimeType": "text/plain", "buffer": table})
    expect(labelled.get_by_label("Labels are in")).to_have_value("1")
    labelled.get_by_role("button", name="Add", exact=True).last.click()
    expect(labelled.get_by_role("listitem")).to_contain_text("30 rows, sports 15, health 15")
    own = page.get_by_role("region", name="Texts in your language", exact=True)
    text = "\n".join(invented_lines).encode()
    own.get_by_label("Choose a file").set_input_files({"name": "mine.txt", "mimeType": "text/plain", "buffer": text})
    expect(own.get_by_role("listitem")).to_contain_text("60 rows")

    # The doctor's words, problems first, and the time
    page.get_by_role("radio", name="Learn the language from texts").check()
    page.get_by_label("Steps of learning").fill("800")
    page.get_by_role("button", name="Check my texts").click()
    expect(page.get_by_text("It will not work as it is.")).to_be_visible(timeout=SLOW)
    expect(page.locator("#check-report li").first).to_contain_text("Problem: amount")
    expect(page.locator("#check-report summary")).to_contain_text("Fine: language, script")
    expect(page.get_by_text(re.compile("It takes about .* on this computer"))).to_be_visible()

    # The service is killed in the middle of the training, and the page loaded again
    page.get_by_role("button", name="Train a classifier").click()
    first = page.locator("#jobs article").filter(has_text="Luganda (lug) · topics").last
    expect(first).to_contain_text(re.compile("step [1-9].* of 800, loss"), timeout=SLOW)
    served.kill()
    expect(page.get_by_role("alert").filter(has_text="does not answer")).to_be_visible(timeout=SLOW)
    served.start()
    expect(page.get_by_role("alert").filter(has_text="does not answer")).to_be_hidden(timeout=SLOW)
    page.reload()
    expect(page.get_by_role("combobox", name="Your language")).to_have_value("Luganda (lug)")
    expect(first).to_contain_text(re.compile("Running"), timeout=SLOW)
    seen(page, "start")
    expect(first).to_contain_text("Finished", timeout=SLOW)
    first.get_by_text("What happened").click()
    expect(first.locator("pre")).to_contain_text("resuming at step", timeout=SLOW)

    # It is served, and says that nobody measured it
    first.get_by_role("button", name="Use the classifier").click()
    page.get_by_role("textbox", name="Text", exact=True).fill(invented_lines[0])
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.locator(".answer strong")).to_be_visible()
    expect(page.locator("#classify-about")).to_contain_text("not measured in Luganda")

    # Texts by chance that measure, then corrections with one key
    page.get_by_role("link", name="Correct", exact=True).click()
    label_texts(page, "Measure", ["1"] * 6)
    expect(page.locator("#correct-accuracy")).to_contain_text("6 labels to measure, 0 corrections")
    label_texts(page, "Correct", ["2"] * 8)
    expect(page.locator("#correct-says")).to_contain_text("The classifier says")
    seen(page, "correct")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export the labels").click()
    exported = Path(waiting.value.path()).read_text(encoding="utf-8").splitlines()
    assert exported[0] == "text\tlabel\tuse"
    assert [row.rsplit("\t", 1)[1] for row in exported[1:]] == ["test"] * 6 + ["train"] * 8
    corrected = exported[-1].split("\t")

    # The next training reads them, and its gain is shown
    before = _score(page, "lug-topics-2", corrected[0], corrected[1])
    page.get_by_role("button", name="Train again with 8 corrections").click()
    again = page.locator("#jobs article").filter(has_text="Luganda (lug) · topics").first
    expect(again).to_contain_text("Against the classifier before", timeout=SLOW)
    expect(again).to_contain_text("of 6 texts that you labelled")
    assert _score(page, "lug-topics-3", corrected[0], corrected[1]) != before
    seen(page, "trained")
    page.get_by_role("link", name="Classifiers").click()
    expect(page.locator("#cards")).to_contain_text("of 6 texts in Luganda")
    assert errors == []
    assert [url for url in asked if not url.startswith((served.url, f"blob:{served.url}"))] == []


def _score(page: Page, classifier: str, text: str, label: str) -> float:
    """The probability of a label, as the service answers."""
    body = {"items": [{"classifier": classifier, "text": text}]}
    answer = page.request.post(f"{page.url.split('#')[0]}v1/predict", data=body).json()
    return next(one["score"] for one in answer["results"][0]["scores"] if one["label"] == label)
