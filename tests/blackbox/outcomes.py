"""What a command line came to, without what differs between two runs of it: times, sizes, places, versions, hashes."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

FIGURES = {"grid": "grid/steps/*/result.json", "report": "report/tables/*.csv", "embed": "*.npy"}
"""Where a command leaves its figures, beside the file after --json."""
DROPPED = re.compile(r"seconds|peak|file_bytes|measured_bytes|made_from|versions|hardware|finished|stage [12]")
ECHOES = {"config", "data", "language_prompt"}
"""What the words asked for, and what stage 1 said before."""
PLACEHOLDERS = {
    r"\b[0-9a-f]{8,64}\b": "<hash>",
    r"\b\d[\d.,]* (?:s|ms|min|h|B|kB|MB|GB)\b": "<amount>",
    r"^glotprompt \d\S*$": "glotprompt <version>",
    r"\b\d+\.\d+\b": "<number>",
}
"""In text, whose numbers are rounded: their last digit says more of the machine than of the program."""


def files_of(folder: Path) -> dict[str, int]:
    """From each file below a folder to when it was written; files that begin with a dot are half written."""
    found: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            found[path.relative_to(folder).as_posix()] = path.stat().st_mtime_ns
    return found


def outcome(words: str, folder: Path, before: dict[str, int], status: int, out: str, err: str) -> dict[str, Any]:
    """Status; files written; the error, or the figures, or else what was said on standard output."""
    written = [name for name, when in files_of(folder).items() if before.get(name) != when]
    found: dict[str, Any] = {"status": status, "files": sorted(normal(written, folder))}
    if status not in (0, 3):  # 3: the doctor says that it will not work
        assert not out, "an error is no result"
        return {**found, "error": normal(err.splitlines()[-1], folder)}
    figures = [(name, _read(folder / name)) for name in written if _holds_figures(name, shlex.split(words))]
    figures = sorted(normal([list(one) for one in figures], folder), key=json.dumps)
    if figures:
        return {**found, "figures": figures}
    if out.startswith("{"):
        said = json.loads(out) if out.startswith("{\n") else [json.loads(line) for line in out.splitlines()]
    elif out.startswith("Usage: ") and "Examples:" in out:  # help
        said = sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", out)))
    else:
        said = [" ".join(line.split()) for line in out.splitlines() if line.strip("─ ")]
    return {**found, "out": normal(said, folder)}


def _holds_figures(name: str, words: Sequence[str]) -> bool:
    after = [word for option, word in pairwise(words) if option == "--json"]
    return name in after or Path(name).match(FIGURES.get(words[0], "-"))


def _read(path: Path) -> Any:
    if path.suffix == ".npy":
        vectors = np.load(path)
        return {"shape": list(vectors.shape), "kind": str(vectors.dtype), "first": vectors[0].tolist()}
    with path.open(encoding="utf-8", newline="") as file:
        return json.load(file) if path.suffix == ".json" else [*csv.DictReader(file)]


def normal(value: Any, folder: Path) -> Any:
    """The same without what differs between runs."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if key not in ECHOES and not DROPPED.search(key)}
        return {key: normal(one, folder) for key, one in kept.items()}
    if isinstance(value, list):
        return [normal(one, folder) for one in value]
    if isinstance(value, str):
        if re.fullmatch(r"-?\d+\.\d+", value):  # of a table
            return float(value)
        value = value.replace(str(folder), "HERE")
        for pattern, placeholder in PLACEHOLDERS.items():
            value = re.sub(pattern, placeholder, value)
    return value
