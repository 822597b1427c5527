"""Texts that files keep for people to try a classifier on: which, in whose language, and how to leave them out."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import glotprompt as gp
from glotprompt.data.characters import CharacterMap, Rewriting
from glotprompt.data.samples import MOST_CHARACTERS, NUM_SAMPLES, Samples
from glotprompt.data.seen import num_seen, seen_of
from glotprompt.methods import for_language
from glotprompt.training.objectives import inputs
from glotprompt.training.objectives.batches import token_sequences

from .toys import QUIET, SOURCE, TASK, TOY, topics

ADAPT = gp.AdaptConfig(steps=1, batch_size=4, max_length=16, prompt_length=4, held_out_share=0.2)
TUNE = gp.TuneConfig(epochs=1, batch_size=8, max_length=24)
PAIRS = gp.Task("answer", "{premise} ? {mask} , {hypothesis}", {"yes": "Yes", "no": "No"})
LINES = [f"line number {number} of a text that says something" for number in range(12)]


def texts_of(samples: Samples | None) -> list[str | tuple[str, ...]]:
    assert samples is not None
    return list(samples.texts)


def test_they_are_spread_over_the_text_short_and_different() -> None:
    found = texts_of(Samples.of_lines(["Chapter 1", *LINES, LINES[0], " ", ""]))
    assert found == [LINES[0], LINES[4], LINES[8]], "no headings, while there is something longer"
    assert texts_of(Samples.of_lines(["one", "two ", " two", "one"])) == ["one", "two"]
    assert Samples.of_lines(["", " \t"]) is None
    words, letters = texts_of(Samples.of_lines(["word " * 100, "e\u0301" * 150]))
    assert words == " ".join(["word"] * (MOST_CHARACTERS // 5))
    assert letters == "e\u0301" * (MOST_CHARACTERS // 2)
    (odd,) = texts_of(Samples.of_lines(["x" + "e\u0301" * 150]))
    assert len(odd) < MOST_CHARACTERS
    assert unicodedata.combining(odd[-1]), "no letter without its accent"


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Callable[[str], gp.Backbone]) -> gp.Backbone:
    return tiny_backbone("xlm-roberta")


@pytest.fixture(scope="module")
def prompt(backbone: gp.Backbone) -> gp.LanguagePrompt:
    adapted = gp.adapt(backbone, TOY, SOURCE, "nya", ADAPT, QUIET)
    assert isinstance(adapted, gp.LanguagePrompt)
    return adapted


def test_a_classifier_takes_over_those_of_its_language(
    backbone: gp.Backbone, prompt: gp.LanguagePrompt, tmp_path: Path
) -> None:
    samples = prompt.samples
    assert samples is not None
    assert samples.side == "target"
    assert len(set(samples.texts)) == NUM_SAMPLES
    assert set(samples.texts) <= {line.strip() for line in TOY}
    assert gp.LanguagePrompt.load(prompt.save(tmp_path / "nya.st")).samples == samples
    classifier = gp.tune(backbone, prompt, topics(4), TASK, TUNE, QUIET)
    assert classifier.samples == samples
    assert gp.PromptClassifier.load(classifier.save(tmp_path / "topic.st"), backbone).samples == samples
    bare = replace(classifier, samples=None).save(tmp_path / "bare.st")
    assert (tmp_path / "topic.st").stat().st_size - bare.stat().st_size < NUM_SAMPLES * MOST_CHARACTERS
    # Metadata is copied into results and reports.
    assert not [
        text
        for text in samples.texts
        if json.dumps(text) in json.dumps([prompt.training.to_json(), classifier.training.to_json()])
    ]


@pytest.mark.slow
def test_none_was_trained_on_where_characters_are_rewritten(
    backbone: gp.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that are one when rewritten stay on one side, so the held-out lines are other ones than before."""
    trained: list[set[str]] = []

    def watched(lines: Sequence[str], *rest: Any) -> Any:
        trained.append({" ".join(line.split()) for line in lines})
        return token_sequences(lines, *rest)

    monkeypatch.setattr(inputs, "token_sequences", watched)
    lines = [f"{line} {mark}" for line in dict.fromkeys(TOY) for mark in ("kǃ", "kk")]
    characters = CharacterMap((Rewriting("ǃ", "k", "letter", False),))
    for seed in range(8):
        trained.clear()
        adapted = gp.adapt(backbone, lines, SOURCE, "nya", ADAPT.replace(seed=seed), QUIET, characters)
        read = {characters.apply(str(text)) for text in texts_of(adapted.samples)}
        assert read
        assert not read & trained[0]


def test_else_they_are_in_the_language_of_the_examples(backbone: gp.Backbone, prompt: gp.LanguagePrompt) -> None:
    dev = topics(2)
    found = gp.tune(backbone, None, topics(4), TASK, TUNE.replace(prompt_length=4), QUIET, dev).samples
    assert found is not None
    assert found.side == "source"
    assert set(found.texts) < {example.fields["text"] for example in dev}, "of those that it was not trained on"
    pairs = [
        gp.Example.of((f"the king {number}", f"water day {number}"), label)
        for number in range(3)
        for label in ("yes", "no")
    ]
    answers = gp.tune(backbone, prompt, pairs * 2, PAIRS, TUNE, QUIET, pairs).samples
    assert answers is not None
    assert answers == Samples("source", tuple((f"the king {number}", f"water day {number}") for number in range(3)))
    assert Samples.in_file(json.loads(json.dumps({"samples": answers.to_dict()}))) == answers


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ab " + "c" * 300, 200),  # the only space is too early
        ("word " * 60, 199),
        ("\u0e01" + "\u0e01\u0e34" * 150, 199),  # at 200 stands a Thai vowel, which belongs to the letter before
    ],
)
def test_where_a_long_text_is_cut(text: str, kept: int) -> None:
    (found,) = texts_of(Samples.of_lines([text]))
    assert found == text[:kept]


def test_none_are_kept_where_that_is_asked(backbone: gp.Backbone, prompt: gp.LanguagePrompt, tmp_path: Path) -> None:
    private = QUIET.replace(no_samples=True)
    adapted = gp.adapt(backbone, TOY, SOURCE, "nya", ADAPT, private)
    classifier = gp.tune(backbone, prompt, topics(4), TASK, TUNE, private)
    assert (adapted.samples, classifier.samples) == (None, None)
    assert adapted.training.config == prompt.training.config, "no setting of the training"
    saved = classifier.save(tmp_path / "topic.st").read_bytes()
    assert not [text for text in texts_of(prompt.samples) if str(text).encode() in saved]


def test_a_swapped_language_brings_its_own(backbone: gp.Backbone) -> None:
    config = gp.AdaptConfig(method="source-prompt", steps=1, batch_size=4, max_length=16, prompt_length=4)
    ours, theirs = (
        gp.adapt(backbone, lines, SOURCE, code, config, QUIET) for code, lines in (("nya", TOY), ("sna", LINES))
    )
    classifier = gp.tune(backbone, ours, topics(4), TASK, TUNE, QUIET)
    assert texts_of(for_language(classifier, theirs).samples) == texts_of(theirs.samples)
    assert texts_of(theirs.samples) != texts_of(ours.samples)
    assert for_language(replace(classifier, samples=None), theirs).samples is None


def test_digests_of_what_was_trained_on() -> None:
    many = [gp.Example.of(f"text {number}", "a") for number in range(3000)]
    kept = seen_of([*many, *many])
    assert len(kept) == 5336
    assert num_seen(many, kept) == len(many), "of more the smallest digests, which are a sample: an estimate"
    mixed = [*many[::10], *(gp.Example.of(f"new {number}") for number in range(2700))]
    assert 200 < num_seen(mixed, kept) < 400
    assert num_seen([gp.Example.of(f"other {number}") for number in range(3000)], kept) == 0
    few = seen_of(many[:3])
    assert num_seen([gp.Example.of("  text  1 ", "b"), gp.Example.of("text 9")], few) == 1, "whatever its label"
    assert num_seen(many, "") == 0
