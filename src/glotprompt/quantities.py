"""Durations and sizes as text."""

from __future__ import annotations

from glotprompt.errors import counted

DAY = 24 * 3600
"""Seconds."""


def duration(seconds: float) -> str:
    """A duration as text.

    >>> duration(4.2), duration(232), duration(7500)
    ('4.2 s', '3 min 52 s', '2 h 5 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < DAY:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{counted(whole // DAY, 'day')} {whole % DAY // 3600} h"


def size(num_bytes: float) -> str:
    """A size as text, in decimal units with three digits.

    >>> size(6_291_456)
    '6.29 MB'
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= 0.9995 * unit:
            return f"{num_bytes / unit:.3g} {name}"
    return f"{num_bytes:.0f} B"
