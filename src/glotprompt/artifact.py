"""One file for each thing that is saved: safetensors with a JSON description. No pickle; every write is atomic."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from glotprompt import atomic
from glotprompt.errors import ArtifactError, stand_in
from glotprompt.processes import is_first

FORMAT = 2
KEY = "glotprompt"


def write(path: str | Path, kind: str, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> Path:
    """Save tensors and their description as one file that appears whole or not at all.

    `kind` ("language prompt", "language module", "classifier", "checkpoint") is checked on reading, and a digest of
    everything beside it. Of processes that train together the first writes.
    """
    path = Path(path)
    if not is_first():
        return path
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    description: dict[str, Any] = {"format": FORMAT, "kind": kind, **facts}
    description["digest"] = digest(tensors, description)
    metadata = {KEY: json.dumps(description, ensure_ascii=False, sort_keys=True)}

    def onto_disk(beside: Path) -> None:
        try:
            save_file(tensors, beside, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from None

    return atomic.write(path, onto_disk)


def read(path: str | Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Load what `write` saved. Raises `ArtifactError` in one line for a missing, damaged or foreign file."""
    # Opened once: a version that replaces the file meanwhile has another description.
    with _opened(path, (kind,)) as (file, facts):
        tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    recorded = facts.pop("digest")
    if recorded != digest(tensors, facts):
        raise ArtifactError(f"{path} has been changed since it was saved (its digest differs); copy or make it again")
    return tensors, facts


def describe(path: str | Path, kinds: Sequence[str]) -> dict[str, Any]:
    """What a file of one of these kinds says of itself, its "kind" and "digest" too; the tensors are not read. Raises
    `ArtifactError` as `read` does."""
    with _opened(path, kinds) as (_, facts):
        return facts


@contextmanager
def _opened(path: str | Path, kinds: Sequence[str]) -> Generator[tuple[Any, dict[str, Any]]]:
    path, expected = Path(path), " or a ".join(kinds)
    with ExitStack() as stack:
        try:
            if not path.is_file():
                raise ArtifactError(f"{path} does not exist; expected a {expected} saved by glotprompt")
            with path.open("rb") as start:  # whatever forbids it, safetensors says that there is no such file
                if what := stand_in(start.read(256)):
                    raise ArtifactError(f"{path}: {what}")
            file = stack.enter_context(safe_open(path, framework="pt"))
            metadata: dict[str, str] = file.metadata() or {}
        except SafetensorError as error:
            raise ArtifactError(f"{path} is damaged or no safetensors file ({error}); copy or make it again") from None
        except OSError as error:
            reason = error.strerror or error
            raise ArtifactError(f"{path} cannot be read ({reason}); look at its permissions and its disk") from error
        yield file, _facts(path, metadata, kinds)


def _facts(path: Path, metadata: dict[str, str], kinds: Sequence[str]) -> dict[str, Any]:
    expected = " or a ".join(kinds)
    try:
        facts: dict[str, Any] = json.loads(metadata[KEY])
        found, _ = facts["kind"], facts["digest"]
    except (KeyError, ValueError, TypeError, AttributeError):
        raise ArtifactError(f"{path} was not written by glotprompt; expected a {expected}") from None
    if facts.get("format") != FORMAT:
        raise ArtifactError(
            f"{path} has format {facts.get('format')}, this glotprompt reads format {FORMAT};"
            " install a matching version"
        )
    if found not in kinds:
        raise ArtifactError(f"{path} is a {found}; expected a {expected}")
    return facts


def check_backbone(path: str | Path, facts: Mapping[str, Any], name: str, fingerprint: str) -> None:
    """Refuse a file made for another backbone."""
    made_for = facts.get("backbone", {})
    if made_for.get("fingerprint") != fingerprint:
        raise ArtifactError(f"{path} was made for {other_backbone(made_for, name, fingerprint)}")


def other_backbone(made_for: Mapping[str, Any], name: str, fingerprint: str) -> str:
    """The end of a message: which backbone something was made for, which one is loaded, and what to do."""
    recorded, known = made_for.get("fingerprint"), made_for.get("name")
    if known == name:
        return (
            f"another version of {name!r} (fingerprint {recorded}) than the one loaded ({fingerprint}); make it anew"
            " with the adapt and tune commands that made it"
        )
    return (
        f"{known!r} (fingerprint {recorded}), the loaded backbone is {name!r} (fingerprint {fingerprint}); load the"
        " backbone it was made for"
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
