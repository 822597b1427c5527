"""Prompt tuning at the input: trained vectors in front of the word embeddings."""

from __future__ import annotations

from glotprompt import model
from glotprompt.config import TuneConfig
from glotprompt.method_registry import Look
from glotprompt.methods.method import Method, Parts


def _fresh_vectors(backbone: model.Backbone, parts: Parts, config: TuneConfig) -> model.InputPrompt:
    std = config.init_std if config.initialise == "noise" else None
    return model.InputPrompt.initialise(backbone, config.prompt_length, std, config.seed)


INPUT_PROMPT = Method(
    name="input-prompt",
    citation="Lester et al. 2021",
    look=Look(
        name="Input prompt tuning, no adaptation",
        long_name="input prompt tuning without adaptation (prompt tuning of Lester et al. 2021)",
        colour="#7d6b00",
        marker="h",
        place=6,
    ),
    stage2="vectors before the word embeddings",
    # Lester et al. 2021: 0.3, with Adafactor and T5's larger embeddings; see docs/log.md, 2026-11-30.
    rates={"tune": 3e-2},
    settings={
        "tune": {
            **dict.fromkeys(("prompt_length", "init_std"), "starts no prompt from noise"),
            "initialise": "trains no vectors at the input",
        }
    },
    begin_tune=_fresh_vectors,
    tunes_once=True,
)
