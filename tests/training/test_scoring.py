"""Figures against values worked out by hand or straight from the stock model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from glotprompt.errors import DataError
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.prefix import Prefix
from glotprompt.task import Task
from glotprompt.training.calibration import fit_offsets, with_offsets
from glotprompt.training.objectives.batches import token_sequences
from glotprompt.training.objectives.cloze import Cloze, label_words
from glotprompt.training.objectives.inputs import encode
from glotprompt.training.objectives.scoring import (
    evaluation_batches,
    label_scores,
    log_probabilities,
    report,
    score_masked_tokens,
    wilson_interval,
)

TASK = Task("t", "{mask} : {text}", {"yes": ["Yes", "good", "great"], "no": "No", "may": ["Maybe", "bad"]})


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Callable[[str], Backbone]) -> Backbone:
    return tiny_backbone("xlm-roberta")


@pytest.fixture(scope="module")
def clozes(backbone: Backbone, english_lines: list[str]) -> list[Cloze]:
    return encode([{"text": line} for line in english_lines[:14]], TASK, backbone.tokenizer, 64)


def prompt_of(backbone: Backbone) -> Tensor:
    return SoftPrompt.initialise(backbone.prompt_shape(3), 1.0, 0).key_values().detach()


def some_log_probs(rows: int = 40, labels: int = 4, seed: int = 0) -> NDArray[np.float64]:
    scores = np.random.default_rng(seed).normal(size=(rows, labels)) * 2 + np.array([3.0, 0, -1, 1])[:labels]
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


# --- label probabilities


def stock_logits(model: PreTrainedModel, cloze: Cloze) -> Tensor:
    """The vocabulary's scores at the mask, from the model as transformers makes it."""
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(cloze.input_ids)[None]).logits[0, cloze.position]


def test_an_evaluation_holds_few_logits_at_once(
    backbone: Backbone, english_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = evaluation_batches(token_sequences(english_lines, backbone.tokenizer, 32, "full"), backbone, 0.15, 32)
    whole = score_masked_tokens(backbone, batches, None)
    widest: list[int] = []
    original = backbone.token_logits

    def watched(hidden: Tensor) -> Tensor:
        widest.append(len(hidden))
        return original(hidden)

    monkeypatch.setattr(backbone, "token_logits", watched)
    monkeypatch.setattr("glotprompt.training.objectives.scoring.SCORED_AT_ONCE", 7)
    few = score_masked_tokens(backbone, batches, None)
    assert max(widest) == 7
    assert (few.top1, few.top5, few.num_masked) == (whole.top1, whole.top5, whole.num_masked)
    assert few.loss == pytest.approx(whole.loss, rel=1e-6)


@pytest.mark.parametrize("kind", ["xlm-roberta", "modernbert"])
def test_text_of_which_nothing_can_be_masked(tiny_backbone: Callable[[str], Backbone], kind: str) -> None:
    backbone = tiny_backbone(kind)
    batches = evaluation_batches([np.array([0, 2])], backbone, 0.15, 32)
    assert len(batches[0].targets) == 0
    with pytest.raises(DataError, match="can be masked"):
        score_masked_tokens(backbone, batches, None)


def test_label_scores_are_the_means_of_their_words(
    backbone: Backbone, clozes: list[Cloze], stock: Callable[[str], PreTrainedModel]
) -> None:
    ids = [backbone.tokenizer.convert_tokens_to_ids(f"▁{w}") for w in ("Yes", "good", "great", "No", "Maybe", "bad")]
    with torch.no_grad():
        found = label_scores(backbone, clozes, None, label_words(TASK, backbone.tokenizer))
    for row, cloze in zip(found, clozes, strict=True):
        logits = stock_logits(stock("xlm-roberta"), cloze)[ids]
        expected = torch.stack([logits[:3].mean(), logits[3], logits[4:].mean()])
        assert torch.allclose(row, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["xlm-roberta", "bert", "modernbert"])
def test_a_word_of_several_tokens_scores_the_mean_log_probability_at_as_many_masks(
    tiny_backbone: Callable[[str], Backbone],
    stock: Callable[[str], PreTrainedModel],
    english_lines: list[str],
    kind: str,
) -> None:
    task = Task("t", "{mask} : {text}", {"sport": ["Sporting", "Sports"], "no": "No"})
    backbone, model = tiny_backbone(kind), stock(kind)
    words = label_words(task, backbone.tokenizer)
    clozes = encode([{"text": line} for line in english_lines[:6]], task, backbone.tokenizer, 40, words)
    ids = backbone.tokenizer.encode("Sporting", add_special_tokens=False)
    sports, no = (backbone.tokenizer.convert_tokens_to_ids(f"▁{word}") for word in ("Sports", "No"))
    with torch.no_grad():
        found = label_scores(backbone, clozes, None, words)
        for row, cloze in zip(found, clozes, strict=True):
            logits = model(input_ids=torch.from_numpy(cloze.input_ids)[None]).logits[0].log_softmax(dim=-1)
            read = logits[cloze.position :]
            several = torch.stack([read[place, token] for place, token in enumerate(ids)]).mean()
            expected = torch.stack([(several + read[0, sports]) / 2, read[0, no]])
            assert torch.allclose(row, expected, atol=1e-4)
    assert len(ids) > 1


def test_log_probabilities_are_the_softmax_over_labels_in_the_order_of_the_examples(
    backbone: Backbone, clozes: list[Cloze]
) -> None:
    words, key_values = label_words(TASK, backbone.tokenizer), prompt_of(backbone)
    found = log_probabilities(backbone, clozes, Prefix.shared(key_values, torch.float32), words, batch_size=4)
    assert found.shape == (14, 3)
    assert np.allclose(np.exp(found).sum(axis=1), 1)
    for row, cloze in zip(found, clozes, strict=True):
        with torch.no_grad():
            scores = label_scores(backbone, [cloze], Prefix.shared(key_values, torch.float32), words)[0]
        assert np.allclose(row, scores.double().log_softmax(dim=-1).numpy(), atol=1e-4)
    bare = log_probabilities(backbone, clozes, None, words)
    assert np.abs(bare - found).max() > 0.01, "a prompt that is hardly felt proves nothing"


def test_label_scores_lead_gradients_to_the_prompt(backbone: Backbone, clozes: list[Cloze]) -> None:
    key_values = prompt_of(backbone).requires_grad_()
    prefix = Prefix.shared(key_values, torch.float32)
    label_scores(backbone, clozes[:3], prefix, label_words(TASK, backbone.tokenizer)).sum().backward()
    assert key_values.grad is not None
    assert key_values.grad.abs().sum() > 0


# --- offsets


def test_with_offsets_gives_probabilities() -> None:
    log_probs = some_log_probs()
    assert np.allclose(with_offsets(log_probs, None), np.exp(log_probs))
    for offsets in (None, np.array([1.0, -2.0, 0.0, 700.0]), np.array([-1e9, 0.0, 0.0, 0.0])):
        for allowed in (None, [0, 2], [1]):
            found = with_offsets(log_probs, offsets, allowed)
            assert np.allclose(found.sum(axis=1), 1)
            if allowed is not None:
                assert not found[:, [i for i in range(4) if i not in allowed]].any()
    odds = with_offsets(log_probs, np.array([0.0, np.log(3), 0.0, 0.0]))
    assert np.allclose(odds[:, 1] / odds[:, 0], 3 * np.exp(log_probs[:, 1] - log_probs[:, 0]))


@pytest.mark.parametrize("prior", [[1.0] * 4, [0.7, 0.1, 0.1, 0.1], [5.0, 1.0, 3.0, 1.0], [0.01, 0.01, 0.01, 0.97]])
def test_offsets_meet_the_prior(prior: list[float]) -> None:
    log_probs = some_log_probs()
    offsets = fit_offsets(log_probs, prior)
    means = with_offsets(log_probs, offsets).mean(axis=0)
    assert np.allclose(means, np.array(prior) / sum(prior), atol=1e-6)
    assert offsets.mean() == pytest.approx(0)
    before = np.exp(log_probs).mean(axis=0)
    assert np.abs(before - np.array(prior) / sum(prior)).max() > 0.02, "nothing was to be done"


def test_a_label_of_prior_zero_is_left_out() -> None:
    log_probs = some_log_probs()
    offsets = fit_offsets(log_probs, [1.0, 0.0, 1.0, 2.0])
    assert offsets[1] == -np.inf
    found = with_offsets(log_probs, offsets)
    assert np.allclose(found.mean(axis=0), [0.25, 0, 0.25, 0.5], atol=1e-6)
    only = with_offsets(log_probs, fit_offsets(log_probs, [0.0, 0.0, 1.0, 0.0]))
    assert np.allclose(only, [0, 0, 1, 0])


def test_offsets_of_balanced_predictions_are_nil() -> None:
    log_probs = np.log(np.array([[0.6, 0.4], [0.4, 0.6]]))
    assert np.allclose(fit_offsets(log_probs, [1.0, 1.0]), 0, atol=1e-9)


def test_a_label_that_is_never_thought_of_does_no_harm() -> None:
    log_probs = np.array([[0.0, -2000.0], [0.0, -2000.0]])
    assert np.isfinite(fit_offsets(log_probs, [1.0, 1.0])).all()


@pytest.mark.parametrize("prior", [[1.0, 1.0], [1.0] * 5, [1.0, -1.0, 1.0, 1.0], [0.0] * 4])
def test_a_prior_that_is_none(prior: list[float]) -> None:
    with pytest.raises(DataError, match="a prior needs 4 non-negative numbers"):
        fit_offsets(some_log_probs(), prior)


def test_offsets_need_text() -> None:
    with pytest.raises(DataError, match="at least one unlabelled text"):
        fit_offsets(some_log_probs()[:0], [1.0] * 4)


# --- report


def test_report_by_hand() -> None:
    gold = ["a", "a", "a", "a", "b", "b", "c"]
    guess = ["a", "a", "b", "c", "b", "a", "a"]
    found = report(gold, guess)
    assert found.accuracy == pytest.approx(100 * 3 / 7)
    # a: precision 2/4, recall 2/4; b: precision 1/2, recall 1/2; c: nothing right.
    assert found.per_label["a"].precision == pytest.approx(50)
    assert found.per_label["a"].recall == pytest.approx(50)
    assert found.per_label["a"].f1 == pytest.approx(50)
    assert found.per_label["b"].f1 == pytest.approx(50)
    assert found.per_label["c"].f1 == 0
    assert [found.per_label[label].support for label in "abc"] == [4, 2, 1]
    assert found.macro_f1 == pytest.approx(100 / 3)
    assert found.confusion == {"a": {"a": 2, "b": 1, "c": 1}, "b": {"b": 1, "a": 1}, "c": {"a": 1}}
    assert found.predictions == guess
    assert found.num_examples == 7
    assert found.interval == wilson_interval(3, 7)
    assert (found.majority_label, found.majority) == ("a", pytest.approx(100 * 4 / 7))
    assert found.largest_share == pytest.approx(100 * 4 / 7)
    assert found.collapsed_label is None


def test_precision_and_recall_are_not_mixed_up() -> None:
    found = report(["a", "a", "a", "b"], ["a", "b", "b", "b"])
    a, b = found.per_label["a"], found.per_label["b"]
    assert (a.precision, a.recall) == pytest.approx((100, 100 / 3))
    assert (b.precision, b.recall) == pytest.approx((100 / 3, 100))
    assert a.f1 == b.f1 == pytest.approx(50)


def test_macro_f1_is_over_the_labels_that_occur() -> None:
    found = report(["a", "a", "b"], ["a", "c", "b"])
    assert found.per_label["c"].support == 0
    # a: precision 1, recall 1/2, F1 2/3; b: 1; c occurs only as a guess.
    assert found.macro_f1 == pytest.approx(100 * (2 / 3 + 1) / 2)
    truth, guess = ["a", "a", "b"], ["a", "c", "b"]
    assert found.macro_f1_all == pytest.approx(100 * f1_score(truth, guess, average="macro", zero_division=0))


@pytest.mark.parametrize(
    ("having", "times", "collapsed"),
    [(20, 59, None), (20, 60, "a"), (40, 60, "a"), (41, 60, None), (50, 74, None), (50, 75, "a"), (0, 100, "a")],
)
def test_collapse(having: int, times: int, collapsed: str | None) -> None:
    found = report(["a"] * having + ["b"] * (100 - having), ["a"] * times + ["b"] * (100 - times))
    assert found.collapsed_label == collapsed
    assert found.largest_share == times


def test_the_majority_is_that_of_the_truth_not_of_the_guesses() -> None:
    found = report(["b", "a", "b"], ["a", "a", "a"])
    assert (found.majority_label, found.majority) == ("b", pytest.approx(200 / 3))


@pytest.mark.parametrize(("guess", "collapsed"), [("a", None), ("b", "b")])
def test_one_label_answered_where_it_alone_occurs_is_no_collapse(guess: str, collapsed: str | None) -> None:
    found = report(["a"] * 20, [guess] * 20)
    assert found.collapsed_label == collapsed
    assert (found.majority_label, found.majority) == ("a", 100)


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0, 16.11), (1, 29, 0.61, 17.18)],
)
def test_interval_has_the_published_values(right: int, of: int, low: float, high: float) -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    assert wilson_interval(right, of) == (pytest.approx(low, abs=0.005), pytest.approx(high, abs=0.005))
    # What is not right of as many mirrors it.
    assert wilson_interval(of - right, of) == (
        pytest.approx(100 - high, abs=0.005),
        pytest.approx(100 - low, abs=0.005),
    )


@pytest.mark.parametrize("of", [1, 3, 7, 20, 1000])
def test_interval_stays_within_0_and_100(of: int) -> None:
    (none_low, none_high), (all_low, all_high) = wilson_interval(0, of), wilson_interval(of, of)
    assert 0 <= none_low < 1e-9
    assert 0 < none_high < 100
    assert 0 < all_low < 100
    assert 100 - 1e-9 < all_high <= 100


def test_nothing_to_report() -> None:
    with pytest.raises(DataError, match="no example to evaluate"):
        report([], [])


# --- masked tokens


@pytest.mark.slow
def test_masked_word_scores_from_the_stock_model(
    backbone: Backbone, english_lines: list[str], stock: Callable[[str], PreTrainedModel]
) -> None:
    sequences = token_sequences(english_lines[:20], backbone.tokenizer, 30, "none")
    batches = evaluation_batches(sequences, backbone, 0.15, 8)
    assert any(batch.attention_mask is not None for batch in batches), "with padding"
    found = score_masked_tokens(backbone, batches, None)
    losses: list[float] = []
    ranks: list[int] = []
    for batch in batches:
        width = batch.input_ids.shape[1]
        for position, target in zip(batch.positions.tolist(), batch.targets, strict=True):
            row = position // width
            length = width if batch.attention_mask is None else int(batch.attention_mask[row].sum())
            with torch.no_grad():
                logits = stock("xlm-roberta")(input_ids=batch.input_ids[row : row + 1, :length]).logits
            scores = logits[0, position % width]
            losses.append(F.cross_entropy(scores, target).item())
            ranks.append(int((scores > scores[target]).sum()))
    assert found.num_masked == len(losses) == sum(max(1, round(0.15 * (len(s) - 2))) for s in sequences)
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert found.top1 == pytest.approx(100 * np.mean(np.array(ranks) < 1))
    assert found.top5 == pytest.approx(100 * np.mean(np.array(ranks) < 5))


def test_the_prompt_and_its_positions_count(backbone: Backbone, english_lines: list[str]) -> None:
    batches = evaluation_batches(token_sequences(english_lines, backbone.tokenizer, 30, "full"), backbone, 0.15, 8)
    key_values = prompt_of(backbone)
    losses = {
        score_masked_tokens(backbone, batches, None).loss,
        score_masked_tokens(backbone, batches, Prefix.shared(key_values, torch.float32)).loss,
        score_masked_tokens(backbone, batches, Prefix.shared(key_values, torch.float32, "shifted")).loss,
    }
    assert len(losses) == 3


def test_every_evaluation_masks_the_same_words_whatever_the_batch(backbone: Backbone, english_lines: list[str]) -> None:
    sequences = token_sequences(english_lines, backbone.tokenizer, 30, "none")
    first, second, other = (evaluation_batches(sequences, backbone, 0.15, size) for size in (8, 8, 3))
    for left, right in zip(first, second, strict=True):
        assert torch.equal(left.input_ids, right.input_ids)
        assert torch.equal(left.positions, right.positions)
    assert torch.equal(*(torch.cat([batch.targets for batch in batches]) for batches in (first, other)))
    scores, others = (score_masked_tokens(backbone, batches, None) for batches in (first, other))
    assert scores.loss == pytest.approx(others.loss, rel=1e-5)
    assert scores.num_masked == others.num_masked


def test_no_text_no_score(backbone: Backbone) -> None:
    with pytest.raises(DataError, match="no token of the held-out text"):
        score_masked_tokens(backbone, [], None)
