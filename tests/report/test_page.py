"""The demo's page: complete, closed in itself, safe for any text."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from glotprompt.report import figures
from glotprompt.report.page import demo_page, write_demo_page

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Reader(HTMLParser):
    """Collects ids, attributes that load or point, label references and text; checks the nesting."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.label_ids: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._read(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._read(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def _read(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            elif key == "aria-labelledby":
                self.label_ids.append(value or "")
            elif key in ("src", "srcset", "href", "xlink:href", "action", "data", "poster"):
                self.links.append(value or "")


@pytest.mark.slow
def test_page_shows_the_result(result: dict[str, Any]) -> None:
    text = " ".join(Reader(demo_page(result)).text.split())
    for shown in (
        "An invented conclusion.",
        "It learned to read Chichewa better",
        "Translations that find each other",
        "Classifying with English labels only",
        "51.0 ± 1.4 [46, 56] 50.0 · 52.0",
        "61.0 [56, 66]",
        "63.0",
        "Aligned soft prompt 20.0 80.0 50 9,000",
        "Prefix tuning, no adaptation, seed 0: 97 % “law”",
        "collapsed in 1 of 2",
        "glotprompt demo --invented",
        "p.safetensors",
        "glotprompt predict [TEXT]",
        "1,234",
        "an invented machine",
        "a b hidden word: c d",
        "letter, mail",
    ):
        assert shown in text, shown


def test_page_does_not_claim_what_did_not_happen(result: dict[str, Any]) -> None:
    result["language"]["mlm_loss_after"] = result["language"]["mlm_loss_before"]
    page = demo_page(result)
    assert "It learned to read" not in page
    assert "Did it learn to read Chichewa better?" in page


def test_parts_that_a_demo_lacks_are_not_shown(result: dict[str, Any]) -> None:
    for name in ("language", "guesses", "alignment"):
        del result[name]
    text = Reader(demo_page(result)).text
    assert "Classifying with English labels only" in text
    assert "to read" not in text
    assert "Translations" not in text


def test_page_loads_nothing(result: dict[str, Any]) -> None:
    html = demo_page(result)
    reader = Reader(html)
    inside = {f"#{name}" for name in reader.ids}
    assert reader.links, "the figures reuse their tick marks"
    assert set(reader.links) <= inside
    assert not {"script", "link", "iframe", "img", "object"} & reader.tags.keys()
    assert "@import" not in html
    assert set(re.findall(r"url\(([^)]*)\)", html)) <= inside
    assert "default-src 'none'" in html


@pytest.mark.slow
def test_ids_are_unique_and_labels_exist(result: dict[str, Any]) -> None:
    reader = Reader(demo_page(result))
    assert reader.tags["svg"] == 3
    assert [name for name, count in Counter(reader.ids).items() if count > 1] == []
    assert set(reader.label_ids) <= set(reader.ids)


def poisoned(value: Any) -> Any:
    """The same result with markup in every text that is shown."""
    if isinstance(value, dict):
        return {key: poisoned(item) if key != "method" else item for key, item in value.items()}
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return f'{value}"><script>alert("&")</script>' if isinstance(value, str) else value


@pytest.mark.slow
def test_every_text_is_escaped(result: dict[str, Any]) -> None:
    reader = Reader(demo_page(poisoned(result)))
    assert reader.tags["script"] == 0
    assert reader.tags["svg"] == 3
    assert 'e f"><script>alert("&")</script>' in reader.text


@pytest.mark.slow
def test_bare_results_give_a_page(bare_results: list[dict[str, Any]]) -> None:
    for bare in bare_results:
        text = Reader(demo_page(bare)).text
        assert "–" not in text
        assert any(line.endswith("-") for line in text.splitlines())
        assert "None" not in text
        assert "nan" not in text.split()


@pytest.mark.slow
def test_page_is_written_whole(result: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "demo.html"
    write_demo_page(result, path)
    assert path.read_text(encoding="utf-8") == demo_page(result)
    assert list(tmp_path.iterdir()) == [path]


def test_figures_say_what_they_show(result: dict[str, Any]) -> None:
    loss, bars = figures.loss_curve(result), figures.accuracy_bars(result)
    assert 'aria-label="Line chart: loss on held-out Chichewa text goes from 8.00 to 4.00 in 100 steps."' in loss
    assert "Adapted soft prompt (ours) 51.0 ± 1.4 [46, 56] as it is" in bars
    retrieval = figures.retrieval_curve(result)
    assert "Aligned soft prompt from 15.0 to 80.0" in retrieval
    for svg in (loss, bars, retrieval):
        assert "<text" in svg, "text stays text"
        assert "DejaVu" not in svg
        assert "var(--ink" in svg
        assert not re.findall("#01020[3-6]", svg)


def test_figures_are_the_same_every_time(result: dict[str, Any]) -> None:
    assert figures.accuracy_bars(result) == figures.accuracy_bars(result)


def test_no_data_no_figure() -> None:
    assert figures.loss_curve({}) == ""
    assert figures.accuracy_bars({}) == ""
    assert figures.retrieval_curve({}) == ""


def test_missing_extra_is_one_clear_line(result: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from glotprompt.errors import MissingExtraError

    for missing, function in (("jinja2", demo_page), ("matplotlib", figures.loss_curve)):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, missing, None)
            with pytest.raises(MissingExtraError, match=r'pip install "glotprompt\[demo\]"'):
                function(result)
