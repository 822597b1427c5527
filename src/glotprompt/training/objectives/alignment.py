"""The alignment objective: with a prompt, the vector of a sentence is trained towards the frozen vector of its
translation.

The backbone is its own teacher (Reimers and Gurevych 2020 have two models). Teacher vectors are those of the source
sentences without a prompt, centred by their mean and normalised, computed once. A student vector is that of the target
sentence with the trained module, centred by the same mean and normalised. The loss of a batch is InfoNCE(students,
teachers) in both directions + `PULL` * (1 - cosine to the own teacher) + `SOURCE_PULL` * (1 - cosine of the *source*
sentence, with the trained module, to its own teacher). The last term keeps source vectors in place, so that one prompt
serves both languages and a classifier trained on the source language.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from glotprompt.config import AdaptConfig
from glotprompt.data.readers.records import generator
from glotprompt.errors import DataError, counted
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.module import Module
from glotprompt.model.prefix import Prefix
from glotprompt.model.tokens import Sequences
from glotprompt.processes import together
from glotprompt.records import AlignmentScores
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.batches import sample_indices

TEMPERATURE = 0.05
"""Temperature of InfoNCE."""
PULL = 5.0
SOURCE_PULL = 2.5
"""Weights of the two cosines beside InfoNCE."""
TOGETHER = 16
"""Largest number of sentences in one forward pass of a training step on a CPU."""

_Vectors = Float[Tensor, "pair hidden"]


@dataclass(frozen=True)
class AlignmentBatch:
    """Tokenised sentence pairs and their teacher vectors."""

    target: Sequences
    source: Sequences
    teachers: _Vectors
    """Unit vectors, fp32."""


@dataclass(frozen=True)
class AlignmentCorpus:
    """Sentence pairs, from which the batches of alignment are sampled."""

    pairs: AlignmentBatch
    centre: Float[Tensor, " hidden"]
    """Mean of the teacher vectors before centring."""
    batch_size: int
    seed: int

    def __len__(self) -> int:
        return len(self.pairs.target)

    def batch(self, step: int) -> AlignmentBatch:
        """The batch of a step; every pair occurs once per epoch."""
        rows = sample_indices(len(self), min(self.batch_size, len(self)), self.seed, step, 0)
        return _some(self.pairs, rows)


def split_pairs(
    pairs: Sequence[tuple[str, str]], config: AdaptConfig
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Training pairs and held-out pairs: `held_out_share` of them, at most `eval_sequences`. No held-out sentence of
    either side is in a training pair. Raises `DataError` if too few pairs remain."""
    most = min(config.eval_sequences, round(config.held_out_share * len(pairs)))
    order = generator(config.seed, "held-out pairs").permutation(len(pairs))
    held_out = [pairs[i] for i in sorted(order[: max(2, most)].tolist())]
    sides = [{pair[side] for pair in held_out} for side in (0, 1)]
    training = [pair for pair in pairs if pair[0] not in sides[0] and pair[1] not in sides[1]]
    if len(training) < 2:
        raise DataError(
            f"{counted(len(pairs), 'pair')} of parallel text: too few to train on and to hold some out; give more"
        )
    return training, held_out


def halves_of_pairs(
    held_out: Sequence[tuple[str, str]],
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Held-out pairs for choosing the step and for the report, without a common sentence. If either had fewer than two
    pairs, both are all pairs."""
    choosing = list(held_out[::2])
    sides = [{pair[side] for pair in choosing} for side in (0, 1)]
    reporting = [pair for pair in held_out[1::2] if pair[0] not in sides[0] and pair[1] not in sides[1]]
    if min(len(choosing), len(reporting)) < 2:
        return list(held_out), list(held_out)
    return choosing, reporting


def alignment_corpus(
    backbone: Backbone,
    pairs: Sequence[tuple[str, str]],
    config: AdaptConfig,
    batch_size: int,
    centre: Float[Tensor, " hidden"] | None = None,
) -> AlignmentCorpus:
    """Tokenise (source, target) pairs and compute their teacher vectors, `batch_size` at a time. `centre`: that of the
    training pairs; None: these are the training pairs."""
    source, target = (backbone.sequences([pair[side] for pair in pairs], config.max_length) for side in (0, 1))
    with torch.no_grad():
        vectors = backbone.vectors(source, None, None, batch_size)
    centre = vectors.mean(dim=0) if centre is None else centre
    return AlignmentCorpus(
        AlignmentBatch(target, source, F.normalize(vectors - centre, dim=1)), centre, config.batch_size, config.seed
    )


def _some(pairs: AlignmentBatch, rows: Sequence[int]) -> AlignmentBatch:
    return AlignmentBatch([pairs.target[i] for i in rows], [pairs.source[i] for i in rows], pairs.teachers[list(rows)])


# ---------------------------------------------------------------------------------------------------------------
# Loss


def alignment_loss(
    target: _Vectors, source: _Vectors, teachers: _Vectors, centre: Float[Tensor, " hidden"]
) -> Float[Tensor, ""]:
    """Loss of a batch from the pooled states of both sides, computed with the trained module; fp32."""
    students, sources = (F.normalize(states - centre, dim=1) for states in (target, source))
    scores = students @ teachers.T / TEMPERATURE
    own = torch.arange(len(scores), device=scores.device)
    contrast = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
    return contrast + PULL * (1 - _cosine(students, teachers)) + SOURCE_PULL * (1 - _cosine(sources, teachers))


def _cosine(one: _Vectors, other: _Vectors) -> Float[Tensor, ""]:
    """Mean cosine of rows of unit vectors."""
    return (one * other).sum(dim=1).mean()


def alignment_losses(
    backbone: Backbone, module: Module, batch: AlignmentBatch, centre: Float[Tensor, " hidden"], micro_batch: MicroBatch
) -> Generator[tuple[Tensor, int]]:
    """Parts of a batch's loss. InfoNCE compares all pairs of the batch, so if the batch is computed in parts, the
    gradients of the whole loss with respect to the vectors are computed first, without stored activations, and each
    part then backpropagates its own (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
    Limited Setup"): the same loss and gradients."""
    count, size = len(batch.target), micro_batch.size or len(batch.target)
    if size >= count and not together():
        for _ in micro_batch.parts(count):
            with module.attached(backbone) as prefix:  # around the yield: the backward pass belongs inside
                sides = _both_sides(backbone, batch, prefix, size)
                yield alignment_loss(*sides, batch.teachers, centre), _num_tokens(batch)
        return
    micro_batch.begin(min(size, count))
    loss, gradients = _gradients_of_vectors(backbone, module, batch, centre, size)
    for rows in micro_batch.parts(count):
        part = _some(batch, range(count)[rows])
        with module.attached(backbone) as prefix:
            states = _both_sides(backbone, part, prefix, size)
            pulled = torch.stack(
                [(vectors * gradient[rows]).sum() for vectors, gradient in zip(states, gradients, strict=True)]
            ).sum()
            share = loss * len(part.target) / count
            yield pulled + (share - pulled).detach(), _num_tokens(part)


def hold_losses(
    backbone: Backbone, module: Module, sequences: Sequences, weight: float, micro_batch: MicroBatch
) -> Generator[tuple[Tensor, int]]:
    """Parts of `weight` * (1 - mean cosine of the sequences' pooled states with the module to those without)."""
    for rows in micro_batch.parts(len(sequences)):
        some = sequences[rows]
        with torch.no_grad():
            without = backbone.vectors(some, None, None, len(some))
        with module.attached(backbone) as prefix:
            cosines = F.cosine_similarity(backbone.vectors(some, prefix, None, len(some)), without)
            yield weight * (1 - cosines).sum() / len(sequences), sum(map(len, some))


def _gradients_of_vectors(
    backbone: Backbone, module: Module, batch: AlignmentBatch, centre: Float[Tensor, " hidden"], size: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Loss of a batch, and its gradients with respect to the pooled states of the target and source side."""
    with torch.no_grad(), module.attached(backbone) as prefix:
        sides = _both_sides(backbone, batch, prefix, size)
    for vectors in sides:
        vectors.requires_grad_()
    target, source = sides
    loss = alignment_loss(target, source, batch.teachers, centre)
    return loss.detach(), torch.autograd.grad(loss, sides)


def _both_sides(
    backbone: Backbone, batch: AlignmentBatch, prefix: Prefix | None, size: int
) -> tuple[_Vectors, _Vectors]:
    """Pooled states of the target and source side. On a CPU sentences of both sides are batched by length, few at once:
    verses differ so much in length that a whole batch is half padding."""
    sentences = [*batch.target, *batch.source]
    most = min(size, TOGETHER) if backbone.device.type == "cpu" else size
    states = backbone.vectors(sentences, prefix, None, most)
    return states[: len(batch.target)], states[len(batch.target) :]


def _num_tokens(batch: AlignmentBatch) -> int:
    return sum(len(row) for side in (batch.target, batch.source) for row in side)


# ---------------------------------------------------------------------------------------------------------------
# Score


@torch.no_grad()
def score_alignment(
    backbone: Backbone, held_out: AlignmentCorpus, prefix: Prefix | None, batch_size: int
) -> AlignmentScores:
    """Score held-out pairs, with a prefix or (None) with the backbone in its current state."""
    pairs = held_out.pairs
    target, source = (backbone.vectors(side, prefix, None, batch_size) for side in (pairs.target, pairs.source))
    students, sources = (F.normalize(states - held_out.centre, dim=1) for states in (target, source))
    return AlignmentScores(
        retrieval_accuracy(target, pairs.teachers),
        float(_cosine(students, pairs.teachers)),
        float(_cosine(sources, pairs.teachers)),
        float(alignment_loss(target, source, pairs.teachers, held_out.centre)),
        len(pairs.target),
    )


def retrieval_accuracy(one: _Vectors, other: _Vectors) -> float:
    """Retrieval accuracy: per cent of the rows whose nearest row of the other side, by cosine, has the same index; mean
    of both directions, each side centred by its own mean."""
    rows, columns = (F.normalize(side - side.mean(dim=0), dim=1) for side in (one, other))
    scores, own = rows @ columns.T, torch.arange(len(one), device=one.device)
    accuracies = [(matrix.argmax(dim=1) == own).float().mean() for matrix in (scores, scores.T)]
    return 100 * float(sum(accuracies)) / 2
