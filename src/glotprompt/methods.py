"""The methods side by side: what each trains in each stage, and what of it serves the target language.

This is the only file that knows what differs between methods. All share one protocol (`run`), one loop (`train.loop`),
the same batches, losses, selection and scores; settings and default rates stand in `config`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from glotprompt import artifact
from glotprompt.classifier import Adapted, PromptClassifier
from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.errors import ConfigError, setting
from glotprompt.model.adapters import Adapter
from glotprompt.model.delta import Delta
from glotprompt.model.deltas import Together
from glotprompt.model.encoder import Encoder
from glotprompt.model.lora import Lora
from glotprompt.model.soft_prompt import SoftPrompt
from glotprompt.model.weights import Weights, is_head_transform

Parts = Mapping[str, Delta]
"""What stage 1 left: "language", and for MAD-X "source"."""


@dataclass(frozen=True)
class Method:
    """One way to teach a frozen model a language and then a task."""

    name: str
    source: str
    """Where it was published."""
    stage1: str | None
    """What stage 1 trains, in words; None: there is no stage 1."""
    stage2: str
    begin_tune: Callable[[Encoder, Parts, TuneConfig], Delta]
    """What stage 2 trains, with all that it is trained behind."""
    begin_adapt: Callable[[Encoder, AdaptConfig], Delta] | None = None
    """What stage 1 trains, fresh. None: there is no stage 1."""
    shares: Mapping[str, float | None] = field(default_factory=lambda: {"language": None})
    """The trainings of stage 1, one for each part of its result, and the share of source text in each; None: the
    config's `source_share`."""
    takes: str = ""
    """The method whose stage 1 it builds on; "": its own."""
    deliver: Callable[[Delta, Parts], Delta] = lambda tuned, parts: tuned
    """From what stage 2 trained to what classifies the target language."""
    has_prompt: bool = True
    """Whether stage 2 trains prompts, of which K layers may be chosen."""
    aligns: bool = False
    """Whether stage 1 can be alignment on parallel text, too."""
    reads_vectors: bool = False
    """Whether stage 2 is logistic regression on sentence vectors, in closed form, behind whatever stage 1 left."""
    tunes_once: bool = False
    """Whether stage 2 reads nothing of the target, so that one training serves all of them (`for_language`)."""

    @property
    def start(self) -> str:
        """The method whose stage-1 results it tunes."""
        return self.takes or self.name

    def source_shares(self, config: AdaptConfig) -> dict[str, float]:
        """The trainings of stage 1 and the share of source text in each."""
        return {part: config.source_share if share is None else share for part, share in self.shares.items()}


# ---------------------------------------------------------------------------------------------------------------
# Prompts


def _fresh_prompt(encoder: Encoder, config: AdaptConfig) -> Delta:
    shape = encoder.prompt_shape(config.prompt_length)
    return SoftPrompt.initialise(shape, config.init_std, config.seed, positions=config.positions)


def _noise(encoder: Encoder, parts: Parts, config: TuneConfig) -> Delta:
    layers = _trained_layers(encoder.num_layers, config, encoder.num_layers)
    return SoftPrompt.initialise(encoder.prompt_shape(config.prompt_length), config.init_std, config.seed, layers)


def _continued_prompt(encoder: Encoder, parts: Parts, config: TuneConfig) -> Delta:
    prompt = _prompt_of(parts)
    layers = _trained_layers(encoder.num_layers, config, round(0.75 * encoder.num_layers))
    return SoftPrompt(prompt.key_values(), layers, prompt.positions)


def _prompt_of(parts: Parts) -> SoftPrompt:
    prompt = parts["language"]
    assert isinstance(prompt, SoftPrompt)
    return prompt


def _trained_layers(num_layers: int, config: TuneConfig, default: int) -> range:
    """The layers whose prompts stage 2 trains: the top (or bottom) K, else the top `default`."""
    for name, value in (("top_k_layers", config.top_k_layers), ("bottom_k_layers", config.bottom_k_layers)):
        if value is not None and not 1 <= value <= num_layers:
            raise ConfigError(f"{name} is {value}; this model has {num_layers} layers, give 1 to {num_layers}")
    if config.bottom_k_layers is not None:
        return range(config.bottom_k_layers)
    return range(num_layers - (config.top_k_layers or default), num_layers)


# ---------------------------------------------------------------------------------------------------------------
# Adapters, LoRA, whole models


def _fresh_language_adapter(encoder: Encoder, config: AdaptConfig) -> Delta:
    adapter = Adapter.initialise(
        encoder.hidden_size,
        encoder.num_layers,
        config.adapter_reduction,
        config.invertible_reduction,
        drop_last=config.drop_last_adapter,
        seed=config.seed,
    )
    if not config.train_lm_head:
        return adapter
    return Together({"adapter": adapter, "lm_head": Weights.of(encoder, is_head_transform)})


def _fresh_lora(encoder: Encoder, config: AdaptConfig) -> Delta:
    targets = "all" if config.lora_layers == "all" else None
    return Lora(encoder, config.lora_rank, config.lora_alpha, targets, config.seed)


def _frozen_with_task_adapter(encoder: Encoder, base: Delta, config: TuneConfig) -> Delta:
    task = Adapter.initialise(encoder.hidden_size, encoder.num_layers, config.task_adapter_reduction, seed=config.seed)
    return Together({"language": base.requires_grad_(False), "task": task})


def _swap_language(tuned: Delta, parts: Parts) -> Delta:
    """The task adapter on the target's language adapter instead of the source's."""
    assert isinstance(tuned, Together)
    return Together({"language": parts["language"].requires_grad_(False), "task": tuned["task"]})


def _as_adapted(encoder: Encoder, parts: Parts, config: TuneConfig) -> Delta:
    return parts["language"]


def _frozen(encoder: Encoder, parts: Parts, config: TuneConfig) -> Delta:
    return parts["language"].requires_grad_(False) if parts else Together({})


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "soft-prompt",
            "Chen and Chen 2024, section 3",
            "prompts of all layers",
            "prompts of the top K layers",
            _continued_prompt,
            _fresh_prompt,
            aligns=True,
        ),
        Method(
            "prompt-tuning",
            "Tu et al. 2022; P-tuning v2, Liu et al. 2022",
            None,
            "prompts of all layers",
            _noise,
            tunes_once=True,
        ),
        Method(
            "fine-tuning",
            "Chen and Chen 2024, section 4.2",
            None,
            "the whole model",
            lambda encoder, parts, config: Weights.of(encoder),
            has_prompt=False,
            tunes_once=True,
        ),
        Method(
            "fine-tuning-mlm",
            "Ebrahimi et al. 2022; Chen and Chen 2024, section 4.2",
            "the whole model",
            "the whole model",
            _as_adapted,
            lambda encoder, config: Weights.of(encoder),
            has_prompt=False,
            aligns=True,
        ),
        Method(
            "mad-x",
            "Pfeiffer et al. 2020",
            "language adapters with an invertible part, of target and source",
            "task adapters, on the source's language adapter",
            lambda encoder, parts, config: _frozen_with_task_adapter(encoder, parts["source"], config),
            _fresh_language_adapter,
            shares={"source": 1.0, "language": 0.0},
            deliver=_swap_language,
            has_prompt=False,
            tunes_once=True,
        ),
        Method(
            "lora",
            "Hu et al. 2022",
            "LoRA",
            "LoRA",
            _as_adapted,
            _fresh_lora,
            has_prompt=False,
            aligns=True,
        ),
        Method(
            "source-prompt",
            "control; Kunz and Holmström 2024",
            "prompts of all layers, on source text alone",
            "prompts of the top K layers",
            _continued_prompt,
            _fresh_prompt,
            shares={"language": 1.0},
            tunes_once=True,
        ),
        Method(
            "soft-prompt+task-adapter",
            "Soft Language Prompts, Vykopal et al. 2025",
            "prompts of all layers",
            "task adapters, behind the frozen prompts",
            lambda encoder, parts, config: _frozen_with_task_adapter(encoder, _prompt_of(parts), config),
            _fresh_prompt,
            takes="soft-prompt",
            has_prompt=False,
        ),
        Method(
            "embedding",
            "Artetxe and Schwenk 2019: a classifier on frozen sentence vectors",
            None,
            "logistic regression on sentence vectors",
            _frozen,
            has_prompt=False,
            reads_vectors=True,
            tunes_once=True,
        ),
    )
}
"""In the order in which tables show them."""


def method_of_adapt(config: AdaptConfig) -> Method:
    """The method of a stage 1; `ConfigError` for one that has none."""
    method = METHODS[METHODS[config.method].start]
    if method.stage1 is None:
        raise ConfigError(f"{config.method} has no stage 1; go on with tune, on the model alone")
    if config.objective == "alignment" and not method.aligns:
        known = ", ".join(known.name for known in METHODS.values() if known.aligns)
        raise ConfigError(f"{config.method} is not trained by alignment; {known} are")
    if "source_share" in config.model_fields_set and None not in method.shares.values():
        raise ConfigError(f"{config.method} settles by itself which text it reads; leave source_share out")
    return method


def reads_source(config: AdaptConfig) -> bool:
    """Whether a stage 1 needs source-language text."""
    method = method_of_adapt(config)
    return any(share > 0 for share in method.source_shares(config).values())


def default_method(adapted_method: str | None, has_lm_head: bool) -> str:
    """The method of a stage 2 where none is named: that of stage 1; on a backbone without an LM head, logistic
    regression on sentence vectors."""
    if not has_lm_head:
        return "embedding"
    return adapted_method or "prompt-tuning"


def method_of_tune(config: TuneConfig, adapted: Adapted | None, encoder: Encoder) -> tuple[Method, TuneConfig]:
    """The method of a stage 2 and its config with that method's defaults; `ConfigError` where it cannot start from
    what is given."""
    needs_no_words = encoder.has_lm_head or config.head != "words"
    name = config.method or default_method(None if adapted is None else adapted.method, needs_no_words)
    method, config = METHODS[name], config.replace(method=name)
    pools = method.reads_vectors or config.head == "pooled"
    if pools and config.layer is not None and config.layer > encoder.num_layers:
        raise ConfigError(f"layer is {config.layer}; {encoder.name} has {encoder.num_layers} layers, give 0 to that")
    if not pools and config.layer is not None:
        raise ConfigError(
            f"{name} reads the last layer; leave layer out, or give method 'embedding' or {setting('head', 'pooled')}"
        )
    if method.reads_vectors and adapted is not None and "source" in adapted.parts:
        raise ConfigError(f"{name} cannot stand behind two modules of {adapted.method}; give a prompt, LoRA or weights")
    if method.stage1 is None and adapted is not None and not method.reads_vectors:
        raise ConfigError(
            f"{name} has no stage 1, but a {adapted.method} result was given; leave it out, or leave out the method"
        )
    if method.stage1 is not None and (adapted is None or adapted.method != method.start):
        given = "nothing" if adapted is None else f"one of {adapted.method}"
        raise ConfigError(f"{name} starts from what adapt with method {method.start} made, {given} was given")
    if not method.has_prompt and (config.top_k_layers or config.bottom_k_layers):
        raise ConfigError(f"{name} trains no prompts in stage 2; leave top_k_layers and bottom_k_layers out")
    return method, config


def without_effect(config: AdaptConfig | TuneConfig) -> dict[str, str]:
    """The settings that change nothing in such a stage, each with the reason."""
    groups = _conditions_of_adapt(config) if isinstance(config, AdaptConfig) else _conditions_of_tune(config)
    return {name: reason for holds, reason, names in groups if not holds for name in names.split()}


_Conditions = tuple[tuple[bool, str, str], ...]
"""(whether it holds, what is so where it does not, the settings that need it)"""


def _conditions_of_adapt(config: AdaptConfig) -> _Conditions:
    method = METHODS[METHODS[config.method].start]
    if method.stage1 is None:
        return ()  # which is said by `method_of_adapt`
    mixes = any(0 < share < 1 for share in method.source_shares(config).values())
    return (
        (False, "it is a setting of stage 2", "state_cache"),
        (method.name == "mad-x", f"{method.name} trains no adapter",
         "adapter_reduction invertible_reduction drop_last_adapter train_lm_head"),
        (method.name == "lora", f"{method.name} trains no LoRA", "lora_rank lora_alpha lora_layers"),
        (config.initialise == "noise", "the prompt does not start from noise", "init_std"),
        (method.begin_adapt is _fresh_prompt, f"{method.name} trains no prompt in stage 1",
         "prompt_length positions initialise init_std"),
        (mixes, "the two languages are not mixed", "balance"),
        (config.objective == "mlm", "alignment reads pairs and masks nothing",
         "mask_rate packing balance source_share"),
        (config.learning_rate == "auto", "the learning rate is not looked for", "auto_rates auto_steps"),
    )  # fmt: skip


def _conditions_of_tune(config: TuneConfig) -> _Conditions:
    method = METHODS[config.method or "prompt-tuning"]
    adapters = method.name in ("mad-x", "soft-prompt+task-adapter")
    return (
        (False, "it is a setting of stage 1", "allow_unknown"),
        (adapters, f"{method.name} trains no task adapter", "task_adapter_reduction"),
        (method.name == "prompt-tuning", "no prompt starts from noise", "prompt_length init_std"),
        (not config.dropout, "with dropout nothing can be kept", "state_cache"),
        (config.head != "pooled", "states that are pooled are not kept", "state_cache"),
        (config.head == "words", "a linear head reads no words", "loss_over"),
        (not method.reads_vectors, f"{method.name} is fitted in closed form",
         "epochs batch_size learning_rate warmup_ratio weight_decay clip_norm dropout head loss_over"
         " micro_batch_size gradient_checkpointing checkpoint_every state_cache"),
    )  # fmt: skip


def refuse_other_backbone(adapted: Adapted, encoder: Encoder) -> None:
    """Raises `ConfigError` for what stage 1 made on another backbone: shapes alone would not tell them apart."""
    if adapted.backbone.get("fingerprint") != encoder.fingerprint:
        other = artifact.other_backbone(adapted.backbone, encoder.name, encoder.fingerprint)
        raise ConfigError(f"what adapt made of {adapted.language} is for {other}")


def for_language(classifier: PromptClassifier, adapted: Adapted) -> PromptClassifier:
    """A classifier with another language's module of its method in place of its own: MAD-X's swap. A classifier behind
    a source-prompt holds nothing of the target and stays as it is.

    Raises `ConfigError` where stage 2 has to be trained again, and for a module of another method or backbone."""
    method = METHODS[classifier.method]
    if not method.tunes_once:
        raise ConfigError(
            f"{method.name} trains stage 2 on the language's own module; tune again for {adapted.language}"
        )
    if classifier.report is not None and classifier.report.target_examples:
        raise ConfigError(
            f"the classifier was tuned on labels of its own target language too; tune again for {adapted.language}"
        )
    if adapted.method != method.start or adapted.backbone["fingerprint"] != classifier.encoder.fingerprint:
        raise ConfigError(
            f"the classifier is of method {method.name} on {classifier.encoder.name}, the module of {adapted.method} on"
            f" {adapted.backbone['name']}"
        )
    parts = {name: part.restored(classifier.encoder) for name, part in adapted.parts.items() if name == "language"}
    body = method.deliver(classifier.body, parts)
    # Label offsets were fitted on the other language's text.
    moved = classifier.with_report(language_prompt=adapted.report)
    if moved.report is not None and moved.report.label_prior is not None:
        moved = moved.with_report(label_prior=None)
    swaps = classifier.samples is not None and classifier.samples.side == "target"
    return replace(
        moved, body=body, language=adapted.language, offsets=None, characters=adapted.characters,
        samples=adapted.samples if swaps else classifier.samples,
    )  # fmt: skip
