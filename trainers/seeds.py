"""Seeds derived from the run's: another use, another stream of chance."""

from __future__ import annotations

import hashlib


def draw(seed: int, number: int) -> int:
    """Return the seed of the rollouts with this number."""
    return stream(seed, "draw", number)


def stream(seed: int, *names: object) -> int:
    """Return a seed of its own for each use, derived from the run's `seed`."""
    text = " ".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")
