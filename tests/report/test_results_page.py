"""The report's files: complete, closed in themselves, safe for any text, the same for the same results."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from glotprompt.report.results_page import write_report

from ..pages import Reader
from .stores import answer, cell, full_plans, plan, result, write_store


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything: gaps, a failure, a collapse, a reading, all experiments."""
    folder = tmp_path_factory.mktemp("grid")
    store = write_store(folder / "grid", full_plans(seeds=(0, 1), targets=("sna", "yor")), answer)
    (store / "failed").mkdir()
    failure = {"step": "adapt-0123", "error": "no memory for <b> & more", "traceback": "", "attempts": 2, "when": ""}
    (store / "failed" / "adapt-0123.json").write_text(json.dumps(failure), encoding="utf-8")
    (store / "reading.md").write_text(
        "## In short\n\nInvented, **all** of it.\n\n- one\n  point\n- two\n", encoding="utf-8"
    )
    write_report(store, folder / "out")
    return folder / "out"


def page(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_page_shows_every_experiment(written: Path) -> None:
    text = " ".join(Reader(page(written)).text.split())
    for shown in (
        "Results at mini scale",
        "In short Invented, all of it. one point two",
        "Table 1: seen against unseen languages",
        "Table 2: main results",
        "Table 3: costs",
        "Figure 3: amount of unlabelled text",
        "Figure 4: few-shot",
        "Figure 5: change of the prompts in stage 2",
        "Figure 6: which layers are tuned",
        "Controls",
        "2 seeds, 2 languages",
        "Collapsed runs: 1 of 19. They predict one label for almost everything.",
        "Fine-tuning, no adaptation, sna, seed 0: “business” is predicted for 96 % of the examples",
        "Missing: 1 of 20 runs.",
        "MAD-X: yor seed 1",
        "46.2 ± 1.8 †",
        "†: with a run that collapsed.",
        "adapt-0123, attempts: 2: no memory for <b> & more",
        "glotprompt grid experiments/fig6_top_k.toml --output grid --scale mini --data-dir data",
        "“-”: missing number",
        "Gemma-2-9B",
        "80.53",
        "1,572,864",
        "1999-12-31T23:59:00+00:00 to 1999-12-31T23:59:01+00:00",
        "mini, 0123abcd, bf16",
    ):
        assert shown in text, shown


@pytest.mark.slow
def test_page_loads_nothing(written: Path) -> None:
    html = page(written)
    reader = Reader(html)
    inside = {f"#{name}" for name in reader.ids}
    tables = {link for link in reader.links if link.startswith("tables/")}  # those load when they are clicked
    assert set(reader.links) <= inside | tables
    assert {Path(link).suffix for link in tables} == {".csv", ".tex"}
    assert all((written / link).is_file() for link in tables)
    assert "<strong>all</strong> of it." in html
    assert not {"script", "link", "iframe", "img", "object"} & reader.tags.keys()
    assert "@import" not in html
    assert set(re.findall(r"url\(([^)]*)\)", html)) <= inside
    assert "default-src 'none'" in html
    assert set(re.findall(r"https?://[^\"'<\s]+", html)) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.slow
def test_ids_are_unique_and_labels_exist(written: Path) -> None:
    reader = Reader(page(written))
    assert [name for name, count in Counter(reader.ids).items() if count > 1] == []
    assert set(reader.label_ids) <= set(reader.ids)
    assert reader.tags["svg"] == len(list((written / "figures").iterdir())) == 14


@pytest.mark.slow
def test_markdown_refers_to_the_figures_that_are_there(written: Path) -> None:
    text = (written / "results.md").read_text(encoding="utf-8")
    links = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
    assert sorted(links) == sorted(f"figures/{file.name}" for file in (written / "figures").iterdir())
    assert "Invented, **all** of it." in text
    assert "- `adapt-0123`, 2 attempts: no memory for \\<b\\> & more" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({row.count(" | ") for row in block.splitlines()}) == 1, block


@pytest.mark.slow
def test_figures_are_files_that_stand_alone(written: Path) -> None:
    for file in (written / "figures").iterdir():
        root = ET.fromstring(file.read_text(encoding="utf-8"))
        assert float(root.attrib["width"]) == 420
        assert "var(--" not in ET.tostring(root, encoding="unicode")
        assert root[0].attrib["fill"] == "#fff"


@pytest.mark.slow
def test_one_method_has_one_colour_everywhere(written: Path) -> None:
    for name in ("table2_masakhanews-values", "fig3_text_amount-mean", "fig6_top_k-mean", "fig5_prompt_change-mean"):
        assert "#d9620b" in (written / "figures" / f"{name}.svg").read_text(encoding="utf-8"), name


@pytest.mark.slow
def test_panels_have_a_legend_and_numbers_for_screen_readers(written: Path) -> None:
    for name, curves in (
        ("fig4_few_shot-languages", ("MAD-X", "Adapted soft prompt")),
        ("fig6_top_k-languages", ("top K layers", "bottom K layers")),
        ("fig5_prompt_change-languages", ("Adapted soft prompt",)),
    ):
        text = (written / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        for curve in curves:
            assert text.count(f">{curve}<") == 1, (name, curve)
        spoken = ET.fromstring(text).attrib["aria-label"]
        assert "yor: " in spoken
        assert len(re.findall(r"[\d.]+ at \d", spoken)) >= 2 * 3 * len(curves), spoken


@pytest.mark.slow
def test_own_figure_has_a_logarithmic_axis(written: Path) -> None:
    text = (written / "figures" / "table2_masakhanews-values.svg").read_text(encoding="utf-8")
    assert ">100 k<" in text
    assert ">100 M<" in text


@pytest.mark.slow
def test_tables_are_written_in_three_forms(written: Path) -> None:
    names = {file.name for file in (written / "tables").iterdir()}
    assert {"table2_masakhanews-accuracy-own.csv", "table2_masakhanews-accuracy-own.tex"} <= names
    assert {"fig4_few_shot-mean.tex", "table3_cost-cost.csv", "table2_masakhanews-runs.csv"} <= names


def small(folder: Path, name: str = "t", **changes: Any) -> Path:
    runs = [cell(method, "sna", seed) for method in ("soft-prompt", "mad-x") for seed in (0, 1)]
    record = plan(name, "figure5", runs, **changes)
    return write_store(folder, [record], lambda one: result(one, 50.0))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    store = small(tmp_path / "grid")
    for name in ("a", "b"):
        write_report(store, tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_markdown_may_lie_elsewhere(tmp_path: Path) -> None:
    write_report(small(tmp_path / "grid"), tmp_path / "docs" / "results", tmp_path / "docs" / "results.md")
    text = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    assert "](results/figures/t-mean.svg)" in text
    assert not (tmp_path / "docs" / "results" / "results.md").exists()


def test_every_text_is_escaped(tmp_path: Path) -> None:
    bad = '"><script>alert("&")</script>'
    runs = [cell(f"new{bad}", f"sna{bad}", seed, **{f"tune.key{bad}": x}) for seed in (0, 1) for x in (1, 2)]
    record = plan("t", "figure4", runs, title=f"title{bad}", command=f"command{bad}", scale=f"s{bad}", source=f"x{bad}")
    collapsed = f"why{bad}"
    store = write_store(tmp_path / "grid", [record], lambda one: {**result(one, 50.0), "collapsed": collapsed})
    (store / "reading.md").write_text(f"# a{bad}\n\n- b{bad}\n\nc{bad}", encoding="utf-8")
    write_report(store, tmp_path / "out")
    reader = Reader(page(tmp_path / "out"))
    assert reader.tags["script"] == 0
    assert reader.tags["svg"] == 1
    for word in ("title", "command", "why", "a", "b", "c"):
        assert f"{word}{bad}" in reader.text, word


def test_kinds_of_a_later_version_are_shown_as_tables(tmp_path: Path) -> None:
    record = plan("t", "figure9", [cell("mad-x", "sna", 0)])
    write_report(write_store(tmp_path / "grid", [record], lambda one: None), tmp_path / "out")
    text = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert "This version knows no drawing 'figure9'; shown as accuracies." in text
    assert "| MAD-X | - | - |" in text
    assert "0 of 1 results finished" in text


def test_variants_are_headed_by_their_title_and_entries_have_different_names(tmp_path: Path) -> None:
    def one(name: str, draw: str) -> dict[str, Any]:
        return plan(name, draw, [cell("mad-x", "sna", 0)], title="One title")

    plans = [one("variant_fig3", "figure3"), one("a", "accuracy"), one("b", "accuracy"), one("fig3", "figure3")]
    write_report(write_store(tmp_path / "grid", [*plans, one("fig6", "figure6")], lambda one: None), tmp_path / "out")
    text = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)\n\n(.*)", text, flags=re.MULTILINE) == [
        ("Figure 3: amount of unlabelled text", "One title"),
        ("Figure 6: which layers are tuned", "One title"),
        ("Accuracies", "One title"),
        ("Accuracies", "One title"),
        ("One title (variant)", "variant\\_fig3"),
    ]
    contents = re.findall(r'<li><a href="#[^"]*">(.*?)</a></li>', page(tmp_path / "out"))
    assert len({*contents}) == len(contents) == 5


def test_a_grid_without_results_gives_a_report(tmp_path: Path) -> None:
    plans = full_plans(seeds=(0,), targets=("sna",))
    write_report(write_store(tmp_path / "grid", plans, lambda one: None), tmp_path / "out")
    text = Reader(page(tmp_path / "out")).text
    assert "None" not in text
    assert "nan" not in text.split()
