"""Methods by stage: checks of configs and starting points, and the use of a classifier for another language."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from glotprompt import model
from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig
from glotprompt.errors import ConfigError, setting
from glotprompt.methods.method import METHODS, Method
from glotprompt.records import AdaptReport

if TYPE_CHECKING:
    from glotprompt.inference.classifier import Adapted, PromptClassifier


def method_of_adapt(config: AdaptConfig) -> Method:
    """The method of a stage 1; `ConfigError` for one that has none."""
    method = METHODS[config.method].start
    if method.stage1 is None:
        raise ConfigError(f"{config.method} has no stage 1; go on with tune, on the model alone")
    if "alignment" in config.objective and not method.aligns:
        known = ", ".join(one.name for one in METHODS.values() if one.aligns)
        raise ConfigError(f"{config.method} is not trained by alignment; {known} are")
    if "source_share" in config.model_fields_set and method.shares is not None:
        raise ConfigError(f"{config.method} settles by itself which text it reads; leave source_share out")
    return method


def reads_source(config: AdaptConfig) -> bool:
    """Whether a stage 1 needs source-language text."""
    return any(share > 0 for share in method_of_adapt(config).source_shares(config).values())


def default_method(adapted_method: str | None, has_lm_head: bool) -> str:
    """The method of a stage 2 where none is named: that of stage 1; on a backbone without an LM head, logistic
    regression on sentence vectors."""
    if not has_lm_head:
        return "embedding"
    return adapted_method or "prompt-tuning"


def method_of_tune(config: TuneConfig, adapted: Adapted | None, backbone: model.Backbone) -> tuple[Method, TuneConfig]:
    """The method of a stage 2 and its config with that method's defaults; `ConfigError` where it cannot start from
    what is given."""
    needs_no_words = backbone.has_lm_head or config.head != "cloze"
    name = config.method or default_method(None if adapted is None else adapted.method, needs_no_words)
    method, config = METHODS[name], config.replace(method=name)
    if config.layer is not None:
        _check_layer(config.layer, method, config, backbone)
    if config.head == "linear" and backbone.objective != "mlm":
        raise ConfigError(
            f"{backbone.name} has no first token that sees the whole text, which {setting('head', 'linear')} reads;"
            " take 'cloze' or 'pooled'"
        )
    if not method.reads_vectors:
        _check_start(method, adapted)
    elif adapted is not None and "source" in adapted.parts:
        raise ConfigError(f"{name} cannot stand behind two modules of {adapted.method}; give a prompt, LoRA or weights")
    if not method.has_prompt and (config.top_k_layers or config.bottom_k_layers):
        raise ConfigError(f"{name} trains no prompts in stage 2; leave top_k_layers and bottom_k_layers out")
    return method, config


def _check_layer(layer: int, method: Method, config: TuneConfig, backbone: model.Backbone) -> None:
    if not method.reads_vectors and config.head != "pooled":
        raise ConfigError(
            f"{method.name} reads the last layer; leave layer out, or give method 'embedding' or"
            f" {setting('head', 'pooled')}"
        )
    if layer > backbone.num_state_layers:
        raise ConfigError(f"layer is {layer}; {backbone.name} has {backbone.num_state_layers} layers, give 0 to that")


def _check_start(method: Method, adapted: Adapted | None) -> None:
    method_of_prompt = None if adapted is None else adapted.method
    if method.stage1 is not None and method_of_prompt != method.start.name:
        raise ConfigError(
            f"{method.name} starts from what adapt with method {method.start.name} made,"
            f" {f'one of {method_of_prompt}' if method_of_prompt else 'nothing'} was given"
        )
    if method.stage1 is None and method_of_prompt is not None:
        raise ConfigError(
            f"{method.name} has no stage 1, but a {method_of_prompt} result was given; leave it out, or leave out the"
            " method"
        )


# ---------------------------------------------------------------------------------------------------------------
# Settings that change nothing


def without_effect(config: AdaptConfig | TuneConfig) -> dict[str, str]:
    """The settings without effect in a stage, each with the reason."""
    if isinstance(config, AdaptConfig):
        stage, method, groups = "adapt", METHODS[config.method].start, _conditions_of_adapt(config)
        if method.stage1 is None:
            return {}  # `method_of_adapt` raises for it
    else:
        stage, method = "tune", METHODS[config.method or "prompt-tuning"]
        groups = _conditions_of_tune(config, method)
    own = method.settings.get(stage, {})
    of_others = {
        name: f"{method.name} {reason}"
        for other in METHODS.values()
        for name, reason in other.settings.get(stage, {}).items()
        if name not in own
    }
    known = {*type(config).model_fields, *RuntimeConfig.model_fields}
    assert known.issuperset(name for _, _, names in groups for name in names), "a condition names what is no setting"
    return {name: reason for holds, reason, names in groups if not holds for name in names} | of_others


def switched_off(config: AdaptConfig | TuneConfig) -> set[str]:
    """The settings whose value is off, as if there were no such setting."""
    off = {"reparameterisation"} if config.reparameterisation is None else set[str]()
    return off | {"mlm_hold"} if isinstance(config, AdaptConfig) and config.mlm_hold == 0 else off


def departures(config: AdaptConfig | TuneConfig) -> dict[str, Any]:
    """The method, and the settings that differ from its defaults and have an effect; JSON."""
    method: dict[str, Any] = {"method": config.method}
    usual, idle = type(config)(**method).model_dump(mode="json"), without_effect(config)
    differ = {name: value for name, value in config.model_dump(mode="json").items() if value != usual[name]}
    return {**method, **{name: value for name, value in differ.items() if name not in idle}}


_Conditions = tuple[tuple[bool, str, tuple[str, ...]], ...]
"""(condition, the reason where it does not hold, the settings that need it)"""


def _conditions_of_adapt(config: AdaptConfig) -> _Conditions:
    shares = METHODS[config.method].source_shares(config).values()
    mixes = any(0 < share < 1 for share in shares)
    return (
        (False, "it is a setting of stage 2", ("state_cache",)),
        (config.initialise == "noise", "the prompt does not start from noise", ("init_std", "reparameterisation")),
        (config.reparameterisation is None, "an MLP makes the prompt", ("init_std",)),
        (config.patience is not None, "there is no patience", ("min_improvement",)),
        (mixes, "the two languages are not mixed", ("balance",)),
        (
            config.objective != "alignment",
            "alignment reads pairs and masks nothing",
            ("mask_rate", "packing", "balance", "source_share", "train_lm_head", "mlm_hold"),
        ),
        (any(share > 0 for share in shares), "no source text is read", ("mlm_hold",)),
        (config.objective == "mlm+alignment", "there is one objective", ("alignment_weight",)),
        (config.objective != "clm", "a decoder predicts every token", ("mask_rate",)),
        (config.learning_rate == "auto", "the learning rate is not looked for", ("auto_rates", "auto_steps")),
    )


def _conditions_of_tune(config: TuneConfig, method: Method) -> _Conditions:
    return (
        (False, "it is a setting of stage 1", ("allow_unknown",)),
        (not config.dropout, "with dropout nothing can be kept", ("state_cache",)),
        (config.head != "pooled", "states that are pooled are not kept", ("state_cache",)),
        (config.head == "cloze", "a linear head reads no words", ("loss_over",)),
        (not method.reads_characters, f"{method.name} reads no tokens", ("max_length", "layer", "eval_batch_size")),
        (
            config.initialise == "noise" or "initialise" not in method.settings.get("tune", {}),
            "the prompt does not start from noise",
            ("init_std",),
        ),
        (
            config.reparameterisation is None or bool(config.top_k_layers or config.bottom_k_layers),
            "an MLP makes the prompt",
            ("init_std",),
        ),
        (
            not method.closed_form,
            f"{method.name} is fitted in closed form",
            (
                "epochs",
                "batch_size",
                "learning_rate",
                "warmup_ratio",
                "weight_decay",
                "clip_norm",
                "dropout",
                "head",
                "loss_over",
                "micro_batch_size",
                "gradient_checkpointing",
                "checkpoint_every",
                "state_cache",
            ),
        ),
    )


# ---------------------------------------------------------------------------------------------------------------
# Another backbone, another language


def refuse_other_backbone(adapted: Adapted, backbone: model.Backbone) -> None:
    """Raises `ConfigError` for a stage 1 on another backbone, which shapes alone would not reveal."""
    from glotprompt.storage.artifact import other_backbone

    if adapted.backbone.get("fingerprint") != backbone.fingerprint:
        other = other_backbone(adapted.backbone, backbone.name, backbone.fingerprint)
        raise ConfigError(f"the result of adapt for {adapted.language} is for {other}")


def for_language(classifier: PromptClassifier, adapted: Adapted) -> PromptClassifier:
    """A classifier with another language's module of its method in place of its own: MAD-X's swap. A classifier behind
    a source-prompt holds nothing of the target and stays as it is.

    Raises `ConfigError` where stage 2 has to be trained again, and for a module of another method or backbone."""
    method = METHODS[classifier.method]
    stage1 = None if classifier.report is None else classifier.report.language_prompt
    is_aligned = adapted.is_aligned or (isinstance(stage1, AdaptReport) and "alignment" in stage1.objective)
    if is_aligned or not method.tunes_once:
        raise ConfigError(
            f"{method.name} trains stage 2 on the language's own module; tune again for {adapted.language}"
        )
    if classifier.report is not None and (classifier.report.target_examples or classifier.report.pairs):
        what = "labels" if classifier.report.target_examples else "translations"
        raise ConfigError(
            f"the classifier was tuned on {what} of its own target language too; tune again for {adapted.language}"
        )
    if adapted.method != method.start.name or adapted.backbone["fingerprint"] != classifier.backbone.fingerprint:
        raise ConfigError(
            f"the classifier is of method {method.name} on {classifier.backbone.name}, the module of {adapted.method}"
            f" on {adapted.backbone['name']}"
        )
    parts = {name: part.restored(classifier.backbone) for name, part in adapted.parts.items() if name == "language"}
    body = method.deliver(classifier.body, parts)
    swaps = classifier.samples is not None and classifier.samples.side == "target"
    return replace(
        classifier.for_other_text().with_report(language_prompt=adapted.report),
        body=body,
        language=adapted.language,
        characters=adapted.characters,
        samples=adapted.samples if swaps else classifier.samples,
    )
