"""axe-core on a page: https://github.com/dequelabs/axe-core, which `npm install axe-core` fetches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "GLOTPROMPT_AXE"
"""Environment variable with the place of axe.min.js."""


def violations(page: Any) -> list[str]:
    """What axe-core finds on a page, a line each. Skips the test where it is not there."""
    place = os.environ.get(VARIABLE)
    if not place:
        pytest.skip(f"needs axe-core: {VARIABLE} names axe.min.js (npm install axe-core)")
    page.evaluate(Path(place).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
    return [f"{one['id']}: {one['help']}: {node['html'][:200]}" for one in found for node in one["nodes"]]
