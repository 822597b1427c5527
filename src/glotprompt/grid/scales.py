"""The scale of experiments: that of their files (the paper's), or small enough for two cores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

ScaleName = Literal["paper", "mini"]

LAYERS = ("top_k_layers", "bottom_k_layers")
"""Settings of stage 2 that count layers of the backbone."""

MINI: dict[str, Any] = {
    "model": "mini",
    # Learning rates by method, lengths and K, searched on this backbone (docs/log.md).
    "preset": "quick",
    "seeds": [0],
    "input": "headline",
    # About one pass of the steps below: more would be unused, and a quarter of it is read four times (figure 3).
    "most_characters": 150_000,
    # So that ten languages and five methods take less than 40 minutes (table 2).
    "most_per_label": 200,
    "adapt": {"steps": 75, "batch_size": 16},
    "tune": {"epochs": 2},
}
"""Settings that replace an experiment's own at the mini scale; in `adapt` and `tune`, setting by setting."""

MINI_VARIES: dict[str, list[Any]] = {f"tune.{name}": [3, 6, 9, 12] for name in LAYERS}
"""Values that replace an experiment's own where it varies these settings: the mini has 12 layers."""

MINI_ONE_TRAINING_PER_LABEL = 5_000
"""Most examples per label where a method is trained once for all languages (table 1): 200 are too few for NLI."""

MINI_FEW_SHOT_EPOCHS = 10
"""Epochs where the labelled examples are few (figure 4): two would be six steps. The paper's number."""


def scaled(values: Mapping[str, Any], scale: ScaleName) -> dict[str, Any]:
    """An experiment's settings at a scale. Numbers of layers are those of the paper's backbone; the preset has the
    mini's. Costs (table 3) are counted without training, so they keep the paper's scale."""
    settings = dict(values)
    if scale == "paper" or settings.get("draw") == "table3":
        return settings
    for key, value in MINI.items():
        settings[key] = {**settings.get(key, {}), **value} if isinstance(value, dict) else value
    if settings.get("draw") == "table1":
        settings["most_per_label"] = MINI_ONE_TRAINING_PER_LABEL
    settings["tune"] = {key: value for key, value in settings["tune"].items() if key not in LAYERS}
    if "tune.shots_per_class" in settings.get("varies", {}):
        settings["tune"]["epochs"] = MINI_FEW_SHOT_EPOCHS
    settings["varies"] = {key: MINI_VARIES.get(key, value) for key, value in settings.get("varies", {}).items()}
    return settings
