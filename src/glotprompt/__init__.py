"""glotprompt: teach a frozen multilingual language model a language it has never seen with a small soft prompt.

What is listed here is the promise; the rest may move.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from glotprompt.version import __version__

if TYPE_CHECKING:
    from glotprompt.classifier import LanguageModule, LanguagePrompt, Prediction, PromptClassifier, load_adapted
    from glotprompt.combination import combine
    from glotprompt.config import PRESETS, AdaptConfig, RuntimeConfig, TuneConfig
    from glotprompt.data.catalog import dataset
    from glotprompt.data.characters import CharacterMap
    from glotprompt.data.files import read_examples, read_texts
    from glotprompt.data.records import Example
    from glotprompt.errors import UserError
    from glotprompt.methods import METHODS, for_language
    from glotprompt.model.encoder import Encoder
    from glotprompt.report.significance import compare_predictions
    from glotprompt.run import adapt, evaluate, tune
    from glotprompt.serve.predictor import Predictor
    from glotprompt.templates import Task
    from glotprompt.train.scoring import Report

_HOMES = {
    "classifier": ("LanguageModule", "LanguagePrompt", "Prediction", "PromptClassifier", "load_adapted"),
    "combination": ("combine",),
    "config": ("PRESETS", "AdaptConfig", "RuntimeConfig", "TuneConfig"),
    "data.catalog": ("dataset",),
    "data.characters": ("CharacterMap",),
    "data.files": ("read_examples", "read_texts"),
    "data.records": ("Example",),
    "errors": ("UserError",),
    "methods": ("METHODS", "for_language"),
    "model.encoder": ("Encoder",),
    "report.significance": ("compare_predictions",),
    "run": ("adapt", "evaluate", "tune"),
    "serve.predictor": ("Predictor",),
    "templates": ("Task",),
    "train.scoring": ("Report",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "METHODS",
    "PRESETS",
    "AdaptConfig",
    "CharacterMap",
    "Encoder",
    "Example",
    "LanguageModule",
    "LanguagePrompt",
    "Prediction",
    "Predictor",
    "PromptClassifier",
    "Report",
    "RuntimeConfig",
    "Task",
    "TuneConfig",
    "UserError",
    "__version__",
    "adapt",
    "combine",
    "compare_predictions",
    "dataset",
    "evaluate",
    "for_language",
    "load_adapted",
    "read_examples",
    "read_texts",
    "tune",
]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `glotprompt --help` and the data room never wait for torch.
    if name not in _HOME_OF:
        raise AttributeError(f"module 'glotprompt' has no attribute {name!r}")
    return getattr(import_module(f"glotprompt.{_HOME_OF[name]}"), name)
