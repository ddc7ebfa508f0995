"""Success rates with confidence intervals, mean rewards, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Rate:
    """A success rate with its 95 % Wilson score interval.

    Attributes:
        episodes: How many were played.
        successes: How many were solved.
        rate: Their share, in [0, 1].
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    episodes: int
    successes: int
    rate: float
    low: float
    high: float

    def __str__(self) -> str:
        if not self.episodes:
            return "-"
        return f"{100 * self.rate:.1f} % [{100 * self.low:.0f}-{100 * self.high:.0f}]"


def rate(successes: int, episodes: int) -> Rate:
    """Return a success rate with its 95 % Wilson score interval (Wilson 1927, equation 4)."""
    if not episodes:
        return Rate(0, 0, 0.0, 0.0, 1.0)
    z = 1.959963984540054
    share = successes / episodes
    scale = 1 + z * z / episodes
    middle = (share + z * z / (2 * episodes)) / scale
    half = z * math.sqrt(share * (1 - share) / episodes + z * z / (4 * episodes**2)) / scale
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Rate(episodes, successes, round(share, 6), round(low, 6), round(high, 6))


def summarize(episodes: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return a `Rate` and the mean ``reward`` of episode records: ``all``, then by task type."""
    groups: dict[str, list[dict[str, Any]]] = {"all": []}
    for episode in sorted(episodes, key=lambda one: str(one["task_type"])):
        groups["all"].append(episode)
        groups.setdefault(episode["task_type"], []).append(episode)
    return {
        name: asdict(rate(sum(one["success"] for one in group), len(group)))
        | {"reward": round(sum(one["reward"] for one in group) / max(1, len(group)), 6)}
        for name, group in groups.items()
    }


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference with its 95 % interval.

    Attributes:
        mean: The mean difference.
        low: Lower end of the interval, -inf where a single task was played.
        high: Upper end of the interval, then inf.
    """

    mean: float
    low: float
    high: float

    @property
    def noise(self) -> bool:
        """Whether the interval holds zero: the data do not tell the two apart."""
        return self.low <= 0 <= self.high

    @property
    def endless(self) -> bool:
        """Whether the interval has no ends: a single task says nothing about others."""
        return math.isinf(self.low)


def paired_bootstrap(differences: np.ndarray, draws: int = 10_000, seed: int = 0) -> Difference:
    """Return a mean difference of two policies with its 95 % percentile bootstrap interval.

    Both policies played the same tasks, so tasks are drawn in pairs. Seeds and tasks are both drawn
    with replacement (the pigeonhole bootstrap, Owen 2007, section 3), so the interval is about
    other tasks and other trainings; with one seed it is about other tasks alone. As a draw of S
    seeds from S varies (S - 1) / S as much as S new seeds do, what seeds differ by is made larger
    by sqrt(S / (S - 1)).

    Args:
        differences: One policy's results minus the other's, shape (seeds, tasks), both >= 1.
        draws: Number of bootstrap samples.
        seed: Seed of the drawing.
    """
    rng = np.random.default_rng(seed)
    seeds, tasks = differences.shape
    mean = differences.mean()
    if tasks == 1:
        return Difference(float(mean), -math.inf, math.inf)
    if seeds > 1:
        own = differences.mean(axis=1, keepdims=True) - mean
        differences = differences + (math.sqrt(seeds / (seeds - 1)) - 1) * own
    by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws)
    by_task = rng.multinomial(tasks, np.full(tasks, 1 / tasks), draws)
    means = ((by_seed @ differences) * by_task).sum(axis=1) / (seeds * tasks)
    low, high = np.percentile(means, (2.5, 97.5))
    return Difference(float(mean), float(low), float(high))
