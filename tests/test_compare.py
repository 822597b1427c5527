"""What a comparison decides and says, and that it ends in time, from invented figures. No training."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import glotprompt as gp
from glotprompt.compare.budget import Budget, OutOfTime
from glotprompt.compare.candidates import (
    EMBEDDING,
    Candidate,
    Typed,
    commands,
    planned,
)
from glotprompt.compare.choice import (
    Right,
    advice,
    advice_without_labels,
    choose,
    gain,
    label_folds,
    left_out,
    majority,
    recommend,
    spelling,
    why_not,
)
from glotprompt.compare.result import CompareResult
from glotprompt.compare.run import _Comparison, compare
from glotprompt.compare.training import Material
from glotprompt.data.readers.records import content_hash
from glotprompt.errors import DataError
from glotprompt.storage import atomic

from .toys import TASK, topics

MAJORITY, TFIDF = Candidate("majority"), Candidate("tf-idf", labels=True)
LABELS, LORA = replace(EMBEDDING, labels=True), replace(EMBEDDING, stage1="lora-aligned")


def right(share: float, number: int = 100) -> Right:
    """So many of the examples right: the first ones, so that a higher share is right wherever a lower one is."""
    return (np.arange(number) < share * number).astype(float)


def test_folds_are_stratified_and_hold_each_example_once() -> None:
    examples = topics(7)
    folds = label_folds(examples)
    assert sorted(row for fold in folds for row in fold) == [*range(21)]
    assert len(folds) == 5
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    assert all(max(Counter(str(examples[row].label) for row in fold).values()) <= 2 for fold in folds)
    assert label_folds(examples) == folds


def test_a_text_is_in_one_fold() -> None:
    examples = [*topics(3), *topics(3)]
    folds = label_folds(examples)
    assert len(folds) == 3, "as many as the rarest label has different texts"
    assert all((row in fold) == (row + 9 in fold) for fold in folds for row in range(9))


def test_labels_that_nothing_can_be_chosen_on() -> None:
    with pytest.raises(DataError, match=r"target label 'culture' has 1 different texts; .* needs 2: give more"):
        label_folds([*topics(2)[:5], gp.Example.of("culture", "health")])
    with pytest.raises(DataError, match="all target labels are the same"):
        label_folds([gp.Example.of("a", "x"), gp.Example.of("b", "x")])


def test_the_winner_is_the_simplest_model_within_a_standard_error_of_the_best() -> None:
    found = choose(
        {MAJORITY: right(0.2), TFIDF: right(0.5), EMBEDDING: right(0.6), LABELS: right(0.7), LORA: right(0.9)}
    )
    assert (found.baseline, found.winner, found.higher) == (TFIDF, LORA, None)
    few = {MAJORITY: right(0.2), TFIDF: right(0.5), LABELS: right(0.7), LORA: np.roll(right(0.71), 5)}
    found = choose(few)
    assert (found.winner, found.higher) == (LABELS, LORA), "one example in a hundred tells nothing"
    told = advice(few, found, "Manx")
    assert told[0].startswith(
        "Sentence vectors, your labels is recommended: 70.0 % on your 100 Manx labels, +20.0 points"
    )
    assert "is higher by less than a standard error (+1.0 points" in told[1]


def test_a_model_is_preferred_to_a_baseline_that_is_less_accurate() -> None:
    rights = {MAJORITY: right(0.2), TFIDF: right(0.7), EMBEDDING: right(0.5), LABELS: right(0.71)}
    found = choose(rights)
    assert (found.winner, found.to_save, found.higher) == (LABELS, LABELS, None)
    told = advice(rights, found, "Manx")
    assert told[1] == "100 labels cannot show that this is more than chance; more labels can."


def test_no_model_is_recommended_that_is_below_a_baseline() -> None:
    near = np.roll(right(0.69), 1)
    found = choose({MAJORITY: right(0.2), TFIDF: right(0.7), EMBEDDING: near, LORA: np.roll(right(0.72), 2)})
    assert (found.winner, found.higher) == (LORA, None), "simpler, and tf-idf is simpler still"
    found = choose({MAJORITY: right(0.2), TFIDF: right(0.7)})
    assert advice({TFIDF: right(0.7), MAJORITY: right(0.2)}, found, "Manx")[0].endswith("no language model was tried.")


def test_a_baseline_is_saved_where_it_is_most_accurate() -> None:
    rights = {MAJORITY: right(0.2), TFIDF: right(0.7), EMBEDDING: right(0.5)}
    found = choose(rights)
    assert (found.winner, found.to_save) == (TFIDF, TFIDF)
    told = advice(rights, found, "Manx")
    assert told[0].startswith("tf-idf on your labels is recommended, with 70.0 % on your 100 Manx labels")
    assert told[1] == "It needs none, and is used and served like the others."
    assert not any("cannot show a difference" in one for one in told), "20 points are clear"
    close = {MAJORITY: right(0.2), TFIDF: right(0.7), EMBEDDING: np.roll(right(0.68), 50)}
    assert advice(close, choose(close), "Manx")[2].startswith(
        "100 labels cannot show a difference to Sentence vectors: +2.0"
    )
    (made,) = commands(found.winner, Typed("glv", "t", ["a"], labels="few.tsv"), "mini-sentence", "out")
    assert made.startswith("glotprompt tune --method tf-idf --language glv --train few.tsv --task t --output out/")


def test_nothing_is_saved_where_the_majority_class_is_most_accurate() -> None:
    rights = {MAJORITY: right(0.8), TFIDF: right(0.7), EMBEDDING: right(0.5)}
    found = choose(rights)
    assert (found.winner, found.to_save) == (MAJORITY, None)
    assert "nothing was saved" in advice(rights, found, "Manx")[1]
    assert not commands(found.winner, Typed("glv", "t", ["a"]), "mini-sentence", "out")
    assert majority([*topics(2), gp.Example.of("water", "sports")]) == "sports"
    assert majority(topics(2)) == "culture", "the first of those that are equally frequent"


def test_what_labels_alignment_and_self_training_are_worth() -> None:
    trained = replace(EMBEDDING, self_trained=True)
    rights = {MAJORITY: right(0.2), EMBEDDING: right(0.5), LABELS: right(0.8), LORA: right(0.4), trained: right(0.5)}
    labels, alignment, training = advice(rights, choose(rights), "Manx")[-3:]
    assert labels.startswith("100 labels of your own are worth more here than anything zero-shot: +30.0 points")
    assert alignment.startswith("Alignment on your translations hurts: -40.0 points")
    assert training.startswith("Self-training on your text hurts: -30.0 points")
    rights = {MAJORITY: right(0.2), EMBEDDING: right(0.5), LABELS: right(0.51)}
    assert "makes no difference that 100 labels can show: +1.0" in advice(rights, choose(rights), "Manx")[-1]


def test_a_gain_is_over_seeds_inside_an_example() -> None:
    found = gain(np.array([1, 0.5, 0.5, 1]), np.array([0, 0.5, 0.5, 0]))
    assert found.mean == 50
    assert found.is_clear is (found.low > 0)


def test_without_labels_it_says_that_it_cannot_know() -> None:
    itself = replace(EMBEDDING, self_trained=True)
    for is_listed in (True, False):
        assert recommend([EMBEDDING, itself, LORA], 40.0, None, is_listed) == LORA
        assert recommend([EMBEDDING, itself, LORA], 40.0, 23.0, is_listed) == LORA
        assert recommend([EMBEDDING, itself, LORA], 40.0, 10.0, is_listed) == EMBEDDING
        assert recommend([EMBEDDING, itself, LORA], 95.0, 92.0, is_listed) == itself
        assert recommend([EMBEDDING, LORA], 95.0, 92.0, is_listed) == EMBEDDING
    assert recommend([EMBEDDING, itself], None, None, True) == itself
    assert recommend([EMBEDDING, itself], None, None, False) == EMBEDDING
    assert spelling(39.0, "Manx") == spelling(None, "Manx") == []
    assert "Only 10 % of the words of your Manx texts occur in the translations" in spelling(10.0, "Manx")[0]
    for candidate, retrieval, has_pairs, part in (
        (LORA, 40.0, True, "(here 40 %)"),
        (EMBEDDING, 95.0, True, "95 % of your"),
        (itself, 95.0, True, "at most; self-training on"),
        (EMBEDDING, 40.0, True, "spelt otherwise"),
        (EMBEDDING, None, True, "alignment, which gained most, was not run"),
        (EMBEDDING, None, False, "and lost 3 in other languages"),
        (itself, None, False, "other languages: self-training on unlabelled text gained"),
    ):
        told = advice_without_labels(candidate, retrieval, "Manx", has_pairs)
        assert told[0].startswith("Without labelled Manx examples it cannot know which of these is best")
        assert part in told[0]
        assert "target_labels=" in told[-1]
        assert any("better on headlines" in one for one in told) != has_pairs
        assert any("Translations may help" in one for one in told) != has_pairs


def test_what_fits() -> None:
    assert why_not(9, 10) is None
    assert why_not(700, 10) == "needs about 11 min 40 s, 10 s left"
    assert why_not(9, -1) == "needs about 9.0 s, no time left"
    assert why_not(None, -1) == "no time left"


def test_what_there_was_no_time_for() -> None:
    assert left_out([], 3) == []
    assert left_out(["Aligned LoRA", "b", "c"], 3)[0].startswith(
        "Aligned LoRA and 2 others did not fit into 3 minutes:"
    )


def test_the_data_decides_what_is_compared() -> None:
    assert planned(target=False, parallel=False, labels=False) == [EMBEDDING]
    assert [one.name for one in planned(target=True, parallel=True, labels=False)] == [
        "embedding",
        "lora-aligned",
        "embedding+self-trained",
        "soft-prompt-aligned",
        "embedding+ridge",
    ]
    everything = planned(target=True, parallel=True, labels=True)
    assert [one.name for one in everything] == [
        "majority",
        "tf-idf",
        "embedding",
        "embedding+labels",
        "lora-aligned",
        "lora-aligned+labels",
        "embedding+self-trained",
        "embedding+self-trained+labels",
        "lora-aligned+self-trained",
        "lora-aligned+self-trained+labels",
        "soft-prompt-aligned",
        "soft-prompt-aligned+labels",
        "embedding+ridge",
        "embedding+centred",
        "prompt-tuning",
        "soft-prompt",
    ], "by what they were worth on other languages, labels that take seconds before what may take too long"
    assert len({one.title for one in everything}) == len(everything)


def test_the_commands_that_make_a_candidate() -> None:
    typed = Typed(
        "glv",
        "t.toml",
        ["a b.tsv"],
        ["glv.txt"],
        ["p.tsv"],
        "few.tsv",
        held_out=["test.tsv"],
        reading=lambda files, labelled, compared: ["--label-column", "y"] if labelled else [],
        flags=lambda command: ["--no-samples"] if command == "tune" else [],
    )
    best = Candidate("embedding", "lora-aligned", labels=True, self_trained=True)
    made = [shlex.split(line)[1:] for line in commands(best, typed, "mini-sentence", "out")]
    assert [words[0] for words in made] == ["adapt", "tune", "self-train"]
    assert made[0][1:] == [
        "--parallel",
        "p.tsv",
        "--language",
        "glv",
        "--model",
        "mini-sentence",
        "--method",
        "lora",
        "--held-out",
        "test.tsv",
        "--held-out",
        "few.tsv",
        "--output",
        "out/adapted.safetensors",
    ]
    assert made[1][-5:] == ["--output", "out/started.safetensors", "--label-column", "y", "--no-samples"]
    assert {"--target-labels", "a b.tsv"} <= {*made[1]}
    assert made[2][-4:-2] == ["--output", "out/classifier.safetensors"]
    (mapped,) = commands(replace(EMBEDDING, ridge=True), typed, "mini-sentence", "out")
    assert "--parallel p.tsv --held-out test.tsv --held-out few.tsv --output out/classifier.safetensors" in mapped


# ---------------------------------------------------------------------------------------------------------------
# In time


class Clock:
    """Seconds that only pass where something takes time."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Invented:
    """A trainer of nothing: every part of a candidate takes `seconds`, and is right where `right` says."""

    def __init__(self, clock: Clock, work: Path, **seconds: float) -> None:
        labels = [replace(one, id="") for one in topics(5)]
        target = [gp.Example.of(f"unlabelled {number}") for number in range(40)]
        self.material = Material(TASK, "lug", topics(8), target=target, labels=labels)
        self.names, self.work, self.runtime = ("a", "b"), work, gp.RuntimeConfig()
        self.clock, self.seconds = clock, seconds
        self.made: list[str] = []

    def backbone(self, candidate: Candidate) -> Any:
        return SimpleNamespace(name="mini-sentence")

    def identity(self, candidate: Candidate, seed: int, few: Any) -> str:
        return f"{candidate.name}-{seed}-{content_hash(few)}"

    def has_adapted(self, candidate: Candidate, seed: int) -> bool:
        return False

    def stage1(self, candidate: Candidate, seed: int) -> None:
        return None

    adapt = stage1

    def unread(self, candidate: Candidate, seed: int) -> int:
        return 0 if candidate.name in self.made else 100 + 100 * (candidate.centred or candidate.self_trained)

    def all_read(self, candidate: Candidate) -> float:
        return 100 + 100 * (candidate.centred or candidate.self_trained)

    def classifier(self, candidate: Candidate, seed: int, few: Any) -> Any:
        self.made.append(candidate.name)
        self.clock.now += 0 if candidate.is_baseline else self.seconds.get(candidate.name.replace("+", "_"), 10)
        answers = [SimpleNamespace(label=one.label) for one in self.material.labels]
        return SimpleNamespace(
            training=SimpleNamespace(dev_accuracy=50.0),
            predict=lambda held, batch_size: answers[: len(held)],
            save=lambda path: path.write_text(candidate.name),
        )

    def whole(self, candidate: Candidate, seed: int, few: Any) -> Any:
        return self.classifier(candidate, seed, few)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[CompareResult, Invented, list[str]]]:
    """Compares for so many minutes; gives the result, the trainer, and what was told."""
    monkeypatch.setattr(_Comparison, "_forecast_stage1", lambda self, backbone, stage1: 300.0)
    monkeypatch.setattr(_Comparison, "_forecast_stage2", lambda self, one, seed: 4.0 if one == EMBEDDING else 500.0)

    def run(minutes: float, **seconds: float) -> tuple[CompareResult, Invented, list[str]]:
        clock, told = Clock(), list[str]()
        trainer: Any = Invented(clock, tmp_path / "work", **seconds)
        typed = Typed("lug", "t", ["a"], labels="few.tsv")
        result = compare(trainer, typed, tmp_path, Budget(minutes, clock), told.append)
        assert clock.now <= 60 * minutes + 1e-6, "it ends in time"
        return result, trainer, told

    return run


def test_labels_are_tried_before_variants_and_what_does_not_fit_says_what_it_needs(timed: Any) -> None:
    result, trainer, told = timed(1.5)
    rows = {row.name: row for row in result.rows}
    run = [name for name, row in rows.items() if row.not_run is None]
    assert run[:4] == ["majority", "tf-idf", "embedding", "embedding+labels"]
    late = {name: row.not_run for name, row in rows.items() if row.not_run is not None}
    assert late["embedding+centred"].startswith("needs about 20 s, ")
    assert late["prompt-tuning"].startswith("needs about 8 min 20 s, ")
    assert told[2:4] == [
        "[0.0 s, 1 min 30 s left] Sentence vectors, about 4.0 s ...",
        "[10 s, 1 min 20 s left] Sentence vectors, your labels, about 10 s ...",
    ]
    assert result.advice[-1].startswith("Sentence vectors, self-trained and 4 others did not fit into 1.5 minutes")
    assert json.loads((trainer.work.parent / "compare.json").read_text()) == result.to_json()


@pytest.mark.slow
def test_a_candidate_that_takes_longer_than_was_forecast_is_stopped(timed: Any) -> None:
    result, trainer, _ = timed(3, embedding_labels=40)
    (row,) = (row for row in result.rows if row.name == "embedding+labels")
    assert row.not_run == "stopped after 2 min 40 s: the time was up"
    assert trainer.made.count("embedding+labels") == 4
    again, second, _ = timed(5, embedding_labels=40)
    (row,) = (row for row in again.rows if row.name == "embedding+labels")
    assert row.not_run is None
    assert second.made.count("embedding+labels") - (again.winner == row.name) == 1, "finished folds are kept"


def test_a_training_ends_with_the_time(timed: Any, tmp_path: Path) -> None:
    clock = Clock()
    run = _Comparison(cast(Any, Invented(clock, tmp_path)), Budget(1, clock), print)
    step = run.trainer.runtime.on_step
    assert step is not None
    run._deadline = 30
    step({"step": 1})
    clock.now = 31
    with pytest.raises(OutOfTime):
        step({"step": 2})
    run._leave(cast(Any, SimpleNamespace(to_json=dict)), EMBEDDING, tmp_path)
    step({"step": 3})  # the winner is trained to its end


@pytest.mark.slow
def test_figures_and_classifier_belong_together(timed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compare.json", "compare.svg", "classifier.safetensors", "adapted.safetensors"):
        (tmp_path / name).write_text("of an earlier comparison")
    real = atomic.write

    def killed(path: Path, content: Any) -> Path:
        if path.name == "compare.json":
            raise KeyboardInterrupt
        return real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            timed(3)
    assert not (tmp_path / "compare.json").exists(), "no figures beside a classifier that they are not of"
    assert not (tmp_path / "compare.svg").exists()
    result, _, _ = timed(3)
    assert (tmp_path / "classifier.safetensors").read_text() == result.winner
    assert not (tmp_path / "adapted.safetensors").exists()
