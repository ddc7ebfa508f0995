"""Segmenters: pure functions from a trajectory's length to the spans of its action groups.

A span is ``(start, stop)`` in turns, half open; the spans of a trajectory cover it in order.
"""

from __future__ import annotations

from itertools import pairwise

Span = tuple[int, int]


def fixed_k(turns: int, k: int) -> list[Span]:
    """Cut into `k` groups whose lengths differ by at most one (fewer when there are fewer turns).

    Args:
        turns: Length of the trajectory, >= 0.
        k: Number of groups, >= 1.
    """
    groups = min(k, turns)
    edges = [turns * group // groups for group in range(groups + 1)] if groups else []
    return list(pairwise(edges))


def fixed_n(turns: int, n: int) -> list[Span]:
    """Cut into groups of `n` turns; the last one holds what is left.

    Args:
        turns: Length of the trajectory, >= 0.
        n: Turns a group, >= 1.
    """
    return [(start, min(start + n, turns)) for start in range(0, turns, n)]


SEGMENTERS = {"fixed-k": fixed_k, "fixed-n": fixed_n}
