"""Every method, with settings under which tiny backbones learn toys (`toys`) in a few steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

import glotprompt as gp
from glotprompt.inference.classifier import Adapted
from glotprompt.methods import METHODS

from .toys import QUIET, SOURCE, TASK, TOY, TRANSLATIONS

ADAPT = gp.AdaptConfig(
    prompt_length=4,
    steps=8,
    batch_size=8,
    max_length=16,
    init_std=0.5,
    eval_every=4,
    held_out_share=0.2,
    eval_sequences=8,
)
TUNE = gp.TuneConfig(
    epochs=5, batch_size=4, max_length=24, warmup_ratio=0.2, init_std=0.5, clip_norm=100, prompt_length=4
)
EXAMPLES = [
    gp.Example.of(" ".join([word] * count), label)
    for count in range(2, 8)
    for label, word in (("health", "water"), ("sports", "play"), ("culture", "king"))
]
"""Also what the best epoch is chosen on, so that the dev loss is that of training."""


@dataclass(frozen=True)
class Variant:
    """A method with settings of its own, on a kind of tiny backbone."""

    method: str
    rates: tuple[float | None, float]
    """Of stage 1 (None: there is none) and stage 2."""
    kind: str = "xlm-roberta"
    adapt: dict[str, Any] = field(default_factory=dict[str, Any])
    tune: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def has_stage_1(self) -> bool:
        return METHODS[self.method].start.stage1 is not None

    def stage_1(
        self, backbone: gp.Backbone, runtime: gp.RuntimeConfig = QUIET, target: list[str] = TOY, **changes: Any
    ) -> Adapted | None:
        """What the method learns of the toy language; None for a method without a stage 1."""
        if not self.has_stage_1:
            return None
        settings = {"learning_rate": self.rates[0], **self.adapt, "method": self.method, **changes}
        if settings.get("objective") == "alignment":
            return gp.adapt(
                backbone, language="xxx", config=ADAPT.replace(**settings), runtime=runtime, parallel=TRANSLATIONS
            )
        return gp.adapt(backbone, target, SOURCE, "xxx", ADAPT.replace(**settings), runtime)

    def stage_2(
        self, backbone: gp.Backbone, adapted: Adapted | None, runtime: gp.RuntimeConfig = QUIET, **changes: Any
    ) -> gp.PromptClassifier:
        """What the method learns of the toy task."""
        settings = {**self.tune, "method": self.method, "learning_rate": self.rates[1], **changes}
        return gp.tune(backbone, adapted, EXAMPLES, TASK, TUNE.replace(**settings), runtime, dev=EXAMPLES)


def two_prompts(backbone: gp.Backbone) -> list[gp.LanguagePrompt]:
    """Two prompts of noise."""
    shape = backbone.prompt_shape(4)
    draws = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (5, 6)]
    return [gp.LanguagePrompt(draw, code, backbone.reference) for draw, code in zip(draws, ("aaa", "bbb"), strict=True)]


HEAD = {"head": "linear"}
DROPOUT = {"dropout": True}
ALIGNED = {"objective": "alignment", "initialise": "noise"}
VARIANTS = {
    "soft-prompt": Variant("soft-prompt", (0.1, 1.0)),
    "soft-prompt, BERT, dropout": Variant("soft-prompt", (0.12, 1.0), "bert", DROPOUT, DROPOUT),
    "soft-prompt, linear head": Variant("soft-prompt", (0.1, 0.015), adapt={"positions": "shifted"}, tune=HEAD),
    "soft-prompt, pooled head": Variant("soft-prompt", (0.1, 0.1), tune={"head": "pooled"}),
    "soft-prompt, aligned": Variant("soft-prompt", (0.3, 1.0), adapt=ALIGNED),
    "soft-prompt, reparameterised": Variant("soft-prompt", (3e-3, 1.0), adapt={"reparameterisation": 100}),
    "prompt-tuning": Variant("prompt-tuning", (None, 1.0)),
    "prompt-tuning, reparameterised": Variant("prompt-tuning", (None, 0.1), tune={"reparameterisation": 24}),
    # Vectors at the input alone hardly move the label words of a body with random weights.
    "input-prompt, linear head": Variant("input-prompt", (None, 0.05), tune=HEAD),
    "input-prompt, noise, BERT": Variant(
        "input-prompt", (None, 0.05), "bert", tune={**HEAD, **DROPOUT, "initialise": "noise"}
    ),
    "fine-tuning": Variant("fine-tuning", (None, 5e-3)),
    "fine-tuning, linear head": Variant("fine-tuning", (None, 5e-3), "bert", tune=HEAD),
    "fine-tuning-mlm": Variant("fine-tuning-mlm", (2e-3, 5e-3)),
    "fine-tuning-mlm, dropout": Variant("fine-tuning-mlm", (2e-3, 5e-3), "bert", DROPOUT, {**HEAD, **DROPOUT}),
    "fine-tuning-mlm, aligned, BERT": Variant("fine-tuning-mlm", (1e-4, 5e-3), "bert", {**ALIGNED, **DROPOUT}),
    "mad-x": Variant("mad-x", (4e-3, 4e-2)),
    "mad-x, pooled head": Variant("mad-x", (4e-3, 4e-2), tune={"head": "pooled"}),
    "mad-x, aligned, pooled head": Variant("mad-x", (1e-2, 4e-2), adapt=ALIGNED, tune={"head": "pooled"}),
    "mad-x, BERT, all choices": Variant(
        "mad-x", (4e-3, 2e-2), "bert", {"drop_last_adapter": True, "train_lm_head": True}, {**HEAD, **DROPOUT}
    ),
    "mad-x, Houlsby": Variant("mad-x", (4e-3, 2e-2), tune={"task_adapter": "houlsby"}),
    "lora": Variant("lora", (1e-2, 1.5e-2)),
    "lora, BERT": Variant("lora", (1e-2, 1.5e-2), "bert", {"lora_rank": 3, "lora_alpha": 9}, HEAD),
    "lora, aligned": Variant("lora", (1e-2, 1.5e-2), adapt={**ALIGNED, "lora_layers": "all", "lora_rank": 4}),
    "source-prompt": Variant("source-prompt", (0.1, 1.0)),
    "soft-prompt+task-adapter": Variant("soft-prompt+task-adapter", (0.05, 4e-2)),
}
