"""`adapt --stream`: text through the token cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import glotprompt as gp
from glotprompt.cli import reading

from .conftest import Program

SMALL = "--steps 2 --batch-size 4 --max-length 24 --prompt-length 4 --precision fp32"
ADAPT = f"adapt --target nya=nya.txt --source eng.txt {SMALL} --cache-dir cache --output nya.st"


def key_values(path: Path) -> torch.Tensor:
    prompt = gp.load_adapted(path)
    assert isinstance(prompt, gp.LanguagePrompt)
    return prompt.key_values


def test_cold_and_warm_give_the_same(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    words = [*ADAPT.split(), "--model", tiny_folder, "--stream", "on", "--map-characters", "auto"]
    text = (here / "nya.txt").read_text(encoding="utf-8")
    (here / "nya.txt").write_text(text.replace("w", "ɬ"), encoding="utf-8")
    assert glotprompt(*words).status == 0
    cold = key_values(here / "nya.st")
    assert gp.load_adapted(here / "nya.st").facts["target_lines"] == len(text.splitlines())
    assert len([path for path in (here / "cache").iterdir() if path.name != "stamps"]) == 2
    assert "is already what these words make" in glotprompt(*words).err
    (here / "nya.st").unlink()
    assert "2 texts" not in glotprompt(*words).err
    assert (key_values(here / "nya.st") == cold).all()
    found = gp.load_adapted(here / "nya.st").characters
    assert found is not None
    assert [entry.spelling for entry in found.rewritings] == ["lh"]


def test_auto_goes_by_size(here: Path, tiny_folder: Path, glotprompt: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*ADAPT.split(), "--model", tiny_folder]
    assert "through the cache" not in glotprompt(*words).err
    assert not (here / "cache").exists()
    (here / "nya.txt").write_text((here / "nya.txt").read_text(encoding="utf-8") * 3, encoding="utf-8")
    monkeypatch.setattr(reading, "STREAM_ABOVE", (here / "eng.txt").stat().st_size)
    shown = glotprompt(*words).err
    assert "nya, target text: " in shown
    assert "source text" not in shown.replace("not checked", "")


def test_evaluation_text_is_removed_from_streamed_text(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    lines = (here / "nya.txt").read_text(encoding="utf-8").splitlines()
    (here / "scored.txt").write_text("\n".join(lines[:7]), encoding="utf-8")
    words = [*ADAPT.split(), "--model", tiny_folder, "--stream", "on", "--held-out", "scored.txt"]
    for _ in range(2):  # from the text, and from the cache
        shown = glotprompt(*words).err
        assert f"nya, target text: {len(lines) - 7} texts" in shown
        assert (
            f"7 of {len(lines)} texts removed after a check against 1 evaluation set (scored.txt: 7 the same" in shown
        )
        record = gp.load_adapted(here / "nya.st").facts["guards"]["target"]
        assert (record["removed"], record["kept"]) == (7, len(lines) - 7)
        (here / "nya.st").unlink()
    facts = json.loads(next((here / "cache").glob("*/facts.json")).read_text())
    assert facts["notes"]["guards"]["facts"]["ngram"] == 13


def test_the_same_bytes_under_another_format_are_another_text(
    here: Path, tiny_folder: Path, glotprompt: Program
) -> None:
    words = f"--language nya --source eng.txt --model {tiny_folder} --stream on --cache-dir cache {SMALL}".split()
    (here / "q.csv").write_text("text,label\n" + "a b c,1\n" * 40 + "d e f g,1\n" * 40, encoding="utf-8")
    (here / "q.txt").write_bytes((here / "q.csv").read_bytes())
    found = glotprompt("adapt", "--target", "q.txt", "--allow-unknown", *words, "--output", "txt.st")
    assert "nya: 81 target lines" in found.err
    assert "nya: 80 target lines" in glotprompt("adapt", "--target", "q.csv", *words, "--output", "csv.st").err


def test_evaluation_text_beside_the_other_language_counts_too(
    here: Path, tiny_folder: Path, glotprompt: Program
) -> None:
    folder = here / "hau"
    folder.mkdir()
    (folder / "train.txt").write_bytes((here / "eng.txt").read_bytes())
    (folder / "test.txt").write_text("\n".join((here / "nya.txt").read_text(encoding="utf-8").split("\n")[:5]))
    words = f"adapt --target nya=nya.txt --source hau/train.txt --model {tiny_folder} {SMALL}".split()
    for stream, cache in (("off", []), ("on", ["--cache-dir", "cache"])):
        shown = glotprompt(*words, "--stream", stream, *cache, "--output", f"{stream}.st").err
        assert "nya, target text: 5 of" in shown, stream


def test_what_was_skipped_is_said_again_from_the_cache(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    rows = [f"line {number} of the text\t1" for number in range(60)]
    (here / "t.tsv").write_text("\n".join(["text\tlabel", *rows, "a\tb\tc"]), encoding="utf-8")
    words = f"adapt --target nya=t.tsv --source eng.txt --model {tiny_folder} --cache-dir cache {SMALL}".split()
    for number in range(2):
        shown = glotprompt(*words, "--stream", "on", "--on-bad-row", "skip", "--output", f"{number}.st").err
        assert "t.tsv, line 62: 3 columns where 2 were expected" in shown
        assert "1 bad row skipped" in shown


def test_text_that_is_all_evaluation_text(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    words = f"adapt --target nya=nya.txt --source eng.txt --model {tiny_folder} --cache-dir cache {SMALL}".split()
    error = glotprompt(*words, "--stream", "on", "--held-out", "nya.txt", "--output", "x.st").error
    assert "all target text of nya is evaluation text" in error


def test_words_that_do_not_go_with_it(here: Path, tiny_folder: Path, glotprompt: Program) -> None:
    words = [*ADAPT.split(), "--model", tiny_folder, "--stream", "on"]
    assert "--stream off" in glotprompt(*words, "--text-share", "0.5").error
    standard_input = [word.replace("nya.txt", "-") if isinstance(word, str) else word for word in words]
    assert "write - to a file first" in glotprompt(*standard_input).error
    missing = [word.replace("nya.txt", "none.txt") if isinstance(word, str) else word for word in words]
    assert "none.txt: " in glotprompt(*missing).error
