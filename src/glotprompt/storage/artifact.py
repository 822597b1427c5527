"""Saved prompts, modules and classifiers: one safetensors file each, with a JSON description. No pickle; atomic
writes."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from glotprompt.errors import ArtifactError, in_a_line, is_out_of_memory, stand_in
from glotprompt.processes import is_first
from glotprompt.storage import atomic
from glotprompt.storage.kinds import check_exists
from glotprompt.version import __version__

FORMAT = 4
KEY = "glotprompt"
MEASUREMENTS = "measurements"
"""What is found of a file after it was made: part of the metadata, but under a key of its own and with a digest of its
own, so that the file's digest stays."""
_BESIDE = f"{KEY}.{MEASUREMENTS}"
NO_BACKBONE = {"name": "none", "fingerprint": "none"}
"""The backbone of a classifier that uses none."""
MOST_LEVELS = 64
"""Nesting limit of a description: several times the depth of any real one, far below Python's recursion limit."""
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Dtype names of safetensors."""


def write(path: str | Path, kind: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> Path:
    """Save tensors and their description as one file that appears whole or not at all.

    `kind` ("language prompt", "language module", "classifier", "checkpoint") and a digest of everything else are
    checked on reading. Of processes that train together, the first writes.
    """
    path = Path(path)
    if not is_first():
        return path
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    description: dict[str, Any] = {"format": FORMAT, "kind": kind, **metadata}
    measurements = description.pop(MEASUREMENTS, None)
    description["digest"] = digest(tensors, description)
    stored = {KEY: description}
    if measurements:
        stored[_BESIDE] = _measurements(measurements, description["digest"])
    header, names = _header(
        tensors, {key: json.dumps(said, ensure_ascii=False, sort_keys=True) for key, said in stored.items()}
    )

    def onto_disk(beside: Path) -> None:
        with beside.open("wb") as file:
            file.write(header)
            for name in names:
                file.write(_bytes(tensors[name]))

    return atomic.write(path, onto_disk)


def _header(tensors: Mapping[str, torch.Tensor], stored: Mapping[str, str]) -> tuple[bytes, list[str]]:
    """Header of a safetensors file, and the order of its tensors.

    Not written by safetensors itself: `save_file` uses a temporary file with a name of its own, which a kill leaves
    behind and only its owner may read, and `save` needs the memory twice."""
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))  # so that all are aligned
    entries: dict[str, Any] = {"__metadata__": stored}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].nbytes
        shape = list(tensors[name].shape)
        entries[name] = {"dtype": _DTYPES[tensors[name].dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, names


def _bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor, without a copy."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data


def read(path: str | Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Load what `write` saved. Raises `ArtifactError` in one line for a missing, damaged or foreign file.

    The file is memory-mapped only while it is read: later changes of it have no effect."""
    path = Path(path)
    # Opened once: a file that replaces it meanwhile has another description.
    with _open(path, (kind,)), safe_open(path, framework="pt") as file:
        metadata = _metadata(path, file.metadata() or {}, (kind,))
        names = file.keys()
        tensors: dict[str, torch.Tensor] = {name: _copy(file.get_tensor(name)) for name in names}
        return tensors, _check_digest(path, tensors, metadata)


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """Byte-wise copy: `clone` would change the byte of a damaged bool, and the digest would miss it."""
    return tensor.reshape(-1).view(torch.uint8).clone().view(tensor.dtype).reshape(tensor.shape)


def read_copy(path: str | Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Like `read` but without memory-mapping, for files that other programs may write at any moment: a mapped file that
    is truncated while it is read kills the process. Takes twice the file's size for a moment."""
    path = Path(path)
    with _open(path, (kind,)) as file:
        data = file.read()
        metadata = _metadata(path, _stored_metadata(BytesIO(data), len(data)), (kind,))
        tensors = safetensors.torch.load(data)
        return tensors, _check_digest(path, tensors, metadata)


def describe(path: str | Path, kinds: Sequence[str]) -> dict[str, Any]:
    """The description of a file of one of these kinds, with "kind" and "digest"; the tensors are not read. Raises
    `ArtifactError` as `read` does."""
    path = Path(path)
    with _open(path, kinds) as file:
        return _metadata(path, _stored_metadata(file, os.fstat(file.fileno()).st_size), kinds)


@contextmanager
def _open(path: Path, kinds: Sequence[str]) -> Generator[BinaryIO]:
    """Context with the open file, in which every error becomes a one-line `ArtifactError`."""
    try:
        check_exists(path, kinds)
        with path.open("rb") as file:
            if what := stand_in(file.read(256)):
                raise ArtifactError(f"{path}: {what}")
            file.seek(0)
            yield file
    except (SafetensorError, RecursionError, RuntimeError, ValueError, KeyError, TypeError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        # Besides its own error, safetensors raises many others for strange dtypes and shapes.
        raise ArtifactError(
            f"{path} is damaged or no safetensors file ({in_a_line(error)}); copy or make it again"
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise ArtifactError(f"{path} cannot be read ({reason}); look at its permissions and its disk") from error


def _stored_metadata(file: BinaryIO, size: int) -> dict[str, str]:
    """The metadata in a safetensors header, read without mapping the file: eight bytes of header length
    (little-endian), then JSON, then the tensors."""
    length = int.from_bytes(file.read(8), "little")
    if 8 + length > size:
        raise SafetensorError(f"a header of {length:,} bytes in a file of {size:,}")
    try:
        header: dict[str, Any] = json.loads(file.read(length))
        ends = (int(tensor["data_offsets"][1]) for name, tensor in header.items() if name != "__metadata__")
        end = max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
        raise SafetensorError("a header that names no tensors") from None
    if 8 + length + end != size:
        raise SafetensorError(f"{size:,} bytes instead of {8 + length + end:,}")
    return header.get("__metadata__", {})


def _metadata(path: Path, stored: dict[str, str], kinds: Sequence[str]) -> dict[str, Any]:
    expected = " or a ".join(kinds)
    try:
        metadata: dict[str, Any] = json.loads(stored[KEY])
        stored_kind, _ = metadata["kind"], metadata["digest"]
        if not isinstance(stored_kind, str) or not is_shallow(metadata):
            raise ValueError
    except (KeyError, ValueError, TypeError, AttributeError):
        raise ArtifactError(f"{path} was not written by glotprompt; expected a {expected}") from None
    if metadata.get("format") != FORMAT:
        raise ArtifactError(
            f"{path} has format {in_a_line(metadata.get('format'), 20)}, this glotprompt reads format {FORMAT}; create"
            " it again with the adapt and tune commands that made it, or install the glotprompt that wrote it"
        )
    if stored_kind not in kinds:
        raise ArtifactError(f"{path} is a {in_a_line(stored_kind, 40)}; expected a {expected}")
    if other := set(stored) - {KEY, _BESIDE}:
        raise ArtifactError(
            f"{path} has been changed since it was saved ({in_a_line(min(other), 40)!r}); copy it again"
        )
    if _BESIDE in stored:
        metadata[MEASUREMENTS] = _checked_measurements(path, stored[_BESIDE], metadata["digest"])
    return metadata


def _measurements(found: Any, of: Any) -> dict[str, Any]:
    """Measurements as they are stored; `of`: the digest of the file that they are of."""
    content = {"of": of, MEASUREMENTS: found}
    return {**content, "digest": digest({}, content)}


def _checked_measurements(path: Path, stored: str, of: Any) -> Any:
    try:
        content = json.loads(stored)
        if is_shallow(content) and content == _measurements(content[MEASUREMENTS], of):
            return content[MEASUREMENTS]
    except (KeyError, ValueError, TypeError, RecursionError):
        pass
    raise ArtifactError(
        f"{path}: what was measured of it has been changed, or is another file's (its digest differs); copy or make it"
        " again"
    )


def is_shallow(value: Any) -> bool:
    """Whether lists and dicts are nested at most `MOST_LEVELS` deep."""
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [part for one in level if isinstance(one, dict | list) for part in _parts(one)]
    return not level


def _parts(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _check_digest(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata without its digest, which must match."""
    metadata = dict(metadata)
    measured = {MEASUREMENTS: metadata.pop(MEASUREMENTS)} if MEASUREMENTS in metadata else {}
    if metadata.pop("digest") != digest(tensors, metadata):
        raise ArtifactError(f"{path} has been changed since it was saved (its digest differs); copy or make it again")
    return {**metadata, **measured}


def check_backbone(path: str | Path, metadata: Mapping[str, Any], name: str, fingerprint: str) -> None:
    """Raise `ArtifactError` for a file made for another backbone."""
    made_for = metadata.get("backbone", {})
    if made_for != NO_BACKBONE and made_for.get("fingerprint") != fingerprint:
        raise ArtifactError(f"{path} was made for {other_backbone(made_for, name, fingerprint)}")


def other_backbone(made_for: Mapping[str, Any], name: str, fingerprint: str) -> str:
    """The end of a message: which backbone something was made for, which one is loaded, and what to do."""
    recorded, stored_name = made_for.get("fingerprint"), made_for.get("name")
    if stored_name == name:
        return (
            f"another version of {name!r} (fingerprint {recorded}) than the one loaded ({fingerprint}); create it again"
            " with the adapt and tune commands that made it"
        )
    return (
        f"{stored_name!r} (fingerprint {recorded}), the loaded backbone is {name!r} (fingerprint {fingerprint}); load"
        " the backbone it was made for"
    )


def digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> str:
    """sha256 of tensors and metadata, in hexadecimal."""
    hasher = hashlib.sha256(json.dumps(metadata, sort_keys=True, ensure_ascii=False).encode())
    for name in sorted(tensors):
        hasher.update(f"{name}{tensors[name].dtype}{tuple(tensors[name].shape)}".encode())
        hasher.update(_bytes(tensors[name]))
    return hasher.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and the libraries that numbers depend on."""
    result = {"python": platform.python_version(), "glotprompt": __version__}
    for package in ("torch", "transformers", "tokenizers"):
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            result[package] = "unknown"
    return result
