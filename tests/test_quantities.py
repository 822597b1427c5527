"""Seconds and bytes as a person says them."""

from __future__ import annotations

import pytest

from glotprompt.quantities import duration, size


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (4.25, "4.2 s"),
        (59.7, "1 min 0 s"),
        (232.2, "3 min 52 s"),
        (7500, "2 h 5 min"),
        (86_399, "23 h 59 min"),
        (86_400 + 4 * 3600, "1 day 4 h"),
        (740_700, "8 days 13 h"),  # 12,345 minutes
        (1e9, "11,574 days 1 h"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("num_bytes", "said"),
    [(0, "0 B"), (999, "999 B"), (294_912, "295 kB"), (6_291_456, "6.29 MB"), (999_600_000, "1 GB")],
)
def test_sizes(num_bytes: int, said: str) -> None:
    assert size(num_bytes) == said
