"""What a method is: its description, and the functions that differ between methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

from glotprompt import model
from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.method_registry import DESCRIPTIONS, Description

Parts: TypeAlias = "Mapping[str, model.Module]"
"""What stage 1 left: "language", and for MAD-X "source"."""


@dataclass(frozen=True, kw_only=True)
class Method(Description):
    """One way to teach a frozen model a language and then a task."""

    begin_adapt: Callable[[model.Backbone, AdaptConfig], model.Module] | None = None
    """What stage 1 trains, fresh. None: there is no stage 1."""
    begin_tune: Callable[[model.Backbone, Parts, TuneConfig], model.Module] = lambda backbone, parts, config: parts[
        "language"
    ]
    """What stage 2 trains, with all that it is trained behind; by default what stage 1 left."""
    takes: Method | None = None
    """The method whose stage 1 it builds on; None: its own."""
    deliver: Callable[[model.Module, Parts], model.Module] = lambda tuned, parts: tuned
    """From what stage 2 trained to what classifies the target language."""
    has_prompt: bool = False
    """Whether stage 2 trains prompts, of which K layers may be chosen."""
    aligns: bool = False
    """Whether stage 1 can be alignment on parallel text, too."""
    reads_vectors: bool = False
    """Whether stage 2 is logistic regression on sentence vectors, in closed form, behind whatever stage 1 left."""
    tunes_once: bool = False
    """Whether stage 2 reads nothing of the target, so that one training serves all of them (`for_language`)."""

    @property
    def start(self) -> Method:
        """The method whose stage-1 results it tunes."""
        return self.takes or self

    @property
    def reads_target(self) -> bool:
        """Whether stage 1 reads text of the target, unless the config's `source_share` is 1."""
        return self.shares is None or any(share < 1 for share in self.shares.values())

    def source_shares(self, config: AdaptConfig) -> Mapping[str, float]:
        """The trainings of stage 1 and the share of source text in each."""
        return self.shares or {"language": config.source_share}


METHODS = cast(Mapping[str, Method], DESCRIPTIONS)
"""All methods by name, in the order in which they are listed."""


def register(method: Method) -> None:
    """Make a method known to this process. One that an entry point of the group `glotprompt.methods` names is known to
    every process. Raises `ConfigError` where another one has its name."""
    DESCRIPTIONS.add(method)
