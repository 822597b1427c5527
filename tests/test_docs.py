"""What people read: links lead somewhere, pages are short and plain, and the tutorial does what it says."""

from __future__ import annotations

import doctest
import json
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path

import httpx2
import pytest

import glotprompt as gp
from glotprompt.cli import main

from . import forked

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
READ = [*sorted(ROOT.glob("*.md")), *PAGES]
NOT_PROSE = {DOCS / "log.md", DOCS / "results" / "results.md", ROOT / "CHANGELOG.md"}
"""The diary, a generated page and a list of changes: their sentences are not counted."""

FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+")
BULLET = re.compile(r"(?:[*-]|\d+\.) ")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_code(path: Path) -> str:
    """The text of a page without its blocks of code."""
    return INDENTED.sub("\n", FENCED.sub("", path.read_text(encoding="utf-8")))


def anchors(path: Path) -> set[str]:
    """Of the headings, as GitHub and mkdocs both make them, and of the Python names."""
    text = without_code(path)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"\s", "-", slug) for slug in slugs} | set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))


def sentences(path: Path) -> list[str]:
    """Of paragraphs and bullets. A sentence ends with . ! or ?, or with its paragraph; code counts as one word."""
    blocks, block = [""], ""
    for line in without_code(path).split("## Keys")[0].splitlines():  # what follows is generated (docs/experiments.md)
        stripped = line.strip()
        starts = BULLET.match(stripped)
        if not stripped or starts or stripped.startswith(("#", "|", "!", "<", ":::")):
            blocks.append(block)
            block = BULLET.sub("", stripped) if starts else ""
        else:
            block += f" {stripped}"
    plain = (re.sub(r"`[^`]*`", "code", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", one)) for one in (*blocks, block))
    found = (sentence for one in plain for sentence in re.split(r"(?<=[.!?])[*_)\"]* +", one))
    return [sentence for sentence in found if re.search(r"\w", sentence)]


@pytest.mark.parametrize("path", READ, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", without_code(path))):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        found = (path.parent / place).resolve() if place else path
        assert found.exists(), f"{target}: no such file"
        assert DOCS not in path.parents or DOCS in found.parents, f"{target}: the site has only what is in docs/"
        assert not anchor or anchor in anchors(found), f"{target}: no such heading"


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((ROOT / "src").rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")],
    ids=name_of,
)
def test_examples_in_docstrings(path: Path) -> None:
    module = import_module(".".join(path.relative_to(ROOT / "src").with_suffix("").parts))
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


def test_the_site_has_every_page() -> None:
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in PAGES)
    for path in [path for kind in ("py", "toml") for path in (ROOT / "src").rglob(f"*.{kind}")]:
        notes = re.findall(r'#.*|"""(?s:.*?)"""', path.read_text(encoding="utf-8"))
        named = re.findall(r"\bdocs/(\S+?\.md)\b", " ".join(notes))
        assert set(named) <= set(listed), f"{name_of(path)}: its comments and docstrings name another page"


def test_the_reference_has_the_public_names() -> None:
    listed = re.findall(r"^::: glotprompt\.(\S+)$", (DOCS / "reference" / "python.md").read_text(), re.MULTILINE)
    assert sorted([*listed, "__version__"]) == sorted(vars(gp)["__all__"])


@pytest.mark.parametrize("path", [path for path in READ if path not in NOT_PROSE], ids=name_of)
def test_code_that_is_named_exists(path: Path) -> None:
    """Files between backticks, from the repository's root or the package's, and names after `gp.` in examples."""
    text = path.read_text(encoding="utf-8")
    for file in re.findall(r"`((?:\w+/)*\w+\.py)`", text):
        folders = (ROOT, ROOT / "src" / "glotprompt", *(ROOT / "src" / "glotprompt").glob("**/"))
        assert any((folder / file).exists() for folder in folders), file
    for block in re.findall(r"^```python.*?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        compile(block, path.name, "exec")
        assert set(re.findall(r"\bgp\.(\w+)", block)) <= set(vars(gp)["__all__"])
    imports = re.findall(r"from (glotprompt[\w.]*) import ([\w, ]+)", text)
    named = [f"{module}.{name.strip()}" for module, names in imports for name in names.split(",")]
    for name in [*named, *re.findall(r"\bglotprompt(?:\.[a-z_]\w*)+\b", text)]:
        assert is_there(name.split(".")[1:]), name


def is_there(parts: list[str]) -> bool:
    """Whether modules and names, one inside the other, exist in the package."""
    path = ROOT / "src" / "glotprompt"
    while parts and ((path / parts[0]).is_dir() or (path / f"{parts[0]}.py").exists()):
        path = path / parts.pop(0)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    stub = file.with_suffix(".pyi")
    return not parts or re.search(rf"\b{parts[0]}\b", (stub if stub.exists() else file).read_text("utf-8")) is not None


@pytest.mark.slow
def test_the_results_are_drawn_from_the_committed_ones(tmp_path: Path) -> None:
    assert main(["report", str(ROOT / "results" / "mini.jsonl.gz"), "--output", str(tmp_path)]) == 0
    kept = DOCS / "results"
    files = [kept / "results.md", *kept.glob("tables/*"), *kept.glob("figures/*")]
    assert len(files) > 20
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file() and path.name != "index.html"}
    assert made == {path.relative_to(kept) for path in files}
    assert [path for path in files if path.read_bytes() != (tmp_path / path.relative_to(kept)).read_bytes()] == []


def test_the_readme_is_one_screen_and_the_map_two() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 100
    design = (DOCS / "design.md").read_text(encoding="utf-8").splitlines()
    assert len(design) <= 110
    assert max(map(len, design)) <= 120


@pytest.mark.parametrize("path", [path for path in READ if path not in NOT_PROSE], ids=name_of)
def test_sentences_are_short(path: Path) -> None:
    lengths = [len(re.findall(r"\S*\w\S*", sentence)) for sentence in sentences(path)]
    assert sum(lengths) < 20 * len(lengths), f"{sum(lengths) / len(lengths):.1f} words in the mean"


# --- the tutorial


def shortened(path: Path, rows: int) -> None:
    """Keep some rows, evenly spaced, so that every label stays."""
    first, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(first + "".join(rest[:: max(1, len(rest) // rows)]), encoding="utf-8")


@contextmanager
def serving(*words: str) -> Generator[str]:
    """The service on a free port, and its address."""
    err = Path("err.txt")
    process = forked.start([*words, "--port", "0"], err)
    try:
        yield forked.wait_for(r"http://127\.0\.0\.1:\d+", err, process)
    finally:
        forked.interrupt(process)


@pytest.mark.slow
@pytest.mark.timeout(600)  # on a busy machine
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its files and commands in their order, on fewer rows, with two steps of training and a second to compare."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gp.Backbone, "load", cache(gp.Backbone.load))  # opened once, not by every command
    for name, content in re.findall(r'^```\w+ title="(\S+)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL):
        Path(name).write_text(content, encoding="utf-8")
    runpy.run_path("make_files.py")
    shortened(tmp_path / "nya.txt", 100)
    for name, rows in (("pairs", 40), ("train", 24), ("few", 16), ("test", 12)):
        shortened(tmp_path / f"{name}.tsv", rows)

    done: list[str] = []
    blocks = "".join(re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    commands = [
        shlex.split(line.replace("--steps 20", "--steps 2").replace("--minutes 3", "--minutes 0.02"))
        for line in blocks.splitlines()
    ]
    for program, *words in commands:
        if program == "glotprompt" and words[0] != "serve":
            capsys.readouterr()
            assert main(words) == 0, capsys.readouterr().err
            done.append(words[0])
    assert done == [
        "doctor",
        "adapt",
        "compare",
        *["tune"] * 2,
        *["evaluate"] * 2,
        "tune",
        "evaluate",
        *["predict"] * 2,
    ]

    (serve,) = (words for program, *words in commands if program == "glotprompt" and words[0] == "serve")
    (curl,) = (words for program, *words in commands if program == "curl")
    with serving(*serve) as address:
        place = curl[0].removeprefix("http://127.0.0.1:8000")
        answer = httpx2.post(address + place, json=json.loads(curl[curl.index("-d") + 1]), timeout=60)
    (result,) = answer.raise_for_status().json()["results"]
    assert {score["label"] for score in result["scores"]} == {"law", "poetry", "gospel", "letter"}


TINY_EXPERIMENT = """
title = "Tiny"
source = "eng"
targets = ["chr"]
train = ["english-labelled.tsv"]
source_texts = ["english.txt"]
task = "topics.toml"
methods = ["embedding", "soft-prompt"]
model = "tiny"
seeds = [0]
tests.chr = "target-labelled.tsv"
texts.chr = "target.txt"
adapt.steps = 2
tune.epochs = 1
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["qwen3", "byt5"])
def test_the_commands_and_a_grid_run_on_new_families(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of docs/backbones.md, on a backbone made by the script that it names, with `serve` answering a batch."""
    text = (DOCS / "backbones.md").read_text(encoding="utf-8").partition("## Try it without a download")[2]
    first, *commands = [shlex.split(line, comments=True) for line in re.findall(r"^[pg]\w+ .*$", text, re.MULTILINE)]
    assert first[:1] + first[2:] == ["python", "tiny", "qwen3"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*first[1:-1], kind])
    runpy.run_path(str(ROOT / first[1]), run_name="__main__")
    Path("topics.toml").write_text(
        'template = "{mask} : {text}"\n[verbalizer]\nsports = "Sports"\nhealth = "Health"\n', encoding="utf-8"
    )
    words = {"sports": "win play field", "health": "hear walk slept"}
    table = "\n".join(
        ["text\tlabel", *(f"{word} the {words[label]}\t{label}" for label in words for word in "abcdefgh")]
    )
    for name in ("english-labelled.tsv", "target-labelled.tsv"):
        Path(name).write_text(table.replace("the", name.split("-")[0]), encoding="utf-8")
    for name, asset in (("target", "invented"), ("english", "english")):
        shutil.copy(ROOT / "tests" / "assets" / f"{asset}.txt", f"{name}.txt")

    *commands, serve = (line[1:] for line in commands)
    for line in commands:  # 60 lines are too few, says the doctor
        assert main(line) == (3 if line[0] == "doctor" else 0), capsys.readouterr().err
    with serving(*serve) as address:
        items = [{"classifier": "chr-topics", "text": "lo " * length} for length in (1, 30)]
        answer = httpx2.post(f"{address}/v1/predict", json={"items": items}, timeout=60)
    assert len(answer.raise_for_status().json()["results"]) == 2

    Path("tiny.toml").write_text(TINY_EXPERIMENT, encoding="utf-8")
    assert main(["grid", "tiny.toml", "--output", "runs"]) == 0, capsys.readouterr().err
    assert main(["report", "runs", "--output", "report"]) == 0
    assert "masked" not in Path("report/results.md").read_text(encoding="utf-8")
