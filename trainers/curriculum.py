"""The curriculum of the group-level loss: a 3 x 3 grid over length and reward gap, three phases."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Cell = tuple[int, int]

# HPL, curriculum scheduler: short and clear groups first, then one step harder, then all.
PHASES: tuple[frozenset[Cell], ...] = (
    frozenset({(1, 1)}),
    frozenset({(1, 1), (1, 2), (2, 1)}),
    frozenset((length, gap) for length in (1, 2, 3) for gap in (1, 2, 3)),
)


def cell(
    length: int,
    gap: float,
    lengths: Sequence[int] = (0, 3, 6),
    gaps: Sequence[float] = (1, 0.7, 0.4),
) -> Cell:
    """Return the grid cell of a group pair.

    Args:
        length: Turns in the group, >= 1.
        gap: Winner's reward minus loser's, in (0, 1].
        lengths: Lower bounds (exclusive) of lengths 1, 2 and 3.
        gaps: Upper bounds (inclusive) of difficulties 1, 2 and 3; a large gap is easy.

    Returns:
        ``(length class, difficulty class)``, each in 1..3.
    """
    return sum(length > bound for bound in lengths), sum(gap <= bound for bound in gaps)


def spread(items: int, steps: int) -> list[tuple[int, int]]:
    """Share out `items` evenly and in order over `steps`.

    Returns:
        For each step the half-open range of its items; some are empty when there are few.
    """
    edges = [items * step // steps for step in range(steps + 1)]
    return list(pairwise(edges))
