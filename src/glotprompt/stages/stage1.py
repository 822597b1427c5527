"""Stage 1: what it reads and how (`Stage1`), and one training of it, whatever its objective.

`train_part` is the order of things; an `Objective` says what is read, what the loss of a step is, and how held-out text
judges it: masked language modelling on text, or alignment on pairs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypedDict

import torch
from torch import Tensor

from glotprompt.config import AdaptConfig, RuntimeConfig, preset
from glotprompt.data.characters import CharacterMap
from glotprompt.data.decontamination import EvaluationText, decontaminated, decontaminated_pairs
from glotprompt.data.languages import name_of
from glotprompt.data.readers.records import content_hash, content_of_pairs
from glotprompt.errors import ConfigError, setting
from glotprompt.inference.combination import shared_characters
from glotprompt.methods import Method, method_of_adapt
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.module import Module
from glotprompt.model.prefix import Prefix
from glotprompt.model.tokens import Sequences
from glotprompt.processes import is_first
from glotprompt.records import ALREADY_ALIGNED, AdaptReport, Decontamination, MaskedTokenScores, Trial, UnknownShare
from glotprompt.spec import RunSpec, adapt_specs, whole
from glotprompt.stages.initial import Initial, InitialPrompt, begin_adapt, initial_prompt, weighted
from glotprompt.training.checkpoint import Checkpoint, same_precision
from glotprompt.training.loop import Evaluation, History, Optimisation, Parts, fit
from glotprompt.training.memory import PeakMemory, gradient_checkpointing
from glotprompt.training.objectives.alignment import (
    AlignmentScores,
    alignment_corpus,
    alignment_losses,
    halves_of_pairs,
    score_alignment,
    split_pairs,
)
from glotprompt.training.objectives.inputs import check_length, masking_corpus
from glotprompt.training.objectives.losses import masked_token_losses
from glotprompt.training.objectives.micro_batch import MicroBatch
from glotprompt.training.objectives.scoring import evaluation_batches, score_masked_tokens
from glotprompt.training.objectives.unknown import refuse_unknown, unknown_in
from glotprompt.training.progress import StepLine
from glotprompt.training.rates import try_rates

SentencePairs = Sequence[tuple[str, str]]
"""Parallel text: (source, target)."""


@dataclass(frozen=True)
class Stage1:
    """A stage 1 that is ready to run: settings that fit together, and text as it is read."""

    method: Method
    config: AdaptConfig
    language: str
    """ISO 639-3 code."""
    target: Sequence[str]
    """Lines with their characters rewritten; so is the source's, and the pairs."""
    source: Sequence[str]
    pairs: SentencePairs | None
    given: Sequence[str]
    """The target's side, line by line, as it was before."""
    characters: CharacterMap | None = None
    start: InitialPrompt | None = None
    decontamination: Decontamination | None = None
    """What was removed because it will be scored."""

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        target: Sequence[str],
        source: Sequence[str],
        language: str,
        config: AdaptConfig | None = None,
        characters: CharacterMap | None = None,
        initial: Initial | None = None,
        *,
        parallel: SentencePairs | None = None,
        held_out: EvaluationText = (),
    ) -> Stage1:
        """The arguments are those of `protocol.adapt`, which says what is refused."""
        config = with_objective(config, parallel is not None, backbone)
        if parallel is not None and (len(target) or len(source)):
            raise ConfigError("parallel text is aligned by itself; leave target and source out")
        if not language:
            raise ConfigError(f"which language is it? Give its ISO 639-3 code as {setting('language')}")
        method = method_of_adapt(config)
        config, start = initial_prompt(backbone, config, initial)
        decontamination = None
        if len(held_out):
            clean = {
                role: decontaminated(text, held_out, f"{role} text")
                for role, text in (("target", target), ("source", source))
            }
            target, source = clean["target"].texts, clean["source"].texts
            checked = {name: text.to_json() for name, text in clean.items() if text.num_kept}
            if parallel is not None:
                parallel, checked = decontaminated_pairs(parallel, held_out)
            decontamination = Decontamination.model_validate(checked)
        given = target if parallel is None else [pair[1] for pair in parallel]
        if initial is not None and characters is None:
            characters = shared_characters([prompt for prompt, _ in weighted(initial)])
        if characters is not None:
            target, source = ([characters.apply(line) for line in text] for text in (target, source))
            if parallel is not None:
                parallel = [(characters.apply(one), characters.apply(other)) for one, other in parallel]
        return cls(method, config, language, target, source, parallel, given, characters, start, decontamination)

    def specs(self, backbone: Backbone) -> dict[str, RunSpec]:
        """The trainings by part of the result."""
        if self.pairs is not None:
            contents = {"pairs": content_of_pairs(self.pairs)}
        else:
            contents = {"target": content_hash(self.target), "source": content_hash(self.source)}
        builds_on = [] if self.start is None else [self.start.digest]
        origin = backbone.fingerprint, backbone.asked_precision
        return adapt_specs(
            self.config, contents, self.language, origin, builds_on=builds_on, characters=self.characters
        )

    def spec(self, backbone: Backbone) -> RunSpec:
        """All of it as one run."""
        return whole(self.specs(backbone))

    def texts_read(self) -> dict[str, Sequence[str]]:
        """ "target", "source": what it reads of both languages."""
        if self.pairs is not None:
            return {"target": [target for _, target in self.pairs], "source": [source for source, _ in self.pairs]}
        shares = self.method.source_shares(self.config).values()
        read = {"target": any(share < 1 for share in shares), "source": any(share > 0 for share in shares)}
        return {name: text for name, text in (("target", self.target), ("source", self.source)) if read[name]}


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

    def scores(self, prefix: Prefix | None) -> MaskedTokenScores | AlignmentScores:
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
        self._backbone = backbone
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
        return masked_token_losses(self._backbone, module, self._corpus.batch(step), micro_batch)

    def scores(self, prefix: Prefix | None) -> MaskedTokenScores:
        return score_masked_tokens(self._backbone, self._batches, prefix)

    def judge(self, prefix: Prefix | None) -> Evaluation:
        loss = score_masked_tokens(self._backbone, self._watched, prefix).loss
        return Evaluation((loss,), {"held_out_loss": loss})


class Alignment:
    """Sentences of the target language where the frozen model puts their translations (`objectives.alignment`)."""

    def __init__(self, backbone: Backbone, pairs: SentencePairs, config: AdaptConfig, runtime: RuntimeConfig) -> None:
        kept, held = split_pairs(pairs, config)
        self._backbone, self._batch_size = backbone, runtime.eval_batch_size
        self._corpus = alignment_corpus(backbone, kept, config, self._batch_size)
        self._choosing, self._reporting = (
            alignment_corpus(backbone, part, config, self._batch_size, self._corpus.centre)
            for part in halves_of_pairs(held)
        )
        self.text = self._corpus.pairs.source
        self.amounts = Amounts(pairs=len(kept), held_out_pairs=len(held))
        self.held_out = [target for _, target in held]

    def losses(self, module: Module, step: int, micro_batch: MicroBatch) -> Parts:
        return alignment_losses(self._backbone, module, self._corpus.batch(step), self._corpus.centre, micro_batch)

    def scores(self, prefix: Prefix | None) -> AlignmentScores:
        return score_alignment(self._backbone, self._reporting, prefix, self._batch_size)

    def judge(self, prefix: Prefix | None) -> Evaluation:
        """By the loss, which moves more smoothly than retrieval and counts the source sentences, too."""
        found = score_alignment(self._backbone, self._choosing, prefix, self._batch_size)
        return Evaluation((found.loss,), {"held_out_loss": found.loss, "retrieval": found.retrieval})


def count_unknown(
    backbone: Backbone, texts: Mapping[str, Sequence[str]], runtime: RuntimeConfig
) -> dict[str, UnknownShare]:
    """What the tokenizer does not know of each text, by what it is called, for what is saved; said where it matters.
    Raises `DataError` where too much is unknown and `allow_unknown` does not stand."""
    counted: dict[str, UnknownShare] = {}
    for name, text in texts.items():
        found = unknown_in(text, backbone.tokenizer)
        if not runtime.allow_unknown:
            refuse_unknown(f"the {name} text", found, backbone.tokenizer)
        if found.matters and runtime.progress and is_first():
            print(f"{name} text: {found.sentence()}", file=sys.stderr)
        counted[name] = UnknownShare(**found.to_dict())
    return counted


def with_objective(config: AdaptConfig | None, parallel: bool, backbone: Backbone) -> AdaptConfig:
    """The config of a stage 1 that was given parallel text, or none: what was not set is the preset alignment's there,
    and the backbone's own objective here. Raises `ConfigError` where the objective was set to another one, and for a
    setting without effect on the backbone."""
    objective = "alignment" if parallel else backbone.objective
    if config is None:
        return AdaptConfig(**preset("alignment", "adapt")) if parallel else AdaptConfig(objective=objective)
    if config.positions == "shifted" and backbone.objective == "spans":
        raise ConfigError(f"{backbone.name} has relative positions, which nothing shifts; leave positions out")
    if config.objective == objective:
        return config
    if not parallel and config.objective != "alignment":
        if "objective" in config.model_fields_set or (objective == "clm" and "mask_rate" in config.model_fields_set):
            given = "objective" if "objective" in config.model_fields_set else "mask_rate"
            raise ConfigError(f"{backbone.name} is trained with objective {objective!r}; leave {given} out")
        return config.replace(objective=objective)
    if "objective" in config.model_fields_set:
        needs = f"unlabelled text ({setting('target')})" if parallel else f"parallel text ({setting('parallel')})"
        raise ConfigError(f"objective {config.objective!r} needs {needs}; give it, or leave objective out")
    return AdaptConfig(**{**preset("alignment", "adapt", config.method), **config.model_dump(exclude_unset=True)})


@dataclass(frozen=True)
class TrainedPart:
    """What one training of stage 1 gives."""

    module: Module
    report: AdaptReport
    held_out: Sequence[str]
    """As `Objective.held_out`."""


def train_part(
    backbone: Backbone,
    stage1: Stage1,
    part: str,
    spec: RunSpec,
    runtime: RuntimeConfig,
) -> TrainedPart:
    """Train the part of the result that `spec` describes."""
    method, start, memory = stage1.method, stage1.start, PeakMemory()
    config = stage1.config.replace(method=method.name, source_share=method.source_shares(stage1.config)[part])
    checkpoint = Checkpoint(runtime, spec.identity)
    same_precision(backbone, checkpoint)
    objective: Objective  # in the precision of the run: alignment's teachers are the backbone's own states
    if stage1.pairs is None:
        objective = LanguageModelling(backbone, stage1.target, stage1.source, config, runtime)
    else:
        objective = Alignment(backbone, stage1.pairs, config, runtime)
    before = objective.scores(None)
    _say_already_aligned(before, runtime)
    begin = partial(begin_adapt, backbone, method, objective.text, config, start)
    train = partial(_train, backbone, begin, objective)
    rate, tried, spent = config.learning_rate, list[Trial](), 0.0
    if rate == "auto":
        rate, tried, spent = try_rates(
            config, runtime, spec.identity, lambda short, *how: train(short, runtime, *how)[1]
        )
    of_part = "" if part == "language" else f"{part} of "
    module, history = train(config, runtime, rate, checkpoint, f"adapt {of_part}{name_of(stage1.language)}")
    history.seconds += spent
    with torch.no_grad(), module.attached(backbone) as prefix:
        after = objective.scores(prefix)
    report = AdaptReport(
        config=stage1.config.model_dump(mode="json"),
        precision=backbone.precision,
        learning_rate=rate,
        rates_tried=tried,
        held_out_before=before,
        held_out_after=after,
        improved=after.loss < before.loss,
        trained_parameters=module.num_trained,
        peak_memory_bytes=memory.bytes(),
        **objective.amounts,
        **history.figures(),
    )
    return TrainedPart(module, report, objective.held_out)


def _say_already_aligned(scores: MaskedTokenScores | AlignmentScores, runtime: RuntimeConfig) -> None:
    if isinstance(scores, AlignmentScores) and scores.retrieval >= ALREADY_ALIGNED and runtime.progress and is_first():
        print(
            f"already aligned: {scores.retrieval:.1f} % of {scores.num_pairs} held-out translations are found before"
            " training; alignment then gives nothing or a few points",
            file=sys.stderr,
        )


def _train(
    backbone: Backbone,
    begin: Callable[[], Module],
    objective: Objective,
    config: AdaptConfig,
    runtime: RuntimeConfig,
    rate: float,
    checkpoint: Checkpoint,
    title: str,
) -> tuple[Module, History]:
    """Train a fresh module at one learning rate."""
    module = begin().to(backbone.device)
    check_length(backbone, config.max_length, module)
    micro_batch = MicroBatch(runtime)

    def losses(step: int) -> Generator[tuple[Tensor, int]]:
        with backbone.dropping_out(config.dropout, (config.seed, step)):
            yield from objective.losses(module, step, micro_batch)

    @torch.no_grad()
    def evaluate() -> Evaluation:
        with module.attached(backbone) as prefix:
            return objective.judge(prefix)

    optimisation = Optimisation.of(config, config.steps, rate, config.eval_every, config.patience)
    progress = StepLine(title, config.steps, runtime.progress)
    with gradient_checkpointing(backbone, runtime):
        history = fit(module.trained_parameters, losses, evaluate, optimisation, checkpoint, progress, micro_batch)
    return module, history
