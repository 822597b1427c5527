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
    counts: tuple[int, ...] = ()
    """Parameters of each training: of each part of stage 1, and of stage 2 without a classification head."""
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


def bottleneck(size: int, reduction: int) -> int:
    inner = size // reduction
    return size * inner + inner + inner * size + size


def mlp(width: int) -> int:
    return 4 * 48 + 49 * width + (width + 1) * 3 * 2 * 48


# Parameters by pencil and paper, on 3 layers of 48.
PROMPT = 2 * 4 * 48  # of a layer
LAYER = 4 * (48 * 48 + 48) + 2 * 48 * 64 + 64 + 48 + 4 * 48
WHOLE, WHOLE_BERT = (
    3 * LAYER + (418 + positions + types) * 48 + 2 * 48 + (48 * 48 + 48) + 2 * 48 + 418
    for positions, types in ((514, 1), (512, 2))
)
LANGUAGE, TASK_ADAPTER = 3 * bottleneck(48, 2) + 2 * bottleneck(24, 2), 3 * bottleneck(48, 16)
LORA, LORA_ALL = 3 * 2 * 2 * 48, 3 * (4 * 2 * 48 + 2 * (48 + 64))  # of rank 1

STACKED = ("mad-x", "soft-prompt+task-adapter")
"""Methods whose stage 2 trains behind what stage 1 trained, which is frozen."""
NOT_DRAWN = ("fine-tuning-mlm",)
"""Methods whose stage 1 starts from the backbone's own weights, whatever the seed."""

HEAD = {"head": "linear"}
DROPOUT = {"dropout": True}
ALIGNED = {"objective": "alignment", "initialise": "noise"}
VARIANTS = {
    "soft-prompt": Variant("soft-prompt", (0.1, 1.0), (3 * PROMPT, 2 * PROMPT)),
    "soft-prompt, BERT, dropout": Variant(
        "soft-prompt", (0.12, 1.0), (3 * PROMPT, 2 * PROMPT), "bert", DROPOUT, DROPOUT
    ),
    "soft-prompt, linear head": Variant(
        "soft-prompt", (0.1, 0.015), (3 * PROMPT, 2 * PROMPT), adapt={"positions": "shifted"}, tune=HEAD
    ),
    "soft-prompt, pooled head": Variant("soft-prompt", (0.1, 0.1), (3 * PROMPT, 2 * PROMPT), tune={"head": "pooled"}),
    "soft-prompt, aligned": Variant("soft-prompt", (0.3, 1.0), (3 * PROMPT, 2 * PROMPT), adapt=ALIGNED),
    "soft-prompt, reparameterised": Variant(
        "soft-prompt", (3e-3, 1.0), (mlp(100), 2 * PROMPT), adapt={"reparameterisation": 100}
    ),
    "prompt-tuning": Variant("prompt-tuning", (None, 1.0), (3 * PROMPT,)),
    "prompt-tuning, reparameterised": Variant(
        "prompt-tuning", (None, 0.1), (mlp(24),), tune={"reparameterisation": 24}
    ),
    # Vectors at the input alone hardly move the label words of a body with random weights.
    "input-prompt, linear head": Variant("input-prompt", (None, 0.05), (4 * 48,), tune=HEAD),
    "input-prompt, noise, BERT": Variant(
        "input-prompt", (None, 0.05), (4 * 48,), "bert", tune={**HEAD, **DROPOUT, "initialise": "noise"}
    ),
    "fine-tuning": Variant("fine-tuning", (None, 5e-3), (WHOLE,)),
    "fine-tuning, linear head": Variant("fine-tuning", (None, 5e-3), (WHOLE_BERT,), "bert", tune=HEAD),
    "fine-tuning-mlm": Variant("fine-tuning-mlm", (2e-3, 5e-3), (WHOLE, WHOLE)),
    "fine-tuning-mlm, dropout": Variant(
        "fine-tuning-mlm", (2e-3, 5e-3), (WHOLE_BERT, WHOLE_BERT), "bert", DROPOUT, {**HEAD, **DROPOUT}
    ),
    "fine-tuning-mlm, aligned, BERT": Variant(
        "fine-tuning-mlm", (1e-4, 5e-3), (WHOLE_BERT, WHOLE_BERT), "bert", {**ALIGNED, **DROPOUT}
    ),
    "mad-x": Variant("mad-x", (4e-3, 4e-2), (LANGUAGE, LANGUAGE, TASK_ADAPTER)),
    "mad-x, pooled head": Variant("mad-x", (4e-3, 4e-2), (LANGUAGE, LANGUAGE, TASK_ADAPTER), tune={"head": "pooled"}),
    "mad-x, aligned, pooled head": Variant(
        "mad-x", (1e-2, 4e-2), (LANGUAGE, TASK_ADAPTER), adapt=ALIGNED, tune={"head": "pooled"}
    ),
    "mad-x, BERT, all choices": Variant(
        "mad-x",
        (4e-3, 2e-2),
        (*[LANGUAGE - bottleneck(48, 2) + 48 * 48 + 3 * 48] * 2, TASK_ADAPTER),
        "bert",
        {"drop_last_adapter": True, "train_lm_head": True},
        {**HEAD, **DROPOUT},
    ),
    "mad-x, Houlsby": Variant(
        "mad-x", (4e-3, 2e-2), (LANGUAGE, LANGUAGE, 2 * TASK_ADAPTER), tune={"task_adapter": "houlsby"}
    ),
    "lora": Variant("lora", (1e-2, 1.5e-2), (8 * LORA, 8 * LORA)),
    "lora, BERT": Variant(
        "lora", (1e-2, 1.5e-2), (3 * LORA, 3 * LORA), "bert", {"lora_rank": 3, "lora_alpha": 9}, HEAD
    ),
    "lora, aligned": Variant(
        "lora", (1e-2, 1.5e-2), (4 * LORA_ALL, 4 * LORA_ALL), adapt={**ALIGNED, "lora_layers": "all", "lora_rank": 4}
    ),
    "source-prompt": Variant("source-prompt", (0.1, 1.0), (3 * PROMPT, 2 * PROMPT)),
    "soft-prompt+task-adapter": Variant("soft-prompt+task-adapter", (0.05, 4e-2), (3 * PROMPT, TASK_ADAPTER)),
}
