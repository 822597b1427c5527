"""Small files on which something once went wrong, each with what the program is to say of it.

They are read from the folder that `GLOTPROMPT_CASES` names; without it these tests are skipped. Files of our own of
the same kinds are in the tests of each room.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import glotprompt as gp
from glotprompt.cli import main
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.task import BUILT_IN_TASKS


@dataclass(frozen=True)
class Outcome:
    """What one command line came to."""

    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def cases() -> Path:
    """The folder of the files."""
    given = os.environ.get("GLOTPROMPT_CASES")
    if not given:
        pytest.skip("needs the cases: set GLOTPROMPT_CASES to their folder")
    return Path(given).absolute()


@pytest.fixture(scope="module")
def backbone(tiny_folder: Path) -> gp.Backbone:
    return gp.Backbone.load(tiny_folder, precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def classifier(backbone: gp.Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained classifier of news."""
    return untrained(backbone, BUILT_IN_TASKS["news"]).save(tmp_path_factory.mktemp("c") / "news.safetensors")


def untrained(backbone: gp.Backbone, task: gp.Task) -> gp.PromptClassifier:
    prompt = SoftPrompt.initialise(backbone.prompt_shape(2), 0.02, 0)
    return gp.PromptClassifier(backbone, prompt, task, "sna", 64)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the program in a folder of the test's own: run("tune", "--train", path)."""
    monkeypatch.chdir(tmp_path)

    def _run(*words: str | Path) -> Outcome:
        capsys.readouterr()
        status = main([str(word) for word in words])
        shown = capsys.readouterr()
        found = Outcome(status, shown.out, shown.err)
        assert "Traceback" not in found.err
        return found

    return _run


ADAPT = "--language sna --steps 1 --batch-size 2 --max-length 16 --prompt-length 2 --precision fp32 --output o.st"


# --- quotes


@pytest.mark.slow
def test_a_stray_quote_is_refused_by_its_lines(cases: Path, classifier: Path, run: Run) -> None:
    file = cases / "quote_swallow.tsv"
    task = ["--task", "news", "--model", "mini", "--epochs", "1", "--output", "o.st"]
    for words in (
        ("evaluate", "--classifier", classifier, "--data", file),
        ("predict", "--classifier", classifier, "--input", file),
        ("tune", "--train", file, *task),
        ("adapt", "--target", file, "--source", cases / "source_en.txt", *ADAPT.split()),
    ):
        found = run(*words)
        assert found.status == 2
        assert "lines 2-4" in found.err
        assert "--read quoting=none" in found.err
    plain = run("evaluate", "--classifier", classifier, "--data", file, "--read", "quoting=none")
    assert (plain.status, "4 examples" in plain.out) == (0, True)


@pytest.mark.slow
def test_a_stray_quote_lets_no_scored_text_into_training(cases: Path, tiny_folder: Path, run: Run) -> None:
    target, source = cases / "leak_target.txt", cases / "source_en.txt"
    words = ["adapt", "--target", target, "--source", source, "--held-out", cases / "quote_swallow.tsv"]
    found = run(*words, *ADAPT.split(), "--model", tiny_folder)
    assert found.status == 0
    assert "2 of" in next(line for line in found.err.splitlines() if "sna, target text" in line)


@pytest.mark.slow
def test_only_the_line_of_a_stray_quote_is_skipped(cases: Path, classifier: Path, run: Run) -> None:
    words = ("evaluate", "--classifier", classifier, "--data", cases / "quote_skip.tsv")
    found = run(*words, "--on-bad-row", "skip")
    assert found.status == 0
    kept = json_of(run, *words, "--on-bad-row", "skip")["num_examples"]
    lost = sum("skipped" in line and "bad row" not in line for line in found.err.splitlines())
    assert kept + lost == 4
    assert kept >= 2


def json_of(run: Run, *words: str | Path) -> dict[str, Any]:
    assert run(*words, "--json", "x.json").status == 0
    return json.loads(Path("x.json").read_text(encoding="utf-8"))


# --- what is refused, and what is said of it


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("semi.csv", "--read 'delimiter=;'"),
        ("comma.tsv", "--read delimiter=,"),
        ("lfs.tsv", "a Git LFS pointer, not the file itself. Fetch it with `git lfs pull`"),
        ("array.jsonl", "one object a line"),
        ("badutf8.parquet", "row 1: the column 'text' is not UTF-8"),
        ("dupcol.parquet", "the column 'text' occurs twice"),
    ],
)
def test_a_table_that_is_refused(cases: Path, classifier: Path, run: Run, name: str, said: str) -> None:
    found = run("evaluate", "--classifier", classifier, "--data", cases / name)
    assert found.status == 2
    assert said in found.err
    assert found.err.splitlines()[-1].startswith("error: ")
    skipped = run("evaluate", "--classifier", classifier, "--data", cases / name, "--on-bad-row", "skip")
    assert skipped.status == (0 if name == "badutf8.parquet" else 2), "one row alone can be left out"
    assert said in skipped.err


@pytest.mark.slow
def test_a_stand_in_is_named_wherever_it_is_read(cases: Path, run: Run) -> None:
    adapt = ("adapt", "--target", cases / "lfs.tsv", "--source", cases / "source_en.txt", *ADAPT.split())
    for words in (adapt, ("predict", "--classifier", cases / "lfs.safetensors", "bhora")):
        found = run(*words)
        assert found.status == 2
        assert "a Git LFS pointer, not the file itself. Fetch it with `git lfs pull`" in found.err
    shutil.copy(cases / "lfs.tsv", "lfs.txt")
    assert "a Git LFS pointer" in run("adapt", "--target", "lfs.txt", *adapt[3:]).err


# --- what is read


@pytest.mark.slow
def test_columns_that_nobody_asked_for_are_no_error(cases: Path, classifier: Path, run: Run) -> None:
    found = json_of(run, "evaluate", "--classifier", classifier, "--data", cases / "emptycols.csv")
    assert found["num_examples"] == 1


@pytest.mark.slow
def test_labels_with_decimals_are_the_whole_numbers(cases: Path, run: Run, backbone: gp.Backbone) -> None:
    untrained(backbone, gp.Task("numbers", "{mask} : {text}", {"0": "No", "1": "Yes", "2": "Maybe"})).save(
        "numbers.safetensors"
    )
    found = json_of(run, "evaluate", "--classifier", "numbers.safetensors", "--data", cases / "floatlab.parquet")
    assert set(found["per_label"]) <= {"0", "1", "2"}


@pytest.mark.slow
def test_examples_of_one_label_are_no_collapse(cases: Path, run: Run, backbone: gp.Backbone) -> None:
    task = gp.Task("two", "{mask} : {text}", {"sports": "Sports", "health": "health"})
    always = replace(untrained(backbone, task), offsets=(50.0, 0.0))
    found = run("evaluate", "--classifier", always.save("sports.safetensors"), "--data", cases / "oneclass.tsv")
    assert found.status == 0
    assert "accuracy        100.0 %" in found.out
    assert "collapse" not in found.out + found.err
    assert "only one label" in found.out + found.err


def test_a_label_without_an_example_is_named(cases: Path, run: Run, tiny_folder: Path) -> None:
    words = f"--model {tiny_folder} --epochs 1 --max-length 16 --precision fp32 --output o.st".split()
    found = run("tune", "--train", cases / "train_onelabel.tsv", "--task", cases / "t_ok.toml", *words)
    assert re.search(r"no example\b.*\bhealth\b|\bhealth\b.*\bno example", found.out + found.err)


# --- options


@pytest.mark.slow
@pytest.mark.parametrize("option", [("--text-column", "text"), ("--label-column", "x"), ("--read", "format=tsv")])
def test_an_option_that_a_reference_has_no_use_for_is_refused(
    corpora: Path, classifier: Path, run: Run, option: tuple[str, str]
) -> None:
    where = ("--data-dir", corpora, *option)
    evaluate = run("evaluate", "--classifier", classifier, "--data", "masakhanews:sna:dev", *where)
    words = ["tune", "--train", "masakhanews:eng:train", "--task", "news", "--model", "mini", "--output", "o.st"]
    tune = run(*words, *where)
    for found in (evaluate, tune):
        assert found.status == 2
        assert option[0] in found.err


# --- datasets


def test_one_file_under_two_languages_is_reported(run: Run) -> None:
    folder = Path("data/afrisenti")
    for code, words in (("tir", "ሰላም ዓለም"), ("orm", "nagaa addunyaa"), ("amh", "ሰላም ለዓለም")):
        (folder / code).mkdir(parents=True)
        for split in ("train", "dev", "test"):
            rows = [f"{words} {split} {number}\tpositive" for number in range(20)]
            (folder / code / f"{split}.tsv").write_text("\n".join(["tweet\tlabel", *rows]), encoding="utf-8")
    shutil.copy(folder / "tir/dev.tsv", folder / "orm/dev.tsv")
    found = run("data", "check", "afrisenti", "--data-dir", "data")
    assert found.status == 0
    assert "same file as tir dev" in found.out
    assert "same file as orm dev" in found.out
    assert "in another script than orm test" in found.out
    assert "than tir" not in found.out
