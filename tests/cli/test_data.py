"""`glotprompt data`: what is known, and what is in a copy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from glotprompt.data.datasets.catalog import DATASETS

from .conftest import Program


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOTPROMPT_DATA", raising=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A small copy of part of XNLI."""
    (tmp_path / "xnli").mkdir()
    (tmp_path / "xnli/dev-sw.tsv").write_text("moja\tmbili\tneutral\nmoja\tmbili\tneutral\n", encoding="utf-8")
    (tmp_path / "xnli/test-sw.tsv").write_text("tatu\tnne\tentailment\ntano\tsita\tmaybe\nsaba\n", encoding="utf-8")
    return tmp_path


def test_list(glotprompt: Program) -> None:
    outcome = glotprompt("data", "list")
    assert outcome.status == 0
    rows = {line.split()[0]: line for line in outcome.out.splitlines()[2:]}
    assert list(rows) == list(DATASETS)
    assert "MasakhaNEWS (news topics)" in rows["masakhanews"]
    assert rows["masakhanews"].split()[-3:] == ["16", "7", "yes"]
    assert "with a commit of yours" in rows["nusax"]
    assert rows["taxi1500"].split()[-3:] == ["any", "6", "-"]


def test_show(glotprompt: Program) -> None:
    outcome = glotprompt("data", "show", "masakhanews")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert "licence           unclear" in outcome.out
    assert "text for stage 1  the training articles" in outcome.out
    assert "8ccc72e69e65f40c70e117d8b3c08306bb788b60" in outcome.out
    sna = next(line.split() for line in lines if line.startswith("sna "))
    assert sna == ["sna", "Shona", "Latn", "business,", "health,", "politics,", "sports", "-", "-", "+", "+", "~",
                   "mC4,", "NLLB,", "xP3"]  # fmt: skip
    assert next(line for line in lines if line.startswith("pcm ")).split()[-2:] == ["-", "Wikipedia?"]
    assert "+ pre-trained on, ~ low-resource" in outcome.err


@pytest.mark.slow
def test_show_every_dataset(glotprompt: Program) -> None:
    for name in DATASETS:
        assert glotprompt("data", "show", name).out.startswith("name")


def test_check(glotprompt: Program, copy: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    outcome = glotprompt("data", "check", "xnli", "--data-dir", copy, "--json", figures)
    assert outcome.status == 0
    rows = [line.split() for line in outcome.out.splitlines() if line.startswith("swa ")]
    assert [(row[1], *row[3:]) for row in rows[:2]] == [
        ("dev", "2", "0", "2", "0", "0"),
        ("test", "2", "1", "0", "0", "1"),
    ]
    assert "swa        dev     repeats an earlier row" in outcome.out
    assert "swa        test    label outside the language's set" in outcome.out
    assert "line 3: 1 column where 3 were expected" in outcome.err
    assert "xnli: 2 files, 4 rows; 28 files are not there (xnli/dev-ar.tsv, " in outcome.err
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert [file["rows"] for file in found["files"]] == [2, 2]
    assert found["files"][0]["labels"] == {"entailment": 0, "neutral": 2, "contradiction": 0}
    assert found["files"][0]["problems"] == {"repeats an earlier row": 1}
    assert rows[0][2] == found["files"][0]["sha256"][:12]
    assert len(found["missing"]) == 28


def test_check_of_one_language(glotprompt: Program, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOTPROMPT_DATA", str(copy))
    (copy / "xnli/dev-sw.tsv").write_text("moja mbili\ttatu nne\tneutral\n", encoding="utf-8")
    (copy / "xnli/test-sw.tsv").write_text("tano sita\tsaba nane\tneutral\n", encoding="utf-8")
    outcome = glotprompt("data", "check", "xnli", "--language", "sw")
    assert "nothing odd in it" in outcome.out
    assert "xnli: 2 files, 2 rows, none missing" in outcome.err


def test_equal_files_and_odd_scripts(glotprompt: Program, copy: Path) -> None:
    (copy / "xnli/test-sw.tsv").write_text("አንድ\tሁለት\tneutral\n", encoding="utf-8")
    for split in ("dev", "test"):
        (copy / f"xnli/{split}-ur.tsv").write_bytes((copy / "xnli/dev-sw.tsv").read_bytes())
    words = ("data", "check", "xnli", "--data-dir", copy, "--language", "sw", "--language", "ur")
    lines = [" ".join(line.split()) for line in glotprompt(*words).out.splitlines()]
    assert "swa dev same file as urd dev, urd test 2" in lines
    assert "urd dev same file as swa dev, urd test 2" in lines
    assert "swa test in another script than swa dev 1" in lines
    assert not [line for line in lines if line.startswith("urd") and "script" in line]


def test_labels_that_do_not_fit_and_lines_without_any(glotprompt: Program, tmp_path: Path) -> None:
    (tmp_path / "americasnlp2021/bribri-spanish").mkdir(parents=True)
    (tmp_path / "americasnlp2021/bribri-spanish/train.bzd").write_text("a b\n\n", encoding="utf-8")
    outcome = glotprompt("data", "check", "americasnlp2021", "--data-dir", tmp_path)
    assert outcome.out.splitlines()[0].split() == ["language", "split", "sha256", "rows"]
    assert "blank text" in outcome.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("show masakhanew", "There is no dataset 'masakhanew'. Did you mean 'masakhanews'?"),
        (
            "check xnli",
            "no data folder is given. Pass the folder that has xnli/dev-<language>.tsv (--data-dir or the variable",
        ),
        ("check xnli --data-dir nowhere", "nowhere: no such folder."),
        ("check xnli --data-dir . --language swaa", "xnli has no language 'swaa'. Did you mean 'swa'?"),
        ("check nusax --data-dir .", "no file of nusax in it, for example nusax/acehnese/train.csv."),
        ("check files --data-dir .", "files is not one dataset."),
        ("check xnli --data-dir . --json .", "--json . is a folder"),
        ("chek xnli", "No such command 'chek'"),
    ],
)
def test_a_mistake_is_one_line(
    words: str, message: str, glotprompt: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = glotprompt("data", *words.split())
    assert message in outcome.error
    assert outcome.status == 2
    assert outcome.out == ""


@pytest.mark.slow
def test_it_needs_no_tensors() -> None:
    script = (
        "import sys; from glotprompt.cli import main; main(['data', 'list']);"
        " print('heavy:', sorted({'torch', 'transformers', 'pyarrow', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
