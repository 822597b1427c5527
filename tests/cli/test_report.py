"""`glotprompt report` on invented grids."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..report.stores import cell, plan, result, write_store
from .conftest import Program


@pytest.fixture
def store(tmp_path: Path) -> Path:
    runs = [cell("soft-prompt", "sna", seed) for seed in (0, 1)]
    return write_store(tmp_path / "grid", [plan("t", "figure5", runs)], lambda one: result(one, 50.0))


@pytest.mark.slow
def test_report_of_a_grid(glotprompt: Program, store: Path, tmp_path: Path) -> None:
    outcome = glotprompt("report", store, "--output", tmp_path / "out")
    assert outcome.status == 0
    assert outcome.out == "Results at mini scale: 1 experiment, 2 of 2 results finished.\n"
    assert "wrote" in outcome.err
    assert "index.html (open it in a browser)" in outcome.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.html", "results.md", "figures", "tables"}


@pytest.mark.slow
def test_results_in_one_file_are_reported_as_their_folder_is(glotprompt: Program, store: Path, tmp_path: Path) -> None:
    at, away, packed = tmp_path / "at", tmp_path / "away", tmp_path / "mini.jsonl.gz"
    assert glotprompt("report", store, "--output", at, "--pack", packed).status == 0
    first = packed.read_bytes()
    assert glotprompt("report", packed, "--output", away, "--pack", packed).status == 0
    assert packed.read_bytes() == first
    packed.with_name("reading.md").write_text("of a folder", encoding="utf-8")
    packed.with_name("helps.md").write_text("of another file", encoding="utf-8")
    assert glotprompt("report", packed, "--output", away).status == 0
    folder = re.compile(rb"--(output|data-dir) \S+")  # the file's command names none of this machine
    pages = [
        {path.name: folder.sub(b"", path.read_bytes()) for path in out.rglob("*") if path.is_file()}
        for out in (at, away)
    ]
    assert pages[0] == pages[1]
    packed.with_name("mini.md").write_text("Notes on this file.", encoding="utf-8")
    assert glotprompt("report", packed, "--output", away).status == 0
    assert "Notes on this file." in (away / "results.md").read_text(encoding="utf-8")
    assert "must end in .jsonl.gz" in glotprompt("report", store, "--output", at, "--pack", tmp_path / "x.gz").error
    for text in (b"", b"no gzip", first[:-9], gzip.compress(b'{"glotprompt results": 2}\n'), gzip.compress(b"[]\n")):
        packed.write_bytes(text)
        assert "is no file of results" in glotprompt("report", packed, "--output", away).error


@pytest.mark.slow
def test_mistakes_are_one_line(glotprompt: Program, store: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", store / "experiments" / "t.json"
    assert "is no folder; give what `glotprompt grid" in glotprompt("report", tmp_path / "none", "--output", out).error
    assert "holds no experiment" in glotprompt("report", store / "steps", "--output", out).error
    assert "is a file; give a folder" in glotprompt("report", store, "--output", file).error
    assert "is a folder; name the file" in glotprompt("report", store, "--output", out, "--markdown", store).error
    file.write_text("{", encoding="utf-8")
    assert "t.json is damaged" in glotprompt("report", store, "--output", out).error
    assert not out.exists()


@pytest.mark.slow
def test_report_needs_no_torch() -> None:
    heavy = {"torch", "transformers", "matplotlib", "jinja2"}
    code = f"import sys, glotprompt.report.results_page; sys.exit(str({heavy} & set(sys.modules) or '') or 0)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_report_of_a_url(glotprompt: Program, store: Path, tmp_path: Path) -> None:
    for file in store.glob("steps/*/result.json"):
        file.with_name("step.json").write_text("{}", encoding="utf-8")
    at, away = tmp_path / "at", tmp_path / "away"
    assert glotprompt("report", store, "--output", at).status == 0
    assert glotprompt("report", f"file://{store}/", "--output", away).status == 0
    pages = [{path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()} for out in (at, away)]
    assert pages[0] == pages[1]
    for url, said in ((f"file://{tmp_path}/none", "holds no experiment"), ("memry://a", "Did you mean 'memory'")):
        assert said in glotprompt("report", url, "--output", away).error
