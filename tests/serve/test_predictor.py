"""A mixed batch answers as each classifier does alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

import glotprompt as gp
from glotprompt.errors import ArtifactError, ConfigError
from glotprompt.inference.predictor import PASS_COST, Item, buckets
from glotprompt.model.modules.classification import EmbeddingHead, LinearHead
from glotprompt.model.modules.input_prompt import InputPrompt
from glotprompt.model.modules.lora import Lora
from glotprompt.training.objectives import scoring

from ..toys import QUIET, TASK, topics
from .conftest import make_classifier

Four = dict[str, gp.PromptClassifier]


def mixed_items(count: int = 24) -> list[Item]:
    """Texts of 1 to 60 words for all four, in turn."""
    words = ["the", "king", "water", "day", "play", "field", "night", "kilimba"]
    items: list[Item] = []
    for number in range(count):
        text = " ".join(words[(number + place) % len(words)] for place in range(1 + 7 * number % 60))
        name = ("nya", "yor", "nya-nli", "sna")[number % 4]
        items.append((name, (text, "water day") if name == "nya-nli" else text))
    return items


def assert_as_alone(found: list[gp.Prediction], items: list[Item], classifiers: Four) -> None:
    for prediction, (name, item) in zip(found, items, strict=True):
        (alone,) = classifiers[name].predict([item])
        assert prediction.label == alone.label
        assert list(prediction.scores) == list(classifiers[name].task.labels)
        assert prediction.scores == pytest.approx(alone.scores, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("batch_tokens", [4096, 100])
def test_a_mixed_batch_answers_as_each_classifier_alone(backbone: gp.Backbone, four: Four, batch_tokens: int) -> None:
    items = mixed_items()
    found = gp.Predictor(backbone, four, batch_tokens=batch_tokens).predict(items)
    assert_as_alone(found, items, four)
    others = gp.Predictor(backbone, {**four, "nya": four["yor"]}).predict(items)
    assert abs(others[0].scores["health"] - found[0].scores["health"]) > 1e-3, (
        "prompts that are hardly felt prove nothing"
    )


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_other_architectures(tiny_backbone: Callable[[str], gp.Backbone], kind: str) -> None:
    backbone = tiny_backbone(kind)
    classifiers = {"a": make_classifier(backbone, 1), "b": make_classifier(backbone, 2, prompt_length=7)}
    items: list[Item] = [("a", "water day"), ("b", "the king " * 9), ("a", "play"), ("b", "night")]
    assert_as_alone(gp.Predictor(backbone, classifiers).predict(items), items, classifiers)


def test_prompts_with_linear_heads_and_what_is_no_prompt(backbone: gp.Backbone, four: Four) -> None:
    def with_head(body: gp.PromptClassifier, seed: int) -> gp.PromptClassifier:
        return replace(body, head=LinearHead(backbone.hidden_size, 3, seed))

    lora = Lora(backbone, rank=2, alpha=4.0, seed=0)
    for values in lora.parameters():
        values.data.normal_()
    heads = {"nya": with_head(four["nya"], 1), "yor": with_head(four["yor"], 2)}
    vectors = InputPrompt.initialise(backbone, 20, 1.0, seed=0)
    bodies = {"sna": replace(four["sna"], body=lora), "nya-nli": replace(four["nya-nli"], body=vectors)}
    classifiers = {**four, **heads, **bodies}
    predictor = gp.Predictor(backbone, classifiers)
    items = mixed_items()
    assert_as_alone(predictor.predict(items), items, classifiers)
    mixes = {query.served.name: query.served.mixes for query in predictor.read(items)}
    assert mixes == {"nya": True, "yor": True, "nya-nli": False, "sna": False}


@pytest.mark.slow
def test_pooled_heads_and_what_trained_itself(backbone: gp.Backbone, four: Four) -> None:
    size, draw = backbone.hidden_size, torch.Generator().manual_seed(5)
    pooled = EmbeddingHead(
        torch.randn(3, size, generator=draw), torch.zeros(3), torch.zeros(size), torch.tensor(1.0), 2
    )
    examples = topics()
    config = gp.TuneConfig(method="embedding", max_length=48)
    tuned = gp.tune(backbone, None, examples, TASK, config, QUIET, dev=examples)
    trained = gp.self_train(tuned, [one.fields["text"] for one in examples], examples, runtime=QUIET, dev=examples)
    assert trained.training.self_training is not None
    assert trained.training.self_training.stopped is None
    classifiers = {**four, "yor": replace(four["yor"], head=pooled), "sna": trained}
    items = mixed_items()
    assert_as_alone(gp.Predictor(backbone, classifiers).predict(items), items, classifiers)


@pytest.mark.slow
def test_label_words_of_several_tokens(backbone: gp.Backbone, four: Four) -> None:
    several = gp.Task("topic", "{mask} : {text}", {"health": "Healthful", "sports": "Sports", "culture": "Culture"})
    other = gp.Task("topic", "{mask} : {text}", {"health": "Healthful", "sports": "Sporting day", "culture": "Culture"})
    lora = Lora(backbone, rank=2, alpha=4.0, seed=0)
    classifiers = {
        **four, "nya": make_classifier(backbone, 5, several), "yor": make_classifier(backbone, 6, other),
        "sna": replace(four["sna"], body=lora, task=several),
    }  # fmt: skip
    items = mixed_items()
    assert_as_alone(gp.Predictor(backbone, classifiers).predict(items), items, classifiers)


def test_one_forward_pass_for_items_of_one_length(
    backbone: gp.Backbone, four: Four, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    monkeypatch.setattr(
        "glotprompt.inference.predictor.label_states",
        lambda backbone, clozes, *how: passes.append(len(clozes)) or scoring.label_states(backbone, clozes, *how),
    )
    gp.Predictor(backbone, four).predict([("nya", "water"), ("yor", "king"), ("sna", "day"), ("nya", "play")])
    assert passes == [4]


def test_top_k_is_the_most_probable_first(backbone: gp.Backbone, four: Four) -> None:
    predictor = gp.Predictor(backbone, four)
    (whole,), (two,) = predictor.predict([("nya", "water")]), predictor.predict([("nya", "water")], top_k=2)
    best = sorted(whole.scores.values(), reverse=True)[:2]
    assert list(two.scores.values()) == pytest.approx(best)
    assert next(iter(two.scores)) == two.label == whole.label
    with pytest.raises(ConfigError, match="top_k is 0"):
        predictor.predict([("nya", "water")], top_k=0)


def test_queries_of_several_callers_may_stand_together(backbone: gp.Backbone, four: Four) -> None:
    predictor, items = gp.Predictor(backbone, four), mixed_items(8)
    queries = [*predictor.read(items[:3]), *predictor.read(items[3:])]
    assert_as_alone(predictor.answer(queries), items, four)
    tokens = backbone.tokenizer(f"{backbone.tokenizer.mask_token} : {items[0][1]}")["input_ids"]
    assert queries[0].num_tokens == len(tokens)
    assert predictor.predict([]) == []


def test_what_is_refused(backbone: gp.Backbone, own_backbone: Callable[[str], gp.Backbone], four: Four) -> None:
    predictor = gp.Predictor(backbone, four)
    with pytest.raises(ConfigError, match=r"no classifier 'nya-nil'; there are 4\. Did you mean 'nya-nli'"):
        predictor.predict([("nya-nil", "water")])
    with pytest.raises(ConfigError, match="'nya-nli' reads premise and hypothesis, the item has text"):
        predictor.predict([("nya-nli", "water")])
    with pytest.raises(ConfigError, match="'nya' reads text, the item has premise, hypothesis"):
        predictor.predict([("nya", ("water", "day"))])
    with pytest.raises(ArtifactError, match="nya was made for 'tiny xlm-roberta'"):
        gp.Predictor(own_backbone("bert"), four)


def test_threads_may_share_it(backbone: gp.Backbone, four: Four) -> None:
    predictor, items = gp.Predictor(backbone, four), mixed_items(12)
    alone = predictor.predict(items)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(predictor.predict, [items] * 8):
            assert [one.label for one in found] == [one.label for one in alone]


# --- forward passes


@pytest.mark.parametrize("most_tokens", [10_000, 300, 1])
def test_buckets_hold_every_text_once_within_the_bound(most_tokens: int) -> None:
    lengths = [(7 * i * i) % 120 + 3 for i in range(50)]
    groups = buckets(lengths, most_tokens)
    assert sorted(i for group in groups for i in group) == list(range(50))
    for group in groups:
        width = -(-max(lengths[i] for i in group) // 16) * 16
        assert len(group) == 1 or len(group) * width <= most_tokens
    assert [lengths[i] for group in groups for i in group] == sorted(lengths, reverse=True)


def test_buckets_weigh_padding_against_passes() -> None:
    assert buckets([], 100) == []
    assert buckets([20] * 5, 1000) == [[0, 1, 2, 3, 4]]
    few = PASS_COST // 16  # so many rows of 16 tokens less of padding are worth a pass
    assert len(buckets([30, *[10] * (few - 1)], 10_000)) == 1
    assert len(buckets([30, *[10] * (few + 1)], 10_000)) == 2
