"""Success rates with confidence intervals, and mean rewards."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


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
