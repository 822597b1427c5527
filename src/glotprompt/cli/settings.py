"""Configs from command-line options."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from glotprompt.cli.declare import Params
from glotprompt.cli.fields import OWN_BUSINESS
from glotprompt.cli.screen import note
from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig, preset
from glotprompt.errors import ConfigError
from glotprompt.methods import METHODS, without_effect

_Config = TypeVar("_Config", AdaptConfig, TuneConfig)


def given(params: Params, names: Iterable[str]) -> dict[str, Any]:
    """The parameters of these names that were given; 0 is a value."""
    found = {name: params.get(name) for name in names}
    # A flag that is not there is False, which is every flag's default.
    return {name: value for name, value in found.items() if value is not None and value is not False}


def settings(config: type[_Config], options: Params, model: str, method: str) -> tuple[_Config, RuntimeConfig]:
    """The two configs that the parameters of a command ask for.

    `options` are all of the command's parameters; those named after a field count where they are given, and `method`
    where they name none. Order: preset, then options and `--set`, which may not name the same field twice.
    """
    running = [name for name in RuntimeConfig.model_fields if name not in OWN_BUSINESS]
    chosen = {name: _value(value) for name, value in given(options, (*config.model_fields, *running)).items()}
    for key, value in _pairs(options.get("set") or []).items():
        if key in chosen:
            raise ConfigError(f"{key} is given twice, by an option and by --set {key}=...; give it once")
        chosen[key] = value
    aligns = config is AdaptConfig and options.get("parallel") and not options.get("target")
    usual = "alignment" if aligns else "quick" if model == "mini" else "defaults"
    name = options.get("preset") or usual
    method = chosen.setdefault("method", method)
    start = preset(name, "adapt" if config is AdaptConfig else "tune", str(method))
    if options.get("init_prompt"):
        start.pop("initialise", None)  # a start that is handed over stands above the preset's
    runtime = RuntimeConfig(**{key: value for key, value in chosen.items() if key in running})
    changed = {key: value for key, value in chosen.items() if key not in running}
    made = config(**{**start, **changed})
    idle = _idle(made, options)
    for field in chosen:
        if field in idle:
            raise ConfigError(f"{field} has no effect here: {idle[field]}; leave it out")
    shown = {field: value for field, value in {**start, **changed}.items() if field not in idle}
    _tell(1 if config is AdaptConfig else 2, name, shown)
    return made, runtime


def _idle(config: AdaptConfig | TuneConfig, options: Params) -> dict[str, str]:
    """The settings that change nothing, and why. To ask for one is an error; a preset may have it."""
    if isinstance(config, AdaptConfig):
        implied = {"initialise": "prompt"} if options.get("init_prompt") else {}
        implied |= {"objective": "alignment"} if options.get("parallel") and not options.get("target") else {}
        idle = without_effect(config.replace(**implied))
    else:
        idle = without_effect(config)
        idle |= {"dev_share": "--dev names the examples"} if options.get("dev") else {}
        if METHODS[str(config.method)].reads_characters:
            idle |= {"dev_share": f"{config.method} is judged by cross-validation"}
        idle |= {} if options.get("target_labels") else {"target_weight": "there are no --target-labels"}
    return idle


def _tell(stage: int, name: str, departures: Mapping[str, Any]) -> None:
    shown = ", ".join(
        f"{key} {f'{value:.4g}' if isinstance(value, float) else value}" for key, value in departures.items()
    )
    note(f"settings of stage {stage}: preset {name}{': ' + shown if shown else ''}")


def _pairs(words: Sequence[str]) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {word!r} is not key=value, for example --set warmup_ratio=0.1")
        if key.strip() in pairs:
            raise ConfigError(f"--set names {key.strip()!r} twice; give it once")
        pairs[key.strip()] = _value(value.strip())
    return pairs


def _value(text: Any) -> Any:
    """A JSON value where the text is one (`300`, `5e-3`, `true`, `null`, `[0.01, 0.02]`), else the text itself."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
