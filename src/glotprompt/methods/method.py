"""The type of methods: a description, and the functions that differ between methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

from glotprompt import model
from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.method_registry import DESCRIPTIONS, Description

Parts: TypeAlias = "Mapping[str, model.Module]"
"""Modules of stage 1 by name: "language", and for MAD-X "source"."""


@dataclass(frozen=True, kw_only=True)
class Method(Description):
    """A way to adapt a frozen model to a language and then to a task."""

    begin_adapt: Callable[[model.Backbone, AdaptConfig], model.Module] | None = None
    """Creates the module that stage 1 trains. None: there is no stage 1."""
    begin_tune: Callable[[model.Backbone, Parts, TuneConfig], model.Module] = lambda backbone, parts, config: parts[
        "language"
    ]
    """Creates the module that stage 2 trains, with the modules before it; default: the result of stage 1."""
    takes: Method | None = None
    """The method whose stage 1 it builds on; None: its own."""
    deliver: Callable[[model.Module, Parts], model.Module] = lambda tuned, parts: tuned
    """Turns the result of stage 2 into the module that classifies the target language."""
    has_prompt: bool = False
    """Whether stage 2 trains prompts, of which K layers may be selected."""
    aligns: bool = False
    """Whether stage 1 can also be alignment on parallel text."""
    reads_vectors: bool = False
    """Whether stage 2 is logistic regression on sentence vectors, in closed form, after any stage 1."""
    reads_characters: bool = False
    """Whether stage 2 is logistic regression on a text's characters, and nothing of the backbone is used."""
    tunes_once: bool = False
    """Whether stage 2 reads nothing of the target, so that one training serves all of them (`for_language`)."""

    @property
    def start(self) -> Method:
        """The method whose stage-1 results it tunes."""
        return self.takes or self

    @property
    def closed_form(self) -> bool:
        """Whether stage 2 takes no steps."""
        return self.reads_vectors or self.reads_characters

    def reads_words(self, config: TuneConfig) -> bool:
        """Whether stage 2 reads label words at masks."""
        return config.head == "cloze" and not self.closed_form

    @property
    def reads_target(self) -> bool:
        """Whether stage 1 reads text of the target, unless the config's `source_share` is 1."""
        return self.shares is None or any(share < 1 for share in self.shares.values())

    def source_shares(self, config: AdaptConfig) -> Mapping[str, float]:
        """The trainings of stage 1 and the share of source text in each. Alignment reads both languages in one."""
        return self.shares if self.shares and "alignment" not in config.objective else {"language": config.source_share}


METHODS = cast(Mapping[str, Method], DESCRIPTIONS)
"""All methods by name, in the order of lists."""


def register(method: Method) -> None:
    """Register a method in this process. Methods of entry points in the group `glotprompt.methods` are registered in
    every process. Raises `ConfigError` where another method has the name."""
    DESCRIPTIONS.add(method)
