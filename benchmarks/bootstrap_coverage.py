"""How often the paired intervals of `hpl reproduce` hold the true difference, by simulation.

A difference of two policies on a task is drawn as the sum of what the seed, the task and the two
together add; the true difference is 0.

    python benchmarks/bootstrap_coverage.py --seeds 3 --tasks 100
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

from hpl_gym.trainers.statistics import paired_bootstrap


def coverage(spread: float, seeds: int, tasks: int, draws: int) -> float:
    """Return the share of intervals that hold 0, with seeds that differ by `spread` points."""
    rng = np.random.default_rng(1)
    held = 0
    for draw in range(draws):
        by_seed = rng.normal(0, spread, (seeds, 1))
        by_task = rng.normal(0, 10, (1, tasks))
        differences = by_seed + by_task + rng.normal(0, 30, (seeds, tasks))
        held += paired_bootstrap(differences, 2000, draw).noise
    return held / draws


def main() -> None:
    """Simulate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--draws", type=int, default=600)
    args = parser.parse_args()
    table = Table(title=f"95 % intervals, {args.seeds} seeds, {args.tasks} tasks")
    table.add_column("seeds differ by, points", justify="right")
    table.add_column("hold the truth", justify="right")
    for spread in (0, 2, 4, 6, 10):
        table.add_row(str(spread), f"{coverage(spread, args.seeds, args.tasks, args.draws):.1%}")
    Console().print(table)


if __name__ == "__main__":
    main()
