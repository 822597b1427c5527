"""The committed results: docs/results.md is what the tool makes of results/mini, and the README quotes it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from glotprompt.report.report_files import FIGURES, write_report

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    docs = tmp_path_factory.mktemp("docs")
    write_report(ROOT / "results" / "mini", docs / "results", docs / "results.md")
    return docs


def test_the_documentation_is_what_the_tool_writes(fresh: Path) -> None:
    written = (fresh / "results.md").read_text(encoding="utf-8")
    assert (DOCS / "results.md").read_text(encoding="utf-8") == written, "glotprompt report results/mini, again"
    for folder in (FIGURES, "tables"):
        names = {path.name for path in (fresh / "results" / folder).iterdir()}
        assert names == {path.name for path in (DOCS / "results" / folder).iterdir()}
    for path in (fresh / "results" / "tables").iterdir():
        assert (DOCS / "results" / "tables" / path.name).read_bytes() == path.read_bytes()


def test_the_readme_quotes_it() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    quoted = readme.split("<!-- from docs/results.md -->")[1].split("<!-- end -->")[0].strip().splitlines()
    assert len(quoted) > 5
    lines = (DOCS / "results.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in quoted if line not in lines] == []
    figures = re.findall(r"\]\((docs/results/[^)]+)\)", readme)
    assert figures
    for figure in figures:
        assert (ROOT / figure).is_file()


def test_no_text_of_others_is_in_the_results() -> None:
    """Of the examples only ids and labels."""
    files = sorted((ROOT / "results" / "mini" / "steps").glob("evaluate-*/result.json"))
    assert files
    for file in files:
        result = json.loads(file.read_text(encoding="utf-8"))
        labels = {*result["scores"]["all"]["per_label"], *result["predictions"]["gold"]}
        for name, values in result["predictions"].items():
            assert name == "ids" or {*values} <= {*labels, None}, file
        assert all(re.fullmatch(r"[\w-]{1,20}", str(example)) for example in result["predictions"]["ids"]), file
