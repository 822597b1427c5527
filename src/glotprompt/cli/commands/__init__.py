"""The commands, by name: their help, their options, and the function that does the work."""

from __future__ import annotations

from glotprompt.cli.commands.experiments import EXPERIMENTS
from glotprompt.cli.commands.reference import REFERENCE
from glotprompt.cli.commands.scoring import SCORING
from glotprompt.cli.commands.training import TRAINING

COMMANDS = {**TRAINING, **SCORING, **EXPERIMENTS, **REFERENCE}
"""In the order of help. A command of two words belongs to one of the `GROUPS`."""

GROUPS = {
    "data": "Datasets by name: list them, show one, check a copy of one.",
    "convert": "Exchange files with PEFT, AdapterHub and transformers.",
}
"""Commands of two words, by the first."""
