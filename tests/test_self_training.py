"""Self-training on a toy language: words of its own beside those of the source, which give the labels away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import glotprompt as gp
from glotprompt.errors import ConfigError, DataError
from glotprompt.records import SelfTrainingReport, SelfTrainingRound
from glotprompt.spec import done_or_train
from glotprompt.stages.self_training import SelfTrainConfig, SelfTraining, _collapse

from .toys import QUIET, SOURCE, TASK, TOY, topics

Tiny = Callable[[str], gp.Backbone]
CUES = {"health": "water day", "sports": "play field", "culture": "king night"}
OWN = {"health": "river", "sports": "mother", "culture": "city"}
EXAMPLES = topics()
CONFIG = gp.TuneConfig(method="embedding")


def target(count: int, *, cues: bool) -> list[gp.Example]:
    """Sentences of the target language, with or without what the source language has taught."""
    return [
        gp.Example.of(f"{CUES[label] if cues else ''} {OWN[label]} {'the ' * (i % 4)}{OWN[label]}", label)
        for i in range(count)
        for label in OWN
    ]


UNLABELLED = [one.fields["text"] for one in target(8, cues=True)]
TEST = target(4, cues=False)


@pytest.fixture(scope="module")
def classifier(tiny_backbone: Tiny) -> gp.PromptClassifier:
    return gp.tune(tiny_backbone("xlm-roberta"), None, EXAMPLES, TASK, CONFIG, QUIET, dev=EXAMPLES)


def trained(classifier: gp.PromptClassifier, texts: Any = UNLABELLED, **settings: Any) -> gp.PromptClassifier:
    named = {name: settings.pop(name) for name in ("held_out", "target_examples", "dev") if name in settings}
    config = SelfTrainConfig(**settings)
    return gp.self_train(classifier, texts, EXAMPLES, config, QUIET, **{"dev": EXAMPLES, **named})


def bias(classifier: gp.PromptClassifier, **added: float) -> gp.PromptClassifier:
    """The same with something added to the scores of some labels."""
    assert classifier.head is not None
    tensors = {name: value.detach().clone() for name, value in classifier.head.tensors().items()}
    for label, value in added.items():
        tensors["bias"][TASK.labels.index(label)] += value
    return replace(classifier, head=type(classifier.head).restore(classifier.backbone, {"layer": 3}, tensors))


@pytest.mark.slow
def test_it_learns_words_that_the_source_does_not_have(classifier: gp.PromptClassifier) -> None:
    classifier = classifier.with_report(config={**classifier.training.config, "target_weight": 3.0}, strength=1.0)
    before, offsets = gp.evaluate(classifier, TEST).accuracy, classifier.offsets
    made = trained(classifier)
    assert before < 40
    assert gp.evaluate(made, TEST).accuracy > 80
    said = made.training.self_training
    assert said is not None
    assert said.model_dump(exclude={"prior", "rounds"}) == {"texts": 24, "keep": 0.5, "stopped": None}
    assert said.prior == pytest.approx(dict.fromkeys(TASK.labels, 1 / 3))
    assert [one.kept for one in said.rounds] == [{"health": 3, "sports": 5, "culture": 4}]
    assert 80 < said.rounds[0].agreement <= 100
    assert made.offsets is None, "the result is not calibrated"
    assert (made.method, made.training.config) == (classifier.method, classifier.training.config)
    assert (made.training.target_examples, made.training.target_dev_examples) == (12, 0)
    assert made.training.target_weight == 3.0
    assert made.training.strength == classifier.training.strength, "not chosen again"
    assert classifier.training.self_training is None, "the first one is as it was"
    assert classifier.offsets is offsets


def test_the_surest_share_of_each_label_is_trained_on(classifier: gp.PromptClassifier) -> None:
    texts = [*UNLABELLED, *(one.fields["text"] for one in TEST)]
    calibrated = classifier.with_label_prior(texts).predict(texts)
    made = trained(classifier, texts, keep=0.3)
    assert made.training.self_training is not None
    (first,) = made.training.self_training.rounds
    for label, kept in first.kept.items():
        taken = sum(prediction.label == label for prediction in calibrated)
        assert kept == int(np.ceil(0.3 * taken)) > 0


@pytest.mark.slow
def test_rounds(classifier: gp.PromptClassifier) -> None:
    texts = [*UNLABELLED, *(one.fields["text"] for one in TEST)]
    twice = trained(classifier, texts, keep=0.3, rounds=2).training.self_training
    once = trained(classifier, texts, keep=0.3).training.self_training
    assert once is not None
    assert twice is not None
    assert (len(twice.rounds), twice.rounds[0]) == (2, once.rounds[0])


def test_what_will_be_scored_and_what_has_a_label_is_left_out(classifier: gp.PromptClassifier) -> None:
    scored = UNLABELLED[:3]
    texts = [*scored, *UNLABELLED, TEST[0].fields["text"]]
    training = SelfTraining.of(
        classifier, texts, EXAMPLES, held_out={"test": [text.upper() for text in scored]}, target_examples=TEST[:1]
    )
    left = [one.fields["text"] for one in training.unlabelled]
    assert left == [text for text in UNLABELLED if text not in scored]
    assert training.decontamination is not None
    assert training.decontamination.target is not None
    assert training.decontamination.target.held_out["test"].same == len(texts) - 1 - len(left)
    with pytest.raises(DataError, match="all of it is evaluation text"):
        trained(classifier, scored, held_out=scored)
    with pytest.raises(DataError, match="no unlabelled target text"):
        trained(classifier, [])


def test_collapsed_predictions_stop_it(classifier: gp.PromptClassifier) -> None:
    one = [one.fields["text"] for one in target(20, cues=True) if one.label == "health"]
    made = trained(classifier, one * 2, label_prior={"health": 0.95, "sports": 0.05})
    kept = trained(classifier, one * 2, label_prior={"health": 1.0})
    assert made.head is classifier.head
    said, other = made.training.self_training, kept.training.self_training
    assert said is not None
    assert other is not None
    assert said.rounds == []
    assert said.stopped == "100 % of the texts were taken for 'health'"
    assert other.stopped is None, "as the prior has it"


def test_what_counts_as_a_collapse(classifier: gp.PromptClassifier) -> None:
    training = SelfTraining.of(classifier, UNLABELLED, EXAMPLES)
    even = [0, 1, 2] * 7
    assert _collapse(np.array(even), training) is None
    assert _collapse(np.array([0] * 18 + [1, 2]), training) is None, "nine of ten"
    assert _collapse(np.array([0] * 19 + [1, 2]), training) == "90 % of the texts were taken for 'health'"
    missing = "no text was taken for 'culture', where the prior expects 5; if there are fewer, say so with label_prior="
    assert _collapse(np.array([0, 1] * 8), training) == missing
    assert _collapse(np.array([0, 1] * 8), training, missing=False) is None
    assert _collapse(np.array([0, 1] * 7), training) is None, "a label that is expected fewer than five times"


def test_a_label_that_it_has_never_seen_is_expected_nowhere(classifier: gp.PromptClassifier) -> None:
    task = gp.Task("topic", TASK.template, {**TASK.verbalizer, "law": "law"})
    made = gp.tune(classifier.backbone, None, EXAMPLES, task, CONFIG, QUIET, dev=EXAMPLES)
    cloze = gp.tune(classifier.backbone, None, EXAMPLES, task, gp.TuneConfig(epochs=1), QUIET, dev=EXAMPLES)
    for one in (made, cloze):
        assert one.uniform_prior() == {"health": 1, "sports": 1, "culture": 1, "law": 0}
    taught = gp.self_train(made, UNLABELLED * 2, EXAMPLES, SelfTrainConfig(), QUIET, dev=EXAMPLES)
    assert taught.training.self_training is not None
    assert taught.training.self_training.stopped is None
    assert {one.label for one in made.with_label_prior(UNLABELLED).predict(UNLABELLED)} <= {*OWN}
    figures = gp.evaluate(made, TEST, prior_text=UNLABELLED)
    assert "law" not in figures.per_label, "never predicted"


def test_a_classifier_that_would_lose_what_it_learned_is_refused(classifier: gp.PromptClassifier) -> None:
    for report, match in (
        ({"target_examples": 12}, "has learned from 12 target labels, too; give them as target_labels="),
        ({"centred_on": 40}, "is centred by target text, and would be tuned without"),
        ({"pairs": 40}, "maps its language by translations"),
    ):
        with pytest.raises(ConfigError, match=match):
            trained(classifier.with_report(**report))
    stopped = SelfTrainingReport(rounds=[], texts=9, keep=0.5, prior={}, stopped="collapsed")
    once = SelfTrainingReport(
        rounds=[SelfTrainingRound(kept={"sports": 7, "health": 2}, agreement=90)],
        texts=9,
        keep=0.5,
        prior={},
        stopped=None,
    )
    for before, number in ((stopped, 12), (once, 3)):
        with pytest.raises(ConfigError, match=f"from {number} target labels"):
            trained(classifier.with_report(target_examples=12, self_training=before))
    assert trained(classifier.with_report(target_examples=9, self_training=once)), "none but those it gave itself"
    few = [gp.Example.of("river  river", "health")]
    left = SelfTraining.of(classifier, ["river river", "mother"], EXAMPLES, target_examples=few).unlabelled
    assert [one.fields["text"] for one in left] == ["mother"], "the same but for a space"


def test_a_result_that_collapses_is_not_kept(classifier: gp.PromptClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glotprompt.stages.self_training.train_stage2", lambda *_: bias(classifier, sports=50.0))
    made = trained(classifier, rounds=3)
    assert made.head is classifier.head
    said = made.training.self_training
    assert said is not None
    assert (said.rounds, said.stopped) == ([], "100 % of the texts were taken for 'sports'")
    once = said.replace(rounds=[SelfTrainingRound(kept={"sports": 7}, agreement=90)], stopped=None)
    again = trained(classifier.with_report(target_examples=7, self_training=once)).training.self_training
    assert again is not None
    assert again.rounds == once.rounds, "what it gave itself is not taken for labels the next time"


def test_its_identity_moves_with_whatever_moves_its_numbers(classifier: gp.PromptClassifier) -> None:
    def identity(made: gp.PromptClassifier = classifier, texts: Any = UNLABELLED, **named: Any) -> str:
        config = SelfTrainConfig(
            **{name: named.pop(name) for name in ("rounds", "keep", "label_prior") if name in named}
        )
        return SelfTraining.of(made, texts, named.pop("examples", EXAMPLES), config, **named).spec().identity

    seeded = classifier.with_report(config={**classifier.training.config, "seed": 1})
    weighted = classifier.with_report(config={**classifier.training.config, "target_weight": 2.0})
    found = [
        identity(), identity(bias(classifier, sports=1.0)), identity(seeded), identity(weighted),
        identity(texts=UNLABELLED[1:]), identity(examples=EXAMPLES[1:]), identity(dev=EXAMPLES), identity(rounds=2),
        identity(keep=0.4), identity(label_prior={"sports": 1.0}), identity(target_examples=TEST),
        identity(held_out=UNLABELLED[:1]), identity(classifier.with_report(strength=0.5)),
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    assert identity(held_out=["something else"]) == found[0]


@pytest.mark.slow
def test_it_is_done_once(classifier: gp.PromptClassifier, tmp_path: Path) -> None:
    training = SelfTraining.of(classifier, UNLABELLED, EXAMPLES, dev=EXAMPLES)

    def load(path: Path) -> gp.PromptClassifier:
        return gp.PromptClassifier.load(path, classifier.backbone)

    made, was_there = done_or_train(training.spec(), tmp_path / "c", load, lambda _: trained(classifier))
    assert not was_there
    again, was_there = done_or_train(training.spec(), tmp_path / "c", load, lambda _: pytest.fail("trained again"))
    assert was_there
    assert again.training.self_training == made.training.self_training
    assert again.predict(UNLABELLED) == made.predict(UNLABELLED)


def test_what_it_refuses(classifier: gp.PromptClassifier, tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("xlm-roberta")
    draw = torch.zeros(backbone.prompt_shape(4))
    prompt = gp.LanguagePrompt(draw, "xxx", backbone.reference)
    behind = gp.tune(backbone, prompt, EXAMPLES, TASK, CONFIG, QUIET, dev=EXAMPLES)
    with pytest.raises(ConfigError, match=r"from what adapt made of xxx, .*; give it as adapted="):
        trained(behind)
    with pytest.raises(ConfigError, match="starts from no stage 1; leave adapted= out"):
        gp.self_train(classifier, UNLABELLED, EXAMPLES, adapted=prompt)
    with pytest.raises(ConfigError, match="the classifier is for xxx, stage 1 read yyy"):
        gp.self_train(behind, UNLABELLED, EXAMPLES, adapted=replace(prompt, language="yyy"))
    with pytest.raises(ConfigError, match=r"no label 'sport'.* Did you mean 'sports'\?"):
        trained(classifier, label_prior={"sport": 1.0})
    with pytest.raises(ConfigError, match="was not trained by tune"):
        trained(replace(classifier, report=None))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["soft-prompt", "mad-x", "lora", "fine-tuning", "soft-prompt+task-adapter"])
def test_methods_that_train_a_body(own_backbone: Tiny, method: str, tmp_path: Path) -> None:
    backbone, adapted = own_backbone("xlm-roberta"), None
    if method != "fine-tuning":
        config = gp.AdaptConfig(method=method, steps=2, batch_size=8, max_length=16, prompt_length=4)
        adapted = gp.adapt(backbone, TOY, SOURCE, "xxx", config, QUIET)
    tune = gp.TuneConfig(method=method, head="pooled", epochs=2, learning_rate=1e-3, max_length=24)
    classifier = gp.tune(backbone, adapted, EXAMPLES, TASK, tune, QUIET, dev=EXAMPLES)
    runtime = QUIET.replace(checkpoint_dir=tmp_path / "checkpoints", checkpoint_every=0)
    made = gp.self_train(classifier, UNLABELLED, EXAMPLES, runtime=runtime, adapted=adapted, dev=EXAMPLES)
    identity = SelfTraining.of(classifier, UNLABELLED, EXAMPLES, adapted=adapted, dev=EXAMPLES).spec().identity
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [f"{identity}-1.checkpoint"]
    assert made.training.self_training is not None
    assert made.training.self_training.stopped is None
    assert made.language == classifier.language
    assert gp.evaluate(made, TEST).accuracy > gp.evaluate(classifier, TEST).accuracy
    again = gp.PromptClassifier.load(made.save(tmp_path / "c"), backbone)
    assert again.training.self_training == made.training.self_training
    assert np.array_equal(again.log_probabilities(UNLABELLED), made.log_probabilities(UNLABELLED))
