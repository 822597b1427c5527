"""Language detection: a text is in the language whose prompt gives its masked tokens the lowest loss.

Every classifier's prompt is put in front of the same text with the same tokens masked, and the losses are compared.
Short texts have few tokens to mask, so a text is read several times with other masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from glotprompt.errors import ConfigError
from glotprompt.inference.predictor import NotFinite, Predictor, Query, grouped
from glotprompt.inference.served import Served
from glotprompt.model.families import DecoderInput
from glotprompt.model.prefix import Prefix
from glotprompt.training.objectives.batches import MaskedBatch, token_batch, token_sequences
from glotprompt.training.objectives.inputs import Input, fields_of

MASK_RATE = 0.15
"""Share of masked tokens, as in stage 1."""
MOST_TOKENS = 64
"""Most tokens that are read of a text."""
READINGS = 4
"""Number of times that a text is read, each with other masks. docs/serving.md compares numbers."""
SEED = 0


@dataclass(frozen=True)
class LanguageQuery:
    """An item whose language is to be detected, bound to versions of the classifiers."""

    queries: tuple[Query, ...]
    """The item as each candidate reads it."""
    readings: tuple[MaskedBatch, ...]
    """The masked text for each candidate, which may rewrite its characters; equal texts are one object."""

    @property
    def num_tokens(self) -> int:
        """Cost in tokens: the text for every candidate, and its classification."""
        masked = sum(reading.input_ids.numel() for reading in self.readings)
        return masked + max(query.num_tokens for query in self.queries)


@dataclass(frozen=True)
class Loss:
    """The MLM loss of a text behind a classifier's prompt."""

    served: Served
    loss: float
    """Mean cross-entropy of the masked tokens (natural log)."""


class LanguageFinder:
    """Compares the prompts of a predictor's classifiers."""

    def __init__(self, predictor: Predictor, readings: int = READINGS) -> None:
        self._predictor, self._readings = predictor, readings

    def read(self, item: Input, names: Sequence[str]) -> LanguageQuery:
        """Prepare an item for the classifiers `names`, which must be prompts. Raises what `Predictor.read` raises,
        and `ConfigError` for a text without a token to mask."""
        queries = self._predictor.read([(name, item) for name in names])
        whole = " ".join(fields_of(item).values())
        batches: dict[str, MaskedBatch] = {}
        readings: list[MaskedBatch] = []
        for query in queries:
            characters = query.served.characters
            text = whole if characters is None else characters.apply(whole)
            readings.append(batches.get(text) or batches.setdefault(text, self._masked(text)))
        return LanguageQuery(tuple(queries), tuple(readings))

    def _masked(self, text: str) -> MaskedBatch:
        tokenizer = self._predictor.backbone.tokenizer
        sequences = token_sequences([text], tokenizer, MOST_TOKENS, "none")
        if not sequences:  # only characters that the tokenizer drops
            sequences = token_sequences([str(tokenizer.unk_token)], tokenizer, MOST_TOKENS, "none")
        readings = 1 if self._predictor.backbone.objective == "clm" else self._readings  # nothing is left to chance
        batch = token_batch(sequences * readings, tokenizer, MASK_RATE, (SEED,))
        if not len(batch.targets):  # characters that the tokenizer does not know, or a decoder's first token alone
            raise ConfigError("this text has no token that can be masked; name a language")
        return batch

    def losses(self, query: LanguageQuery) -> list[Loss]:
        """Losses in the order of the candidates; texts that character maps rewrite differently are read separately."""
        losses: dict[int, float] = {}
        for indices in grouped([id(reading) for reading in query.readings]):
            reading = query.readings[indices[0]]
            together = max(1, self._predictor.batch_tokens // reading.input_ids.numel())
            for start in range(0, len(indices), together):
                part = indices[start : start + together]
                losses |= zip(part, self._losses([query.queries[i].served for i in part], reading), strict=True)
        for index, one in enumerate(query.queries):
            if not math.isfinite(losses[index]):
                raise NotFinite(one.served.name)
        return [Loss(one.served, losses[index]) for index, one in enumerate(query.queries)]

    def _losses(self, candidates: Sequence[Served], reading: MaskedBatch) -> list[float]:
        """One forward pass: the text behind the prompt of every candidate."""
        backbone = self._predictor.backbone
        decoded = [served.decoded() for served in candidates]
        reading = reading.to(backbone.device)
        count, rows, width = len(candidates), len(reading.input_ids), reading.width
        offsets = torch.arange(count, device=backbone.device)[:, None] * (rows * width)
        mask = None if reading.attention_mask is None else reading.attention_mask.repeat(count, 1)
        prompts = [cast(Tensor, one.prompt) for one in decoded]
        own = torch.arange(count, device=backbone.device).repeat_interleave(rows)
        with self._predictor.computing, torch.inference_mode():
            prefix = Prefix.per_row(prompts, own, backbone.dtype, [one.positions for one in decoded])
            positions = (reading.positions[None] + offsets).flatten()
            decoder = None if reading.decoder_ids is None else DecoderInput(reading.decoder_ids.repeat(count, 1))
            hidden = backbone.states_at(reading.input_ids.repeat(count, 1), mask, prefix, positions, decoder)
            each = hidden.view(count, len(reading.targets), -1)
            sums = [backbone.masked_token_loss(states, reading.targets) for states in each]
        return [float(value) / len(reading.targets) for value in sums]
