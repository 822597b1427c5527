"""Prompts: key/value vectors in front of every layer's attention."""

from __future__ import annotations

from dataclasses import replace

from glotprompt import model
from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.errors import ConfigError
from glotprompt.method_registry import Look
from glotprompt.methods.method import Method, Parts


def _fresh_prompt(backbone: model.Backbone, config: AdaptConfig) -> model.SoftPrompt:
    """Prompts for all layers, initialised with noise."""
    shape = backbone.prompt_shape(config.prompt_length)
    fresh = model.SoftPrompt.initialise(shape, config.init_std, config.seed, positions=config.positions)
    return _reparameterised(fresh, config)


def _reparameterised(prompt: model.SoftPrompt, config: AdaptConfig | TuneConfig) -> model.SoftPrompt:
    width = config.reparameterisation
    return prompt if width is None else prompt.reparameterised(width, config.seed)


def _folded(tuned: model.Module, parts: Parts) -> model.SoftPrompt:
    """An ordinary prompt, whatever made its vectors in training."""
    assert isinstance(tuned, model.SoftPrompt)
    return tuned.folded()


def prompt_of(parts: Parts) -> model.SoftPrompt:
    """The prompt in a result of stage 1."""
    prompt = parts["language"]
    assert isinstance(prompt, model.SoftPrompt)
    return prompt


def _continued_prompt(backbone: model.Backbone, parts: Parts, config: TuneConfig) -> model.SoftPrompt:
    prompt = prompt_of(parts)
    layers = _trained_layers(backbone.num_layers, config, round(0.75 * backbone.num_layers))
    return model.SoftPrompt(prompt.key_values(), layers, prompt.positions)


def _noise(backbone: model.Backbone, parts: Parts, config: TuneConfig) -> model.SoftPrompt:
    layers = _trained_layers(backbone.num_layers, config, backbone.num_layers)
    shape = backbone.prompt_shape(config.prompt_length)
    return _reparameterised(model.SoftPrompt.initialise(shape, config.init_std, config.seed, layers), config)


def _trained_layers(num_layers: int, config: TuneConfig, default: int) -> range:
    """The layers whose prompts stage 2 trains: the top (or bottom) K, else the top `default`."""
    for name, value in (("top_k_layers", config.top_k_layers), ("bottom_k_layers", config.bottom_k_layers)):
        if value is not None and not 1 <= value <= num_layers:
            raise ConfigError(f"{name} is {value}; this model has {num_layers} layers, give 1 to {num_layers}")
    if config.bottom_k_layers is not None:
        return range(config.bottom_k_layers)
    return range(num_layers - (config.top_k_layers or default), num_layers)


SOFT_PROMPT = Method(
    name="soft-prompt",
    citation="Chen and Chen 2024, section 3",
    look=Look(name="Adapted soft prompt", colour="#d9620b", marker="o", place=9),
    stage1="prompts of all layers",
    stage2="prompts of the top K layers",
    kinds=("prompt",),
    rates={
        "adapt": 5e-3,  # section 4.2
        "tune": 1e-3,  # section 4.2
    },
    settings={
        "adapt": dict.fromkeys(
            ("prompt_length", "positions", "initialise", "init_std", "reparameterisation"),
            "trains no prompt in stage 1",
        )
    },
    begin_adapt=_fresh_prompt,
    begin_tune=_continued_prompt,
    has_prompt=True,
    aligns=True,
)

SOURCE_PROMPT = replace(
    SOFT_PROMPT,  # rates as well
    name="source-prompt",
    citation="control; Kunz and Holmström 2024",
    look=Look(name="Source-only prompt (control)", colour="#0d9a73", marker="X", place=7),
    stage1="prompts of all layers, on source text alone",
    shares={"language": 1.0},
    aligns=False,
    tunes_once=True,
)

PROMPT_TUNING = Method(
    name="prompt-tuning",
    citation="Tu et al. 2022; P-tuning v2, Liu et al. 2022",
    look=Look(
        name="Prefix tuning, no adaptation",
        long_name="prefix tuning without adaptation (the paper's prompt tuning, Tu et al. 2022)",
        colour="#2478b8",
        marker="P",
        place=6,
    ),
    stage2="prompts of all layers",
    rates={"tune": 1e-3},  # section 4.2
    settings={
        "tune": dict.fromkeys(("prompt_length", "init_std", "reparameterisation"), "starts no prompt from noise")
    },
    begin_tune=_noise,
    deliver=_folded,
    has_prompt=True,
    tunes_once=True,
)
