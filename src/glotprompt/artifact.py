"""One file for each thing that is saved: safetensors with a JSON description. No pickle; every write is atomic."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from glotprompt import atomic
from glotprompt.errors import ArtifactError

FORMAT = 1
KEY = "glotprompt"


def write(path: str | Path, kind: str, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> Path:
    """Save tensors and their description as one file that appears whole or not at all.

    `kind` ("language prompt", "language module", "classifier", "checkpoint") is checked on reading, and a digest of
    everything beside it.
    """
    path = Path(path)
    if distributed.is_available() and distributed.is_initialized() and distributed.get_rank() > 0:
        return path  # under torchrun one process writes for all
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    description: dict[str, Any] = {"format": FORMAT, "kind": kind, **facts}
    description["digest"] = digest(tensors, description)
    data = save(tensors, metadata={KEY: json.dumps(description, ensure_ascii=False, sort_keys=True)})
    return atomic.write(path, data)


def read(path: str | Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Load what `write` saved. Raises `ArtifactError` in one line for a missing, damaged or foreign file."""
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; expected a {kind} saved by glotprompt")
    try:
        with safe_open(path, framework="pt") as file:  # pyright: ignore[reportUnknownVariableType]
            metadata: dict[str, str] = file.metadata() or {}
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is damaged or no safetensors file ({error}); copy or make it again") from None
    try:
        facts: dict[str, Any] = json.loads(metadata[KEY])
        found, recorded = facts["kind"], facts.pop("digest")
    except (KeyError, ValueError, TypeError, AttributeError):
        raise ArtifactError(f"{path} was not written by glotprompt; expected a {kind}") from None
    if facts.get("format") != FORMAT:
        raise ArtifactError(
            f"{path} has format {facts.get('format')}, this glotprompt reads format {FORMAT};"
            " install a matching version"
        )
    if found != kind:
        raise ArtifactError(f"{path} is a {found}; expected a {kind}")
    if recorded != digest(tensors, facts):
        raise ArtifactError(f"{path} has been changed since it was saved (its digest differs); copy or make it again")
    return tensors, facts


def kind_of(path: str | Path, expected: Sequence[str]) -> str:
    """Which of the `expected` kinds a file is; the first of them when it is none, so that `read` says what is wrong."""
    try:
        with safe_open(path, framework="pt") as file:  # pyright: ignore[reportUnknownVariableType]
            kind = str(json.loads((file.metadata() or {})[KEY])["kind"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return expected[0]
    return kind if kind in expected else expected[0]


def check_backbone(path: str | Path, facts: Mapping[str, Any], name: str, fingerprint: str) -> None:
    """Refuse a file made for another backbone."""
    made_for = facts.get("backbone", {})
    if made_for.get("fingerprint") != fingerprint:
        raise ArtifactError(
            f"{path} was made for {made_for.get('name')!r} (fingerprint {made_for.get('fingerprint')}), the loaded"
            f" backbone is {name!r} (fingerprint {fingerprint}); load the backbone it was made for"
        )


def digest(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> str:
    """sha256 of tensors and facts, in hexadecimal digits."""
    found = hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        found.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def versions() -> dict[str, str]:
    """Versions of what numbers depend on."""
    found = {"python": platform.python_version()}
    for package in ("glotprompt", "torch", "transformers", "tokenizers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
