"""Options that are made from the fields of the configs: name, kind, default and help stand there alone."""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from glotprompt.cli.declare import Option
from glotprompt.config import AdaptConfig, RuntimeConfig, TuneConfig

_SPELLINGS = {"top_k_layers": "top-k", "bottom_k_layers": "bottom-k", "shots_per_class": "shots", "initialise": "init"}
"""Options that are not called as their fields are."""
OWN_BUSINESS = ("checkpoint_dir", "progress", "metrics", "on_step", "on_evaluation")
"""Runtime settings that the command line decides itself."""
_OF_OTHER_STAGE = {"adapt": "state_cache", "tune": "allow_unknown"}
"""The runtime setting that only the other stage reads."""
_MOST_CHOICES = 4
"""More do not fit into a metavar."""


def fields_of(stage: Literal["adapt", "tune", ""]) -> dict[str, Any]:
    """The settings of a stage's commands, by name; without a stage, those of how it runs."""
    of_stage = {"adapt": AdaptConfig.model_fields, "tune": TuneConfig.model_fields, "": {}}[stage]
    others = (*OWN_BUSINESS, _OF_OTHER_STAGE.get(stage))
    running = {name: field for name, field in RuntimeConfig.model_fields.items() if name not in others}
    return {**of_stage, **running}


def option_of(name: str, field: Any) -> Option:
    """A field as an option. What it does not name keeps the preset's value, so its own default is only shown."""
    kinds = [one for one in _plain(field.annotation) if one is not NoneType]
    choices = [word for word in kinds if isinstance(word, str)]
    kind = kinds[0] if len(kinds) == 1 and not choices else str
    metavar = "|".join([*(["NUMBER"] if float in kinds else []), *choices]) if len(choices) <= _MOST_CHOICES else "NAME"
    spelling = f"--{_SPELLINGS.get(name, name).replace('_', '-')} {metavar if kind is str else ''}".strip()
    default = None if field.default_factory is not None else field.default
    return Option(spelling, " ".join((field.description or "").split()), kind, parameter=name, shown_default=default)


def _plain(annotation: Any) -> list[Any]:
    """The types that a field takes, and the words of its choices."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return [str]
    return [one for part in get_args(annotation) or () for one in _plain(part)] or [annotation]
