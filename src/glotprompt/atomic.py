"""Files that appear whole or not at all, whatever is killed when."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from glotprompt.errors import ArtifactError


def write(path: Path, data: bytes | str | Callable[[Path], object]) -> Path:
    """Write beside, onto the disk, then rename; folders are made. `data` may be a function that writes to the path it
    is given, for what is too large to stand in memory twice. Raises `ArtifactError` where that is not possible."""
    beside = path.with_name(f".{path.name}.tmp")  # one name: what a kill leaves is written over the next time
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(data):
            data(beside)
        else:
            beside.write_bytes(data.encode() if isinstance(data, str) else data)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()  # there only when something went wrong
    return path
