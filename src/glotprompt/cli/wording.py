"""Names of settings in the library's messages on a command line: options instead of arguments."""

from __future__ import annotations

import os
from collections.abc import Sequence
from shlex import quote

from glotprompt.cli.program import all_options
from glotprompt.errors import Wording
from glotprompt.jobs.wording import IN_BROWSER, in_browser

READING = ("format", "delimiter", "quoting", "columns", "encoding", "input")
"""Keys of --read."""
_ARGUMENTS = {
    "initial": "--init-prompt FILE", "prior_text": "--prior-text FILE", "target": "--target", "parallel": "--parallel",
    "characters": "--map-characters auto", "allow_plain": "--allow-plain", "data_dir": "--data-dir", "task": "--task",
    "held_out": "--held-out (or pass --no-overlap-check, which is recorded in what is saved)",
    "source": "no data folder (then the hub is read)", "text": "--text-column", "label": "--label-column",
    "adapted": "--prompt FILE", "premise": "--premise-column", "hypothesis": "--hypothesis-column",
    "minutes": "--minutes", "target_labels": "--target-labels", "label_prior": "--label-prior LABEL=NUMBER,...",
    "keep": "--keep", "rounds": "--rounds",
}  # fmt: skip
"""Arguments that are no settings of a stage, and their options."""
_STAGES = ("adapt", "tune", "doctor")
"""Commands whose options are settings; what others say of settings stands in a file."""


def wording_of(arguments: Sequence[str]) -> Wording:
    """A function that names a setting as the called command does; None for one without an option."""
    if IN_BROWSER in os.environ:
        return in_browser
    command = next((word for word in arguments if not word.startswith("-")), "")

    def option(name: str, value: str | None) -> str | None:
        if name in READING:
            return "--read " + quote(f"{name}={value or ''}".replace("\t", "\\t"))
        of_value = {"on_bad_row": f"--on-bad-row {value}", "revision": f"--revision {value or 'COMMIT'}"}
        of_value |= {"task": f"--task {value}"} if value is not None else {}
        of_value |= {"characters": "--map-characters FILE"} if command == "combine" else {}
        of_value |= {"held_out": "--held-out or --target-labels"} if command == "compare" else {}
        wording = {**_ARGUMENTS, **of_value}.get(name)
        return _of_stage(command, name, value) if wording is None and command in _STAGES else wording

    return option


def _of_stage(command: str, name: str, value: str | None) -> str:
    from glotprompt.config import AdaptConfig, TuneConfig  # for messages alone

    own = {"adapt": AdaptConfig, "tune": TuneConfig}.get(command)
    stages = (command,) if own is not None and name in own.model_fields else ("tune", "adapt", command)
    options = {one.name: one.spellings[0] for stage in stages for one in all_options(stage)}
    if name not in options:
        return f"--set {name}" if value is None else f"--set {name}={value}"
    return options[name] if value in (None, "True") else f"{options[name]} {value}"
