"""Method embedding: logistic regression on sentence vectors, against scikit-learn and against itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import glotprompt as gp
from glotprompt.errors import ConfigError, DataError, ModelError
from glotprompt.model.modules.classification import EmbeddingHead
from glotprompt.spec import PENALTY
from glotprompt.stages.stage2_data import Stage2
from glotprompt.training.objectives.embedding import (
    PENALTIES,
    STRENGTHS,
    PairVectors,
    Penalty,
    Vectors,
    best_fit,
    best_head,
    fit_ridge,
    most_accurate,
    strongest_within_error,
)

from ..toys import QUIET, TASK, topics

Tiny = Callable[[str], gp.Backbone]
EXAMPLES = topics()
CONFIG = gp.TuneConfig(method="embedding")
TEXTS = ["water day twidi", "king the night", "play field the the"]


def tuned(backbone: gp.Backbone, adapted: Any = None, **changes: Any) -> gp.PromptClassifier:
    return gp.tune(backbone, adapted, EXAMPLES, TASK, CONFIG.replace(**changes), QUIET, dev=EXAMPLES)


def prompt_of(backbone: gp.Backbone, seed: int = 0) -> gp.LanguagePrompt:
    draw = torch.randn(backbone.prompt_shape(4), generator=torch.Generator().manual_seed(seed))
    return gp.LanguagePrompt(draw, "xxx", backbone.reference)


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_it_is_scikit_learn_s_regression_on_the_backbone_s_vectors(layer: int, tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("xlm-roberta")
    classifier = tuned(backbone, layer=layer)
    inputs = backbone.embed([example.fields["text"] for example in EXAMPLES], layer=layer)
    centre, scale = inputs.mean(axis=0), inputs.std()
    gold = [TASK.labels.index(str(example.label)) for example in EXAMPLES]
    strength = classifier.training.strength
    assert strength is not None
    theirs = LogisticRegression(C=strength, max_iter=2000).fit((inputs - centre) / scale, gold)
    expected = theirs.predict_log_proba((backbone.embed(TEXTS, layer=layer) - centre) / scale)
    np.testing.assert_allclose(classifier.log_probabilities(TEXTS), expected, atol=1e-3)
    by_hand = {C: LogisticRegression(C=C, max_iter=2000).fit((inputs - centre) / scale, gold) for C in STRENGTHS}
    scores = {C: one.score((inputs - centre) / scale, gold) for C, one in by_hand.items()}
    assert strength in scores
    assert classifier.training.dev_accuracy == pytest.approx(100 * scores[strength])


@pytest.mark.parametrize(
    ("accuracies", "num_dev", "strength"),
    [
        ((81.0, 82.0, 84.0), 99, 0.01),  # one standard error of 84 % of 99 is 3.7 points
        ((80.0, 82.0, 84.0), 99, 0.1),
        ((81.0, 82.0, 84.0), 2000, 1.0),
        ((81.0, 100.0, 100.0), 99, 0.1),
        ((90.0, 84.0, 82.0), 99, 0.01),
    ],
)
def test_the_strongest_penalty_within_one_standard_error_is_chosen(
    accuracies: tuple[float, ...], num_dev: int, strength: float
) -> None:
    found = [Penalty(*figures, 0.5) for figures in zip(STRENGTHS, accuracies, strict=True)]
    assert strongest_within_error(found, num_dev).strength == strength
    assert strongest_within_error(found[::-1], num_dev).strength == strength


def test_regression_of_the_chosen_penalty_is_kept() -> None:
    """By default, and by the best dev accuracy, then loss."""
    generator = np.random.default_rng(2)
    inputs, held = (generator.normal(size=(60, 40)).astype(np.float32) for _ in range(2))
    gold, dev_gold = ((part[:, 0] + generator.normal(size=60) > 0).astype(int) for part in (inputs, held))
    parts = Vectors(inputs, gold.tolist()), Vectors(held, dev_gold.tolist())
    found = best_fit(*parts, 2, STRENGTHS, most_accurate)[1]
    keys: dict[float, tuple[float, float]] = {}
    for strength in STRENGTHS:
        one = LogisticRegression(C=strength, max_iter=2000).fit(inputs, gold)
        log_probs = one.predict_log_proba(held)
        keys[strength] = -one.score(held, dev_gold), -log_probs[np.arange(60), dev_gold].mean()
    assert len({accuracy for accuracy, _ in keys.values()}) > 1, "there is something to choose"
    assert found.strength == min(keys, key=lambda strength: keys[strength])
    assert found.dev_accuracy == pytest.approx(-100 * keys[found.strength][0])
    (head, default), (alone, _) = best_head(0, *parts, 2), best_head(0, *parts, 2, strengths=STRENGTHS[:1])
    assert default.strength == STRENGTHS[0] != found.strength
    assert torch.equal(head.weight, alone.weight)


@pytest.mark.slow
def test_the_backbone_is_left_alone_and_the_file_gives_the_same_bits(own_backbone: Tiny, tmp_path: Path) -> None:
    backbone = own_backbone("bert")
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    for adapted in (None, prompt_of(backbone)):
        classifier = tuned(backbone, adapted)
        again = gp.PromptClassifier.load(classifier.save(tmp_path / "file"), backbone)
        np.testing.assert_array_equal(again.log_probabilities(TEXTS), classifier.log_probabilities(TEXTS))
        assert (again.method, again.language) == ("embedding", "und" if adapted is None else "xxx")
        assert isinstance(again.head, EmbeddingHead)
        assert classifier.training.trained_parameters == 3 * 48 + 3
        np.testing.assert_array_equal(
            tuned(backbone, adapted).log_probabilities(TEXTS), classifier.log_probabilities(TEXTS)
        )
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


@pytest.mark.slow
def test_it_learns_and_reads_what_stands_before_it(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("xlm-roberta")
    plain, behind = tuned(backbone), tuned(backbone, prompt_of(backbone))
    assert gp.evaluate(plain, EXAMPLES).accuracy >= 90
    assert gp.evaluate(behind, EXAMPLES).accuracy >= 90
    assert np.abs(plain.log_probabilities(TEXTS) - behind.log_probabilities(TEXTS)).max() > 0.01


@pytest.mark.slow
def test_the_last_layer_is_read_unless_another_is_asked_for(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("xlm-roberta")
    assert tuned(backbone).training.layer == 3
    assert tuned(backbone, layer=1).training.layer == 1


@pytest.mark.slow
def test_the_target_s_texts_move_the_centre(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("bert")
    plain = tuned(backbone, layer=3)
    texts = ["twidi the the", "kilimba the twidi day", "the day"]
    centred = plain.with_target_text(texts)
    own, moved = plain.head, centred.head
    assert isinstance(own, EmbeddingHead)
    assert isinstance(moved, EmbeddingHead)
    np.testing.assert_allclose(moved.centre.detach().numpy(), backbone.embed(texts).mean(axis=0), atol=1e-5)
    assert torch.equal(own.weight, moved.weight)
    assert centred.training.centred_on == 3
    calibrated = plain.with_label_prior(texts).with_target_text(texts)
    assert (calibrated.offsets, calibrated.training.label_prior) == (None, None), "they were fitted on other vectors"
    shift = (own.centre - moved.centre) / own.scale @ own.weight.T
    scores = plain.log_probabilities(TEXTS) + shift.detach().numpy()
    expected = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(centred.log_probabilities(TEXTS), expected, atol=1e-4)
    mapped = replace(plain, characters=gp.CharacterMap.fitted({"ɬ": "t"}, []))
    of_mapped = mapped.with_target_text([text.replace("t", "ɬ") for text in texts])
    np.testing.assert_array_equal(of_mapped.log_probabilities(TEXTS), centred.log_probabilities(TEXTS))
    with pytest.raises(ConfigError, match="no target text"):
        plain.with_target_text([])
    with pytest.raises(ConfigError, match="has no sentence vectors"):
        gp.tune(backbone, None, EXAMPLES, TASK, gp.TuneConfig(epochs=1), QUIET).with_target_text(texts)


# --- head "pooled"


def pooled(backbone: gp.Backbone, adapted: Any = None, **changes: Any) -> gp.PromptClassifier:
    config = {"method": "prompt-tuning", "head": "pooled", "prompt_length": 4, "epochs": 1, "learning_rate": 0.03}
    return tuned(backbone, adapted, **{**config, **changes})


@pytest.mark.slow
def test_a_pooled_head_starts_as_the_regression_and_is_no_worse(sentence_encoder: gp.Backbone, tmp_path: Path) -> None:
    """On a backbone without an LM head."""
    prompt = prompt_of(sentence_encoder)
    still = pooled(sentence_encoder, prompt, method="soft-prompt", learning_rate=1e-12)
    fitted = tuned(sentence_encoder, prompt)
    np.testing.assert_allclose(still.log_probabilities(TEXTS), fitted.log_probabilities(TEXTS), atol=1e-4)
    assert (still.training.layer, still.training.strength) == (3, fitted.training.strength)
    made = pooled(sentence_encoder)
    told = made.training
    assert told.trained_parameters == 3 * 48 + 3 + 3 * 2 * 4 * 4 * 12
    assert told.dev_accuracy >= dict(told.evaluations)[0]["dev_accuracy"]  # pyright: ignore[reportOperatorIssue]
    assert told.trained_layers == (0, 3)
    again = gp.PromptClassifier.load(made.save(tmp_path / "file"), sentence_encoder)
    np.testing.assert_array_equal(again.log_probabilities(TEXTS), made.log_probabilities(TEXTS))
    centred = again.with_target_text(TEXTS)
    assert centred.training.centred_on == 3
    assert np.abs(centred.log_probabilities(TEXTS) - made.log_probabilities(TEXTS)).max() > 0.01


def test_heads_that_are_trained_see_the_same_scores(sentence_encoder: gp.Backbone) -> None:
    head = tuned(sentence_encoder).head
    assert isinstance(head, EmbeddingHead)
    states = torch.randn(5, 48, generator=torch.Generator().manual_seed(0))
    larger = head.to_be_trained()
    torch.testing.assert_close(larger.scores(sentence_encoder, states), head.scores(sentence_encoder, states))
    torch.testing.assert_close(larger.weight, head.weight * 48**0.5)


@pytest.mark.slow
def test_a_trained_head_names_its_method(sentence_encoder: gp.Backbone, tiny_backbone: Tiny) -> None:
    """Without one, a backbone without an LM head would be read by method embedding, which trains no body."""
    assert pooled(sentence_encoder, method=None).method == "prompt-tuning"
    prompt = prompt_of(sentence_encoder)
    assert pooled(sentence_encoder, prompt, method=None).method == "soft-prompt"
    with pytest.raises(ConfigError, match="layer is 1, and what is trained begins above it, in layer 2; give 2 to 3"):
        pooled(sentence_encoder, prompt, method=None, layer=1)
    assert pooled(sentence_encoder, prompt, method=None, layer=2).training.layer == 2


def test_two_labels_and_a_label_without_an_example(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("bert")
    two = [example for example in EXAMPLES if example.label != "culture"]
    classifier = gp.tune(backbone, None, two, TASK, CONFIG, QUIET, dev=two)
    assert gp.evaluate(classifier, two).accuracy >= 90
    assert all(prediction.scores["culture"] < 1e-6 for prediction in classifier.predict(TEXTS))
    one = [example for example in EXAMPLES if example.label == "culture"]
    with pytest.raises(DataError, match="all training examples have one label"):
        gp.tune(backbone, None, one, TASK, CONFIG, QUIET, dev=one)


def test_pairs_of_texts(tiny_backbone: Tiny) -> None:
    task = gp.Task("nli", "{premise} ? {mask} , {hypothesis}", {"yes": "Yes", "no": "No"})
    pairs = [("the king day", "king" if i % 2 else "water") for i in range(12)]
    examples = [gp.Example.of(pair, "yes" if i % 2 else "no") for i, pair in enumerate(pairs)]
    classifier = gp.tune(tiny_backbone("bert"), None, examples, task, CONFIG, QUIET, dev=examples)
    assert gp.evaluate(classifier, examples).accuracy == 100
    with pytest.raises(ConfigError, match="needs premise, hypothesis, the example has text"):
        classifier.predict(["the king"])


def test_a_sentence_encoder_takes_it_by_default_and_refuses_label_words(sentence_encoder: gp.Backbone) -> None:
    classifier = gp.tune(sentence_encoder, None, EXAMPLES, TASK, gp.TuneConfig(), QUIET, dev=EXAMPLES)
    assert classifier.method == "embedding"
    with pytest.raises(ModelError, match=r"without an LM head, which a template with label words .* needs"):
        gp.tune(sentence_encoder, None, EXAMPLES, TASK, gp.TuneConfig(method="prompt-tuning"), QUIET)
    linear = gp.TuneConfig(method="fine-tuning", head="linear", epochs=1)
    assert gp.tune(sentence_encoder, None, EXAMPLES, TASK, linear, QUIET).method == "fine-tuning"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": 4}, "layer is 4; tiny bert has 3 layers"),
        ({"method": "prompt-tuning", "layer": 2}, "prompt-tuning reads the last layer"),
        ({"top_k_layers": 2}, "embedding trains no prompts"),
    ],
)
def test_what_it_refuses(changes: dict[str, Any], message: str, tiny_backbone: Tiny) -> None:
    with pytest.raises(ConfigError, match=message):
        tuned(tiny_backbone("bert"), **changes)


@pytest.mark.slow
def test_many_of_them_are_served_together_with_others(tiny_backbone: Tiny) -> None:
    """Different prompts, layers and heads in one call: every answer is what its classifier gives alone."""
    backbone = tiny_backbone("xlm-roberta")
    words = gp.TuneConfig(epochs=1, method="prompt-tuning", prompt_length=3)
    classifiers = {
        "plain": tuned(backbone),
        "one": tuned(backbone, prompt_of(backbone)),
        "two": tuned(backbone, prompt_of(backbone, 1)),
        "lower": tuned(backbone, prompt_of(backbone, 2), layer=1).with_target_text(TEXTS),
        "cloze": gp.tune(backbone, None, EXAMPLES, TASK, words, QUIET),
        "linear": gp.tune(backbone, None, EXAMPLES, TASK, words.replace(head="linear"), QUIET),
        "pooled": pooled(backbone),
        "pooled weights": pooled(backbone, method="fine-tuning", learning_rate=1e-3),
    }
    items = [(name, text) for text in TEXTS for name in classifiers]
    found = gp.Predictor(backbone, classifiers).predict(items)
    for (name, text), prediction in zip(items, found, strict=True):
        alone = classifiers[name].predict([text])[0]
        assert prediction.scores == pytest.approx(alone.scores, abs=1e-5)


# --- a ridge map by translations


def test_a_ridge_map_folds_into_the_head(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("bert")
    generator = np.random.default_rng(0)
    source = generator.normal(size=(400, 12)).astype(np.float32)
    turn = generator.normal(size=(12, 12)) / 3
    target = ((source - 1) @ turn + 3 + 0.01 * generator.normal(size=source.shape)).astype(np.float32)
    parts = PairVectors(source[:300], target[:300]), PairVectors(source[300:], target[300:])
    found = fit_ridge(*parts)
    assert found.penalty == min(PENALTIES, key=lambda one: fit_ridge(*parts, [one]).error(parts[1])) == PENALTIES[0]
    labelled = Vectors(source, (source[:, 0] > 0).astype(int).tolist())
    head, _ = best_head(0, labelled, labelled, 2)
    folded = found.folded(head)
    image = (target - found.target_mean) @ found.matrix + found.source_mean
    scores = [
        head.scores(backbone, torch.tensor(image)),
        folded.scores(backbone, torch.tensor(target)),
    ]
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-3)
    assert (scores[1].argmax(dim=1).numpy() == (source[:, 0] > 0)).mean() > 0.8
    none = fit_ridge(*parts, [1e12])
    np.testing.assert_allclose(none.matrix, np.eye(12), atol=1e-6)


@pytest.mark.slow
def test_translations_are_part_of_a_classifier_and_its_identity(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("xlm-roberta")
    pairs = [(f"{one.fields['text']} {i}", f"twidi {one.fields['text']} {i}") for i, one in enumerate(EXAMPLES)]
    plain, mapped = (
        gp.tune(backbone, None, EXAMPLES, TASK, CONFIG, QUIET, dev=EXAMPLES, parallel=given) for given in ((), pairs)
    )
    assert (plain.training.pairs, mapped.training.pairs) == (None, len(pairs))
    assert np.abs(plain.log_probabilities(TEXTS) - mapped.log_probabilities(TEXTS)).max() > 0.01
    runs = [
        Stage2.of(backbone, None, EXAMPLES, TASK, CONFIG, parallel=given).spec(backbone).identity
        for given in ((), pairs, pairs[1:])
    ]
    assert len(set(runs)) == 3
    assert "penalty" not in Stage2.of(backbone, None, EXAMPLES, TASK).spec(backbone).settings
    assert Stage2.of(backbone, None, EXAMPLES, TASK, CONFIG).spec(backbone).settings["penalty"] == PENALTY
    with pytest.raises(ConfigError, match="maps its language by translations"):
        gp.self_train(mapped, TEXTS, EXAMPLES)
    with pytest.raises(ConfigError, match="translations of its own target language"):
        gp.for_language(mapped, replace(prompt_of(backbone), language="yyy", method="embedding"))
    for changes in ({"config": CONFIG.replace(method="prompt-tuning")}, {"target_examples": EXAMPLES[:1]}):
        given: dict[str, Any] = {"config": CONFIG, **changes}
        with pytest.raises(ConfigError, match="parallel text maps sentence vectors in stage 2"):
            Stage2.of(backbone, None, EXAMPLES, TASK, parallel=pairs, **given)
