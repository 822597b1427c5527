"""The parts of the package's metadata that depend on where the repository is published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+:|#)([^)]+)\)")
"""A link to a file of the repository, which an index page does not have."""


class MetadataHook(MetadataHookInterface):
    """README for an index page, and URLs. `repository` in pyproject.toml is the address; while there is none, links to
    files become plain text."""

    def update(self, metadata: dict[str, Any]) -> None:
        address = str(self.config.get("repository", "")).rstrip("/")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        linked = rf"[\1]({address}/blob/main/\2)" if address else r"\1"
        metadata["readme"] = {"content-type": "text/markdown", "text": LINK.sub(linked, text)}
        if address:
            pages = {"Repository": "", "Issues": "/issues", "Documentation": "/tree/main/docs"}
            metadata["urls"] = {name: address + page for name, page in pages.items()}
