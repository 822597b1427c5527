"""Messages of the library, which name settings as Python does (`initialise="noise"`), in words of a command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import typer.main

from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig

_ARGUMENTS = {
    "initial=": "--init-prompt FILE", "characters=": "--map-characters FILE", "prior_text=": "--prior-text FILE",
    "target=": "--target", "parallel=": "--parallel", "allow_plain=True": "--allow-plain", "data_dir=": "--data-dir",
}  # fmt: skip
"""Arguments that are no settings, and their options."""
_STAGES = ("adapt", "tune", "doctor")
"""Commands whose options are settings; what others say of settings stands in a file."""


def in_options(message: str, app: typer.Typer, arguments: Sequence[str]) -> str:
    """The message with options in the place of arguments and settings with their values, as the command has them."""
    for argument, option in _ARGUMENTS.items():
        message = re.sub(rf"(?<![-\w.]){argument}(?=$|[\s,.;)])", option, message)
    command = next((word for word in arguments if not word.startswith("-")), "")
    if command not in _STAGES:
        return message
    group: Any = typer.main.get_command(app)
    options = {
        found.name: found.opts[0] for name in ("tune", "adapt", command) for found in group.commands[name].params
    }
    fields = {**AdaptConfig.model_fields, **TuneConfig.model_fields, **RuntimeConfig.model_fields}
    names = "|".join(fields)
    setting = re.compile(rf"""(?<!--set )(?<![-\w.])({names}) ?=(?: ?(?:"([^"]+)"|'([^']+)'|([\w.-]*\w)))?""")

    def option_of(found: re.Match[str]) -> str:
        name, value = found[1], found[2] or found[3] or found[4]
        if name not in options:
            return f"--set {name}={value}" if value else f"--set {name}=..."
        return options[name] if value in (None, "True") else f"{options[name]} {value}"

    message = re.sub(rf"\w+Config\.({names})\b", lambda found: options.get(found[1], f"--set {found[1]}"), message)
    return setting.sub(option_of, message)
