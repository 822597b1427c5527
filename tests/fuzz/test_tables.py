"""The short form of the fuzz runs."""

from __future__ import annotations

from .tables import main


def test_odd_tables() -> None:
    assert main(40, seed=1) > 4, "tables that are all refused prove little"
