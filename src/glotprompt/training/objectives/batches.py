"""Batches of stage 1, and sampling for both stages: pure functions of records, seed and step, so that a resumed run
gets the same batches as an uninterrupted one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from glotprompt.config import AdaptConfig
from glotprompt.errors import ConfigError
from glotprompt.model.backbone import Backbone
from glotprompt.model.families import DecoderInput
from glotprompt.model.prefix import Prefix
from glotprompt.model.tokens import (
    Sequences,
    SpecialIds,
    beginning,
    is_byte_level,
    pad,
    plain,
    sentinel,
    token_bytes,
)
from glotprompt.training.objectives.cloze import Cloze

_TOGETHER = 1000
"""Texts tokenised at once: token lists of a whole large text would take several times its memory."""


@dataclass(frozen=True)
class MaskedBatch:
    """Tokens to predict: masked ones, next ones, or those of masked spans. `positions` index the flattened states
    [batch * seq], or those of the decoder [batch * target] where `decoder_ids` are given."""

    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Int[Tensor, "batch seq"] | None
    positions: Int[Tensor, " masked"]
    targets: Int[Tensor, " masked"]
    decoder_ids: Int[Tensor, "batch target"] | None = None
    """Input of the decoder of an encoder-decoder model."""
    num_bytes: int | None = None
    """Bytes of text that the targets stand for, where every token is one."""

    @classmethod
    def of(
        cls,
        padded: tuple[NDArray[np.int64], NDArray[np.int64] | None],
        positions: Sequence[NDArray[np.int64]],
        targets: Sequence[NDArray[np.int64]],
        **more: Any,
    ) -> MaskedBatch:
        """A batch of what `pad` returns, with the positions and targets of each row."""
        ids, mask = padded
        return cls(
            torch.from_numpy(ids),
            None if mask is None else torch.from_numpy(mask),
            torch.from_numpy(np.concatenate(positions)),
            torch.from_numpy(np.concatenate(targets)),
            **more,
        )

    @property
    def width(self) -> int:
        """States of a row."""
        return (self.input_ids if self.decoder_ids is None else self.decoder_ids).shape[1]

    def to(self, device: torch.device) -> MaskedBatch:
        mask, decoder_ids = (
            None if value is None else value.to(device) for value in (self.attention_mask, self.decoder_ids)
        )
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=mask,
            positions=self.positions.to(device),
            targets=self.targets.to(device),
            decoder_ids=decoder_ids,
        )

    def part(self, rows: slice, device: torch.device) -> MaskedBatch:
        """Some rows, on a device."""
        width = self.width
        inside = (self.positions >= rows.start * width) & (self.positions < rows.stop * width)
        mask, decoder_ids = (
            None if value is None else value[rows] for value in (self.attention_mask, self.decoder_ids)
        )
        positions = self.positions[inside] - rows.start * width
        return MaskedBatch(self.input_ids[rows], mask, positions, self.targets[inside], decoder_ids).to(device)

    def states(self, backbone: Backbone, prefix: Prefix | None) -> Float[Tensor, "masked hidden"]:
        """The states from which the targets are predicted; the batch is on the backbone's device."""
        decoder = None if self.decoder_ids is None else DecoderInput(self.decoder_ids)
        return backbone.states_at(self.input_ids, self.attention_mask, prefix, self.positions, decoder)


def token_sequences(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_length: int, packing: str
) -> list[NDArray[np.int64]]:
    """Token sequences of a text, special tokens included, at most `max_length` each.

    "full": all lines in order, each followed by the separator, cut into pieces of exactly `max_length` (the last,
    shorter piece is dropped unless it is the only one). "none": one sequence per line, truncated at `max_length`.
    """
    lines: list[NDArray[np.int32]] = []
    for start in range(0, len(texts), _TOGETHER):
        clean = [plain(text, tokenizer) for text in texts[start : start + _TOGETHER]]
        if packing == "none":
            clean = [beginning(text, tokenizer, max_length) for text in clean]
        # verbose: long lines are cut into sequences here, so no warning is needed.
        rows = tokenizer(clean, add_special_tokens=False, verbose=False)["input_ids"]
        lines += [np.array(ids, dtype=np.int32) for ids in rows]
    return pack(lines, SpecialIds.of(tokenizer), max_length, packing)


def pack(
    lines: Sequence[Sequence[int] | NDArray[np.int32]], special: SpecialIds, max_length: int, packing: str
) -> list[NDArray[np.int64]]:
    """`token_sequences` for tokenised lines."""
    front, back = list(special.front), list(special.back)
    room = max_length - len(front) - len(back)
    if packing == "none":
        return [np.array([*front, *line[:room], *back], dtype=np.int64) for line in lines if len(line)]
    ended = (part for line in lines if len(line) for part in (line, [special.separator]))
    stream = np.concatenate([np.empty(0, np.int64), *ended])
    pieces = [stream[start : start + room] for start in range(0, len(stream), room)]
    if len(pieces) > 1 and len(pieces[-1]) < room:
        pieces.pop()
    return [np.concatenate([front, piece, back]).astype(np.int64) for piece in pieces]


@lru_cache(maxsize=8)
def _order(size: int, seed: int, epoch: int, stream: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, stream]).permutation(size)


def sample_indices(size: int, count: int, seed: int, step: int, stream: int) -> list[int]:
    """Indices of the `count` records of step `step`, out of `size`: every record once per epoch."""
    picks = range(step * count, (step + 1) * count)
    return [int(_order(size, seed, pick // size, stream)[pick % size]) for pick in picks]


@dataclass(frozen=True)
class MaskingCorpus:
    """Token sequences of both languages, from which the batches of stage 1 are sampled."""

    target: Sequences
    source: Sequences
    config: AdaptConfig
    tokenizer: PreTrainedTokenizerFast

    def batch(self, step: int) -> MaskedBatch:
        """The batch of a step: a share `source_share` of source-language rows, the rest from the target language."""
        config = self.config
        num_target = config.batch_size - source_rows(config.batch_size, config.source_share)
        rows = [self.target[i] for i in sample_indices(len(self.target), num_target, config.seed, step, 0)]
        rows += self.source_batch(step)
        return token_batch(rows, self.tokenizer, config.mask_rate, seed=(config.seed, step, 2))

    def source_batch(self, step: int) -> Sequences:
        """The source-language rows of a step, unmasked."""
        num = source_rows(self.config.batch_size, self.config.source_share)
        return [self.source[i] for i in sample_indices(len(self.source), num, self.config.seed, step, 1)]


def source_rows(batch_size: int, share: float) -> int:
    """Number of source-language sequences per batch. Raises `ConfigError` if rounding leaves one language none."""
    rows = round(batch_size * share)
    if share in (0, 1) or 0 < rows < batch_size:
        return rows
    enough = next(size for size in count(batch_size + 1) if 0 < round(size * share) < size)
    raise ConfigError(
        f"with source_share {share:g} a batch of {batch_size} has only {'target' if rows == 0 else 'source'} text; give"
        f" a batch size of at least {enough}"
    )


def balance(target: Sequences, source: Sequences, config: AdaptConfig) -> tuple[Sequences, Sequences]:
    """Both texts in the proportion of `source_share`: the larger one is subsampled, by seed."""
    share = config.source_share
    if config.balance == "repeat" or share in (0, 1) or not target or not source:
        return target, source
    most_source = max(1, round(len(target) * share / (1 - share)))
    most_target = max(1, round(len(source) * (1 - share) / share))
    return _subsample(target, most_target, config.seed), _subsample(source, most_source, config.seed)


def _subsample(sequences: Sequences, most: int, seed: int) -> Sequences:
    if len(sequences) <= most:
        return sequences
    indices = np.random.default_rng([seed, 3]).permutation(len(sequences))[:most]
    return [sequences[i] for i in sorted(indices.tolist())]


def token_batch(
    sequences: Sequences,
    tokenizer: PreTrainedTokenizerFast,
    rate: float,
    seed: tuple[int, ...],
    numbers: Sequence[int] | None = None,
) -> MaskedBatch:
    """Tokens to predict, as the model of the tokenizer was pre-trained to; the arguments are those of `mask_tokens`."""
    objective = SpecialIds.of(tokenizer).objective
    if objective == "clm":
        return next_tokens(sequences, tokenizer)
    return (mask_tokens if objective == "mlm" else mask_spans)(sequences, tokenizer, rate, seed, numbers)


def next_tokens(sequences: Sequences, tokenizer: PreTrainedTokenizerFast) -> MaskedBatch:
    """Every token but the first of each sequence as the target at the position before it. The first one is predicted
    by no position; of a tokenizer that puts a special token first, that is this one."""
    padded = pad(sequences, SpecialIds.of(tokenizer).pad)
    targets = [sequence[1:] for sequence in sequences]
    num_bytes = sum(int(token_bytes(tokenizer)[row].sum()) for row in targets)
    return MaskedBatch.of(padded, _at_start(targets, padded[0].shape[1]), targets, num_bytes=num_bytes)


def _at_start(targets: Sequences, width: int) -> list[NDArray[np.int64]]:
    """Positions of targets that begin with the first state of their row."""
    return [row * width + np.arange(len(target)) for row, target in enumerate(targets)]


MEAN_SPAN, MEAN_SPAN_OF_BYTES = 3, 20
"""Mean length of a masked span, in tokens (Raffel et al. 2020) and in bytes (Xue et al. 2022, ByT5)."""


def mask_spans(
    sequences: Sequences,
    tokenizer: PreTrainedTokenizerFast,
    rate: float,
    seed: tuple[int, ...],
    numbers: Sequence[int] | None = None,
) -> MaskedBatch:
    """Span corruption (Raffel et al. 2020, section 3.3.4): a share `rate` of each sequence, at least one token, is
    masked in spans, each of which one sentinel stands for; the decoder generates every sentinel with its span, then the
    end. As there, text and spans alternate, text first, with lengths that are drawn evenly; the choice depends on what
    that of `mask_tokens` does."""
    special = SpecialIds.of(tokenizer)
    mean = MEAN_SPAN_OF_BYTES if is_byte_level(tokenizer) else MEAN_SPAN
    inputs: list[NDArray[np.int64]] = []
    outputs: list[NDArray[np.int64]] = []
    for number, sequence in zip(numbers or range(len(sequences)), sequences, strict=True):
        generator = np.random.default_rng([*seed, number])
        text = sequence[len(special.front) : len(sequence) - len(special.back)]
        masked = min(max(1, round(rate * len(text))), len(text))
        spans = max(1, min(round(masked / mean), len(text) - masked, _num_sentinels(tokenizer)))
        between = _lengths(len(text) - masked, spans, generator)
        ends = np.cumsum(np.stack([between, _lengths(masked, spans, generator)], axis=1).ravel())
        parts = np.split(text, ends[:-1])
        marks = [np.array([sentinel(tokenizer, span)]) for span in range(spans)]
        inputs.append(np.concatenate([special.front, *_alternating(parts[::2], marks), special.back]).astype(np.int64))
        outputs.append(np.concatenate([*_alternating(marks, parts[1::2]), [special.separator]]).astype(np.int64))
    decoder_ids, _ = pad([np.concatenate([[special.pad], target[:-1]]) for target in outputs], special.pad)
    positions = _at_start(outputs, decoder_ids.shape[1])
    return MaskedBatch.of(pad(inputs, special.pad), positions, outputs, decoder_ids=torch.from_numpy(decoder_ids))


@lru_cache(maxsize=8)
def _num_sentinels(tokenizer: PreTrainedTokenizerFast) -> int:
    """How many masked spans of a text can be told apart; ByT5's sentinels are its last 100 bytes (Xue et al. 2022)."""
    vocabulary = tokenizer.get_vocab()
    return 100 if is_byte_level(tokenizer) else next(n for n in count() if f"<extra_id_{n}>" not in vocabulary)


def _lengths(total: int, parts: int, generator: np.random.Generator) -> Int[NDArray[np.int64], " part"]:
    """Random lengths with this sum, each at least 1 (0 where there is nothing to share out)."""
    cuts = np.sort(generator.permutation(max(0, total - 1))[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)


def _alternating(
    first: Sequence[NDArray[np.int64]], second: Sequence[NDArray[np.int64]]
) -> Iterator[NDArray[np.int64]]:
    for one, other in zip(first, second, strict=True):
        yield one
        yield other


def mask_tokens(
    sequences: Sequences,
    tokenizer: PreTrainedTokenizerFast,
    rate: float,
    seed: tuple[int, ...],
    numbers: Sequence[int] | None = None,
) -> MaskedBatch:
    """Mask tokens: a share `rate` of each sequence becomes targets (at least one; never special or unknown tokens); of
    these 80 % become the mask token, 10 % a random token, and 10 % stay (Devlin et al. 2019).

    The choice depends only on the sequence, the seed and the sequence's number, not on the batch; `numbers` are given
    for a batch that is part of a text (None: 0, 1, 2 ...)."""
    ids = SpecialIds.of(tokenizer)
    input_ids, attention_mask = pad(sequences, ids.pad)
    never = [*ids.all, *(() if tokenizer.unk_token_id is None else (int(str(tokenizer.unk_token_id)),))]
    positions: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    for row, (number, sequence) in enumerate(zip(numbers or range(len(sequences)), sequences, strict=True)):
        generator = np.random.default_rng([*seed, number])
        text = np.flatnonzero(~np.isin(sequence, never))
        indices = np.sort(generator.permutation(text)[: max(1, round(rate * len(text)))])
        gold, kind = sequence[indices], generator.random(len(indices))
        random_tokens = generator.integers(0, len(tokenizer), len(indices))
        random_tokens = np.where(np.isin(random_tokens, tokenizer.all_special_ids), gold, random_tokens)
        input_ids[row, indices] = np.where(kind < 0.8, ids.mask, np.where(kind < 0.9, random_tokens, gold))
        positions.append(row * input_ids.shape[1] + indices)
        targets.append(gold)
    return MaskedBatch.of((input_ids, attention_mask), positions, targets)


@dataclass(frozen=True)
class ClozeCorpus:
    """Tokenised labelled examples, from which the batches of stage 2 are sampled."""

    clozes: Sequence[Cloze]
    gold: Sequence[int]
    """Label index of each example."""
    batch_size: int
    seed: int
    _epochs: dict[int, list[list[int]]] = field(default_factory=dict[int, list[list[int]]], repr=False)

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.clozes) // self.batch_size)

    def batch(self, step: int) -> tuple[list[Cloze], Int[Tensor, " batch"]]:
        """The batch of a step: examples and label indices."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch not in self._epochs:
            self._epochs.clear()
            lengths = [len(cloze.input_ids) for cloze in self.clozes]
            self._epochs[epoch] = epoch_batches(lengths, self.batch_size, self.seed, epoch)
        rows = self._epochs[epoch][index]
        return [self.clozes[i] for i in rows], torch.tensor([self.gold[i] for i in rows])


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of one epoch, each of examples of similar length (little padding), in an order that depends only on seed
    and epoch."""
    generator = np.random.default_rng([seed, epoch, 4])
    order = generator.permutation(len(lengths))
    window = 16 * batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window].tolist(), key=lambda i: lengths[i])
        batches += [near[first : first + batch_size] for first in range(0, len(near), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]
