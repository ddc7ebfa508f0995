"""HPL's curriculum: group pairs by length and reward gap, in three phases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from rich.table import Table
from rich.text import Text

Cell = tuple[int, int]

CELLS: tuple[Cell, ...] = tuple((length, gap) for length in (1, 2, 3) for gap in (1, 2, 3))

# The grid cells that each phase allows. HPL: short and clear groups first, then one step harder,
# then all. The others are its ablations: no curriculum, and one axis of the grid alone.
CURRICULA: dict[str, tuple[frozenset[Cell], ...]] = {
    "hpl": (frozenset({(1, 1)}), frozenset({(1, 1), (1, 2), (2, 1)}), frozenset(CELLS)),
    "static": (frozenset(CELLS),),
    "length-only": tuple(frozenset(c for c in CELLS if c[0] <= phase) for phase in (1, 2, 3)),
    "difficulty-only": tuple(frozenset(c for c in CELLS if c[1] <= phase) for phase in (1, 2, 3)),
}


def cell(length: int, gap: float, lengths: Sequence[int], gaps: Sequence[float]) -> Cell:
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


def heat_map(cells: Iterable[Cell], lengths: Sequence[int], gaps: Sequence[float]) -> Table:
    """Return the grid as a table: how many pairs each cell holds, the darker the more.

    Args:
        cells: The cell of each pair.
        lengths: Lower bounds of the group lengths, in turns.
        gaps: Upper bounds of the reward gaps.
    """
    counts = Counter(cells)
    most = max(counts.values(), default=1)
    table = Table(title=f"{counts.total()} group pairs by length and reward gap")
    table.add_column("turns")
    for high, low in pairwise((*gaps, 0)):
        table.add_column(f"gap {low:g} to {high:g}", justify="right")
    for row, low in enumerate(lengths, 1):
        shades = []
        for column in (1, 2, 3):
            count = counts[row, column]
            share = round(215 * count / most)
            style = (
                f"{'white' if share > 110 else 'black'} on #{255 - share:02x}{255 - share:02x}ff"
            )
            shades.append(Text(str(count or "empty"), style=style if count else "dim"))
        end = f"to {lengths[row]}" if row < len(lengths) else "or more"
        alone = row < len(lengths) and lengths[row] == low + 1
        table.add_row(f"{low + 1}" if alone else f"{low + 1} {end}", *shades)
    return table
