"""Stage 1: what it reads and how (`Stage1`), and one training of it, whatever its objective (`objectives`)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from glotprompt.config import AdaptConfig, ObjectiveName, RuntimeConfig, preset
from glotprompt.data.characters import CharacterMap
from glotprompt.data.decontamination import EvaluationText, decontaminated, decontaminated_pairs
from glotprompt.data.languages import name_of
from glotprompt.data.readers.records import content_hash, content_of_pairs
from glotprompt.errors import ConfigError, setting
from glotprompt.inference.classifier import Part
from glotprompt.inference.combination import shared_characters
from glotprompt.methods import Method, method_of_adapt
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.module import Module
from glotprompt.model.modules.stack import ModuleStack
from glotprompt.processes import is_first
from glotprompt.records import (
    ALREADY_ALIGNED,
    AdaptReport,
    AlignmentScores,
    Decontamination,
    HeldOutScores,
    Trial,
    UnknownShare,
)
from glotprompt.spec import RunSpec, adapt_specs, digest_of, whole
from glotprompt.stages.initial import Initial, InitialPrompt, begin_adapt, initial_prompt, weighted
from glotprompt.stages.stage1_objectives import Objective, SentencePairs, objective_of
from glotprompt.training.checkpoint import Checkpoint, same_precision
from glotprompt.training.loop import Evaluation, History, Optimisation, fit
from glotprompt.training.memory import PeakMemory, gradient_checkpointing
from glotprompt.training.micro_batch import MicroBatch
from glotprompt.training.objectives.inputs import check_length
from glotprompt.training.objectives.unknown import refuse_unknown, unknown_in
from glotprompt.training.rates import try_rates
from glotprompt.training.watch import Watch


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
    source_adapter: Part | None = None
    """A ready adapter of the source language, for which nothing is trained."""

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
        source_adapter: Module | None = None,
    ) -> Stage1:
        """The arguments are those of `protocol.adapt`, which says what is refused."""
        if initial is not None and (config is None or "initialise" not in config.model_fields_set):
            config = (config or AdaptConfig()).replace(initialise="prompt")  # above a preset's
        config = with_objective(config, parallel is not None, bool(len(target) or len(source)), backbone.objective)
        if config.positions == "shifted" and backbone.objective == "spans":
            raise ConfigError(f"{backbone.name} has relative positions, which nothing shifts; leave positions out")
        if not language:
            raise ConfigError(f"which language is it? Give its ISO 639-3 code as {setting('language')}")
        method = method_of_adapt(config)
        ready = None if source_adapter is None else _ready(source_adapter, backbone, method, config, source)
        config, start = initial_prompt(backbone, config, initial)
        decontamination = None
        if len(held_out):
            clean = {
                role: decontaminated(text, held_out, f"{role} text")
                for role, text in (("target", target), ("source", source))
            }
            target, source = clean["target"].texts, clean["source"].texts
            checked = {name: text.report.to_json() for name, text in clean.items() if text.texts}
            if parallel is not None:
                parallel, of_pairs = decontaminated_pairs(parallel, held_out)
                checked = {**of_pairs, **checked}
            decontamination = Decontamination.model_validate(checked)
        texts = [*target, *(pair[1] for pair in parallel or ())]
        if initial is not None and characters is None:
            characters = shared_characters([prompt for prompt, _ in weighted(initial)])
        if characters is not None:
            target, source = ([characters.apply(line) for line in text] for text in (target, source))
            if parallel is not None:
                parallel = [(characters.apply(one), characters.apply(other)) for one, other in parallel]
        return cls(method, config, language, target, source, parallel, texts, characters, start, decontamination, ready)

    def specs(self, backbone: Backbone) -> dict[str, RunSpec]:
        """The trainings by part of the result."""
        contents = dict[str, str]()
        if self.config.objective != "alignment":
            contents |= {"target": content_hash(self.target), "source": content_hash(self.source)}
        if self.pairs is not None:
            contents["pairs"] = content_of_pairs(self.pairs)
        builds_on = [] if self.start is None else [self.start.digest]
        origin = backbone.fingerprint, backbone.asked_precision
        specs = adapt_specs(
            self.config, contents, self.language, origin, builds_on=builds_on, characters=self.characters
        )
        return {part: spec for part, spec in specs.items() if self._trains(part)}

    def spec(self, backbone: Backbone) -> RunSpec:
        """All of it as one run."""
        spec = whole(self.specs(backbone))
        if self.source_adapter is None:
            return spec
        return replace(spec, builds_on=[*spec.builds_on, digest_of(self.source_adapter)])

    def _trains(self, part: str) -> bool:
        return part != "source" or self.source_adapter is None

    def texts_read(self) -> dict[str, list[str]]:
        """ "target", "source": what it reads of both languages."""
        shares = [share for part, share in self.method.source_shares(self.config).items() if self._trains(part)]
        read = {"target": any(share < 1 for share in shares), "source": any(share > 0 for share in shares)}
        text = {name: list(text) for name, text in (("target", self.target), ("source", self.source)) if read[name]}
        for name, side in (("target", 1), ("source", 0)) if self.pairs is not None else ():
            text.setdefault(name, []).extend(pair[side] for pair in self.pairs or ())
        return text


def check_source_adapter(method: Method) -> None:
    """Raises `ConfigError` for a method that has no use for a ready adapter of the source language."""
    if "source" not in method.parts:
        raise ConfigError(f"{method.name} has no source language adapter; leave {setting('source_adapter')} out")


def _ready(adapter: Module, backbone: Backbone, method: Method, config: AdaptConfig, source: Sequence[str]) -> Part:
    """A ready source adapter that fits backbone and method; `ConfigError` or `ModelError` for any other."""
    check_source_adapter(method)
    if "alignment" in config.objective:
        raise ConfigError(f"alignment trains one adapter for both languages; leave {setting('source_adapter')} out")
    if len(source):
        raise ConfigError(f"the source language's adapter is ready and reads no text; leave {setting('source')} out")
    with adapter.attached(backbone):
        return Part.of(adapter)


def count_unknown(
    backbone: Backbone, texts: Mapping[str, Sequence[str]], runtime: RuntimeConfig
) -> dict[str, UnknownShare]:
    """What the tokenizer does not know of each text, by what it is called, for what is saved; said where it matters.
    Raises `DataError` where too much is unknown and `allow_unknown` does not stand."""
    counted: dict[str, UnknownShare] = {}
    for name, text in texts.items():
        unknown = unknown_in(text, backbone.tokenizer)
        if not runtime.allow_unknown:
            refuse_unknown(f"the {name} text", unknown, backbone.tokenizer)
        if unknown.matters and runtime.progress and is_first():
            print(f"{name} text: {unknown.sentence()}", file=sys.stderr)
        counted[name] = UnknownShare(**unknown.to_dict())
    return counted


def with_objective(config: AdaptConfig | None, parallel: bool, text: bool, of_backbone: ObjectiveName) -> AdaptConfig:
    """The config of a stage 1 that was given parallel text, or text, or both: what was not set is the preset
    alignment's for parallel text alone, and the backbone's own objective for text. Raises `ConfigError` where the
    objective was set to another one, and for a setting without effect on the backbone."""
    if config is not None and config.objective == "mlm+alignment":
        if parallel and text and of_backbone in ("mlm", config.objective):
            return config
        raise ConfigError(
            f"objective {config.objective!r} needs unlabelled text ({setting('target')}), parallel text"
            f" ({setting('parallel')}) and a masked language model; give all of them, or another objective"
        )
    if parallel and text:
        raise ConfigError(
            "parallel text is aligned by itself; leave target and source out, or give"
            f" {setting('objective', 'mlm+alignment')}"
        )
    objective: ObjectiveName = "alignment" if parallel else "mlm" if "alignment" in of_backbone else of_backbone
    if config is None:
        return AdaptConfig(**preset("alignment", "adapt")) if parallel else AdaptConfig(objective=objective)
    if config.objective == objective:
        return config
    if not parallel and config.objective != "alignment":
        of_masks = {"clm": ("objective", "mlm_hold", "mask_rate"), "spans": ("objective", "mlm_hold")}
        settings = (name for name in of_masks.get(objective, ("objective",)) if name in config.model_fields_set)
        if given := next(settings, None):
            raise ConfigError(f"this backbone is trained with objective {objective!r}; leave {given} out")
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
    check_length(backbone, config.max_length, ModuleStack({}))  # before the frozen model reads anything
    checkpoint = Checkpoint(runtime, spec.identity)
    same_precision(backbone, checkpoint)
    # In the precision of the run: alignment's teachers are the backbone's own states.
    objective = objective_of(backbone, (stage1.target, stage1.source), stage1.pairs, config, runtime)
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


def _say_already_aligned(scores: HeldOutScores, runtime: RuntimeConfig) -> None:
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
    progress = Watch(title, config.steps, runtime, checkpoint.identity)
    with gradient_checkpointing(backbone, runtime):
        history = fit(module.trained_parameters, losses, evaluate, optimisation, checkpoint, progress, micro_batch)
    return module, history
