"""Executes docs/notebook.ipynb with this Python and says how long it took; nothing is written."""

from __future__ import annotations

import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

start = time.monotonic()
notebook = nbformat.read(Path(__file__).parents[1] / "docs" / "notebook.ipynb", as_version=4)
assert not any(cell.get("outputs") for cell in notebook.cells), "strip the outputs before you commit the notebook"
NotebookClient(notebook, timeout=1800, kernel_name="python3").execute()
for cell in notebook.cells:
    for output in cell.get("outputs", ()):
        print(output.get("text") or output.get("data", {}).get("text/plain", ""))
print(f"notebook: {(time.monotonic() - start) / 60:.1f} min")
