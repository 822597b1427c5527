"""LoRA in both stages: low-rank updates of linear layers."""

from __future__ import annotations

from glotprompt import model
from glotprompt.config import AdaptConfig
from glotprompt.method_registry import Look
from glotprompt.methods.method import Method


def _fresh_lora(backbone: model.Backbone, config: AdaptConfig) -> model.Lora:
    targets = "all" if config.lora_layers == "all" else None
    return model.Lora(backbone, config.lora_rank, config.lora_alpha, targets, config.seed)


LORA = Method(
    name="lora",
    citation="Hu et al. 2022",
    look=Look(name="LoRA in both stages", colour="#e11ec3", marker="v", place=5),
    stage1="LoRA",
    stage2="LoRA",
    kinds=("lora",),
    rates={
        "adapt": 4e-4,  # Hu et al. 2022, table 9, RoBERTa
        "tune": 4e-4,  # the same
    },
    settings={"adapt": dict.fromkeys(("lora_rank", "lora_alpha", "lora_layers"), "trains no LoRA")},
    begin_adapt=_fresh_lora,
    aligns=True,
)
