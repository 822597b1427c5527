"""What is set side by side in stage 1: the product's training step, PEFT's prefix tuning, and full fine-tuning."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from backbones import RandomModel, WideTokenizer
from peft import PrefixTuningConfig, get_peft_model
from texts import Lines
from torch import Tensor, nn
from transformers import DataCollatorForLanguageModeling, PreTrainedModel

from glotprompt.config import AdaptConfig, RuntimeConfig
from glotprompt.model import body
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.tokens import SpecialIds, padded_width
from glotprompt.training.checkpoint import Checkpoint
from glotprompt.training.loop import Evaluation, Losses, Optimisation, fit
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.alignment import AlignmentBatch, AlignmentCorpus, alignment_losses
from glotprompt.training.objectives.batches import MaskingCorpus, sample_indices
from glotprompt.training.objectives.losses import masked_token_losses
from glotprompt.training.progress import Silent

# peft asks transformers by an old name; what it prints would only stand between the lines of a table.
warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated", category=FutureWarning)

COMPILED = ("_projected", "_after_attention")
"""Functions of `glotprompt.model.body`: a layer without its attention, whose kernels are torch's own."""


@dataclass(frozen=True)
class Step:
    """One training step, or the mean of several."""

    seconds: float
    tokens: int
    """Real ones: padding does not count."""
    masked: int
    """Words that were predicted."""
    loss: float
    positions: int
    """Padding included."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


class Side(Protocol):
    """One way to train."""

    def step(self) -> Step:
        """Batch, forward, backward, clipping, optimiser."""
        ...


@dataclass(frozen=True)
class Work:
    """What both sides are to do."""

    batch: int
    length: int
    prompt_length: int
    lines: Lines
    dropout: bool = True
    """Whether the others keep the dropout that their models come with."""


class _Clock(Silent):
    """When the loop's steps began and ended: it is the loop's progress line, and is told when a batch is wanted."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.ended: list[float] = []
        self.tokens: list[int] = []
        self.losses: list[float] = []

    def advance(self, step: int, loss: float | None, tokens: int, figures: dict[str, float]) -> None:
        self.ended.append(time.perf_counter())
        self.tokens.append(tokens)
        assert loss is not None
        self.losses.append(loss)


def timed_fit(
    parameters: Sequence[nn.Parameter], losses: Losses, steps: int, untimed: int = 1
) -> tuple[float, int, float]:
    """Seconds, tokens and the last loss of `steps` steps of our own loop (`training.loop.fit`), after `untimed`
    ones. The clock runs from the wish for a batch to the end of the optimiser step: masking, forward, backward,
    clipping, AdamW. Nothing is evaluated, and the parameters end as they began."""
    clock = _clocked(parameters, losses, untimed + steps)
    before = clock.tokens[untimed - 1] if untimed else 0
    return clock.ended[-1] - clock.began[untimed], clock.tokens[-1] - before, clock.losses[-1]


def timed_epochs(parameters: Sequence[nn.Parameter], losses: Losses, steps: int, count: int) -> list[float]:
    """Seconds of each of `count` epochs of `steps` steps, timed as in `timed_fit`."""
    clock = _clocked(parameters, losses, count * steps)
    return [clock.ended[first + steps - 1] - clock.began[first] for first in range(0, count * steps, steps)]


def _clocked(parameters: Sequence[nn.Parameter], losses: Losses, steps: int) -> _Clock:
    clock = _Clock()

    def watched(step: int) -> Generator[tuple[Tensor, int]]:
        clock.began.append(time.perf_counter())
        return losses(step)

    optimisation = Optimisation(steps, 1e-3, warmup_ratio=0.0, weight_decay=0.0, clip_norm=1.0, eval_every=steps)
    nothing = Evaluation((0.0,), {})
    fit(parameters, watched, lambda: nothing, optimisation, Checkpoint(RuntimeConfig(), "benchmark"), clock)
    return clock


class Ours:
    """The product: packed sequences, the head at masked positions only, prompt and optimiser in fp32."""

    def __init__(self, random: RandomModel, dtype: torch.dtype, work: Work, timed: int = 2) -> None:
        self.backbone = random.backbone(dtype)
        self.prompt = _new_prompt(self.backbone, work)
        config = AdaptConfig(batch_size=work.batch, max_length=work.length, prompt_length=work.prompt_length)
        target, source = work.lines.packed(SpecialIds.of(random.tokenizer), work.length)
        self.corpus = MaskingCorpus(target, source, config, random.tokenizer)
        self.timed = timed
        self._num_steps = 0

    def step(self) -> Step:
        """The mean of `timed` steps after an untimed one: the step after a pause, in which others have used the caches,
        is not what training consists of."""
        masked: list[int] = []
        positions: list[int] = []

        def losses(number: int) -> Generator[tuple[Tensor, int]]:
            batch = self.corpus.batch(self._num_steps + number)
            masked.append(len(batch.targets))
            positions.append(batch.input_ids.numel())
            yield from masked_token_losses(self.backbone, self.prompt, batch, MicroBatch(RuntimeConfig()))

        seconds, tokens, loss = timed_fit(list(self.prompt.parameters()), losses, self.timed)
        self._num_steps += 1 + self.timed
        mean_masked, mean_positions = (sum(counts[1:]) // self.timed for counts in (masked, positions))
        return Step(seconds / self.timed, tokens // self.timed, mean_masked, loss, mean_positions)


def _new_prompt(backbone: Backbone, work: Work) -> SoftPrompt:
    return SoftPrompt.initialise(backbone.prompt_shape(work.prompt_length), 0.02, seed=0).to(backbone.device)


class Compiled(Ours):
    """The product with what lies around attention in each layer compiled by `torch.compile`."""

    def __init__(self, random: RandomModel, dtype: torch.dtype, work: Work) -> None:
        super().__init__(random, dtype, work)
        backend = "inductor" if random.device.type == "cuda" else "aot_eager"  # as fast as it is, and as it comes
        self._parts = {name: torch.compile(getattr(body, name), backend=backend) for name in COMPILED}

    def step(self) -> Step:
        plain = {name: getattr(body, name) for name in self._parts}
        try:
            self._use(self._parts)
            return super().step()
        finally:
            self._use(plain)

    @staticmethod
    def _use(parts: Mapping[str, Any]) -> None:
        for name, part in parts.items():
            setattr(body, name, part)


class Aligned:
    """The product's other objective, alignment, over the same body and prompt: as many sentences a step, half of them
    translations of the others, padded; no vocabulary. The teachers, made once, are not timed, and random here."""

    def __init__(self, random: RandomModel, dtype: torch.dtype, work: Work, timed: int = 2) -> None:
        self.backbone = random.backbone(dtype)
        self.prompt = _new_prompt(self.backbone, work)
        target, source = (
            [np.array(row) for row in rows] for rows in work.lines.rows(SpecialIds.of(random.tokenizer), work.length)
        )
        count = min(len(target), len(source))
        teachers = torch.nn.functional.normalize(torch.randn(count, self.backbone.hidden_size), dim=1)
        centre = torch.zeros(self.backbone.hidden_size, device=random.device)
        pairs = AlignmentBatch(target[:count], source[:count], teachers.to(random.device))
        self.corpus = AlignmentCorpus(pairs, centre, max(1, work.batch // 2), seed=0)
        self.timed = timed
        self._num_steps = 0

    def step(self) -> Step:
        """As `Ours.step`."""
        positions: list[int] = []

        def losses(number: int) -> Generator[tuple[Tensor, int]]:
            batch = self.corpus.batch(self._num_steps + number)
            longest = (max(map(len, side)) for side in (batch.target, batch.source))
            positions.append(sum(padded_width(length) * len(batch.target) for length in longest))
            micro_batch = MicroBatch(RuntimeConfig())
            yield from alignment_losses(self.backbone, self.prompt, batch, self.corpus.centre, micro_batch)

        seconds, tokens, loss = timed_fit(list(self.prompt.parameters()), losses, self.timed)
        self._num_steps += 1 + self.timed
        return Step(seconds / self.timed, tokens // self.timed, 0, loss, sum(positions[1:]) // self.timed)


class Plain:
    """A plain loop around a transformers or PEFT model, as tutorials write it: single lines, padded to the longest and
    masked by transformers' collator; the model in training mode, so with its dropout, unless `Work.dropout` is off;
    logits of the whole batch; AdamW."""

    def __init__(self, model: nn.Module, tokenizer: WideTokenizer, work: Work, rate: float) -> None:
        self.model = model.train(work.dropout)
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.device = self.trained[0].device
        self.optimiser = torch.optim.AdamW(self.trained, lr=rate)
        self.collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15, seed=0)
        special = SpecialIds.of(tokenizer)
        self.batches = _batches(*work.lines.rows(special, work.length), work.batch)

    def step(self) -> Step:
        start = time.perf_counter()
        rows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in next(self.batches)]
        batch = {name: value.to(self.device) for name, value in self.collator(rows).items()}
        loss = self.model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        value = loss.item()
        seconds = time.perf_counter() - start
        tokens, masked = int(batch["attention_mask"].sum()), int((batch["labels"] != -100).sum())
        return Step(seconds, tokens, masked, value, batch["input_ids"].numel())


def _batches(target: Sequence[list[int]], source: Sequence[list[int]], size: int) -> Iterator[list[list[int]]]:
    """Half target, half source, every line once per epoch."""
    half, step = size // 2, 0
    while True:
        rows = [target[i] for i in sample_indices(len(target), size - half, 0, step, 0)]
        yield rows + [source[i] for i in sample_indices(len(source), half, 0, step, 1)]
        step += 1


def prefix_tuning(model: PreTrainedModel, prompt_length: int) -> Any:
    """PEFT's prefix tuning of a masked language model, the prompt in the model's dtype; on such a model it only works
    with this task type."""
    settings = PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=prompt_length)
    return get_peft_model(model, settings).to(model.device, model.dtype)


def peft(random: RandomModel, dtype: torch.dtype, work: Work) -> Plain:
    """PEFT's prefix tuning; in bf16 everything is bf16, as after `model.to(torch.bfloat16)`."""
    model = prefix_tuning(random.model(dtype), work.prompt_length)
    return Plain(model, random.tokenizer, work, rate=1e-3)


def fine_tuning(random: RandomModel, work: Work) -> Plain:
    """Full masked-token fine-tuning in fp32. Its rate is 0: the work is the same, and the weights, which other sides
    share, stay."""
    model = random.model(torch.float32).requires_grad_(True)
    return Plain(model, random.tokenizer, work, rate=0.0)


def stage1_sides(random: RandomModel, ours: torch.dtype, work: Work) -> dict[str, Callable[[], Side]]:
    """Makers of all sides, by name; nothing is built before it is wanted."""
    return {
        "ours": lambda: Ours(random, ours, work),
        "compiled": lambda: Compiled(random, ours, work),
        "alignment": lambda: Aligned(random, ours, work),
        "peft": lambda: peft(random, torch.float32, work),
        "peft-bf16": lambda: peft(random, torch.bfloat16, work),
        "fine-tuning": lambda: fine_tuning(random, work),
    }


def dtype_of_side(name: str, ours: torch.dtype) -> torch.dtype:
    """What the weights of a side are held in."""
    return {"ours": ours, "compiled": ours, "alignment": ours, "peft-bf16": torch.bfloat16}.get(name, torch.float32)
