"""`glotprompt doctor`: one line for each finding, figures, the page, and mistakes in one line."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from glotprompt.cli import doctor as command
from glotprompt.doctor import examine

from .conftest import Program

NAMES = (
    *("language", "amount", "script", "unknown characters", "sub-words", "duplicates", "short lines", "long lines"),
    *("language mix", "label words", "time, stage 1", "time, stage 2", "memory", "files"),
)


@pytest.mark.slow
def test_findings_figures_and_verdict(glotprompt: Program, tiny_folder: Path, files: Path) -> None:
    (files / "nya.txt").write_text("the king ŋŋ\nthe water\nthe king\u0320 ŋ\n" * 3, encoding="utf-8")
    outcome = glotprompt(
        *("doctor", "--model", tiny_folder, "--text", files / "nya.txt", "--language", "nya", "--no-probe"),
        *("--task", files / "task.toml", "--json", files / "d.json", "--max-length", 16, "--prompt-length", 2),
    )
    assert outcome.status == 3
    lines = outcome.out.splitlines()
    assert tuple(line[6:24].strip() for line in lines[: len(NAMES)]) == NAMES
    assert lines[1].startswith("bad   amount              3 different lines, 24 words. Far too little for stage 1.")
    assert "To do: Collect at least a few hundred lines, or" in lines[1]
    assert lines[-3:] == [
        "unknown        9  ŋ  U+014B  latin small letter eng",
        "unknown        3  ◌\u0320  U+0320  combining minus sign below",
        "verdict  will not work as it is: look at amount, unknown characters",
    ]
    found = json.loads((files / "d.json").read_text(encoding="utf-8"))
    assert (found["language"], found["level"], found["text"]["num_lines"]) == ("nya", "bad", 9)
    assert found["text"]["unknown"][0]["count"] == 9
    assert found["adapt"]["file_bytes"] == 4 * 3 * 2 * 48 * 2
    assert found["adapt"]["seconds"] is None
    assert "next: glotprompt adapt" not in outcome.err


@pytest.mark.slow
def test_times_and_page(glotprompt: Program, tiny_folder: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glotprompt.cli.doctor.PROBE_SECONDS", 0.05)
    lines = [" ".join(words) for words in itertools.product(("the", "king", "water", "play"), repeat=4)]
    (files / "nya.txt").write_text("\n".join(lines), encoding="utf-8")
    words = ("--text", files / "nya.txt", "--steps", 40, "--max-length", 16, "--batch-size", 4)
    outcome = glotprompt("doctor", "--model", tiny_folder, *words, "--html", files / "d.html")
    assert outcome.status == 0
    assert " for 40 steps. " in outcome.out
    assert "s per step, timed over" in outcome.out
    assert "verdict  will work with care: look at amount" in outcome.out
    assert "time, stage 2" not in outcome.out
    assert "will work with care" in (files / "d.html").read_text(encoding="utf-8")
    assert "next: glotprompt adapt --model" in outcome.err


@pytest.mark.slow
def test_status_and_next_commands(
    glotprompt: Program, tiny_folder: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    lines = [" ".join(words) for words in itertools.product(("the", "king", "water", "play"), repeat=5)]
    (files / "nya.txt").write_text("\n".join(lines), encoding="utf-8")
    words = [
        "doctor",
        "--model",
        tiny_folder,
        "--text",
        "nya.txt",
        "--no-probe",
        "--set",
        "held_out_share=0.1",
        "--top-k",
        2,
    ]
    words += ["--task", "task.toml", "--language", "nya", "--max-length", 32, "--normalise"]
    well = glotprompt(*words)
    assert "verdict  will work\n" in well.out
    assert [line for line in well.err.splitlines() if line.startswith("next: ")] == [
        f"next: glotprompt adapt --model {tiny_folder} --target nya.txt --max-length 32 --set held_out_share=0.1"
        " --normalise --source SOURCE.txt --language nya --output nya.safetensors",
        "next: glotprompt tune --prompt nya.safetensors --train LABELLED.tsv --task task.toml --top-k 2"
        " --output nya-task.safetensors",
    ]
    alone = glotprompt(*words, "--set", "source_share=0", "--preset", "paper")
    assert "--source" not in alone.err, "no source text is read"
    assert "--task task.toml --preset paper --top-k 2" in alone.err
    (files / "care.txt").write_text("\n".join(f"{line} &amp;" for line in lines), encoding="utf-8")
    (files / "bad.txt").write_text("the king\n", encoding="utf-8")
    for text, strict, status in (
        ("nya.txt", True, 0),
        ("care.txt", False, 0),
        ("care.txt", True, 1),
        ("bad.txt", False, 3),
        ("bad.txt", True, 3),
    ):
        outcome = glotprompt(
            *("doctor", "--model", tiny_folder, "--text", text, "--no-probe", *(["--strict"] if strict else []))
        )
        assert (outcome.status, text) == (status, text)
        assert ("next: " in outcome.err) == (status != 3)
        assert "--task" not in outcome.err


@pytest.mark.slow
def test_a_sentence_encoder_is_looked_at_with_alignment(glotprompt: Program, tmp_path: Path) -> None:
    """Without a word: it has no masked tokens to predict."""
    lines = [" ".join(words) for words in itertools.product(("the", "king", "water", "play"), repeat=5)]
    (tmp_path / "nya.txt").write_text("\n".join(lines), encoding="utf-8")
    words = ["doctor", "--model", "mini-sentence", "--text", tmp_path / "nya.txt", "--no-probe"]
    outcome = glotprompt(*words)
    assert outcome.status == 0, outcome.err
    assert outcome.err.count("settings") == 1, "there is no stage 2 without a task"
    assert "settings of stage 1: preset alignment" in outcome.err
    assert "settings of stage 2: preset alignment" in glotprompt(*words, "--task", "news").err
    assert outcome.out.splitlines()[-1].startswith("verdict  will work")
    assert "next: glotprompt adapt --model mini-sentence --parallel PAIRS.tsv --language CODE" in outcome.err


@pytest.mark.slow
def test_a_terminal_gets_a_table(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    found = examine(tiny_folder, ["the king", "the water"], probe_seconds=0)
    monkeypatch.setattr(command, "console", lambda: Console(width=72, markup=False, highlight=False))
    command._table(found)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 72
    assert "2 different lines" in shown
    assert "To do:" in shown


@pytest.mark.slow
def test_only_some_characters_on_the_screen(tiny_folder: Path, capsys: Any) -> None:
    rare = "".join(map(chr, range(0x1200, 0x1200 + command.MOST_CHARACTERS + 3)))
    command._show(examine(tiny_folder, [" ".join(rare)], probe_seconds=0))
    shown = capsys.readouterr().out
    assert shown.count("\nunknown  ") == command.MOST_CHARACTERS + 1
    assert "and 3 more characters" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--text", "nowhere.txt"], "nowhere.txt: no such file"),
        (["--text", "eng.txt", "--task", "nws"], "Did you mean 'news'?"),
        (["--text", "eng.txt", "--method", "prompt-tuning"], "prompt-tuning has no stage 1"),
        (["--text", "eng.txt", "--max-length", "9000"], "max_length 9000 is more than"),
        (["--text", "eng.txt", "--set", "stepz=3"], "AdaptConfig has no setting 'stepz'"),
        (["--text", "eng.txt", "--json", "."], "--json . is a folder"),
        (["--text", "eng.txt", "--model", "nowhere"], "nowhere"),
        ([], "Missing option '--text'"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str],
    message: str,
    glotprompt: Program,
    tiny_folder: Path,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    outcome = glotprompt("doctor", "--no-probe", "--model", tiny_folder, *words)
    assert message in outcome.error
    assert (outcome.status, outcome.out) == (2, "")


@pytest.mark.slow
def test_help_needs_no_tensors() -> None:
    script = (
        "import sys; from glotprompt.cli import main; main(['doctor', '--help']);"
        " print('heavy:', sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
    assert "--no-probe" in done.stdout
