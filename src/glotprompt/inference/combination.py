"""Combination of prompts: the weighted sum of several languages' prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glotprompt.data.characters import CharacterMap
from glotprompt.errors import ConfigError, setting
from glotprompt.inference.classifier import LanguagePrompt
from glotprompt.records import Combined, Ingredient
from glotprompt.storage import artifact


def combine(
    prompts: Sequence[LanguagePrompt],
    weights: Sequence[float] | None = None,
    *,
    language: str = "",
    characters: CharacterMap | None = None,
) -> LanguagePrompt:
    """The weighted sum of saved prompts, after language arithmetic (Klimaszewski et al. 2025), which adds adapters.
    Weights need not sum to 1 and may be negative. None: the mean.

    `language` is the code of the language it is meant for; default: the prompts' codes, joined by "+". `characters` is
    the character map where those of the prompts differ. `tune` treats the result as a soft-prompt, or as a
    source-prompt if all of them are. Raises `ConfigError` for prompts that differ in shape, positions or backbone, and
    for different maps."""
    if weights is None:
        weights = [1 / len(prompts) for _ in prompts]
    key_values = weighted_sum(prompts, weights)
    methods = {prompt.method for prompt in prompts}
    return LanguagePrompt(
        key_values,
        language or "+".join(dict.fromkeys(prompt.language for prompt in prompts)),
        prompts[0].backbone,
        prompts[0].positions,
        Combined(combined=ingredients(prompts, weights)),
        methods.pop() if len(methods) == 1 else "soft-prompt",
        characters or shared_characters(prompts),
    )


def weighted_sum(prompts: Sequence[LanguagePrompt], weights: Sequence[float]) -> Tensor:
    """The weighted sum of prompts, [layer, 2, head, prompt, dim]. `ConfigError` for prompts that differ in shape,
    positions or backbone, and for a sum that is not finite."""
    if not prompts or len(prompts) != len(weights):
        raise ConfigError(
            f"a combination needs prompts and a weight for each, not {len(prompts)} and {len(weights)}; give as many"
        )
    first, *others = prompts
    for other in others:
        for what, one, two in (
            ("shape", tuple(first.key_values.shape), tuple(other.key_values.shape)),
            ("positions", first.positions, other.positions),
            ("backbone", first.backbone.get("fingerprint"), other.backbone.get("fingerprint")),
        ):
            if one != two:
                names = (_backbone(first), _backbone(other)) if what == "backbone" else (one, two)
                raise ConfigError(
                    f"prompts of {first.language} and {other.language} differ in {what}: {names[0]} and {names[1]}"
                )
    total = sum((weight * prompt.key_values for prompt, weight in zip(prompts, weights, strict=True)), torch.zeros(()))
    if not bool(torch.isfinite(total).all()):
        raise ConfigError(
            f"the weights {', '.join(f'{one:g}' for one in weights)} give NaN or infinity; give smaller ones"
        )
    return total


def _backbone(prompt: LanguagePrompt) -> str:
    return f"{prompt.backbone.get('name')} ({prompt.backbone.get('fingerprint')})"


def shared_characters(prompts: Sequence[LanguagePrompt]) -> CharacterMap | None:
    """The common character map of all prompts; `ConfigError` where they differ, as a text would have two spellings."""
    first, *others = (prompt.characters for prompt in prompts)
    if any(other != first for other in others):
        raise ConfigError(
            f"the prompts to combine rewrite characters differently; choose a table with {setting('characters')}"
        )
    return first


def ingredients(prompts: Sequence[LanguagePrompt], weights: Sequence[float]) -> list[Ingredient]:
    """The prompts of a sum as a report names them."""
    return [
        Ingredient(language=prompt.language, weight=weight, digest=digest_of(prompt.key_values))
        for prompt, weight in zip(prompts, weights, strict=True)
    ]


def digest_of(key_values: Tensor) -> str:
    """Digest of a prompt's parameters."""
    return artifact.digest({"": key_values}, {})
