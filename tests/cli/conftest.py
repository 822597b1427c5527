"""A tiny backbone in a folder, small files, and the program itself, run in this process."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from glotprompt.cli import main

TOPICS = {"sports": "win play field", "health": "hear walk slept", "business": "market bank people"}


@dataclass(frozen=True)
class Outcome:
    """What one command line came to."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error."""
        lines = [line for line in self.err.splitlines() if line.startswith(("error: ", "interrupted: "))]
        assert self.status, "there is no error"
        assert len(lines) == 1
        assert "Traceback" not in self.err
        assert self.err.splitlines()[-1] == lines[0]
        return lines[0]


Program = Callable[..., Outcome]


@pytest.fixture
def glotprompt(capsys: pytest.CaptureFixture[str]) -> Program:
    """Run the program in this process: glotprompt("tune", "--prompt", path)."""

    def run(*words: str | Path) -> Outcome:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture
def files(tmp_path: Path, english_lines: list[str], invented_lines: list[str]) -> Path:
    """A folder with nya.txt, eng.txt, train.tsv, test.tsv and task.toml; also the working directory's contents."""
    (tmp_path / "nya.txt").write_text("\n".join(invented_lines), encoding="utf-8")
    (tmp_path / "eng.txt").write_text("\n".join(english_lines), encoding="utf-8")
    draw = random.Random(0)
    for name, num in (("train.tsv", 30), ("test.tsv", 21)):
        rows = [f"{' '.join(draw.choices(TOPICS[label].split(), k=4))}\t{label}" for label in [*TOPICS] * (num // 3)]
        (tmp_path / name).write_text("\n".join(["text\tlabel", *rows]), encoding="utf-8")
    (tmp_path / "task.toml").write_text(
        'template = "{mask} : {text}"\n[verbalizer]\nsports = "Sports"\nhealth = "Health"\nbusiness = "Business"\n',
        encoding="utf-8",
    )
    return tmp_path


@pytest.fixture
def here(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of `files`, in which the program runs."""
    monkeypatch.chdir(files)
    return files
