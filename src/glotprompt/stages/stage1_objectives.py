"""What a training of stage 1 reads, what the loss of a step is, and how held-out text judges it: masked language
modelling on text, alignment on pairs, or both."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Protocol, TypedDict

from glotprompt.config import AdaptConfig, RuntimeConfig
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.module import Module
from glotprompt.model.prefix import Prefix
from glotprompt.model.tokens import Sequences
from glotprompt.records import AlignmentScores, HeldOutScores, JointScores, MaskedTokenScores
from glotprompt.training.loop import Evaluation, Parts
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.alignment import (
    alignment_corpus,
    alignment_losses,
    halves_of_pairs,
    hold_losses,
    score_alignment,
    split_pairs,
)
from glotprompt.training.objectives.inputs import masking_corpus
from glotprompt.training.objectives.losses import masked_token_losses
from glotprompt.training.objectives.scoring import evaluation_batches, score_masked_tokens

SentencePairs = Sequence[tuple[str, str]]
"""Parallel text: (source, target)."""


class Amounts(TypedDict, total=False):
    """Fields of a report (`records.AdaptReport`), which says what each is."""

    target_lines: int
    source_lines: int
    target_sequences: int
    source_sequences: int
    pairs: int
    held_out_pairs: int


class Objective(Protocol):
    """What a training of stage 1 reads and how it is judged."""

    text: Sequences
    """Token sequences from which a prompt can start (`initialise="text"`)."""
    amounts: Amounts
    held_out: list[str]
    """Text of the target that is not trained on, as it is read."""

    def losses(self, module: Module, step: int, micro_batch: MicroBatch) -> Parts:
        """Parts of the loss of a step."""
        ...

    def scores(self, prefix: Prefix | None) -> HeldOutScores:
        """The figures of held-out text that chooses nothing, of the backbone as it is now."""
        ...

    def judge(self, prefix: Prefix | None) -> Evaluation:
        """What chooses the best step, of the other half of the held-out text."""
        ...


class LanguageModelling:
    """Tokens of the target's text, mixed with the source's (section 3.1 of the paper): masked ones, next ones, or
    spans, as the backbone was pre-trained to predict."""

    def __init__(
        self,
        backbone: Backbone,
        target: Sequence[str],
        source: Sequence[str],
        config: AdaptConfig,
        runtime: RuntimeConfig,
    ) -> None:
        backbone.require_lm_head("masked language modelling")
        self._backbone, self._config = backbone, config
        self._corpus, (choosing, reporting), self.held_out = masking_corpus(backbone, target, source, config)
        self._watched, self._batches = (
            evaluation_batches(part, backbone, config.mask_rate, runtime.eval_batch_size)
            for part in (choosing[: config.eval_sequences], reporting)
        )
        self.text = self._corpus.source if config.source_share > 0 else self._corpus.target
        self.amounts = Amounts(
            target_lines=len(target),
            source_lines=len(source),
            target_sequences=len(self._corpus.target),
            source_sequences=len(self._corpus.source),
        )

    def losses(self, module: Module, step: int, micro_batch: MicroBatch) -> Parts:
        yield from masked_token_losses(self._backbone, module, self._corpus.batch(step), micro_batch)
        whole = self._corpus.source_batch(step) if self._config.mlm_hold else []
        if whole:  # one part of mad-x reads the target alone
            yield from hold_losses(self._backbone, module, whole, self._config.mlm_hold, micro_batch)

    def scores(self, prefix: Prefix | None) -> MaskedTokenScores:
        return score_masked_tokens(self._backbone, self._batches, prefix)

    def judge(self, prefix: Prefix | None) -> Evaluation:
        loss = score_masked_tokens(self._backbone, self._watched, prefix).loss
        return Evaluation((loss,), {"held_out_loss": loss})


class Alignment:
    """Sentences of the target language where the frozen model puts their translations (`objectives.alignment`)."""

    def __init__(
        self,
        backbone: Backbone,
        split: tuple[SentencePairs, SentencePairs],
        config: AdaptConfig,
        runtime: RuntimeConfig,
    ) -> None:
        """`split`: training pairs and held-out pairs."""
        train, held = split
        self._backbone, self._batch_size = backbone, runtime.eval_batch_size
        self._corpus = alignment_corpus(backbone, train, config, self._batch_size)
        self._choosing, self._reporting = (
            alignment_corpus(backbone, part, config, self._batch_size, self._corpus.centre)
            for part in halves_of_pairs(held)
        )
        self.text = self._corpus.pairs.source
        self.amounts = Amounts(pairs=len(train), held_out_pairs=len(held))
        self.held_out = [target for _, target in held]

    def losses(self, module: Module, step: int, micro_batch: MicroBatch) -> Parts:
        return alignment_losses(self._backbone, module, self._corpus.batch(step), self._corpus.centre, micro_batch)

    def scores(self, prefix: Prefix | None) -> AlignmentScores:
        return score_alignment(self._backbone, self._reporting, prefix, self._batch_size)

    def judge(self, prefix: Prefix | None) -> Evaluation:
        """By the loss, which moves more smoothly than retrieval and counts the source sentences, too."""
        scores = score_alignment(self._backbone, self._choosing, prefix, self._batch_size)
        return Evaluation((scores.loss,), {"held_out_loss": scores.loss, "retrieval": scores.retrieval})


class Joint:
    """Both, on text and on pairs: the loss is that of masked tokens and `alignment_weight` times that of alignment."""

    def __init__(self, text: LanguageModelling, pairs: Alignment, weight: float) -> None:
        self._masked, self._aligned, self._weight = text, pairs, weight
        self.text, self.held_out = text.text, text.held_out
        self.amounts: Amounts = {**text.amounts, **pairs.amounts}

    def losses(self, module: Module, step: int, micro_batch: MicroBatch) -> Parts:
        yield from self._masked.losses(module, step, micro_batch)
        with closing(self._aligned.losses(module, step, micro_batch)) as parts:
            for loss, tokens in parts:
                yield self._weight * loss, tokens

    def scores(self, prefix: Prefix | None) -> JointScores:
        masked, aligned = self._masked.scores(prefix), self._aligned.scores(prefix)
        return JointScores(masked.loss + self._weight * aligned.loss, masked, aligned)

    def judge(self, prefix: Prefix | None) -> Evaluation:
        masked, aligned = self._masked.judge(prefix), self._aligned.judge(prefix)
        loss = masked.key[0] + self._weight * aligned.key[0]
        return Evaluation((loss,), {**aligned.figures, "held_out_loss": loss})


def objective_of(
    backbone: Backbone,
    text: tuple[Sequence[str], Sequence[str]],
    pairs: SentencePairs | None,
    config: AdaptConfig,
    runtime: RuntimeConfig,
) -> Objective:
    """The objective of a config; `text` is that of the target and of the source."""
    if "alignment" not in config.objective:
        return LanguageModelling(backbone, *text, config, runtime)
    assert pairs is not None
    train, held = split_pairs(pairs, config)
    if config.objective == "alignment":
        return Alignment(backbone, (train, held), config, runtime)
    # The text may be a side of the pairs: neither trains on what the other holds out.
    held_sentences = {sentence for pair in held for sentence in pair}
    target, source = ([line for line in side if line not in held_sentences] for side in text)
    masked = LanguageModelling(backbone, target, source, config, runtime)
    held_lines = set(masked.held_out)
    train = [pair for pair in train if held_lines.isdisjoint(pair)]
    return Joint(masked, Alignment(backbone, (train, held), config, runtime), config.alignment_weight)
