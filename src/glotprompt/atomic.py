"""Files that appear whole or not at all, whatever is killed when."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from glotprompt.errors import ArtifactError


def write(path: Path, data: bytes | str) -> Path:
    """Write beside, onto the disk, then rename; folders are made. Raises `ArtifactError` where that is not possible."""
    beside = path.with_name(f".{path.name}.tmp")  # one name: what a kill leaves is written over the next time
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()  # there only when something went wrong
    return path
