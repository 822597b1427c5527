"""The invented demo."""

from __future__ import annotations

from typing import Any

import pytest

from glotprompt.demo.result import DemoResult

from .invented import demo_result


@pytest.fixture
def result() -> DemoResult:
    return DemoResult.of(demo_result(), "invented")


@pytest.fixture
def as_json() -> dict[str, Any]:
    """The same as JSON, to be changed."""
    return demo_result()
