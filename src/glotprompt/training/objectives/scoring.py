"""Scores: masked-token scores of stage 1, label probabilities, and classification scores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from glotprompt.errors import DataError
from glotprompt.model.backbone import Backbone
from glotprompt.model.families import DecoderInput
from glotprompt.model.modules.classification import EmbeddingHead
from glotprompt.model.modules.ngrams import NgramHead
from glotprompt.model.prefix import Prefix
from glotprompt.model.tokens import SpecialIds, by_length, pad
from glotprompt.records import EvaluationReport, LabelScores, MaskedTokenScores, NextTokenScores
from glotprompt.training.objectives.batches import MaskedBatch, token_batch
from glotprompt.training.objectives.cloze import Cloze, read_lengths

COLLAPSE_PERCENT, COLLAPSE_EXCESS = 60, 1.5
"""Predictions are reported as collapsed if one label gets at least this percentage of the examples, and this many times
as many as have it."""

SCORED_AT_ONCE = 64
"""Masked tokens whose logits are computed at once: 64 MB for a vocabulary of 250,002, so that an evaluation takes no
more memory than a training step."""


def evaluation_batches(
    sequences: Sequence[NDArray[np.int64]], backbone: Backbone, rate: float, batch_size: int, seed: int = 0
) -> list[MaskedBatch]:
    """Batches of held-out text, with the same masks at every evaluation and for every batch size."""
    return [
        token_batch([sequences[i] for i in rows], backbone.tokenizer, rate, (seed, 5), rows).to(backbone.device)
        for rows in by_length(list(sequences), batch_size)
    ]


@torch.inference_mode()
def score_masked_tokens(backbone: Backbone, batches: Sequence[MaskedBatch], prefix: Prefix | None) -> MaskedTokenScores:
    """Loss and accuracies of all masked tokens (of a decoder: all tokens, and bits per byte), with a prefix or (None)
    with the backbone in its current state."""
    loss, top1, top5, count = 0.0, 0, 0, 0
    for batch in batches:
        if len(batch.targets) == 0:
            continue
        hidden = batch.states(backbone, prefix)
        for states, targets in zip(hidden.split(SCORED_AT_ONCE), batch.targets.split(SCORED_AT_ONCE), strict=True):
            logits = backbone.token_logits(states)
            loss += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
            ranked = logits.topk(5, dim=-1).indices == targets[:, None]
            top1 += int(ranked[:, 0].sum())
            top5 += int(ranked.sum())
        count += len(batch.targets)
    if count == 0:
        raise DataError("no token of the held-out text can be masked; give more text")
    scores = loss / count, 100 * top1 / count, 100 * top5 / count, count
    sizes = [batch.num_bytes for batch in batches if batch.num_bytes is not None]
    return NextTokenScores(*scores, loss / math.log(2) / max(1, sum(sizes))) if sizes else MaskedTokenScores(*scores)


@runtime_checkable
class LabelHead(Protocol):
    """Anything that scores labels from states: the verbalizer's `Words`, or a head."""

    @property
    def num_labels(self) -> int: ...

    def scores(self, backbone: Backbone, hidden: Float[Tensor, "read hidden"]) -> Float[Tensor, "batch label"]:
        """A score for every label, fp32, from the states of `label_states`."""
        ...


def label_scores(
    backbone: Backbone, clozes: Sequence[Cloze], prefix: Prefix | None, head: LabelHead
) -> Float[Tensor, "batch label"]:
    """Label scores, differentiable in the trained parameters."""
    if isinstance(head, NgramHead):
        return head.scores(backbone, head.features([cloze.input_ids for cloze in clozes]))
    layer = head.layer if isinstance(head, EmbeddingHead) else None
    return head.scores(backbone, label_states(backbone, clozes, prefix, layer))


def label_states(
    backbone: Backbone, clozes: Sequence[Cloze], prefix: Prefix | None, pooled_layer: int | None = None
) -> Float[Tensor, "read hidden"]:
    """Last-layer states at the read positions (`cloze.Words`), those of each example together; with `pooled_layer` the
    pooled output of that layer."""
    if pooled_layer is not None:
        return backbone.pooled_states([cloze.input_ids for cloze in clozes], prefix, pooled_layer)
    if clozes[0].continuations:
        return _continued_states(backbone, clozes, prefix)
    ids, attention_mask = padded(clozes, backbone)
    width = ids.shape[1]
    indices = torch.tensor(  # of the flattened states
        [row * width + cloze.position + read for row, cloze in enumerate(clozes) for read in range(cloze.num_reads)],
        device=backbone.device,
    )
    entering = [cloze.entering for cloze in clozes if cloze.entering is not None]
    if not entering:
        return backbone.states_at(ids, attention_mask, prefix, indices)
    hidden = torch.zeros(len(clozes), width, backbone.hidden_size, dtype=backbone.dtype)
    for row, states in zip(hidden, entering, strict=True):
        row[: len(states.states)] = states.states
    return backbone.states_from(entering[0].layer, hidden.to(backbone.device), attention_mask, prefix, indices)


def _continued_states(
    backbone: Backbone, clozes: Sequence[Cloze], prefix: Prefix | None
) -> Float[Tensor, "read hidden"]:
    """States behind a template and behind the tokens of label words: one sequence for each continuation of each
    example, in which the positions of `read_lengths` are read. An encoder reads each example once."""
    sequences, positions, example_of = list[NDArray[np.int64]](), list[range](), list[int]()
    for example, cloze in enumerate(clozes):
        start = np.array(cloze.decoder_ids or cloze.input_ids, dtype=np.int64)
        for own, lengths in zip(cloze.continuations, read_lengths(cloze.continuations), strict=True):
            sequences.append(np.concatenate([start, own]).astype(np.int64))
            positions.append(range(cloze.position + lengths.start, cloze.position + lengths.stop))
            example_of.append(example)
    ids, attention_mask = _on_device(sequences, SpecialIds.of(backbone.tokenizer).pad, backbone)
    indices = torch.tensor(  # of the flattened states
        [row * ids.shape[1] + position for row, own in enumerate(positions) for position in own],
        device=backbone.device,
    )
    examples = torch.tensor(example_of, device=backbone.device)
    if clozes[0].decoder_ids:
        return backbone.states_at(*padded(clozes, backbone), prefix, indices, DecoderInput(ids, examples))
    return backbone.states_at(ids, attention_mask, None if prefix is None else prefix.of_rows(examples), indices)


def padded(
    clozes: Sequence[Cloze], backbone: Backbone
) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"] | None]:
    """Padded ids and attention mask of a batch on the backbone's device; no mask for examples of equal length."""
    return _on_device([cloze.input_ids for cloze in clozes], SpecialIds.of(backbone.tokenizer).pad, backbone)


def _on_device(
    sequences: Sequence[NDArray[np.int64]], pad_id: int, backbone: Backbone
) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"] | None]:
    ids, attention_mask = pad(sequences, pad_id)
    on_device = None if attention_mask is None else torch.from_numpy(attention_mask).to(backbone.device)
    return torch.from_numpy(ids).to(backbone.device), on_device


@torch.inference_mode()
def log_probabilities(
    backbone: Backbone,
    clozes: Sequence[Cloze],
    prefix: Prefix | None,
    head: LabelHead,
    batch_size: int = 32,
) -> Float[NDArray[np.float64], "batch label"]:
    """log P(label | example) over the task's labels, in the order of the examples."""
    result = np.zeros((len(clozes), head.num_labels))
    for rows in by_length([cloze.input_ids for cloze in clozes], batch_size):
        scores = label_scores(backbone, [clozes[i] for i in rows], prefix, head)
        result[rows] = scores.double().log_softmax(dim=-1).cpu().numpy()
    return result


def accuracy_and_loss(
    log_probs: NDArray[np.float64], gold: Sequence[int], weights: NDArray[np.float64] | None = None
) -> tuple[float, float]:
    """Accuracy in per cent and mean cross-entropy, optionally weighted."""
    accuracy = 100 * float(np.average(log_probs.argmax(axis=1) == gold, weights=weights))
    return accuracy, -float(np.average(log_probs[np.arange(len(gold)), gold], weights=weights))


def report(gold: Sequence[str], predicted: Sequence[str]) -> EvaluationReport:
    """Evaluate predictions against gold labels."""
    if not gold:
        raise DataError("there is no example to evaluate")
    confusion: dict[str, dict[str, int]] = {}
    for truth, guess in zip(gold, predicted, strict=True):
        row = confusion.setdefault(truth, {})
        row[guess] = row.get(guess, 0) + 1
    per_label = {label: _label_scores(confusion, label) for label in sorted({*gold, *predicted})}
    present = [scores.f1 for scores in per_label.values() if scores.support]
    (most, times), *_ = Counter(predicted).most_common(1)
    collapsed = 100 * times >= COLLAPSE_PERCENT * len(gold) and times >= COLLAPSE_EXCESS * gold.count(most)
    (majority_label, num_majority), *_ = Counter(gold).most_common(1)
    right = sum(truth == guess for truth, guess in zip(gold, predicted, strict=True))
    return EvaluationReport(
        accuracy=100 * right / len(gold),
        interval=wilson_interval(right, len(gold)),
        majority_label=majority_label,
        majority=100 * num_majority / len(gold),
        macro_f1=sum(present) / len(present),
        macro_f1_all=sum(scores.f1 for scores in per_label.values()) / len(per_label),
        per_label=per_label,
        confusion=confusion,
        predictions=list(predicted),
        num_examples=len(gold),
        collapsed_label=most if collapsed else None,
        largest_share=100 * times / len(gold),
    )


def wilson_interval(right: int, of: int) -> tuple[float, float]:
    """95 % interval of a share, ends in per cent: the score interval of Wilson 1927, "Probable inference, the law of
    succession, and statistical inference". It is reliable for few examples and for shares near 0 or 100 %."""
    share, z = right / of, NormalDist().inv_cdf(0.975)
    shrink = 1 + z**2 / of
    centre = (share + z**2 / (2 * of)) / shrink
    half = z * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2)) / shrink
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def _label_scores(confusion: Mapping[str, Mapping[str, int]], label: str) -> LabelScores:
    right = confusion.get(label, {}).get(label, 0)
    support = sum(confusion.get(label, {}).values())
    predicted = sum(row.get(label, 0) for row in confusion.values())
    precision = right / predicted if predicted else 0.0
    recall = right / support if support else 0.0
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return LabelScores(precision=100 * precision, recall=100 * recall, f1=100 * f1, support=support)
