"""How long steps will take: a few real passes on this machine for each kind of training, the rest by counting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.grid import reading
from glotprompt.grid.steps import AdaptStep, CostStep, EvaluateStep, Step, TuneStep, Workplace
from glotprompt.grid.work import encoder_of
from glotprompt.methods import METHODS
from glotprompt.model.delta import Delta
from glotprompt.model.encoder import Encoder
from glotprompt.train.cloze import encode

_PROBE_TOKENS = 512
"""Tokens of a timed pass, at most: more tell little that is new."""
_SAMPLE = 64
"""Texts whose length in tokens is measured."""

_CHARACTERS = 400
"""So much of each of them."""

_PASSES, _SECONDS = 3, 1.0
"""Passes that are timed, and after how many seconds no further one is begun."""

Estimate = Callable[[Step], float | None]
"""Seconds that a step will take; None where its backbone is not here."""


def estimator(place: Workplace) -> Estimate:
    """An estimate for this machine as it is now, each backbone with a clock of its own."""
    clocks: dict[str, Clock] = {}

    def estimate(step: Step) -> float | None:
        if isinstance(step, CostStep):
            return 0.0
        backbone = step.backbone
        if not backbone.fingerprint:
            return None
        if backbone.fingerprint not in clocks:
            clocks[backbone.fingerprint] = Clock(encoder_of(backbone, place.device), place.data_dir)
        return clocks[backbone.fingerprint].seconds(step)

    return estimate


@dataclass(frozen=True)
class Pace:
    """Seconds."""

    token: float
    """Training, forward and backward."""
    read_token: float
    """Forward alone."""
    update: float
    """The optimiser's step."""


class Clock:
    """Estimates for steps of one backbone. Each kind of training is timed once."""

    def __init__(self, encoder: Encoder, data_dir: Path | None) -> None:
        self.encoder, self.data_dir = encoder, data_dir
        self._paces: dict[tuple[str, str, int], Pace] = {}
        self._lengths: dict[tuple[reading.ExampleSource, str, int], float] = {}

    def seconds(self, step: AdaptStep | TuneStep | EvaluateStep) -> float:
        """What a step will take, without the loading of the backbone."""
        match step:
            case AdaptStep():
                return self._adapt(step)
            case TuneStep():
                return self._tune(step)
            case EvaluateStep():
                return self._example_tokens(step.tuned, step.test) * self._tune_pace(step.tuned).read_token

    def _adapt(self, step: AdaptStep) -> float:
        config, method = step.config, METHODS[step.method]
        trainings = len(method.shares) if step.after is None else 1
        size = (config.batch_size, config.max_length)
        begin = method.begin_adapt
        assert begin is not None
        words = max(1, round(config.mask_rate * _PROBE_TOKENS))
        pace = self._pace("adapt", config, size, lambda: begin(self.encoder, config), words)
        held = config.held_out * self._text_tokens(step)
        watched = min(held, config.eval_sequences * config.max_length)
        evaluations = 1 + -(-config.steps // config.eval_every)
        training = config.steps * (config.batch_size * config.max_length * pace.token + pace.update)
        return trainings * (training + (evaluations * watched + 2 * held) * pace.read_token)

    def _text_tokens(self, step: AdaptStep) -> float:
        lines = reading.texts(step.target, self.data_dir).lines
        sample = [line[:_CHARACTERS] for line in lines[:: max(1, len(lines) // _SAMPLE)][:_SAMPLE]]
        tokens = sum(len(ids) for ids in self.encoder.tokenizer(sample)["input_ids"])
        return tokens / max(1, sum(map(len, sample))) * sum(map(len, lines))

    def _tune(self, step: TuneStep) -> float:
        config = step.config
        num = len(reading.examples(step.train, self.data_dir))
        tokens = self._example_tokens(step, step.train) / num
        held = config.dev_share * num if step.dev is None else len(reading.examples(step.dev, self.data_dir))
        if step.dev is None:
            num -= round(held)
        if config.shots_per_class is not None:
            num = min(num, config.shots_per_class * len(step.task.labels))
        pace = self._tune_pace(step)
        if METHODS[step.method].reads_vectors:  # each example once; the regression takes next to nothing
            return (num + held) * tokens * pace.read_token
        updates = config.epochs * -(-num // config.batch_size)
        return (
            config.epochs * num * tokens * pace.token
            + updates * pace.update
            + (1 + config.epochs) * held * tokens * pace.read_token
        )

    def _tune_pace(self, step: TuneStep) -> Pace:
        config = step.config
        length = round(self._example_tokens(step, step.train) / len(reading.examples(step.train, self.data_dir)))
        adapt = None if step.adapted is None else step.adapted.config

        def begin() -> Delta:
            method = METHODS[step.method]
            start = METHODS[method.start]
            fresh = {} if adapt is None or start.begin_adapt is None else {
                part: start.begin_adapt(self.encoder, adapt).to(self.encoder.device) for part in start.shares
            }  # fmt: skip
            return method.begin_tune(self.encoder, fresh, config)

        return self._pace("tune", config, (config.batch_size, length), begin, None)

    def _example_tokens(self, step: TuneStep, source: reading.ExampleSource) -> float:
        """Tokens of all examples, from a sample of them."""
        key = (source, step.task.identity(), step.config.max_length)
        found = reading.examples(source, self.data_dir)
        if key not in self._lengths:
            sample = found[:: max(1, len(found) // _SAMPLE)][:_SAMPLE]
            fields = [example.fields for example in sample]
            clozes = encode(fields, step.task, self.encoder.tokenizer, step.config.max_length)
            self._lengths[key] = sum(len(cloze.input_ids) for cloze in clozes) / len(clozes)
        return self._lengths[key] * len(found)

    def _pace(
        self,
        kind: str,
        config: AdaptConfig | TuneConfig,
        size: tuple[int, int],
        begin: Callable[[], Delta],
        num_words: int | None,
    ) -> Pace:
        key = (kind, config.replace(seed=0).identity(), size[1])
        if key not in self._paces:
            self._paces[key] = timed_pass(self.encoder, begin().to(self.encoder.device), size, num_words)
        return self._paces[key]


def timed_pass(encoder: Encoder, delta: Delta, size: tuple[int, int], num_words: int | None) -> Pace:
    """One pass to warm up and a few that count, of which the fastest is taken: what else runs delays some of them.
    Where nothing is trained (embedding), only reading takes time."""
    batch, length = min(size[0], max(1, _PROBE_TOKENS // size[1])), size[1]
    ids = torch.randint(10, encoder.vocab_size - 10, (batch, length), generator=torch.Generator().manual_seed(0))
    ids = ids.to(encoder.device)
    count = batch if num_words is None else min(num_words, batch * length)
    places = torch.arange(count, device=encoder.device) * (batch * length // count)
    parameters = [parameter for parameter in delta.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=0.0, fused=True) if parameters else None
    paces: list[Pace] = []
    begin = perf_counter()
    while len(paces) < 2 or (len(paces) <= _PASSES and perf_counter() - begin < _SECONDS):
        token = update = 0.0
        if optimiser is not None:
            start = perf_counter()
            with delta.attached(encoder) as prefix:
                hidden = encoder.states_at(ids, None, prefix, places)
                if num_words is None:
                    loss = encoder.token_logits(hidden, places[:4]).float().logsumexp(-1).sum()
                else:
                    loss = encoder.masked_word_loss(hidden, ids.flatten()[places])
                loss.backward()  # pyright: ignore[reportUnknownMemberType]
            token = (perf_counter() - start) / ids.numel()
            start = perf_counter()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            update = perf_counter() - start
        start = perf_counter()
        with torch.no_grad(), delta.attached(encoder) as prefix:
            encoder.states_at(ids, None, prefix, places)
        paces.append(Pace(token, (perf_counter() - start) / ids.numel(), update))
    counted = paces[1:]
    return Pace(*(min(getattr(pace, part) for pace in counted) for part in ("token", "read_token", "update")))
