"""`compare` from end to end on a tiny backbone, interrupted in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glotprompt.compare import run, training
from glotprompt.compare.result import CompareResult
from glotprompt.estimate import forecast
from glotprompt.training.pace import Pace

from .conftest import TOPICS, Program


@pytest.fixture
def words(here: Path, tiny_folder: Path) -> list[str]:
    """A command line with all kinds of data, the target's labels also among its text and the pairs."""
    rows = [(f"{' '.join(TOPICS[label].split()[::-1])} kil{i}", label) for i in range(2) for label in TOPICS]
    (here / "few.tsv").write_text("\n".join(["text\tlabel", *map("\t".join, rows)]))
    english, invented = ((here / name).read_text().splitlines() for name in ("eng.txt", "nya.txt"))
    (here / "target.txt").write_text("\n".join([*invented, rows[0][0]]))
    pairs = [*zip(english, invented, strict=True), ("the king", rows[1][0])]
    (here / "pairs.tsv").write_text("\n".join(["source\ttarget", *map("\t".join, pairs)]))
    data = "--train train.tsv --task task.toml --language nya --target target.txt --parallel pairs.tsv"
    return f"compare {data} --model {tiny_folder} --precision fp32 --output out --minutes 9".split()


@pytest.mark.slow
def test_all_of_it_and_interrupted(
    words: list[str], here: Path, glotprompt: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[tuple[Any, ...]] = []
    real1, real2 = training.run_stage1, training.train_stage2

    def run_stage1(backbone: Any, stage1: Any, runtime: Any) -> Any:
        assert len(stage1.pairs) == 60, "a pair with a text that is scored is not aligned"
        # As few steps as a test has time for, behind the identity of the whole.
        short = type(stage1)(**{**vars(stage1), "config": stage1.config.replace(steps=3, eval_every=3)})
        stages.append((1, stage1.config.method, stage1.config.seed))
        return real1(backbone, short, runtime)

    def train_stage2(backbone: Any, stage2: Any, *more: Any) -> Any:
        if len(stages) == interrupted_at:
            raise KeyboardInterrupt
        stages.append((2, stage2.spec(backbone).identity))
        return real2(backbone, stage2, *more)

    monkeypatch.setattr(run, "SEEDS", (0, 1))
    monkeypatch.setattr(forecast, "pace_of", lambda *_: Pace(1e-6, 1e-7, 1e-7, 1e-2, 1, None))
    monkeypatch.setattr(training, "run_stage1", run_stage1)
    monkeypatch.setattr(training, "train_stage2", train_stage2)
    words += ["--target-labels", "few.tsv"]
    interrupted_at = 14  # behind tf-idf, plain sentence vectors and the first stage 1
    stopped = glotprompt(*words)
    assert stopped.status == 130
    assert "rerun the same command" in stopped.error
    assert "few target labels of a label (sports 2, health 2, business 2)" in stopped.err
    done, interrupted_at = [stage for stage in stages if stage[0] == 1], -1
    kept = {path: path.stat().st_mtime_ns for path in (here / "out" / "work").glob("*.*") if path.is_file()}
    assert len(kept) > 5
    assert done
    stages.clear()
    finished = glotprompt(*words)
    assert finished.status == 0, finished.err
    assert not {*done} & {*stages}, "what was finished is not done again"
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    result = CompareResult.of(json.loads((here / "out" / "compare.json").read_text()), "compare.json")
    rows = {row.name: row for row in result.rows}
    assert (result.target_labels, result.folds) == (6, 2)
    assert {"majority", "tf-idf", "embedding+ridge", "embedding+labels", "lora-aligned+labels"} <= rows.keys()
    assert rows["majority"].gain is None or rows["tf-idf"].gain is None
    assert (rows["soft-prompt"].not_run or "").startswith("needs about"), "100,000 steps do not fit into 9 minutes"
    assert len(rows["lora-aligned"].accuracies) == 2
    assert "not run: Adapted soft prompt" in finished.out
    assert result.advice[0] in " ".join(finished.out.split())
    assert (here / "out" / "compare.svg").read_text().startswith("<svg")
    if result.saved is not None:
        assert result.commands
        assert glotprompt("predict", "--classifier", result.saved.file, "win play field").status == 0


@pytest.mark.slow
def test_without_labels_nothing_is_said_of_the_target(words: list[str], here: Path, glotprompt: Program) -> None:
    at = words.index("--parallel")
    outcome = glotprompt(*words[:at], *words[at + 2 :], "--json", "-")
    assert outcome.status == 0, outcome.err
    found = json.loads(outcome.out)
    assert all("accuracy" not in row and "gain" not in row for row in found["rows"] if not row.get("not_run"))
    assert found["winner"] == "embedding"
    assert "cannot know which of these is best" in found["advice"][0]
    assert glotprompt("evaluate", "--classifier", found["saved"]["file"], "--data", "test.tsv").status == 0
    (command,) = found["commands"]
    assert glotprompt(*command.split()[1:]).err.count("is already what these words make") == 1, "it is the same run"


@pytest.mark.slow
def test_baselines_are_scored_however_short_the_time(words: list[str], here: Path, glotprompt: Program) -> None:
    outcome = glotprompt(*words, "--minutes", "0", "--target-labels", "few.tsv")
    assert outcome.status == 0, outcome.err
    result = CompareResult.of(json.loads((here / "out" / "compare.json").read_text()), "compare.json")
    assert {row.name for row in result.rows if row.not_run is None} == {"majority", "tf-idf"}
    assert all(row.not_run is None or row.not_run.endswith("no time left") for row in result.rows)
    assert result.saved is not None, "a baseline is a classifier, too"
    assert result.saved.name == "tf-idf"
    (command,) = result.commands
    assert glotprompt(*command.split()[1:]).err.count("is already what these words make") == 1, "it is the same run"
    assert glotprompt("predict", "--classifier", result.saved.file, "win play field").status == 0


def test_a_model_that_cannot_be_loaded_is_no_finding(words: list[str], here: Path, glotprompt: Program) -> None:
    (here / "out").mkdir()
    earlier = here / "out" / "classifier.safetensors"
    earlier.write_text("of an earlier comparison")
    outcome = glotprompt(*words, "--target-labels", "few.tsv", "--model", "mini-sentnce")
    assert "mini-sentnce" in outcome.error
    assert earlier.read_text() == "of an earlier comparison"


def test_nothing_that_is_scored_is_learned_and_commands_have_the_options_that_they_use(
    words: list[str], here: Path, glotprompt: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (here / "train.tsv").read_text().splitlines()
    (here / "scored.tsv").write_text(f"text\tlabel\n{lines[1].replace(' ', '  ').upper()}")
    taken: list[Any] = []

    def compare(trainer: Any, typed: Any, *_: Any) -> None:
        taken[:] = trainer.material, typed
        raise KeyboardInterrupt

    monkeypatch.setattr("glotprompt.cli.compare.compare_candidates", compare)
    more = ["--held-out", "scored.tsv", "--target-labels", "few.tsv", "--label-column", "label", "--allow-unknown"]
    (here / "target.txt").rename(here / "train.nya.txt")
    words[words.index("target.txt")] = "train.nya.txt"
    (here / "dev.tsv").write_text((here / "test.tsv").read_text())
    assert glotprompt(*words, *more, "--train", "train.tsv", "--dev", "dev.tsv").status == 130
    material, typed = taken
    assert len(material.dev) > 10, "it is beside the target's text, and yet of the source"
    texts = {one.fields["text"] for one in material.train}
    assert {line.split("\t")[0] for line in lines[1:]} - texts == {lines[1].split("\t")[0]}
    assert len(material.train) <= len(lines) - 2, "a file that is named twice is read once"
    assert typed.reading(["few.tsv"], ["few.tsv"], ()) == ["--label-column", "label"]
    assert not typed.reading(["nya.txt"], (), ()), "adapt knows no labels"
    assert [*typed.flags("adapt"), *typed.flags("tune")] == ["--allow-unknown"]


def test_labels_that_cannot_choose_are_refused_before_anything_is_trained(
    words: list[str], here: Path, glotprompt: Program
) -> None:
    (here / "few.tsv").write_text("text\tlabel\na\tsports\nb\tsports\nc\thealth\n")
    outcome = glotprompt(*words, "--target-labels", "few.tsv")
    assert "target label 'health' has 1 different texts" in outcome.error
    assert not (here / "out").exists()
