"""The scale of experiments: that of their files (the paper's), or small enough for two cores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

ScaleName = Literal["paper", "mini"]

BUNDLED = ("mini", "mini-sentence")
"""Models that are small already."""

LAYERS = ("top_k_layers", "bottom_k_layers")
"""Settings of stage 2 that count layers of the backbone."""

AMOUNTS = ("most_per_label", "shots_per_class")
"""Settings of stage 2 that say how many examples are read."""

MINI: dict[str, Any] = {
    "model": "mini",
    # Learning rates by method, lengths and K, searched on this backbone (docs/log.md).
    "preset": "quick",
    "input": "headline",
    # One stage 1 for the three seeds of stage 2.
    "adapt_seed": 0,
    # On news more than the steps below read; figure 3 lifts it.
    "max_lines": 5_000,
    # Until three evaluations in a row each improve by less than 1 % of the fall so far.
    "adapt": {"steps": 600, "batch_size": 8, "eval_every": 25, "patience": 3, "min_improvement": 0.01},
    "tune": {"epochs": 2, "most_per_label": 200},
}
"""Settings that replace an experiment's own at the mini scale; in tables, setting by setting."""

OWN = "mini"
"""The table of an experiment's file with what it sets itself at the mini scale, over `MINI`."""


def scaled(values: Mapping[str, Any], scale: ScaleName) -> dict[str, Any]:
    """An experiment's settings at a scale. Numbers of layers are those of the paper's backbone; the preset has the
    mini's. Costs (table 3) are counted without training, so they keep the paper's scale, and experiments on a bundled
    backbone are small already."""
    settings = {key: value for key, value in values.items() if key != OWN}
    if scale == "paper" or settings.get("draw") == "table3" or settings.get("model") in BUNDLED:
        return settings
    settings["tune"] = {key: value for key, value in settings.get("tune", {}).items() if key not in LAYERS}
    for changes in (MINI, values.get(OWN, {})):
        for key, value in changes.items():
            settings[key] = {**settings.get(key, {}), **value} if isinstance(value, dict) else value
    return settings
