"""`methods`: the methods side by side, and what each takes on a backbone. Nothing is trained or downloaded for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from glotprompt.cli.declare import Params
from glotprompt.cli.screen import note, write_json
from glotprompt.cli.tables import console, table
from glotprompt.config import AdaptConfig, TuneConfig
from glotprompt.errors import ConfigError
from glotprompt.estimate.costs import MethodCost, method_costs, tied_parameters
from glotprompt.model.shapes import Shell
from glotprompt.report.tables import size

_OPTIONS = (
    "Li and Liang 2021: soft-prompt or prompt-tuning --set reparameterisation=512, an MLP that makes the prompts.",
    "Houlsby et al. 2019: mad-x or soft-prompt+task-adapter --set task_adapter=houlsby, two adapters a layer.",
    "Lample and Conneau 2019 (XLM): any method, with a --model of the type xlm.",
)
"""Published systems that are an option of a method."""


def methods(params: Params) -> None:
    """Count, and show tables or write JSON."""
    model, precision, device = params["model"], params["precision"], params["device"]
    if not model.strip():
        raise ConfigError("--model is empty; give mini, a folder, or a hub name")
    shared: dict[str, Any] = {name: params[name] for name in ("batch_size", "max_length", "prompt_length")}
    shell = Shell.named(model)
    shell.use_precision(precision)
    costs = method_costs(shell, AdaptConfig(**shared), TuneConfig(**shared), device)
    write_json(params["json"], _figures(shell, costs, {**shared, "precision": precision, "device": device}))
    _show(shell, costs, f"{params['batch_size']} x {params['max_length']} tokens, {precision}, {device}")


def _figures(shell: Shell, costs: Sequence[MethodCost], settings: Mapping[str, Any]) -> dict[str, Any]:
    about = {
        "name": shell.name, "num_parameters": shell.num_parameters,
        "num_parameters_paper": shell.num_parameters + tied_parameters(shell),
        "num_layers": shell.num_layers, "hidden_size": shell.hidden_size, "vocab_size": shell.vocab_size,
    }  # fmt: skip
    rows = [
        {
            "method": cost.method.name, "source": cost.method.citation,
            "stage1": cost.method.stage1, "stage2": cost.method.stage2,
            **cost.to_dict(),
        }
        for cost in costs
    ]  # fmt: skip
    return {"model": about, "settings": dict(settings), "methods": rows}


def _show(shell: Shell, costs: Sequence[MethodCost], setting: str) -> None:
    out = console()
    note(
        f"backbone: {shell.name}, {shell.num_layers} layers, {shell.num_parameters:,} parameters"
        f" ({size(4 * shell.num_parameters)} in fp32); {shell.num_parameters + tied_parameters(shell):,} where a tied"
        " decoder is counted beside the embeddings"
    )
    words = table(["method", "stage 1 trains", "stage 2 trains", "published in"], left=4)
    for cost in costs:
        words.add_row(cost.method.name, cost.method.stage1 or "-", _stage2_words(cost, shell), cost.method.citation)
    for one in (words, _parameters(costs), _bytes(costs)):
        out.print(one)
        out.print()
    for line in (*_legend(costs, setting), *_OPTIONS):
        out.print(line)


def _stage2_words(cost: MethodCost, shell: Shell) -> str:
    """Stage 2 in words, with the number of layers in the place of K."""
    layers = None if cost.tune is None else cost.tune.trained_layers
    if layers is None:
        return cost.method.stage2
    return cost.method.stage2.replace("top K layers", f"top {layers[1] - layers[0]} of {shell.num_layers} layers")


def _parameters(costs: Sequence[MethodCost]) -> Table:
    listing = table(["method", "parameters, stage 1", "parameters, stage 2", "as table 3 counts", "of the model"])
    for cost in costs:
        first = cost.adapt or cost.tune
        listing.add_row(
            cost.method.name,
            *("-" if stage is None else f"{stage.trained_parameters:,}" for stage in (cost.adapt, cost.tune)),
            *(["-", "-"] if first is None else [f"{first.trained_parameters_paper:,}", f"{100 * first.share:.3g} %"]),
        )
    return listing


def _bytes(costs: Sequence[MethodCost]) -> Table:
    listing = table(["method", "per language", "classifier", "optimiser", "activations", "memory"])
    for cost in costs:
        stages = [stage for stage in (cost.adapt, cost.tune) if stage is not None]
        figures = [
            cost.language_bytes,
            cost.tune and cost.tune.file_bytes,
            max((stage.optimiser_bytes + stage.gradient_bytes for stage in stages), default=None),
            max((stage.activation_bytes for stage in stages), default=None),
            max((stage.memory_bytes for stage in stages), default=None),
        ]
        listing.add_row(cost.method.name, *("-" if figure is None else size(figure) for figure in figures))
    return listing


def _legend(costs: Sequence[MethodCost], setting: str) -> list[str]:
    refused: dict[str, list[str]] = {}
    for cost in costs:
        if cost.refusal:
            refused.setdefault(cost.refusal, []).append(cost.method.name)
    return [
        "parameters: those that are trained, tied weights counted once; of the model: in the first stage that trains.",
        "as table 3 counts (Chen and Chen 2024), in that stage: a tied decoder counts beside the embeddings, and mad-x",
        "  trains the masked-token head's dense layer and norm too (here: --set train_lm_head=true).",
        "per language: what one more language takes of stage 1's file, which for mad-x holds the source's adapter too.",
        "classifier: stage 2's file, all that it needs beside the backbone.",
        f"optimiser: AdamW's moments and the gradients. activations: estimated for {setting}.",
        "memory: both, with backbone, trained parameters and a copy of the best. Each is that of the larger stage.",
        *(f"{one.name}: {one.look.long_name}." for one in (cost.method for cost in costs) if one.look.long_name),
        *(f"{', '.join(names)}: {reason}" for reason, names in refused.items()),
    ]
