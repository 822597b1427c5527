"""Records: JSON files of what a run once gave, held against what it gives now. `--record` writes them anew."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOLERANCE = 1e-4
"""How far two numbers may be apart, relative to the larger one, where bits cannot be asked for."""
NEAR_ZERO = 1e-5
"""Numbers this small are rounding errors of others."""
WIDTH = 116


def read(path: Path) -> Any:
    assert path.is_file(), f"{path} is missing; --record makes it"
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, value: Any) -> None:
    """As JSON that git shows well: keys in order, and in a line of its own what fits or is a list of short words."""
    path.write_text(_folded(value, "") + "\n", encoding="utf-8")


def _folded(value: Any, indent: str) -> str:
    flat = json.dumps(value, sort_keys=True, ensure_ascii=False)
    is_short = isinstance(value, list) and all(len(str(item)) < 32 for item in value)
    if not isinstance(value, (dict, list)) or is_short or len(indent) + len(flat) <= WIDTH:
        return flat
    inside = f"{indent} "
    if isinstance(value, dict):
        lines = [f"{json.dumps(key, ensure_ascii=False)}: {_folded(value[key], inside)}" for key in sorted(value)]
        return "{\n" + ",\n".join(inside + line for line in lines) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inside + _folded(item, inside) for item in value) + f"\n{indent}]"


def differences(recorded: Any, found: Any, tolerance: float = TOLERANCE, place: str = "") -> Iterator[str]:
    """A line for every place in which two JSON values differ; with tolerance 0 numbers differ by a bit."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        for key in sorted(recorded.keys() | found.keys()):
            inside = f"{place}.{key}" if place else key
            if key not in found:
                yield f"{inside}: gone, was {_short(recorded[key])}"
            elif key not in recorded:
                yield f"{inside}: new, {_short(found[key])}"
            else:
                yield from differences(recorded[key], found[key], tolerance, inside)
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for number, (one, other) in enumerate(zip(recorded, found, strict=True)):
            yield from differences(one, other, tolerance, f"{place}[{number}]")
    elif isinstance(recorded, list) and isinstance(found, list):
        gone, new = [one for one in recorded if one not in found], [one for one in found if one not in recorded]
        yield f"{place}: {len(recorded)} items recorded, {len(found)} now; gone {_short(gone)}, new {_short(new)}"
    elif isinstance(recorded, float) and isinstance(found, float) and tolerance:
        if not math.isclose(recorded, found, rel_tol=tolerance, abs_tol=NEAR_ZERO):
            yield f"{place}: {recorded!r} recorded, {found!r} now"
    elif type(recorded) is not type(found) or recorded != found:
        yield f"{place}: {_short(recorded)} recorded, {_short(found)} now"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 400 else f"{text[:400]}..."
