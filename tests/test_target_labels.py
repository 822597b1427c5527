"""Target labels beside source examples: what each weighs, what is held out, and that it all is part of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import glotprompt as gp
from glotprompt.config import RuntimeConfig
from glotprompt.errors import ConfigError, DataError
from glotprompt.model.modules.classification import LinearHead
from glotprompt.model.modules.stack import ModuleStack
from glotprompt.stages.stage2_data import Stage2
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.cloze import encode_without_mask, weights_of
from glotprompt.training.objectives.inputs import group_weights, split_target
from glotprompt.training.objectives.losses import label_losses
from glotprompt.training.objectives.scoring import accuracy_and_loss

from .toys import QUIET, TASK, topics

Tiny = Callable[[str], gp.Backbone]
EXAMPLES = topics()
CONFIG = gp.TuneConfig(method="embedding")
WORDS = {"health": "river", "sports": "mother", "culture": "city"}
TARGET = [gp.Example.of(f"{word} {'the ' * i}{word}", label) for i in range(6) for label, word in WORDS.items()]


def test_folds_need_two_labels_beside_them(tiny_backbone: Tiny) -> None:
    alone = [one for one in EXAMPLES if one.label == "health"]
    few = [gp.Example.of("mother mother", "sports")]
    made = gp.tune(tiny_backbone("xlm-roberta"), None, alone, TASK, CONFIG, QUIET, target_examples=few)
    assert made.training.folds is None
    assert (
        len(
            Stage2.of(
                tiny_backbone("xlm-roberta"), None, alone, TASK, CONFIG, target_examples=[*few, *TARGET[:2]]
            ).folds
        )
        > 0
    )


# --- weights


@pytest.mark.parametrize(("of_target", "ratio"), [(None, 12.0), (1.0, 1.0), (0.5, 0.5)])
def test_both_languages_weigh_the_same_unless_a_weight_is_given(of_target: float | None, ratio: float) -> None:
    source, target = group_weights(60, 5, of_target)
    assert target / source == pytest.approx(ratio)
    assert 60 * source + 5 * target == pytest.approx(65), "the mean is 1"
    assert group_weights(60, 0, of_target) == (1.0, 1.0)
    assert group_weights(7, 7, None) == (1.0, 1.0)


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_a_loss_is_the_weighted_sum_over_the_number_of_examples(
    tiny_backbone: Tiny, micro_batch_size: int | None
) -> None:
    backbone, weights, runtime = (
        tiny_backbone("bert"),
        [0.5, 2.0, 1.0],
        RuntimeConfig(micro_batch_size=micro_batch_size),
    )
    plain = encode_without_mask([one.fields for one in EXAMPLES[:3]], TASK, backbone.tokenizer, 24)
    weighted = [replace(cloze, weight=weight) for cloze, weight in zip(plain, weights, strict=True)]
    gold, head, nothing = torch.tensor([0, 1, 2]), LinearHead(backbone.hidden_size, 3), ModuleStack({})

    def losses(clozes: Any, gold: torch.Tensor = gold) -> float:
        parts = label_losses(backbone, nothing, clozes, gold, head, "labels", MicroBatch(runtime))
        return sum(float(loss.detach()) for loss, _ in parts)

    each = [losses(plain[row : row + 1], gold[row : row + 1]) for row in range(3)]
    assert losses(weighted) == pytest.approx(np.dot(each, weights) / 3, rel=1e-5)
    assert losses(weighted) != pytest.approx(losses(plain), rel=1e-3)
    assert weights_of(plain) is None


def test_accuracy_of_weighted_examples() -> None:
    log_probs = np.log([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    accuracy, loss = accuracy_and_loss(log_probs, [0, 1, 1], np.array([0.75, 0.75, 1.5]))
    assert accuracy == pytest.approx(50), "the mean of two languages, one of which is all right"
    assert loss == pytest.approx(-(np.log(0.9) + np.log(0.8)) / 4 - np.log(0.4) / 2)


# --- what is held out


def test_a_fifth_of_each_label_that_has_five_is_held_out() -> None:
    given = [*TARGET, *(replace(one, id="few") for one in TARGET[:4]), gp.Example.of("bad", "health")]
    kept, held = split_target(given, TASK, CONFIG)
    assert Counter(one.label for one in held) == {"health": 2, "sports": 1, "culture": 1}
    assert [one for one in given if one in held] == [one for one in given if one not in kept]
    assert not {one.fields["text"] for one in kept} & {one.fields["text"] for one in held}
    assert split_target(TARGET[:12], TASK, CONFIG) == (TARGET[:12], []), "four of each are too few"
    with pytest.raises(DataError, match="label 'law', which task 'topic' does not know"):
        split_target([gp.Example.of("the king", "law")], TASK, CONFIG)


# --- tune


def tuned(backbone: gp.Backbone, target: list[gp.Example] = TARGET, **changes: Any) -> gp.PromptClassifier:
    return gp.tune(
        backbone, None, EXAMPLES, TASK, CONFIG.replace(**changes), QUIET, dev=EXAMPLES, target_examples=target
    )


@pytest.mark.slow
def test_logistic_regression_weighs_them(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("xlm-roberta")
    made = tuned(backbone)
    told = made.training
    assert (told.examples, told.dev_examples, told.target_examples, told.target_dev_examples) == (54, 54, 18, 18)
    assert (told.target_weight, told.folds) == (1, 5)
    states = backbone.embed([one.fields["text"] for one in (*EXAMPLES, *TARGET)])
    gold = [TASK.labels.index(str(one.label)) for one in (*EXAMPLES, *TARGET)]
    centre, scale = states.mean(axis=0), states.std()
    texts = [one.fields["text"] for one in TARGET]
    for one, weight in ((made, 1.0), (tuned(backbone, target_weight=2.5), 2.5)):
        assert one.training.strength is not None
        weights = np.array([1.0] * 36 + [weight] * 18)
        theirs = LogisticRegression(C=one.training.strength, max_iter=2000)
        theirs.fit((states - centre) / scale, gold, sample_weight=weights / weights.mean())
        expected = theirs.predict_log_proba((backbone.embed(texts) - centre) / scale)
        np.testing.assert_allclose(one.log_probabilities(texts), expected, atol=1e-3)
    # Both languages weigh the same, and a target example is judged by a fit on the other folds.
    stage2 = Stage2.of(backbone, None, EXAMPLES, TASK, CONFIG, EXAMPLES, target_examples=TARGET)
    vectors, labels, right = (states - centre) / scale, np.array(gold), list[tuple[float, float]]()
    for fold in stage2.folds:
        rest = np.setdiff1d(np.arange(54), fold)
        theirs = LogisticRegression(C=told.strength, max_iter=2000).fit(vectors[rest], labels[rest])
        right.append((theirs.score(vectors[:36], labels[:36]), theirs.score(vectors[list(fold)], labels[list(fold)])))
    shares = [len(fold) for fold in stage2.folds]
    assert told.dev_accuracy == pytest.approx(100 * np.mean(np.average(right, axis=0, weights=shares)))
    single = tuned(backbone, TARGET[:1])
    assert (single.training.folds, single.training.dev_examples) == (None, 36), "it is trained on, and judges nothing"


@pytest.mark.slow
def test_they_are_learned(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("xlm-roberta")
    plain, learned = tuned(backbone, []), tuned(backbone)
    assert gp.evaluate(plain, TARGET).accuracy < 60
    assert gp.evaluate(learned, TARGET).accuracy > 80
    assert "target_weight" not in plain.training.to_json()
    assert plain.samples is not None
    assert learned.samples == plain.samples, "of the source language"


@pytest.mark.slow
@pytest.mark.parametrize(("head", "rate"), [("cloze", 1.0), ("linear", 0.03), ("pooled", 0.03)])
def test_a_body_is_trained_on_them(tiny_backbone: Tiny, head: str, rate: float) -> None:
    config: dict[str, Any] = {"method": "prompt-tuning", "head": head, "epochs": 4, "batch_size": 8, "prompt_length": 4}
    backbone, config = (
        tiny_backbone("xlm-roberta"),
        {**config, "learning_rate": rate, "init_std": 0.5, "clip_norm": 100},
    )
    learned, unlike = tuned(backbone, **config), tuned(backbone, **config, target_weight=0.01)
    assert (learned.training.target_weight, unlike.training.target_weight) == (1, 0.01)
    assert learned.training.losses[0] != unlike.training.losses[0]
    both = [gp.evaluate(learned, part).accuracy for part in (EXAMPLES, split_target(TARGET, TASK, CONFIG)[1])]
    assert learned.training.dev_accuracy == pytest.approx(np.mean(both))


@pytest.mark.slow
def test_such_a_classifier_serves_no_other_language(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("xlm-roberta")
    other = gp.LanguagePrompt(torch.zeros(backbone.prompt_shape(4)), "yyy", backbone.reference, method="embedding")
    assert gp.for_language(tuned(backbone, []), other).language == "yyy"
    with pytest.raises(ConfigError, match="tuned on labels of its own target language too; tune again for yyy"):
        gp.for_language(tuned(backbone), other)


@pytest.mark.slow
def test_shots_per_class_is_of_the_source_alone(tiny_backbone: Tiny) -> None:
    made = tuned(tiny_backbone("xlm-roberta"), shots_per_class=2)
    assert (made.training.examples, made.training.target_examples) == (6 + 18, 18)


# --- identity


def test_target_labels_and_their_weight_are_part_of_a_run(tiny_backbone: Tiny) -> None:
    backbone = tiny_backbone("xlm-roberta")

    def identity(target: list[gp.Example], **changes: Any) -> str:
        stage2 = Stage2.of(backbone, None, EXAMPLES, TASK, CONFIG.replace(**changes), target_examples=target)
        return stage2.spec(backbone).identity

    other = [replace(one, label="health") for one in TARGET]
    found = [identity([]), identity(TARGET), identity(TARGET[1:]), identity(other), identity(TARGET, target_weight=2)]
    assert len(set(found)) == len(found)
    assert "target_weight" not in Stage2.of(backbone, None, EXAMPLES, TASK, CONFIG).spec(backbone).settings
    with pytest.raises(ConfigError, match="no target labels to weigh"):
        tuned(backbone, [], target_weight=2)
