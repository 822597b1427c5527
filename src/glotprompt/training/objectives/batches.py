"""Batches of stage 1, and sampling for both stages: pure functions of records, seed and step, so that a resumed run
gets the same batches as an uninterrupted one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from glotprompt.config import AdaptConfig
from glotprompt.errors import ConfigError
from glotprompt.model.tokens import Sequences, SpecialIds, beginning, pad, plain

_TOGETHER = 1000
"""Texts tokenised at once: token lists of a whole large text would take several times its memory."""


@dataclass(frozen=True)
class MaskedBatch:
    """Input of masked language modelling. `positions` index the flattened [batch * seq] states."""

    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Int[Tensor, "batch seq"] | None
    positions: Int[Tensor, " masked"]
    targets: Int[Tensor, " masked"]

    def to(self, device: torch.device) -> MaskedBatch:
        mask = None if self.attention_mask is None else self.attention_mask.to(device)
        return MaskedBatch(self.input_ids.to(device), mask, self.positions.to(device), self.targets.to(device))


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
    first, last, room = special.first, special.last, max_length - 2
    if packing == "none":
        return [np.array([first, *line[:room], last], dtype=np.int64) for line in lines if len(line)]
    stream = np.concatenate([np.empty(0, np.int64), *(part for line in lines if len(line) for part in (line, [last]))])
    pieces = [stream[start : start + room] for start in range(0, len(stream), room)]
    if len(pieces) > 1 and len(pieces[-1]) < room:
        pieces.pop()
    return [np.concatenate([[first], piece, [last]]) for piece in pieces]


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
        return mask_tokens(rows, self.tokenizer, config.mask_rate, seed=(config.seed, step, 2))

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
    never = [*ids.all, int(str(tokenizer.unk_token_id))]
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
    return MaskedBatch(
        torch.from_numpy(input_ids),
        None if attention_mask is None else torch.from_numpy(attention_mask),
        torch.from_numpy(np.concatenate(positions)),
        torch.from_numpy(np.concatenate(targets)),
    )


def split_rows(batch: int, micro_batch_size: int | None) -> Iterator[slice]:
    """Slices of a batch's rows, each at most `micro_batch_size` long."""
    size = micro_batch_size or batch
    for start in range(0, batch, size):
        yield slice(start, min(batch, start + size))
