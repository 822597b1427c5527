"""What the results of both stages have in common: one line about them, their reports, and publishing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from glotprompt.data.languages import known_name
from glotprompt.errors import ConfigError
from glotprompt.inference.publishing import publish
from glotprompt.records import AdaptReport, Stage1Report


class Saved:
    """A result that is saved in one file."""

    language: str
    method: str

    def save(self, path: str | Path) -> Path:
        """Write one `.safetensors` file, atomically."""
        raise NotImplementedError

    def line(self, backbone: Mapping[str, str], num_parameters: int, task: str = "") -> str:
        """One line: what it is, language, task, method, backbone, number of saved parameters."""
        language, model = known_name(self.language) or self.language, Path(backbone["name"]).name
        about = ", ".join(filter(None, [language, task, self.method, f"on {model}"]))
        return f"<{type(self).__name__} {about}, {num_parameters:,} parameters>"

    def push_to_hub(self, repo: str, *, samples: bool = False, private: bool | None = None) -> str:
        """Publish it with a generated model card as the Hugging Face repository `repo`, "user/name"; returns its
        address. `load("user/name")` opens it again.

        `samples` keeps the example texts, which file and card otherwise lack. `private`: whether a new repository is
        private. Log in first (`hf auth login`, or the variable HF_TOKEN). Raises `ConfigError` where the hub
        refuses."""
        copy = self if samples else replace(cast(Any, self), samples=None)
        return publish(copy.save, repo, private)


class SavedStage1(Saved):
    """A result of stage 1."""

    report: Stage1Report | None

    @property
    def training(self) -> AdaptReport:
        """The report of its training; `ConfigError` for a result that was not trained here."""
        if not isinstance(self.report, AdaptReport):
            raise ConfigError("this prompt or module was not trained by adapt, so nothing is known of its training")
        return self.report

    @property
    def made_from(self) -> str | None:
        """Identity of the run that made it; None if unknown."""
        return self.report.made_from if isinstance(self.report, AdaptReport) else None

    @property
    def is_aligned(self) -> bool:
        """Whether it was trained on parallel text."""
        return isinstance(self.report, AdaptReport) and "alignment" in self.report.objective
