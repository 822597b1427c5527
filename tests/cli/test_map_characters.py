"""`adapt --map-characters`, and what the later commands make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import glotprompt as gp

from .conftest import Program

ADAPT = "--target nya=nya.txt --source eng.txt --steps 2 --batch-size 4 --max-length 24 --prompt-length 4"
TUNE = "--train train.tsv --task task.toml --epochs 1 --batch-size 8 --max-length 24 --top-k 2"


@pytest.fixture
def here(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    text = (files / "nya.txt").read_text(encoding="utf-8")
    (files / "nya.txt").write_text(text.replace("w", "ɬ"), encoding="utf-8")
    monkeypatch.chdir(files)
    return files


@pytest.mark.slow
def test_from_text_to_predictions(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    words = ["adapt", "--model", tiny_folder, *ADAPT.split(), "--output", "nya.st", "--map-characters", "auto"]
    made = glotprompt(*words)
    assert made.status == 0, made.err
    assert "LATIN SMALL LETTER L WITH BELT becomes 'lh'" in made.err
    assert ", 0 of " in made.err.split("unknown tokens: ")[1].splitlines()[0]
    assert "is already what these words make" in glotprompt(*words).err
    without = glotprompt(*words[:-2], "--allow-unknown")
    assert "is already" not in without.err
    assert "target text: unknown to the tokenizer: " in without.err
    assert gp.load_adapted("nya.st").characters is None

    assert glotprompt(*words).status == 0
    tune = ["tune", "--prompt", "nya.st", *TUNE.split(), "--output", "topic.st", "--model", tiny_folder]
    assert glotprompt(*tune).status == 0
    predict = ["predict", "--classifier", "topic.st", "--model", tiny_folder, "--json", "-"]
    shown, rewritten = map(json.loads, glotprompt(*predict, "ɬa you", "lha you").out.splitlines())
    assert shown["text"] == "ɬa you"
    assert shown["scores"] == rewritten["scores"]


@pytest.mark.slow
def test_a_table_of_ones_own(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    (here / "own.toml").write_text('"ɬ" = "th"\n', encoding="utf-8")
    words = ["adapt", "--model", tiny_folder, *ADAPT.split(), "--output", "nya.st"]
    made = glotprompt(*words, "--map-characters", "own.toml")
    assert "becomes 'th' (given" in made.err
    found = gp.load_adapted(here / "nya.st").characters
    assert found is not None
    assert [(entry.character, entry.spelling) for entry in found.rewritings] == [("ɬ", "th")]
    assert glotprompt(*words, "--map-characters", "none.toml").error == (
        "error: none.toml: no such file; expected a TOML or JSON file of character = spelling"
    )


@pytest.mark.slow
def test_nothing_to_rewrite(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    (here / "nya.txt").write_text((here / "eng.txt").read_text(encoding="utf-8"), encoding="utf-8")
    words = ["adapt", "--model", tiny_folder, *ADAPT.split(), "--output", "nya.st", "--map-characters", "auto"]
    made = glotprompt(*words)
    assert "every character is known" in made.err
    assert gp.load_adapted(here / "nya.st").characters is None


UNREADABLE = " ".join(chr(0x07CA + number % 30) * 3 for number in range(9))
"""In N'Ko, of which the tokenizer knows nothing and to which nothing known is near."""


@pytest.mark.slow
@pytest.mark.parametrize("option", [[], ["--map-characters", "auto"]])
def test_text_that_cannot_be_read_is_refused(
    here: Path, tiny_folder: Path, glotprompt: Program, option: list[str]
) -> None:
    (here / "nqo.txt").write_text("\n".join(f"{UNREADABLE}{number}" for number in range(40)), encoding="utf-8")
    words = ["adapt", "--model", tiny_folder, *ADAPT.replace("nya=nya", "nqo=nqo").split(), "--output", "nqo.st"]
    refused = glotprompt(*words, *option)
    assert refused.error.startswith(
        "error: 100.0 % of the words of the target text have characters unknown to the tokenizer"
    )
    assert "nothing that it knows is near them: take a" in refused.error
    assert refused.err.count("N") < 5, "not a line for every letter"
    assert not (here / "nqo.st").exists()
    made = glotprompt(*words, *option, "--allow-unknown", "--json", "nqo.json")
    assert made.status == 0, made.err
    assert made.err.count("target text: unknown to the tokenizer: ") == 1
    (figures,) = json.loads((here / "nqo.json").read_text(encoding="utf-8"))["prompts"]
    assert figures["unknown"]["target"]["touched_share"] == 1
    assert figures["unknown"]["target"]["characters"].keys() >= {*UNREADABLE} - {" "}
    assert figures["unknown"]["source"] == {"unknown_share": 0, "touched_share": 0, "characters": {}}


@pytest.mark.slow
def test_the_remedy_is_one_that_helps(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    words = ["adapt", "--model", tiny_folder, *ADAPT.split(), "--output", "nya.st"]
    assert "write known ones in their place (--map-characters auto" in glotprompt(*words).error
    assert glotprompt(*words, "--map-characters", "auto").status == 0


@pytest.mark.slow
def test_later_commands_say_what_is_unknown(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    tune = ["tune", "--model", tiny_folder, *TUNE.split(), "--output", "topic.st", "--json", "tune.json"]
    clean = glotprompt(*tune)
    assert "unknown" not in clean.err
    assert json.loads((here / "tune.json").read_text())["unknown"]["labelled"]["unknown_share"] == 0
    rows = "".join(f"ߊߊ the bank\t{label}\n" for label in ("sports", "health", "business"))
    (here / "odd.tsv").write_text(f"text\tlabel\n{rows}", encoding="utf-8")
    said = "unknown to the tokenizer: 20.0 % of the tokens, in 33.3 % of the words: ߊ U+07CA"
    score = ["evaluate", "--classifier", "topic.st", "--data", "odd.tsv", "--json", "odd.json"]
    found = glotprompt(*score)
    assert found.err.splitlines().count(said) == 1, found.err
    assert json.loads((here / "odd.json").read_text(encoding="utf-8"))["unknown"]["characters"] == {"ߊ": 6}
    found = glotprompt("predict", "--classifier", "topic.st", "--json", "-", "ߊߊ the bank", "the bank")
    assert found.err.count("unknown to the tokenizer: ") == 1
    first, second = map(json.loads, found.out.splitlines())
    assert first["unknown"] == ["ߊ"]
    assert second["unknown"] == []
    assert first["unknown_share"] > second["unknown_share"] == 0
    assert "unknown" not in glotprompt("predict", "--classifier", "topic.st", "the bank").err
