"""The whole job in the browser: from a text file to a served classifier and a better one, without a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright (extra dev)")

from playwright.sync_api import Page, expect

import glotprompt as gp
from glotprompt.jobs.ways import BackboneOptions
from glotprompt.jobs.workbench import Workbench
from glotprompt.serve.api import make_app
from glotprompt.serve.registry import Registry
from glotprompt.storage.metadata import describe

from .axe import VARIABLE, violations
from .browser import ACCESSIBILITY, SHOTS, Visit, choose
from .conftest import make_classifier
from .live import Live, broken, on_a_port, refused, slow
from .test_workspace import FAKE

SLOW = 1_200_000
"""Milliseconds that a training may take on a busy machine."""


def seen(page: Page, name: str) -> None:
    """What automatic checks find, in both themes and at all widths; pictures where they are wanted."""
    for width in (320, 390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        sideways = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert sideways == 0, (name, width)
        if width == 320:
            continue
        for colours in ("light", "dark"):
            page.get_by_label("Colours").select_option(colours)
            page.wait_for_timeout(300)  # colours change in steps
            assert page.evaluate(ACCESSIBILITY) == [], (name, width, colours)
            if os.environ.get(VARIABLE):
                assert violations(page) == [], (name, width, colours)
            if SHOTS:
                page.screenshot(path=f"{SHOTS}/{name}-{width}-{colours}.png", full_page=True)
    page.get_by_label("Colours").select_option("system")


def give(page: Page, kind: str, name: str, text: str, said: str) -> None:
    """Send a file; of a table the columns that the page guesses are right."""
    area = page.get_by_role("region", name=kind, exact=True)
    area.get_by_label("Choose a file").set_input_files(
        {"name": name, "mimeType": "text/plain", "buffer": text.encode()}
    )
    if name.endswith(".tsv"):
        area.locator(".choice").get_by_role("button", name="Add").click()
    expect(area.get_by_role("listitem")).to_contain_text(said)


def label_texts(page: Page, mode: str, keys: list[str]) -> list[str]:
    """Press a key for each text; returns those that were shown."""
    shown: list[str] = []
    page.get_by_role("radio", name=mode).check()
    page.get_by_role("button", name="Show texts").click()
    for place, key in enumerate(keys, 1):
        expect(page.get_by_role("heading", name=f"Text {place} of")).to_be_visible()
        shown.append(page.locator("#correct-text").inner_text())
        page.keyboard.press(key)
    expect(page.get_by_role("heading", name=f"Text {len(keys) + 1} of")).to_be_visible()
    return [*shown, page.locator("#correct-text").inner_text()]


DOCTOR = {
    "level": "bad",
    "findings": [
        {"name": "script", "level": "ok", "figure": "Latin", "meaning": "One script.", "remedy": ""},
        {"name": "short lines", "level": "warn", "figure": "9 lines", "meaning": "Short.", "remedy": "Join them."},
        {"name": "amount", "level": "bad", "figure": "8 lines", "meaning": "Too little.", "remedy": "Collect more."},
    ],
    "adapt": {"seconds": 100.0, "steps": 200}, "tune": {"seconds": 50.0},
}  # fmt: skip
COMPARE = {
    "advice": ["Use sentence vectors."], "winner": "embedding", "saved": {"name": "embedding", "file": "x"},
    "rows": [
        {"name": "tf-idf", "title": "tf-idf", "accuracy": 40.0, "interval": [20.0, 60.0], "not_run": None},
        {"name": "embedding", "title": "Sentence vectors", "accuracy": 60.0, "interval": [40.0, 80.0], "not_run": None},
        {"name": "cloze", "title": "Label words", "accuracy": None, "interval": None, "not_run": "needs 9 min"},
    ],
}  # fmt: skip
EVALUATION = {
    "accuracy": 75.0, "interval": [30.1, 95.4], "num_examples": 4,
    "against": {"file": "x", "accuracy": 50.0, "difference": 25.0, "low": -10.0, "high": 60.0},
}  # fmt: skip


@pytest.fixture
def workspace(backbone: gp.Backbone, tmp_path: Path) -> Iterator[Live]:
    """A service in this process, where nothing is really trained."""
    (tmp_path / "classifiers").mkdir()
    make_classifier(backbone, 1, language="lug").save(tmp_path / "made.safetensors")
    for name, figures in (("doctor", DOCTOR), ("compare", COMPARE), ("evaluate", EVALUATION)):
        (tmp_path / f"{name}.json").write_text(json.dumps(figures), encoding="utf-8")
    registry = Registry(tmp_path / "classifiers", backbone)
    bench = Workbench.of(tmp_path, BackboneOptions("tiny", 3, True), registry.reload, FAKE)
    with bench.open(), on_a_port(make_app(backbone, registry, bench=bench)) as url:
        yield Live(url, tmp_path, {})


@pytest.mark.long
def test_every_view_of_a_workspace(browser: Any, workspace: Live) -> None:
    visit = Visit(browser, workspace)
    page = visit.open()
    expect(page.get_by_role("heading", name="What do you have?")).to_be_visible()
    page.get_by_role("button", name="Train a classifier").click()
    expect(page.locator("#train-error")).to_have_text("Choose your language first.")
    page.get_by_role("button", name="Check my texts").click()
    expect(page.locator("#check-error")).to_contain_text("Choose your language and give texts")
    choose(page, "Luganda (lug)", "luganda", "Your language")
    page.get_by_label("What the labels are about").fill("topic")
    give(page, "Texts in your language", "mine.txt", "\n".join(f"the king {i} water" for i in range(12)), "12 rows")

    # Labels from nothing
    few = page.get_by_role("region", name="A few labelled texts in your language")
    few.get_by_role("button", name="Label my texts here").click()
    expect(page.get_by_label("Classifier", exact=True)).to_have_text("None yet: Luganda (lug) · topic")
    page.get_by_role("button", name="Show texts").click()
    expect(page.locator("#correct-error")).to_have_text("Give at least two labels, with commas between them.")
    page.get_by_label("Labels", exact=True).fill("health, sports ,")
    expect(page.get_by_role("radio", name="Train")).to_be_checked()
    label_texts(page, "Train", ["1", "2"])
    expect(page.locator("#correct-says")).to_be_hidden()
    expect(page.locator("#correct-accuracy")).to_have_text("2 labels to train on, 0 to measure.")
    seen(page, "label")
    page.get_by_role("button", name="Go on to training").click()
    expect(few).to_contain_text("2 texts labelled here to train on")
    expect(page.get_by_role("radio", name="Quick")).to_be_checked()
    page.get_by_role("button", name="Train a classifier").click()
    expect(page.locator("#jobs article").first).to_contain_text("Finished")
    page.get_by_role("link", name="Correct", exact=True).click()
    expect(page.get_by_label("Classifier", exact=True)).to_have_value("lug-topic-1")  # it takes the place of none
    page.get_by_role("link", name="Start").click()

    table = "one\thealth\ntwo\tsports\nthree\tculture\nfour\thealth\n"
    area = page.get_by_role("region", name="Labelled texts in another language")
    area.get_by_text("or paste").click()
    area.get_by_label("Two columns").fill(table)
    area.get_by_role("button", name="Add").click()
    area.locator(".choice").get_by_role("button", name="Add").click()
    expect(area.get_by_role("listitem")).to_contain_text("4 rows, health 2")
    area.get_by_label("Choose a file").set_input_files({"name": "a.tsv", "mimeType": "", "buffer": b"a\tb\n1\t2\n"})
    area.locator(".choice").get_by_role("button", name="Add").click()
    expect(area.get_by_role("alert")).to_contain_text("a.tsv has 1 label: 2; a classifier needs at least two")

    page.get_by_role("button", name="Check my texts").click()
    expect(page.locator("#check-report h4")).to_have_text(["Problem: amount", "Look at: short lines"])
    expect(page.locator("#check-report summary")).to_have_text("Fine: script.")
    page.get_by_role("radio", name="Learn the language from texts").check()
    expect(page.locator("#estimate")).to_have_text("It takes about 2 min on this computer.")
    page.get_by_role("radio", name="Try several ways").check()
    expect(page.locator("#estimate")).to_contain_text("It ends after about 30 min")

    (workspace.folder / "hold").touch()
    page.get_by_role("button", name="Train a classifier").click()
    job = page.locator("#jobs article").first
    expect(job).to_contain_text("compare: step 3 of 10, loss 1.500 · at most 30 min left")
    (workspace.folder / "jobs" / "0003" / "progress.json").unlink()
    expect(job).to_contain_text("Reading the texts, ")
    seen(page, "start")
    page.reload()
    expect(job.get_by_role("progressbar")).to_be_visible()
    job.get_by_role("button", name="Stop").click()
    expect(job).to_contain_text("Stopped")
    (workspace.folder / "hold").unlink()
    job.get_by_role("button", name="Resume").click()
    expect(job).to_contain_text("Use sentence vectors.")
    expect(job.get_by_role("row")).to_have_count(4)
    job.get_by_text("What happened").click()
    expect(job.locator("pre")).to_contain_text("compare --train uploads/0002.tsv --language lug")
    seen(page, "finished")

    job.get_by_role("button", name="Measure and correct").click()
    expect(page.locator("#correct-accuracy")).to_contain_text("not measured in Luganda")
    label_texts(page, "Measure", ["1", "2", "s", "3"])
    expect(page.locator("#correct-says")).to_be_hidden()
    shown = label_texts(page, "Correct", ["3", "Enter"])
    margins = [first - second for first, second, _ in (_scores(page, "lug-topic-3", one).values() for one in shown)]
    assert margins == sorted(margins)  # what it is least sure of comes first
    expect(page.locator("#correct-accuracy")).to_contain_text("3 labels to measure, 4 corrections")
    expect(page.locator("#correct-says")).to_contain_text("The classifier says")
    seen(page, "correct")
    page.get_by_role("button", name="Measure now").click()
    said = "75 % of 4 texts that you labelled are right (95 % interval 30 to 95)"
    expect(page.locator("#jobs article").first).to_contain_text(said)
    page.get_by_role("link", name="Correct", exact=True).click()
    page.get_by_role("button", name="Train again with 4 corrections").click()
    expect(page.locator("#jobs article").first).to_contain_text("+25.0 points (95 % interval −10.0 to +60.0)")
    seen(page, "gain")
    visit.close()


@pytest.mark.long
def test_what_is_sent_and_offered(browser: Any, workspace: Live) -> None:
    visit = Visit(browser, workspace)
    page = visit.open("#start")
    mine = page.get_by_role("region", name="Texts in your language", exact=True)
    mine.get_by_text("or paste").click()
    mine.get_by_label("A text on each line").fill("one\ntwo\n")
    page.route("**/v1/uploads?*", broken, times=1)
    mine.get_by_role("button", name="Add").click()
    expect(mine.get_by_role("alert")).to_contain_text("The service failed (500)")
    expect(mine.get_by_label("A text on each line")).to_have_value("one\ntwo\n")
    mine.get_by_role("button", name="Add").click()
    expect(mine.get_by_role("listitem")).to_contain_text("pasted.txt 2 rows")
    expect(mine.get_by_label("A text on each line")).to_have_value("")
    column = {"name": "column.tsv", "mimeType": "text/plain", "buffer": b"text\n" + b"the king\n" * 200_000}
    mine.get_by_label("Choose a file").set_input_files(column)
    expect(mine.get_by_role("listitem").last).to_contain_text("column.tsv 200,000 rows")
    few = "text\tlabel\none\thealth\ntwo\tsports\n"
    give(page, "A few labelled texts in your language", "few.tsv", few, "2 rows")

    # What a classifier was trained on does not measure it
    choose(page, "Luganda (lug)", "luganda", "Your language")
    page.get_by_role("button", name="Train a classifier").click()
    expect(page.locator("#jobs article").first).to_contain_text("Finished")
    page.get_by_role("link", name="Correct", exact=True).click()
    page.get_by_label("Classifier", exact=True).select_option("lug-topics-1")
    names = page.locator("#correct-texts option")
    expect(names).to_have_text(["pasted.txt", "column.tsv"])
    page.get_by_role("radio", name="Correct").check()
    expect(names).to_have_text(["pasted.txt", "column.tsv", "few.tsv"])

    # Another purpose is chosen before the texts have come
    page.route("**/v1/uploads/*/texts", slow)
    with page.expect_response("**/v1/uploads/*/texts"):
        page.get_by_role("button", name="Show texts").click()
        page.get_by_role("radio", name="Measure").check()
    page.wait_for_timeout(500)
    expect(page.locator("#correct-card")).to_be_hidden()
    expect(page.locator("#correct-status")).to_have_text("")
    visit.close()


@pytest.mark.long
def test_training_pages_open_once_the_token_is_given(browser: Any, workspace: Live) -> None:
    visit = Visit(browser, workspace)
    page = visit.open()
    for path in ("**/v1/languages", "**/v1/workspace"):
        page.route(path, refused, times=1)
    page.reload()
    page.get_by_label("Token").fill("sesame")
    page.keyboard.press("Enter")
    choose(page, "Luganda (lug)", "luganda", "Your language")
    give(page, "Texts in your language", "mine.txt", "one\ntwo\n", "2 rows")
    visit.close()


def until(holds: Callable[[], object]) -> None:
    for _ in range(SLOW // 100):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to be")


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
        # To a file: a pipe that nobody reads is full after some minutes of requests, and the service stands still.
        said = self.folder.with_name("serve.log")
        with said.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "glotprompt", *map(str, words)],
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        until(lambda: self.process.poll() is not None or b"startup complete" in said.read_bytes())
        assert self.process.poll() is None, said.read_text(encoding="utf-8")

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(120)


@pytest.fixture
def served(tmp_path: Path, tiny_folder: Path) -> Iterator[Served]:
    served = Served(tmp_path / "work", tiny_folder)
    yield served
    served.end(signal.SIGINT)


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
    choose(page, "Luganda (lug)", "luganda", "Your language")
    rows = "".join(f"{text}\t{('sports', 'health')[i % 2]}\n" for i, text in enumerate(english_lines[:30]))
    give(page, "Labelled texts in another language", "a.tsv", f"what\tkind\n{rows}", "30 rows, sports 15, health 15")
    give(page, "Texts in your language", "mine.txt", "\n".join(invented_lines), "60 rows")

    pairs = "".join(f"{ours}\t{theirs}\n" for ours, theirs in zip(english_lines, invented_lines, strict=True))
    give(page, "Translations", "pairs.tsv", f"source\ttarget\n{pairs}", "60 rows")
    page.get_by_role("radio", name="Learn the language from translations").check()
    page.get_by_label("Steps of learning").fill("400")

    # The service is killed in the middle of the training, and the page loaded again
    page.get_by_role("button", name="Train a classifier").click()
    first = page.locator("#jobs article").filter(has_text="Luganda (lug) · topics").last
    expect(first).to_contain_text(re.compile("step [1-9].* of 400, loss"), timeout=SLOW)
    (checkpoint,) = (served.folder / "adapted").glob("*.checkpoints/*.checkpoint")  # holds no step at first
    until(lambda: "history" in describe(checkpoint, ("checkpoint",)))
    served.end(signal.SIGKILL)
    expect(page.get_by_role("alert").filter(has_text="does not answer")).to_be_visible(timeout=SLOW)
    served.start()
    expect(page.get_by_role("alert").filter(has_text="does not answer")).to_be_hidden(timeout=SLOW)
    page.reload()
    expect(page.get_by_role("combobox", name="Your language")).to_have_value("Luganda (lug)")
    expect(first).to_contain_text(re.compile("Running"), timeout=SLOW)
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
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export the labels").click()
    exported = Path(waiting.value.path()).read_text(encoding="utf-8").splitlines()
    assert exported[0] == "text\tlabel\tuse"
    assert [row.rsplit("\t", 1)[1] for row in exported[1:]] == ["test"] * 6 + ["train"] * 8
    corrected = exported[-1].split("\t")

    # The next training reads them, and its gain is shown
    before = _scores(page, "lug-topics-1", corrected[0])[corrected[1]]
    page.get_by_role("button", name="Train again with 8 corrections").click()
    again = page.locator("#jobs article").filter(has_text="Luganda (lug) · topics").first
    expect(again).to_contain_text("Against the classifier before", timeout=SLOW)
    expect(again).to_contain_text("of 6 texts that you labelled")
    assert _scores(page, "lug-topics-2", corrected[0])[corrected[1]] != before
    page.get_by_role("link", name="Classifiers").click()
    expect(page.locator("#cards")).to_contain_text("of 6 texts in Luganda")
    assert errors == []
    assert [url for url in asked if not url.startswith((served.url, f"blob:{served.url}"))] == []


def _scores(page: Page, classifier: str, text: str) -> dict[str, float]:
    """Probabilities by label, the highest first, as the service answers."""
    body = {"items": [{"classifier": classifier, "text": text}]}
    answer = page.request.post(f"{page.url.split('#')[0]}v1/predict", data=body).json()
    return {one["label"]: one["score"] for one in answer["results"][0]["scores"]}
