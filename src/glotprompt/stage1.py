"""One training of stage 1, whatever its objective: masked language modelling on text, or alignment on pairs.

`train_language` is the order of things; an `Objective` says what is read, what the loss of a step is, and how held-out
text judges it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from glotprompt.config import AdaptConfig, RuntimeConfig, identity_of, preset
from glotprompt.data.languages import name_of
from glotprompt.data.records import content_hash
from glotprompt.errors import ConfigError
from glotprompt.initial import InitialPrompt, begin_adapt
from glotprompt.methods import Method
from glotprompt.model.delta import Delta
from glotprompt.model.encoder import Encoder
from glotprompt.model.prefix import Prefix
from glotprompt.model.tokens import Sequences
from glotprompt.processes import is_first
from glotprompt.train.alignment import (
    AlignmentScores,
    alignment_corpus,
    alignment_losses,
    halves_of_pairs,
    score_alignment,
    split_pairs,
)
from glotprompt.train.characters import refuse_unknown, unknown_in
from glotprompt.train.checkpoint import Checkpoint, same_precision
from glotprompt.train.inputs import check_length, masking_corpus
from glotprompt.train.loop import Evaluation, History, Optimisation, Parts, fit
from glotprompt.train.losses import masked_word_losses
from glotprompt.train.memory import PeakMemory, gradient_checkpointing
from glotprompt.train.micro_batch import MicroBatch
from glotprompt.train.progress import StepLine
from glotprompt.train.rates import Trial, try_rates
from glotprompt.train.scoring import MaskedWordScores, evaluation_batches, score_masked_words

ALREADY_ALIGNED = 90.0
"""Retrieval in per cent above which alignment gave nothing or a few points (docs/does_it_help.md)."""

SentencePairs = Sequence[tuple[str, str]]
"""Parallel text: (source, target)."""


class Objective(Protocol):
    """What a training of stage 1 reads and how it is judged."""

    text: Sequences
    """Token sequences from which a prompt can start (`initialise="text"`)."""
    facts: dict[str, Any]
    """Amounts of text, for what is saved."""

    def losses(self, delta: Delta, step: int, micro_batch: MicroBatch) -> Parts:
        """Parts of the loss of a step."""
        ...

    def scores(self, prefix: Prefix | None) -> MaskedWordScores | AlignmentScores:
        """The figures of held-out text that chooses nothing, of the encoder as it is now."""
        ...

    def judge(self, prefix: Prefix | None) -> Evaluation:
        """What chooses the best step, of the other half of the held-out text."""
        ...


class MaskedLanguageModelling:
    """Masked tokens of the target's text, mixed with the source's (section 3.1 of the paper)."""

    def __init__(
        self,
        encoder: Encoder,
        target: Sequence[str],
        source: Sequence[str],
        config: AdaptConfig,
        runtime: RuntimeConfig,
    ) -> None:
        encoder.require_lm_head("masked language modelling")
        self._encoder = encoder
        self._corpus, (choosing, reporting) = masking_corpus(encoder, target, source, config)
        self._watched, self._batches = (
            evaluation_batches(part, encoder, config.mask_rate, runtime.eval_batch_size)
            for part in (choosing[: config.eval_sequences], reporting)
        )
        self.text = self._corpus.source if config.source_share > 0 else self._corpus.target
        self.facts: dict[str, Any] = {
            "target_lines": len(target), "source_lines": len(source),
            "target_sequences": len(self._corpus.target), "source_sequences": len(self._corpus.source),
        }  # fmt: skip

    def losses(self, delta: Delta, step: int, micro_batch: MicroBatch) -> Parts:
        return masked_word_losses(self._encoder, delta, self._corpus.batch(step), micro_batch)

    def scores(self, prefix: Prefix | None) -> MaskedWordScores:
        return score_masked_words(self._encoder, self._batches, prefix)

    def judge(self, prefix: Prefix | None) -> Evaluation:
        loss = score_masked_words(self._encoder, self._watched, prefix).loss
        return Evaluation((loss,), {"held_out_loss": loss})


class Alignment:
    """Sentences of the target language where the frozen model puts their translations (`train.alignment`)."""

    def __init__(self, encoder: Encoder, pairs: SentencePairs, config: AdaptConfig, runtime: RuntimeConfig) -> None:
        kept, held = split_pairs(pairs, config)
        self._encoder, self._batch_size = encoder, runtime.eval_batch_size
        self._corpus = alignment_corpus(encoder, kept, config, self._batch_size)
        self._choosing, self._reporting = (
            alignment_corpus(encoder, part, config, self._batch_size, self._corpus.centre)
            for part in halves_of_pairs(held)
        )
        self.text = self._corpus.pairs.source
        self.facts: dict[str, Any] = {"pairs": len(kept), "held_out_pairs": len(held)}

    def losses(self, delta: Delta, step: int, micro_batch: MicroBatch) -> Parts:
        return alignment_losses(self._encoder, delta, self._corpus.batch(step), self._corpus.centre, micro_batch)

    def scores(self, prefix: Prefix | None) -> AlignmentScores:
        return score_alignment(self._encoder, self._reporting, prefix, self._batch_size)

    def judge(self, prefix: Prefix | None) -> Evaluation:
        """By the loss, which moves more smoothly than retrieval and counts the source sentences, too."""
        found = score_alignment(self._encoder, self._choosing, prefix, self._batch_size)
        return Evaluation((found.loss,), {"held_out_loss": found.loss, "retrieval": found.retrieval})


def count_unknown(encoder: Encoder, texts: Mapping[str, Sequence[str]], runtime: RuntimeConfig) -> dict[str, Any]:
    """What the tokenizer does not know of each text, by what it is called, for what is saved; said where it matters.
    Raises `DataError` where too much is unknown and `allow_unknown` does not stand."""
    counted: dict[str, Any] = {}
    for name, text in texts.items():
        found = unknown_in(text, encoder.tokenizer)
        if not runtime.allow_unknown:
            refuse_unknown(f"the {name} text", found, encoder.tokenizer)
        if found.matters and runtime.progress and is_first():
            print(f"{name} text: {found.sentence()}", file=sys.stderr)
        counted[name] = found.to_dict()
    return counted


def content_of_pairs(pairs: SentencePairs) -> str:
    """Hash of what the pairs say."""
    return content_hash([text for pair in pairs for text in pair])


def with_objective(config: AdaptConfig | None, parallel: bool) -> AdaptConfig:
    """The config of a stage 1 that was given parallel text, or none: what was not set is the preset alignment's there.
    Raises `ConfigError` where the objective was set to another one."""
    objective = "alignment" if parallel else "mlm"
    if config is None:
        return AdaptConfig(**preset("alignment", "adapt")) if parallel else AdaptConfig()
    if config.objective == objective:
        return config
    if "objective" in config.model_fields_set:
        needs = "unlabelled text (target=)" if parallel else "parallel text (parallel=)"
        raise ConfigError(f"objective {config.objective!r} needs {needs}; give it, or leave objective out")
    return AdaptConfig(**{**preset("alignment", "adapt", config.method), **config.model_dump(exclude_unset=True)})


def train_language(
    encoder: Encoder,
    method: Method,
    texts: tuple[Sequence[str], Sequence[str]],
    pairs: SentencePairs | None,
    name: tuple[str, str],
    config: AdaptConfig,
    runtime: RuntimeConfig,
    start: InitialPrompt | None,
) -> tuple[Delta, dict[str, Any]]:
    """One training of stage 1 on texts (target, source) or on pairs, and what is known of it. `name`: which part of
    which language."""
    memory = PeakMemory()
    # What does not read a text does not depend on it.
    shares = 1 - config.source_share, config.source_share
    used = [content_hash(text) if share else "" for text, share in zip(texts, shares, strict=True)]
    if pairs is not None:
        used = [content_of_pairs(pairs)]
    part, language = name
    of_part = "" if part == "language" else f"{part} of "
    about = of_part + language if config.source_share < 1 else ""
    used += [] if start is None else [start.digest]
    identity = identity_of(["adapt", config.identity(), *used, encoder.fingerprint, about, encoder.asked_precision])
    checkpoint = Checkpoint(runtime, identity)
    same_precision(encoder, checkpoint)
    objective: Objective  # in the precision of the run: alignment's teachers are the encoder's own states
    if pairs is None:
        objective = MaskedLanguageModelling(encoder, *texts, config, runtime)
    else:
        objective = Alignment(encoder, pairs, config, runtime)
    before = objective.scores(None)
    _say_already_aligned(before, runtime)
    begin = partial(begin_adapt, encoder, method, objective.text, config, start)
    train = partial(_train, encoder, begin, objective)
    rate, tried, spent = config.learning_rate, list[Trial](), 0.0
    if rate == "auto":
        rate, tried, spent = try_rates(config, runtime, identity, lambda short, *how: train(short, runtime, *how)[1])
    delta, history = train(config, runtime, rate, checkpoint, f"adapt {of_part}{name_of(language)}")
    history.seconds += spent
    with torch.no_grad(), delta.attached(encoder) as prefix:
        after = objective.scores(prefix)
    return delta, {
        "learning_rate": rate, "rates_tried": [vars(trial) for trial in tried], "precision": encoder.precision,
        **objective.facts, "held_out_before": vars(before), "held_out_after": vars(after),
        "improved": after.loss < before.loss,
        "trained_values": delta.num_trained, **history.facts(), "peak_memory_bytes": memory.bytes(),
    }  # fmt: skip


def _say_already_aligned(scores: MaskedWordScores | AlignmentScores, runtime: RuntimeConfig) -> None:
    if isinstance(scores, AlignmentScores) and scores.retrieval >= ALREADY_ALIGNED and runtime.progress and is_first():
        print(
            f"already aligned: {scores.retrieval:.1f} % of {scores.num_pairs} held-out translations are found before"
            " training; alignment then gives nothing or a few points",
            file=sys.stderr,
        )


def _train(
    encoder: Encoder,
    begin: Any,
    objective: Objective,
    config: AdaptConfig,
    runtime: RuntimeConfig,
    rate: float,
    checkpoint: Checkpoint,
    title: str,
) -> tuple[Delta, History]:
    """Train a fresh delta at one learning rate."""
    delta: Delta = begin().to(encoder.device)
    check_length(encoder, config.max_length, delta)
    micro_batch = MicroBatch(runtime)

    def losses(step: int) -> Generator[tuple[Tensor, int]]:
        with encoder.dropping_out(config.dropout, (config.seed, step)):
            yield from objective.losses(delta, step, micro_batch)

    @torch.no_grad()
    def evaluate() -> Evaluation:
        with delta.attached(encoder) as prefix:
            return objective.judge(prefix)

    optimisation = Optimisation.of(config, config.steps, rate, config.eval_every, config.patience)
    progress = StepLine(title, config.steps, runtime.progress)
    with gradient_checkpointing(encoder, runtime):
        history = fit(delta.trained_parameters, losses, evaluate, optimisation, checkpoint, progress, micro_batch)
    return delta, history
