"""Fixtures for every room."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Other people's corpora in their publishers' layouts, beside the checkout; tests that need them skip without."""
    if not _SHARED_DATA.is_dir():
        pytest.skip(f"needs the corpora in {_SHARED_DATA}")
    return _SHARED_DATA
