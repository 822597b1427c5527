"""tf-idf: a classifier that reads characters and needs no backbone, and yet is used like the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import glotprompt as gp
from glotprompt.errors import ArtifactError, ConfigError, DataError
from glotprompt.model.modules.ngrams import NgramHead
from glotprompt.stages.stage2_data import Stage2
from glotprompt.storage import artifact
from glotprompt.training.objectives.ngrams import LENGTHS

from .toys import QUIET, TASK, topics

Tiny = Callable[[str], gp.Backbone]
CONFIG = gp.TuneConfig(method="tf-idf")
TEXTS = ["water  Day twidi", "king the night", "play field the the", "", "xyz"]


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Tiny) -> gp.Backbone:
    return tiny_backbone("xlm-roberta")


def tuned(backbone: gp.Backbone, examples: list[gp.Example], **given: Any) -> gp.PromptClassifier:
    return gp.tune(backbone, None, examples, TASK, CONFIG, QUIET, language="nya", **given)


@pytest.mark.parametrize("most_products", [5_000, 0])
def test_it_is_scikit_learn_s(backbone: gp.Backbone, most_products: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although it fits inner products instead of n-grams, where texts are not too many."""
    monkeypatch.setattr("glotprompt.training.objectives.ngrams.MOST_PRODUCTS", most_products)
    examples = topics(6)
    made = tuned(backbone, [*examples, examples[0]])  # two equal texts have equal vectors
    texts, gold = (
        [one.fields["text"] for one in (*examples, examples[0])],
        [str(one.label) for one in (*examples, examples[0])],
    )
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(LENGTHS[0], LENGTHS[-1]), sublinear_tf=True)
    fitted = LogisticRegression(C=made.training.strength, max_iter=2000).fit(vectors.fit_transform(texts), gold)
    order = [fitted.classes_.tolist().index(label) for label in TASK.labels]
    expected = fitted.predict_log_proba(vectors.transform(TEXTS))[:, order]
    np.testing.assert_allclose(made.log_probabilities(TEXTS), expected, atol=2e-3)
    assert isinstance(made.head, NgramHead)
    assert made.head.ngrams == sorted(vectors.vocabulary_)


@pytest.mark.slow
def test_all_examples_are_learned_and_judged_in_folds(backbone: gp.Backbone) -> None:
    made = tuned(backbone, topics(6))
    told = made.training
    assert (told.examples, told.dev_examples, told.folds, told.layer, told.steps) == (18, 18, 5, None, 0)
    assert told.dev_accuracy == 100
    assert gp.evaluate(made, topics(12)[18:]).accuracy == 100
    assert made.samples is None, "all were trained on"
    judged = tuned(backbone, topics(6), dev=topics(8)[18:])
    assert (judged.training.examples, judged.training.dev_examples, judged.training.folds) == (18, 6, None)
    assert judged.samples is not None
    few = gp.tune(backbone, None, topics(6), TASK, CONFIG.replace(most_per_label=2), QUIET)
    assert few.training.labels == dict.fromkeys(TASK.labels, 2)
    rare = tuned(backbone, [*topics(6)[::3], topics(6)[1]]).training
    assert (rare.folds, rare.examples) == (4, 7), "the others of one fold have one label"
    assert tuned(backbone, topics(1)).predict(["water day"])[0].label == "health"
    with pytest.raises(DataError, match="all training examples have one label"):
        tuned(backbone, topics(1)[:1])
    alone = tuned(backbone, topics(6)[:2], target_examples=topics(3))
    assert (alone.training.examples, alone.training.target_examples) == (9, 9), "characters of the target alone"
    with pytest.raises(ConfigError, match="learns from one language, and weighs nothing"):
        gp.tune(backbone, None, topics(3), TASK, CONFIG.replace(target_weight=2.0), QUIET)
    with pytest.raises(DataError, match="label 'law', which task 'topic' does not know"):
        tuned(backbone, [gp.Example.of("the king", "law")])


def test_target_labels_are_not_lost(backbone: gp.Backbone) -> None:
    made, texts = tuned(backbone, topics(2), target_examples=topics(3)), ["water day", "play field", "king night"] * 2
    with pytest.raises(ConfigError, match="has learned from 9 target labels, too; give them as target_labels="):
        gp.self_train(made, texts, topics(2), runtime=QUIET)
    taught = gp.self_train(made, texts, topics(2), runtime=QUIET, target_examples=topics(3))
    assert taught.training.target_examples == taught.training.examples == 9 + 3
    with pytest.raises(ConfigError, match="tf-idf judges by folds of the target labels; leave dev= out"):
        tuned(backbone, topics(2), target_examples=topics(3), dev=topics(2))


def test_two_texts_judge_nothing(backbone: gp.Backbone) -> None:
    told = tuned(backbone, topics(1)[:2]).training
    assert (told.examples, told.dev_examples, told.folds) == (2, 0, None)


def test_both_texts_of_a_pair_are_read(backbone: gp.Backbone) -> None:
    pairs = [gp.Example.of(("the day", "king" if i % 2 else "water"), "yes" if i % 2 else "no") for i in range(8)]
    task = gp.Task("nli", "{premise} {mask} {hypothesis}", {"yes": "yes", "no": "no"})
    made = gp.tune(backbone, None, pairs, task, CONFIG, QUIET)
    assert [one.label for one in made.predict([("the day", "water"), ("the day", "king")])] == ["no", "yes"]
    with pytest.raises(ConfigError, match="needs premise, hypothesis, the example has text"):
        made.predict(["the day"])


def test_its_file_goes_with_any_backbone(backbone: gp.Backbone, tiny_backbone: Tiny, tmp_path: Path) -> None:
    made = tuned(backbone, topics(4))
    path = made.save(tmp_path / "a.safetensors")
    again = gp.PromptClassifier.load(path, tiny_backbone("bert"))
    assert np.array_equal(again.log_probabilities(TEXTS), made.log_probabilities(TEXTS))
    assert (again.method, again.language, again.training) == ("tf-idf", "nya", made.training)
    identities = {
        Stage2.of(one, None, topics(4), TASK, CONFIG).spec(one).identity for one in (backbone, tiny_backbone("bert"))
    }
    assert len(identities) == 1, "a run has nothing of a backbone"
    offset = made.with_label_prior(TEXTS, {"health": 1.0, "sports": 2.0, "culture": 1.0})
    assert offset.predict(TEXTS)[3].label == "sports"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ngrams", "message"), [(lambda all: [*all[:-1], all[0]], "names an n-gram twice"), (lambda all: all[1:], "idf is")]
)
def test_a_damaged_vocabulary_is_one_line(backbone: gp.Backbone, tmp_path: Path, ngrams: Any, message: str) -> None:
    path = tuned(backbone, topics(2)).save(tmp_path / "a.safetensors")
    tensors, metadata = artifact.read(path, "classifier")
    head = metadata["module"]["parts"][1][1]
    head["ngrams"] = ngrams(head["ngrams"])
    artifact.write(path, "classifier", tensors, metadata)
    with pytest.raises(ArtifactError, match=message) as caught:
        gp.PromptClassifier.load(path, backbone)
    assert "\n" not in str(caught.value)


def test_what_uses_no_backbone_is_nothing_else(backbone: gp.Backbone, tmp_path: Path) -> None:
    """A prompt whose file says that it goes with any backbone is refused."""
    made = gp.tune(backbone, None, topics(2), TASK, gp.TuneConfig(method="embedding"), QUIET)
    path = made.save(tmp_path / "a.safetensors")
    tensors, metadata = artifact.read(path, "classifier")
    artifact.write(path, "classifier", tensors, {**metadata, "backbone": artifact.NO_BACKBONE})
    with pytest.raises(ArtifactError, match="a backbone that does not fit the head"):
        gp.PromptClassifier.load(path, backbone)


@pytest.mark.slow
def test_it_trains_itself(backbone: gp.Backbone) -> None:
    made = tuned(backbone, topics(4))
    texts = [f"{word} {i}" for i in range(6) for word in ("water day", "play field", "king night")]
    taught = gp.self_train(made, texts, topics(4), runtime=QUIET)
    told = taught.training.self_training
    assert told is not None
    assert [one.kept for one in told.rounds] == [{"health": 3, "sports": 3, "culture": 3}]
    assert taught.training.examples == 12 + 9
    with pytest.raises(ConfigError, match="tf-idf has no stage 1"):
        gp.tune(backbone, _prompt(backbone), topics(2), TASK, CONFIG, QUIET)
    with pytest.raises(ConfigError, match="leave layer out"):
        gp.tune(backbone, None, topics(2), TASK, CONFIG.replace(layer=1), QUIET)


def _prompt(backbone: gp.Backbone) -> gp.LanguagePrompt:
    return gp.LanguagePrompt(torch.zeros(backbone.prompt_shape(2)), "xxx", backbone.reference)
