"""Adapters: MAD-X, and MAD-X's task adapters behind a language prompt."""

from __future__ import annotations

from dataclasses import replace

from glotprompt import model
from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.method_registry import Look
from glotprompt.methods.method import Method, Parts
from glotprompt.methods.soft_prompt import SOFT_PROMPT, prompt_of


def _fresh_language_adapter(backbone: model.Backbone, config: AdaptConfig) -> model.Module:
    adapter = model.Adapter.initialise(
        backbone.hidden_size,
        backbone.num_layers,
        config.adapter_reduction,
        config.invertible_reduction,
        drop_last=config.drop_last_adapter,
        seed=config.seed,
    )
    if not config.train_lm_head or config.objective == "alignment":
        return adapter
    return model.ModuleStack({"adapter": adapter, "lm_head": model.Weights.of(backbone, model.is_head_transform)})


def _with_task_adapter(backbone: model.Backbone, base: model.Module, config: TuneConfig) -> model.ModuleStack:
    """A new task adapter, behind the frozen result of stage 1."""
    kind = model.HoulsbyAdapter if config.task_adapter == "houlsby" else model.Adapter
    task = kind.initialise(backbone.hidden_size, backbone.num_layers, config.task_adapter_reduction, seed=config.seed)
    return model.ModuleStack({"language": base.requires_grad_(False), "task": task})


def _swap_language(tuned: model.Module, parts: Parts) -> model.ModuleStack:
    """The task adapter on the target's language adapter instead of the source's."""
    assert isinstance(tuned, model.ModuleStack)
    return model.ModuleStack({"language": parts["language"].requires_grad_(False), "task": tuned["task"]})


_TASK_ADAPTER: dict[str, str] = dict.fromkeys(("task_adapter", "task_adapter_reduction"), "trains no task adapter")

MAD_X = Method(
    name="mad-x",
    citation="Pfeiffer et al. 2020",
    look=Look(name="MAD-X", colour="#d2003c", marker="^", place=4),
    stage1="language adapters with an invertible part, of target and source",
    stage2="task adapters, on the source's language adapter",
    kinds=("adapter", "stack"),
    shares={"source": 1.0, "language": 0.0},
    rates={
        "adapt": 1e-4,  # Pfeiffer et al. 2020, and section 4.2
        "tune": 1e-4,  # the same
    },
    settings={
        "adapt": dict.fromkeys(
            ("adapter_reduction", "invertible_reduction", "drop_last_adapter", "train_lm_head"), "trains no adapter"
        ),
        "tune": _TASK_ADAPTER,
    },
    begin_adapt=_fresh_language_adapter,
    # What is aligned is one adapter for both languages.
    begin_tune=lambda backbone, parts, config: _with_task_adapter(
        backbone, parts.get("source", parts["language"]), config
    ),
    deliver=_swap_language,
    tunes_once=True,
    aligns=True,
)

SOFT_PROMPT_TASK_ADAPTER = replace(
    SOFT_PROMPT,  # stage 1 is its own
    name="soft-prompt+task-adapter",
    citation="Soft Language Prompts, Vykopal et al. 2025",
    look=Look(name="Adapted soft prompt + task adapter", colour="#00899e", marker="<", place=8),
    stage2="task adapters, behind the frozen prompts",
    rates={**SOFT_PROMPT.rates, "tune": MAD_X.rates["tune"]},
    settings={**SOFT_PROMPT.settings, "tune": _TASK_ADAPTER},
    begin_tune=lambda backbone, parts, config: _with_task_adapter(backbone, prompt_of(parts), config),
    takes=SOFT_PROMPT,
    has_prompt=False,
    aligns=False,
)
