"""MAD-X adapters in the folder format of the library `adapters` and of AdapterHub (tested with `adapters` 1.3.0, which
is not required).

A folder holds `adapter_config.json` and the weights, as `adapter.safetensors` or pickled as `pytorch_adapter.bin`. Only
the architecture of MAD-X is read: "seq_bn" (once "pfeiffer") and "seq_bn_inv" ("pfeiffer+inv"). Adapters of
adapter-transformers 1 and 2 have older names for their weights, and a shorter configuration; they are read too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from transformers.utils.hub import cached_file

from glotprompt.errors import ArtifactError, ConfigError, in_a_line, is_out_of_memory
from glotprompt.formats.peft import CONFIG, read_config
from glotprompt.model.backbone import Backbone
from glotprompt.model.loading import BUNDLED
from glotprompt.model.modules.adapters import Adapter
from glotprompt.storage import atomic
from glotprompt.storage.metadata import is_finite

WEIGHTS, PICKLED = "adapter.safetensors", "pytorch_adapter.bin"
HEADS = ("model_head.safetensors", "pytorch_model_head.bin")
LARGEST_REDUCTION = 2**20
"""Larger than any hidden size; rules out infinity, which Python's JSON allows."""
VERSION = "adapters.1.3.0"
"""Library version of the written format."""
NEEDED: dict[str, Any] = {
    "mh_adapter": False,
    "output_adapter": True,
    "non_linearity": "relu",
    "original_ln_before": True,
}
"""Settings that make a bottleneck adapter a MAD-X one; a configuration must state each of them."""
DEFAULTS: dict[str, Any] = {
    "original_ln_after": True,
    "residual_before_ln": True,
    "ln_before": False,
    "ln_after": False,
    "is_parallel": False,
    "scaling": 1.0,
    "use_gating": False,
    "cross_adapter": False,
    "phm_layer": False,
    "stochastic_depth": 0.0,
}
"""Like `NEEDED`, but old configurations may omit them and mean these values."""
WITHOUT_EFFECT: dict[str, Any] = {
    "adapter_residual_before_ln": False,
    "dropout": 0.0,
    "factorized_phm_W": True,
    "factorized_phm_rule": False,
    "hypercomplex_nonlinearity": "glorot-uniform",
    "init_weights": "bert",
    "init_weights_seed": None,
    "learn_phm": True,
    "phm_bias": True,
    "phm_c_init": "normal",
    "phm_dim": 4,
    "phm_init_range": 0.0001,
    "phm_rank": 1,
    "shared_W_phm": False,
    "shared_phm_rule": True,
}
"""Other settings, as the library writes them: without effect on trained adapters of this kind."""
OLD_NAMES = {
    "layer_text_lang_adapters": "adapters",
    "layer_text_task_adapters": "adapters",
    "invertible_lang_adapters": "invertible_adapters",
}


def to_adapter_hub(adapter: Adapter, backbone: Backbone, folder: str | Path, name: str) -> Path:
    """Write an adapter of `backbone` as a folder for `load_adapter(folder, use_safetensors=True)`.

    `name` is that of the adapter inside the library: letters, digits, - and _ (`ConfigError`)."""
    if not re.fullmatch(r"[\w-]+", name):
        raise ConfigError(f"{name!r} cannot name an adapter; use letters, digits, - and _")
    theirs = {
        "config": {
            **NEEDED,
            **DEFAULTS,
            **WITHOUT_EFFECT,
            "reduction_factor": adapter.reduction,
            "inv_adapter": None if adapter.coupling is None else "nice",
            "inv_adapter_reduction_factor": adapter.invertible_reduction,
            "leave_out": [adapter.num_layers - 1] if adapter.drop_last else [],
        },
        "hidden_size": adapter.hidden_size,
        "model_class": type(backbone.model).__name__,
        "model_name": "" if backbone.name in BUNDLED else backbone.name,
        "model_type": backbone.model.config.model_type,
        "name": name,
        "version": VERSION,
    }
    prefix = backbone.model.base_model_prefix
    values = adapter.tensors()
    tensors = {f"{prefix}.{key}": values[ours].detach().cpu() for ours, key in library_names(adapter, name).items()}
    folder = Path(folder)
    atomic.write(folder / WEIGHTS, save(tensors))
    atomic.write(folder / CONFIG, json.dumps(theirs, indent=2, sort_keys=True))
    return folder


def from_adapter_hub(folder: str | Path, backbone: Backbone) -> Adapter:
    """Read an adapter for `backbone`, on its device. A prediction head beside it is ignored: tokens are predicted with
    the backbone's own head.

    The folder does not identify the weights that the adapter was trained for; only the shapes can be checked. Raises
    `ArtifactError` for a folder that is damaged, incomplete, made for another model, or of another architecture."""
    folder = Path(folder)
    metadata = _metadata(folder)
    model_type = backbone.model.config.model_type
    for key, expected in (("model_type", model_type), ("hidden_size", backbone.hidden_size)):
        if metadata.get(key) != expected:
            raise ArtifactError(
                f"{folder} has {key} {metadata.get(key)!r}, {backbone.name} needs {expected!r}; load the backbone"
                " it was made for"
            )
    name = metadata.get("name")
    if not isinstance(name, str):
        raise ArtifactError(f"{folder / CONFIG} does not name its adapter; copy or make it again")
    path, stored = _weights(folder)
    tensors = {_modern(key, backbone.model.base_model_prefix): tensor for key, tensor in stored.items()}
    settings = _settings(folder, metadata, backbone.num_layers)
    # In the old format every task adapter claims to have a coupling, but none has.
    if metadata.get("type") == "text_task" and not any("invertible_adapters." in key for key in tensors):
        settings["invertible_reduction"] = None
    with torch.device("meta"):
        empty = Adapter(backbone.hidden_size, backbone.num_layers, **settings)
    names = library_names(empty, name)
    if set(tensors) != set(names.values()):
        missing, more = set(names.values()) - set(tensors), set(tensors) - set(names.values())
        wrong = f"lacks {min(missing)}" if missing else f"holds {min(more)}, which such an adapter does not have"
        raise ArtifactError(
            f"{path} {wrong} (differences from its configuration and {backbone.num_layers} layers:"
            f" {len(missing | more)}); copy it again, or load its backbone"
        )
    for ours, expected in empty.tensors().items():
        if tensors[names[ours]].shape != expected.shape:
            shapes = f"{list(tensors[names[ours]].shape)}, expected {list(expected.shape)}"
            raise ArtifactError(f"{path}: {names[ours]} is {shapes} by its configuration; copy it again")
    return Adapter.restore(backbone, empty.settings(), {ours: tensors[key] for ours, key in names.items()})


def folder_of(name: str) -> Path:
    """The folder of an adapter by its place or its hub name, from the hub's cache where it lies there. Raises
    `ArtifactError` if there is none."""
    if Path(name).is_dir():
        return Path(name)
    files = [_fetched(name, file) for file in (CONFIG, WEIGHTS)]
    if files[0] is not None and files[1] is None:
        files.append(_fetched(name, PICKLED))
    if files[0] is None:
        raise ArtifactError(
            f"{name} is neither a folder with {CONFIG} nor on the hub or in its cache; give what save_adapter wrote, or"
            " a hub name such as AdapterHub/NAME"
        )
    return Path(files[0]).parent


def _fetched(name: str, file: str) -> str | None:
    try:
        return cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    except OSError:  # no such name, or not reachable
        return None


def made_for(folder: str | Path) -> str:
    """Name of the model that the adapter was trained for; "" if the folder does not state it."""
    return str(_metadata(Path(folder)).get("model_name") or "")


def has_head(folder: str | Path) -> bool:
    """Whether the folder also holds a prediction head, which `from_adapter_hub` ignores."""
    return any((Path(folder) / name).is_file() for name in HEADS)


def library_names(adapter: Adapter, name: str) -> dict[str, str]:
    """Our tensor names of an adapter mapped to those of the library, without the model prefix ("roberta.")."""
    parts = {"moves_first": "F", "moves_second": "G", "down": "0", "up": "2"}
    names: dict[str, str] = {}
    for ours in adapter.tensors():
        group, which, side, value = ours.split(".")
        if group == "coupling":
            names[ours] = f"invertible_adapters.{name}.{parts[which]}.{parts[side]}.{value}"
        else:
            side = "adapter_down.0" if side == "down" else "adapter_up"
            names[ours] = f"encoder.layer.{which}.output.adapters.{name}.{side}.{value}"
    return names


def _modern(key: str, prefix: str) -> str:
    """The name of a tensor since adapters 0.1, without the model prefix."""
    parts = key.removeprefix(f"{prefix}.").split(".")
    return ".".join(OLD_NAMES.get(part, part) for part in parts)


def _metadata(folder: Path) -> dict[str, Any]:
    metadata = read_config(folder, "a folder written by save_adapter")
    if not metadata:
        raise ArtifactError(f"{folder / CONFIG} describes no adapter; expected a folder written by save_adapter")
    return metadata


def _settings(folder: Path, metadata: Mapping[str, Any], num_layers: int) -> dict[str, Any]:
    """The arguments of `Adapter`; `ArtifactError` for another architecture than MAD-X."""
    config: Any = metadata.get("config")
    if not isinstance(config, dict) or config.get("architecture") is not None:
        raise ArtifactError(f"{folder} holds no bottleneck adapter; only seq_bn and seq_bn_inv (pfeiffer) can be read")

    def refuse(key: str, expected: Any) -> ArtifactError:
        return ArtifactError(
            f"{folder} has {key} {config.get(key)!r}, only {expected} can be read: adapters of the kind seq_bn or"
            " seq_bn_inv (pfeiffer)"
        )

    for key, expected in {**NEEDED, **DEFAULTS}.items():
        if config.get(key, DEFAULTS.get(key)) != expected:
            raise refuse(key, repr(expected))
    if isinstance(config.get("invertible_adapter"), dict):  # adapter-transformers 1
        old = config["invertible_adapter"]
        config = config | {
            "inv_adapter": old.get("block_type"),
            "inv_adapter_reduction_factor": old.get("reduction_factor"),
        }
    if config.get("inv_adapter") not in (None, "nice"):
        raise refuse("inv_adapter", "'nice' or none")
    if (config.get("leave_out") or []) not in ([], [num_layers - 1]):
        raise refuse("leave_out", f"[] or the last layer [{num_layers - 1}]")
    keys = {"reduction_factor": "reduction"}
    if config.get("inv_adapter"):
        keys["inv_adapter_reduction_factor"] = "invertible_reduction"
    settings: dict[str, Any] = {"invertible_reduction": None, "drop_last": bool(config.get("leave_out"))}
    for key, ours in keys.items():
        factor = config.get(key)
        if not isinstance(factor, int | float) or not 1 <= factor <= LARGEST_REDUCTION or factor != int(factor):
            raise refuse(key, "one whole number for all layers")
        settings[ours] = int(factor)
    return settings


def _weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    path = folder / WEIGHTS if (folder / WEIGHTS).is_file() else folder / PICKLED
    if not path.is_file():
        raise ArtifactError(f"{folder} has neither {WEIGHTS} nor {PICKLED}; expected a folder written by save_adapter")
    try:
        # weights_only: only tensors are loaded from a pickle, and no code in it is run.
        weights: Any = load_file(path) if path.name == WEIGHTS else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may fail in any way: struct.error, IndexError, ...
        if is_out_of_memory(error):
            raise
        reason = in_a_line(error, 150)
        raise ArtifactError(f"{path} is damaged or holds no weights ({reason}); copy or make it again") from None
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in weights.items()
    ):
        raise ArtifactError(f"{path} holds no weights by name; expected a folder written by save_adapter")
    for key, tensor in cast(dict[str, Tensor], weights).items():
        if not tensor.is_floating_point() or not is_finite(tensor.float()):
            raise ArtifactError(f"{path}: {key} is {tensor.dtype} or holds NaN or infinity; copy or make it again")
    return path, cast(dict[str, Tensor], weights)
