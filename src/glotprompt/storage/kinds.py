"""The kinds of saved files, known before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glotprompt.errors import ArtifactError

STAGE1_KINDS = ("language prompt", "language module")


def check_exists(path: Path, kinds: Sequence[str]) -> None:
    """Raise `ArtifactError` for a path that is no file."""
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; expected a {' or a '.join(kinds)} saved by glotprompt")
