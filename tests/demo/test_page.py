"""The demo's page: complete, closed in itself, safe for any text."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from glotprompt.demo import figures
from glotprompt.demo.page import demo_page, write_demo_page
from glotprompt.demo.result import DemoResult, DemoRow
from glotprompt.errors import ArtifactError

from ..pages import Reader
from .invented import bare_results


@pytest.mark.slow
def test_page_shows_the_result(result: DemoResult) -> None:
    text = " ".join(Reader(demo_page(result)).text.split())
    for shown in (
        "An invented conclusion.",
        "It learned to read Chichewa better",
        "Aligned translations",
        "Classifying with English labels",
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


@pytest.mark.slow
def test_page_does_not_claim_what_did_not_happen(result: DemoResult) -> None:
    assert result.language is not None
    same = result.language.replace(mlm_loss_after=result.language.mlm_loss_before)
    page = demo_page(result.replace(language=same))
    assert "It learned to read" not in page
    assert "Did it learn to read Chichewa better?" in page


def test_parts_that_a_demo_lacks_are_not_shown(result: DemoResult) -> None:
    text = Reader(demo_page(result.replace(language=None, guesses=[], alignment=[]))).text
    assert "Classifying with English labels" in text
    assert "to read" not in text
    assert "Translations" not in text


@pytest.mark.slow
def test_page_loads_nothing(result: DemoResult) -> None:
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
def test_ids_are_unique_and_labels_exist(result: DemoResult) -> None:
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
def test_every_text_is_escaped(as_json: dict[str, Any]) -> None:
    reader = Reader(demo_page(DemoResult.of(poisoned(as_json), "poisoned")))
    assert reader.tags["script"] == 0
    assert reader.tags["svg"] == 3
    assert 'e f"><script>alert("&")</script>' in reader.text


@pytest.mark.slow
def test_bare_results_give_a_page() -> None:
    for bare in bare_results():
        text = Reader(demo_page(bare)).text
        assert "–" not in text
        assert any(line.endswith("-") for line in text.splitlines())
        assert "None" not in text
        assert "nan" not in text.split()


@pytest.mark.slow
def test_page_is_written_whole(result: DemoResult, tmp_path: Path) -> None:
    path = tmp_path / "demo.html"
    write_demo_page(result, path)
    assert path.read_text(encoding="utf-8") == demo_page(result)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_figures_say_what_they_show(result: DemoResult) -> None:
    loss, bars = figures.loss_curve(result), figures.accuracy_bars(result)
    assert 'aria-label="Line chart: loss on held-out Chichewa text goes from 8.00 to 4.00 in 100 steps."' in loss
    assert "Adapted soft prompt 51.0 ± 1.4 [46, 56] uncentred" in bars
    retrieval = figures.retrieval_curve(result)
    assert "Aligned soft prompt from 15.0 to 80.0" in retrieval
    for svg in (loss, bars, retrieval):
        assert "<text" in svg, "text stays text"
        assert "DejaVu" not in svg
        assert "var(--ink" in svg
        assert not re.findall("#01020[3-6]", svg)


@pytest.mark.slow
def test_figures_are_the_same_every_time(result: DemoResult) -> None:
    assert figures.accuracy_bars(result) == figures.accuracy_bars(result)


def test_no_data_no_figure(result: DemoResult) -> None:
    bare = result.replace(language=None, rows=[], alignment=[])
    assert figures.loss_curve(bare) == ""
    assert figures.accuracy_bars(bare) == ""
    assert figures.retrieval_curve(bare) == ""


@pytest.mark.parametrize("key", ["mlm_loss_after", "retrieval_before", "target_test_accuracy", "conclusion", "try"])
def test_a_result_that_lacks_a_key_is_refused_and_no_dash(as_json: dict[str, Any], key: str) -> None:
    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without(item) for name, item in value.items() if name != key}
        return [without(item) for item in value] if isinstance(value, list) else value

    with pytest.raises(ArtifactError, match=rf"{key}: Field required"):
        DemoResult.of(without(as_json), "result.json")


def test_a_result_is_written_as_it_is_documented(result: DemoResult, as_json: dict[str, Any]) -> None:
    found = result.to_json()
    assert found["saved"]["try"] == as_json["saved"]["try"]
    assert {**found, "rows": 0} == {**json.loads(json.dumps(as_json)), "rows": 0}
    assert found["rows"][0].keys() == DemoRow.model_fields.keys()


def test_missing_extra_is_one_clear_line(result: DemoResult, monkeypatch: pytest.MonkeyPatch) -> None:
    from glotprompt.errors import MissingExtraError

    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r'pip install "glotprompt\[demo\]"'):
        figures.loss_curve(result)
