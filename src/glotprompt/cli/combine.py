"""`combine`: saved prompts as one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from glotprompt.cli import options
from glotprompt.cli.screen import suggest, wrote
from glotprompt.errors import ConfigError


def combine(
    prompts: Annotated[list[Path], typer.Argument(metavar="PROMPT...", help="Language prompts, as adapt wrote them.")],
    output: Annotated[Path, typer.Option("--output", help="The language prompt to write.", **options.to_write())],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="The weight of each prompt, used as it is: weights that sum to 1 make an average. Default: the mean.",
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="ISO 639-3 code of the language it is meant for. Default: all of theirs."),
    ] = None,
    map_characters: options.MapOfCombined = None,
) -> None:
    """Combine prompts of one backbone into one: their weighted sum. Nothing is trained.

    tune goes on from it as from any other prompt.
    """
    from glotprompt.classifier import LanguagePrompt
    from glotprompt.combination import combine as combined
    from glotprompt.data.characters import CharacterMap
    from glotprompt.data.languages import checked_code

    if language is not None:
        checked_code(language)
    numbers = _numbers(weights, len(prompts))
    loaded = [LanguagePrompt.load(path) for path in prompts]
    characters = None if map_characters is None else CharacterMap.load(map_characters)
    combined(loaded, numbers, language=language or "", characters=characters).save(output)
    wrote(output, "language prompt")
    suggest("tune", "--prompt", output, "--train", "LABELLED.tsv", "--task", "news", "--output", "news.safetensors")


def _numbers(weights: str | None, count: int) -> list[float] | None:
    """The weights of so many prompts; None: not given."""
    if weights is None:
        return None
    try:
        numbers = [float(word) for word in weights.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        example = ",".join(["0.5"] * count)
        raise ConfigError(f"--weights {weights}: expected a number for each prompt, here {count}, such as {example}")
    return numbers
