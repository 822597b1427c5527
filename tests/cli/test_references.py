"""References such as masakhanews:lin:test in the place of files, in every command that reads text."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from glotprompt.cli.files import how_to_read
from glotprompt.cli.wording import wording_of
from glotprompt.data.sources import texts_of, texts_to_compare
from glotprompt.errors import ConfigError, in_words_of
from glotprompt.storage import artifact

from .conftest import TOPICS, Outcome, Program

FP32 = "--precision fp32"
ADAPT = f"--steps 1 --batch-size 2 --max-length 16 --prompt-length 2 {FP32}"
TUNE = f"--task task.toml --epochs 1 --batch-size 8 --max-length 16 --top-k 1 {FP32}"
COLUMNS = "category\theadline\ttext\turl"


@pytest.fixture
def typed(
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    glotprompt: Program,
    english_lines: list[str],
    invented_lines: list[str],
) -> Program:
    """The program beside a data folder D: news in two languages (a dev article repeats a training article), and NLI."""
    monkeypatch.chdir(files)
    monkeypatch.delenv("GLOTPROMPT_DATA", raising=False)
    draw = random.Random(0)
    for code, lines in (("hau", english_lines), ("lin", invented_lines)):
        folder = files / "D" / "masakhanews" / code
        folder.mkdir(parents=True)
        for split, start in (("train", 0), ("dev", 20), ("test", 40)):
            rows = [COLUMNS]
            for number, body in enumerate(lines[start : start + 20]):
                label = [*TOPICS][number % 3]
                rows.append(f"{label}\t{' '.join(draw.choices(TOPICS[label].split(), k=4))} {start}\t{body}\t-")
            if split == "dev":
                rows.append(f"sports\twin\t{lines[0]}\t-")
            (folder / f"{split}.tsv").write_text("\n".join(rows), encoding="utf-8")
    xnli = files / "D" / "xnli"
    xnli.mkdir()
    (xnli / "test-sw.tsv").write_text("one thing\tanother thing\tneutral\n", encoding="utf-8")

    def run(words: str) -> Outcome:
        return glotprompt(*words.split())

    return run


@pytest.mark.slow
def test_a_language_in_four_commands_without_a_file(typed: Program, tiny_folder: Path) -> None:
    adapt = f"adapt --model {tiny_folder} --target masakhanews:lin --source masakhanews:hau {ADAPT} --data-dir D"
    outcome = typed(f"{adapt} --output lin.st")
    assert outcome.status == 0, outcome.err
    assert "masakhanews lin: 1 of 20 training articles left out of stage 1" in outcome.err
    assert "against 4 evaluation sets" in outcome.err
    metadata = artifact.describe("lin.st", ("language prompt",))
    assert metadata["language"] == "lin", "the reference says which language it is"
    assert set(metadata["training"]["decontamination"]["target"]["held_out"]) >= {
        "masakhanews:lin:dev",
        "masakhanews:lin:test",
    }

    tune = f"tune --prompt lin.st --train masakhanews:hau:train --dev masakhanews:hau:dev {TUNE} --output c.st"
    outcome = typed(f"{tune} --data-dir D")
    assert outcome.status == 0, outcome.err
    assert "20 examples" in outcome.err
    assert "of 21 source-language examples" in outcome.out

    scored = f"evaluate --classifier c.st {FP32} --data masakhanews:lin:test --prior-text masakhanews:lin:dev"
    outcome = typed(f"{scored} --label-prior uniform --data-dir D")
    assert outcome.status == 0, outcome.err
    assert "20 examples" in outcome.out
    outcome = typed(f"predict --classifier c.st {FP32} --input masakhanews:lin:test --data-dir D")
    assert len(outcome.out.splitlines()) == 20
    examined = typed(f"doctor --model {tiny_folder} --text masakhanews:lin --no-probe --data-dir D")
    assert examined.status == 3, "the tiny tokenizer lacks too much"
    assert "unknown characters" in examined.out


@pytest.mark.slow
def test_references_are_cleaned_like_files(typed: Program, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("D/masakhanews/lin/train.tsv")
    path.write_text(path.read_text(encoding="utf-8").replace(" ", "\u00a0"), encoding="utf-8")
    monkeypatch.setenv("GLOTPROMPT_DATA", "D")
    words = f"adapt --model {tiny_folder} --target masakhanews:lin --source eng.txt {ADAPT} --no-overlap-check"
    assert typed(f"{words} --output plain.st").status == 0
    assert typed(f"{words} --output clean.st --normalise").status == 0
    plain, clean = (artifact.describe(file, ("language prompt",))["training"] for file in ("plain.st", "clean.st"))
    assert plain["held_out_before"] == clean["held_out_before"], "this tokenizer takes NBSP for a space"
    assert "normalised" in clean
    assert "already" not in typed(f"{words} --output plain.st --normalise").err


@pytest.mark.slow
def test_errors_of_references_name_the_remedy(typed: Program, tiny_folder: Path) -> None:
    adapt = f"adapt --model {tiny_folder} --source eng.txt {ADAPT} --output x.st"
    tune = f"tune --model {tiny_folder} {TUNE} --data-dir D --output x.st"
    for words, message in (
        (f"{adapt} --target masakhanews:lin:test --data-dir D", "evaluation text by its path"),
        (f"{adapt} --target masakhanews:linn --data-dir D", "Did you mean 'lin'?"),
        (f"{adapt} --target masakhanew:lin --data-dir D", "Did you mean 'masakhanews'?"),
        (
            f"{adapt} --target masakhanews:lin --language sna --data-dir D",
            "--target masakhanews:lin disagree",
        ),
        (f"{tune} --train masakhanews:hau", "which split?"),
        (f"{tune} --train xnli:sw:test --allow-evaluation-text", "give a task that fits, such as --task nli"),
    ):
        assert message in typed(words).error, words


@pytest.mark.slow
def test_errors_of_references_speak_of_options(typed: Program, tiny_folder: Path) -> None:
    path = Path("D/masakhanews/lin/test.tsv")
    path.write_text(path.read_text(encoding="utf-8") + "\nalone\n", encoding="utf-8")
    adapt = f"adapt --model {tiny_folder} --target masakhanews:lin --source eng.txt {ADAPT} --output x.st"
    tune = f"tune --model {tiny_folder} {TUNE} --output x.st"
    for words, message in (
        (f"{adapt} --data-dir D", "Fix the row, or pass --on-bad-row skip."),
        (
            f"{adapt} --data-dir absent",
            "(--data-dir or the variable GLOTPROMPT_DATA), or pass no data folder (then the hub is read)",
        ),
        (f"{tune} --train nusax:ace:train", "pass no data folder (then the hub is read) and --revision COMMIT"),
    ):
        error = typed(words).error
        assert message in error, words
        assert '="' not in error
    outcome = typed(f"{adapt} --data-dir D --on-bad-row skip")
    assert outcome.status == 0, outcome.err
    assert "1 bad row skipped" in outcome.err


def test_a_commit_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GLOTPROMPT_DATA", raising=False)
    for read in (texts_of, lambda sources, how: texts_to_compare(sources[0], how)):
        with (
            pytest.raises(ConfigError, match=r"^--revision main is no commit"),
            in_words_of(wording_of(["adapt"])),
        ):
            read(["masakhanews:lin:train"], how_to_read({"read": None, "revision": "main"}))
    monkeypatch.setenv("GLOTPROMPT_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=r"a commit of the hub, but .* is read; leave it out"):
        texts_of(["masakhanews:lin:train"], how_to_read({"read": None, "revision": "0" * 40}))


def test_labels_that_the_task_lacks_are_named(typed: Program, tiny_folder: Path) -> None:
    Path("two.toml").write_text(
        'template = "{mask} : {text}"\n[verbalizer]\nsports = "Sports"\nhealth = "Health"\n', encoding="utf-8"
    )
    words = f"tune --model {tiny_folder} {TUNE.replace('task.toml', 'two.toml')} --train masakhanews:hau:train"
    error = typed(f"{words} --data-dir D --output x.st").error
    assert "masakhanews:hau:train has the labels business, which the task does not know; it has sports, health" in error


@pytest.mark.slow
def test_a_missing_evaluation_set_stops_nothing(typed: Program, tiny_folder: Path) -> None:
    folder = Path("D/americasnlp2021/bribri-spanish")
    folder.mkdir(parents=True)
    (folder / "train.bzd").write_text(Path("nya.txt").read_text(encoding="utf-8"), encoding="utf-8")
    outcome = typed(
        f"adapt --model {tiny_folder} --target americasnlp2021:bzd --source eng.txt {ADAPT} --data-dir D --output x.st"
    )
    assert outcome.status == 0, outcome.err
    assert "not checked against americasnli:bzd:test" in outcome.err


@pytest.mark.slow
def test_options_of_reading_that_have_nothing_to_work_on(typed: Program, tiny_folder: Path) -> None:
    tune = f"tune --model {tiny_folder} {TUNE} --output c.st"
    assert typed(f"{tune} --train train.tsv").status == 0
    score, predict = f"evaluate --classifier c.st {FP32}", f"predict --classifier c.st {FP32}"
    adapt = f"adapt --model {tiny_folder} --language nya {ADAPT} --output x.st"
    known, file = "the columns of masakhanews:hau:dev are known", "none of the files is a"
    reference = "masakhanews:hau:dev --data-dir D"
    for words, message in (
        (f"{score} --data {reference} --text-column text", f"--text-column has nothing to work on: {known}"),
        (f"{score} --data {reference} --label-column label", f"--label-column has nothing to work on: {known}"),
        (f"{score} --data {reference} --read quoting=none", "--read quoting= has nothing to work on: masakhanews:hau"),
        (f"{tune} --train {reference} --text-column text", f"--text-column has nothing to work on: {known}"),
        (f"{tune} --train {reference} --dev {reference} --label-column text", "--label-column has nothing"),
        (f"{tune} --train {reference} --read format=tsv", "--read format= has nothing to work on"),
        (f"{tune} --train train.tsv --premise-column text", "the task reads single texts"),
        (f"{tune} --train train.tsv --data-dir D", f"{file} reference such as"),
        (f"{score} --data test.tsv --revision {'0' * 40}", f"{file} reference such as"),
        (f"{score} --data {reference} --prior-text nya.txt --text-column x", known),
        (f"{predict} --text-column text the", f"{file} table by its ending"),
        (f"{predict} --read encoding=cp1252 the", "--read has nothing to work on: no file is read"),
        (f"{predict} --on-bad-row skip the", "no file is read"),
        (f"{predict} --input {reference} --text-column text", known),
        (f"{predict} --input nya.txt --read delimiter=;", "--read delimiter= has nothing to work on"),
        (f"{adapt} --target nya.txt --source eng.txt --data-dir D", f"{file} reference such as"),
        (f"{adapt} --target nya.txt --source eng.txt --set source_share=0", "--source has no effect"),
        (f"doctor --model {tiny_folder} --text nya.txt --no-probe --top-k 2", "give both, or leave it out"),
        (f"doctor --model {tiny_folder} --text {reference} --no-probe --read format=tsv", "--read format= has nothing"),
        (f"{score} --data test.tsv --read input=article", "--read input= has nothing to work on: none of what"),
        (f"{adapt} --target nya.txt --source masakhanews:hau --read input=article --data-dir D", "--read input= has"),
        (f"{predict} --input {reference} --read input=body", "input=body is not known; expected headline or article"),
        (f"embed --model {tiny_folder} --input eng.txt --output e.npy --data-dir D", f"{file} reference such as"),
    ):  # fmt: skip
        assert message in typed(words).error, words
    # What is compared with what will be scored is read as well.
    held = "--held-out masakhanews:lin:dev --data-dir D"
    for words in (
        f"{tune} --train train.tsv --method embedding --target-text nya.txt {held} --epochs 1",
        f"compare --train train.tsv --target nya.txt --task task.toml --language nya --output out {held} --minutes 0",
        f"self-train --classifier c.st --train train.tsv --unlabelled nya.txt --output d.st {held} --label-prior none",
    ):
        assert "nothing to work on" not in typed(words).err, words
    # One file that they apply to is enough.
    assert typed(f"{tune} --train {reference} --dev train.tsv --text-column text --read format=tsv").status == 0
    assert typed(f"{predict} --input {reference} --read input=article --json -").out.count("\\n") == 21, "and bodies"


@pytest.mark.slow
def test_typed_texts_are_normalised(typed: Program, tiny_folder: Path) -> None:
    assert typed(f"tune --model {tiny_folder} {TUNE} --train train.tsv --output c.st").status == 0
    outcome = typed(f"predict --classifier c.st {FP32} --normalise --json - the\u200bbank")
    assert '"text": "thebank"' in outcome.out
