"""`combine`: saved prompts as one."""

from __future__ import annotations

import math

from glotprompt.cli.declare import Params
from glotprompt.cli.screen import suggest
from glotprompt.cli.tables import wrote
from glotprompt.data.characters import CharacterMap
from glotprompt.data.languages import checked_code
from glotprompt.errors import ConfigError
from glotprompt.inference.classifier import LanguagePrompt
from glotprompt.inference.combination import combine as combined


def combine(params: Params) -> None:
    """Save the weighted sum of prompts."""
    language, output, map_of = params["language"], params["output"], params["map_characters"]
    if language is not None:
        checked_code(language)
    numbers = _numbers(params["weights"], len(params["prompts"]))
    loaded = [LanguagePrompt.load(path) for path in params["prompts"]]
    characters = None if map_of is None else CharacterMap.load(map_of)
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
