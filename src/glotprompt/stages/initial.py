"""What the prompts of stage 1 start as: noise, real tokens, a saved prompt or the sum of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glotprompt.config import AdaptConfig
from glotprompt.errors import ConfigError, DataError, setting
from glotprompt.inference.classifier import LanguagePrompt
from glotprompt.inference.combination import digest_of, ingredients, weighted_sum
from glotprompt.methods import Method, method_of_adapt, refuse_other_backbone
from glotprompt.model.backbone import Backbone
from glotprompt.model.modules.module import Module
from glotprompt.model.modules.real_tokens import key_values_of_text
from glotprompt.model.modules.soft_prompt import SoftPrompt
from glotprompt.model.tokens import Sequences, SpecialIds
from glotprompt.records import Ingredient

Initial = LanguagePrompt | Sequence[tuple[LanguagePrompt, float]]
"""A saved prompt to start from, or several with their weights in the sum."""


@dataclass(frozen=True)
class InitialPrompt:
    """Saved prompts as one start, checked."""

    key_values: Tensor
    """Their weighted sum [layer, 2, head, prompt, dim], fp32 on the CPU."""
    ingredients: list[Ingredient]
    """The prompts of the sum."""

    @property
    def digest(self) -> str:
        """Of the sum's values."""
        return digest_of(self.key_values)


def initial_prompt(
    backbone: Backbone, config: AdaptConfig, initial: Initial | None
) -> tuple[AdaptConfig, InitialPrompt | None]:
    """What is handed over to start from, and the config with that start, its length and its positions.

    Raises `ConfigError` for a method that trains no prompt in stage 1, a prompt for another backbone, and a config that
    says otherwise."""
    if initial is None:
        if config.initialise == "prompt":
            raise ConfigError(
                f"{setting('initialise', 'prompt')} needs a saved prompt; give it as {setting('initial')}"
            )
        _check_method(config)
        return config, None
    config = _with(config, "initialise", "prompt")
    _check_method(config)
    prompts = weighted(initial)
    if not prompts:
        raise ConfigError(f"{setting('initial')} holds no prompt; give one at least, or leave it out")
    for prompt, _ in prompts:
        refuse_other_backbone(prompt, backbone)
    start, weights = [prompt for prompt, _ in prompts], [weight for _, weight in prompts]
    key_values = weighted_sum(start, weights)
    config = _with(config, "prompt_length", key_values.shape[3])
    config = _with(config, "positions", prompts[0][0].positions)
    return config, InitialPrompt(key_values, ingredients(start, weights))


def weighted(initial: Initial | None) -> list[tuple[LanguagePrompt, float]]:
    """The saved prompts that were handed over, each with its weight."""
    if initial is None:
        return []
    return [(initial, 1.0)] if isinstance(initial, LanguagePrompt) else list(initial)


def _with(config: AdaptConfig, name: str, value: Any) -> AdaptConfig:
    """The config with what follows from the prompt; `ConfigError` where it was given another value."""
    setting = getattr(config, name)
    if name in config.model_fields_set and setting != value:
        raise ConfigError(f"a start from saved prompts has {name} {value}, not {setting}; leave {name} out")
    return config.replace(**{name: value})


def _check_method(config: AdaptConfig) -> None:
    method = method_of_adapt(config)
    if config.initialise != "noise" and not method.adapts_prompt:
        raise ConfigError(f"{method.name} trains no prompt in stage 1, so initialise is not for it; leave it out")


def begin_adapt(
    backbone: Backbone, method: Method, text: Sequences, config: AdaptConfig, initial: InitialPrompt | None
) -> Module:
    """What stage 1 trains, at its start; `text` is that of `initialise="text"`. Raises `DataError` for a text with
    fewer tokens than the prompt."""
    assert method.begin_adapt is not None
    if config.initialise == "noise":
        return method.begin_adapt(backbone, config)
    key_values = _prompt_of_text(backbone, text, config) if initial is None else initial.key_values
    return SoftPrompt(key_values, positions=config.positions)


def _prompt_of_text(backbone: Backbone, text: Sequences, config: AdaptConfig) -> Tensor:
    """The model's own keys and values at tokens of a text, drawn by seed."""
    order = np.random.default_rng([config.seed, 4]).permutation(len(text))
    sequences = (torch.from_numpy(text[int(i)]) for i in order)
    special_ids = torch.tensor(SpecialIds.of(backbone.tokenizer).all)
    prompt = key_values_of_text(backbone, sequences, special_ids, config.prompt_length)
    if prompt.shape[3] < config.prompt_length:
        raise DataError(
            f"the text has {prompt.shape[3]} tokens, too few for a prompt of {config.prompt_length}; give more, or a"
            f" lower prompt_length, or {setting('initialise', 'noise')}"
        )
    return prompt
