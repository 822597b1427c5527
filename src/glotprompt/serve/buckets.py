"""Texts of any lengths, cut into forward passes with little padding."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from glotprompt.model.tokens import padded_width

PASS_COST = 64
"""What a forward pass costs before it reads anything, in tokens: a second pass must save more padding than this."""


def buckets(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Indices in groups of similar length, the longest first, such that padded tokens and `PASS_COST` for each group
    come to the least. No group has more than `most_tokens` padded tokens, unless it is a single text."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    widths = [padded_width(lengths[i]) for i in order]
    # The best cut of the first n texts, for n at the places where the width changes: no cut elsewhere saves padding.
    edges = [i for i, width in enumerate(widths) if i == 0 or width != widths[i - 1]] + [len(order)]
    best: dict[int, tuple[int, int]] = {0: (0, 0)}
    for number, end in enumerate(edges[1:], start=1):
        best[end] = min((best[start][0] + (end - start) * widths[start] + PASS_COST, start) for start in edges[:number])
    groups: list[list[int]] = []
    end = len(order)
    while end:
        start = best[end][1]
        rows = max(1, most_tokens // widths[start])
        groups += reversed([order[first : min(first + rows, end)] for first in range(start, end, rows)])
        end = start
    return groups[::-1]


def grouped(keys: Sequence[Hashable]) -> list[list[int]]:
    """Indices of equal keys together."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return list(groups.values())
