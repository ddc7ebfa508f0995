"""Segmenters that need numbers only: from a trajectory to the spans of its action groups.

A span is ``(start, stop)`` in turns, half open; the spans of a trajectory cover it in order, and
none is empty. `subtasks` and `semantic` hold the segmenters that read what happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from hpl_gym.core import HPLGymError

Span = tuple[int, int]


def cut(begins: Iterable[bool]) -> list[Span]:
    """Cut before every marked turn.

    Args:
        begins: For each turn, whether a group begins with it; the first one always does.
    """
    flags = list(begins)
    starts = [turn for turn, begin in enumerate(flags) if begin or turn == 0]
    return list(pairwise([*starts, len(flags)]))


def fixed_n(turns: int, n: int) -> list[Span]:
    """Cut into `n` groups whose lengths differ by at most one (fewer when there are fewer turns).

    Args:
        turns: Length of the trajectory, >= 0.
        n: Number of groups, >= 1.
    """
    groups = min(n, turns)
    edges = [turns * group // groups for group in range(groups + 1)] if groups else []
    return list(pairwise(edges))


def fixed_k(turns: int, k: int) -> list[Span]:
    """Cut into groups of `k` turns; the last one holds what is left.

    Args:
        turns: Length of the trajectory, >= 0.
        k: Turns a group, >= 1.
    """
    return [(start, min(start + k, turns)) for start in range(0, turns, k)]


def uncertainty(entropies: Sequence[float], threshold: float) -> list[Span]:
    """Begin a group at the first turn and wherever the policy is unsure how to go on.

    Args:
        entropies: The reference policy's action entropy at each turn, in nats.
        threshold: A group begins where the entropy is greater (see `entropy_threshold`).
    """
    return cut(entropy > threshold for entropy in entropies)


def entropy_threshold(entropies: Iterable[float], percentile: float = 80) -> float:
    """Return the threshold for `uncertainty`: a percentile over the whole training set.

    It is numpy's "linear" percentile: interpolated between the two nearest entropies.

    Args:
        entropies: The action entropy at every turn of every training trajectory, in nats.
        percentile: In [0, 100].

    Raises:
        HPLGymError: There are no entropies, or the percentile is out of range.
    """
    values = list(entropies)
    if not values or not 0 <= percentile <= 100:
        raise HPLGymError(
            f"There is no {percentile:g}th percentile of {len(values)} entropies: give those of "
            "at least one turn, and a percentile from 0 to 100."
        )
    return float(np.percentile(values, percentile, method="linear"))
