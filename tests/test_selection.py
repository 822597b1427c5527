"""Choosing between adapted and unadapted on unlabelled target text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import glotprompt as gp
from glotprompt.errors import ConfigError, DataError
from glotprompt.selection import UNADAPTED, tune_selected
from glotprompt.train import criteria

from .toys import QUIET, SOURCE, TASK, TOY, topics

TUNE = gp.TuneConfig(epochs=2, batch_size=8, max_length=24, learning_rate=1.0, init_std=0.5, prompt_length=4)
TEXTS = [example.fields["text"] for example in topics(5)]


@pytest.fixture(scope="module")
def encoder(tiny_encoder: Callable[[str], gp.Encoder]) -> gp.Encoder:
    return tiny_encoder("xlm-roberta")


@pytest.fixture(scope="module")
def prompt(encoder: gp.Encoder) -> gp.LanguagePrompt:
    config = gp.AdaptConfig(prompt_length=4, steps=4, batch_size=8, max_length=16, learning_rate=1.0, held_out=0.2)
    adapted = gp.adapt(encoder, TOY, SOURCE, "xxx", config, QUIET)
    assert isinstance(adapted, gp.LanguagePrompt)
    return adapted


def test_the_best_by_the_criterion_is_kept_as_it_was_tuned(encoder: gp.Encoder, prompt: gp.LanguagePrompt) -> None:
    found = tune_selected(encoder, [prompt], topics(), TASK, TEXTS, TUNE, QUIET, criterion="mutual-information")
    selection = found.facts["selection"]
    alone = {
        UNADAPTED: gp.tune(encoder, None, topics(), TASK, TUNE, QUIET),
        "xxx soft-prompt": gp.tune(encoder, prompt, topics(), TASK, TUNE, QUIET),
    }
    expected = {name: criteria.mutual_information(made.log_probabilities(TEXTS)) for name, made in alone.items()}
    assert selection["scores"] == expected
    assert selection["num_texts"] == len(TEXTS)
    best = max(expected, key=lambda name: expected[name])
    assert selection["chosen"] == best
    assert found.key_values.equal(alone[best].key_values)
    assert found.method == ("prompt-tuning" if best == UNADAPTED else "soft-prompt")


def test_only_the_targets_labels_are_judged(encoder: gp.Encoder, prompt: gp.LanguagePrompt) -> None:
    labels = ["sports", "culture"]
    found = tune_selected(encoder, [prompt], topics(), TASK, TEXTS, TUNE, QUIET, labels=labels)
    alone = gp.tune(encoder, prompt, topics(), TASK, TUNE, QUIET).log_probabilities(TEXTS)
    selection = found.facts["selection"]
    assert selection["scores"]["xxx soft-prompt"] == criteria.mutual_information(alone, [1, 2])
    assert selection["labels"] == labels
    with pytest.raises(ConfigError, match="has no label 'weather'"):
        tune_selected(encoder, [prompt], topics(3), TASK, TEXTS, TUNE, QUIET, labels=["weather"])


@pytest.mark.parametrize("better", [UNADAPTED, "xxx soft-prompt", "xxx soft-prompt #2"])
def test_every_candidate_can_win(
    encoder: gp.Encoder, prompt: gp.LanguagePrompt, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "glotprompt.selection.scores", lambda criterion, found, allowed: {n: float(n == better) for n in found}
    )
    found = tune_selected(encoder, [prompt, prompt], topics(3), TASK, TEXTS, TUNE.replace(epochs=1), QUIET)
    assert found.facts["selection"]["chosen"] == better
    assert len(found.facts["selection"]["scores"]) == 3


def test_at_a_tie_nothing_is_adapted(
    encoder: gp.Encoder, prompt: gp.LanguagePrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glotprompt.selection.scores", lambda criterion, found, allowed: dict.fromkeys(found, 1.0))
    found = tune_selected(encoder, [prompt], topics(3), TASK, TEXTS, TUNE.replace(epochs=1), QUIET)
    assert found.facts["selection"]["chosen"] == UNADAPTED


def test_what_cannot_be_chosen_is_refused(encoder: gp.Encoder, prompt: gp.LanguagePrompt) -> None:
    with pytest.raises(ConfigError, match="nothing to choose from"):
        tune_selected(encoder, [], topics(3), TASK, TEXTS, TUNE, QUIET)
    with pytest.raises(DataError, match="unlabelled target texts"):
        tune_selected(encoder, [prompt], topics(3), TASK, [], TUNE, QUIET)
    config = TUNE.replace(method="soft-prompt+task-adapter")
    with pytest.raises(ConfigError, match="no unadapted rival"):
        tune_selected(encoder, [prompt], topics(3), TASK, TEXTS, config, QUIET)
