"""Full fine-tuning: the whole model, without and with adaptation."""

from __future__ import annotations

from glotprompt import model
from glotprompt.method_registry import Look
from glotprompt.methods.method import Method

FINE_TUNING = Method(
    name="fine-tuning",
    citation="Chen and Chen 2024, section 4.2",
    look=Look(name="Fine-tuning, no adaptation", colour="#782dff", marker="s", place=2),
    stage2="the whole model",
    rates={"tune": 1e-6},  # section 4.2
    begin_tune=lambda backbone, parts, config: model.Weights.of(backbone),
    tunes_once=True,
)

FINE_TUNING_MLM = Method(
    name="fine-tuning-mlm",
    citation="Ebrahimi et al. 2022; Chen and Chen 2024, section 4.2",
    look=Look(name="Fine-tuning after full adaptation", colour="#7878ff", marker="D", place=3),
    stage1="the whole model",
    stage2="the whole model",
    kinds=("weights",),
    rates={
        "adapt": 2e-5,  # Ebrahimi et al. 2022 (AmericasNLI); the paper prints 5e-3, at which models diverge
        "tune": 1e-6,  # section 4.2
    },
    begin_adapt=lambda backbone, config: model.Weights.of(backbone),
    aligns=True,
)
