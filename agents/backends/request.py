"""What a language-model backend is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Request:
    """One continuation to generate.

    Attributes:
        ids: Token ids of the context.
        seed: Seed of this request's sampling alone.
        temperature: 0 is greedy.
        max_new_tokens: Where to stop at the latest.
        stop_id: The token that ends the continuation.
    """

    ids: tuple[int, ...]
    seed: int
    temperature: float
    max_new_tokens: int
    stop_id: int

    def uniforms(self) -> np.ndarray:
        """Return the numbers in [0, 1) that decide each sampled token, shape (max_new_tokens,)."""
        return np.random.Generator(np.random.Philox(self.seed)).random(self.max_new_tokens)


@dataclass(frozen=True, slots=True)
class Completion:
    """A generated continuation.

    Attributes:
        ids: Its token ids, with the stop token if it was reached.
        logprobs: Log-probability of each token in nats, at temperature 1.
        entropies: Entropy in nats of each token's distribution, at temperature 1.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]


@dataclass
class Usage:
    """What a backend has done so far.

    Attributes:
        calls: Requests answered.
        tokens_in: Context tokens asked about.
        tokens_computed: Context tokens that went through the model, without padding; the others
            were in a kept or shared prefix.
        tokens_out: Tokens generated.
        seconds: Time spent in the model.
    """

    calls: int = 0
    tokens_in: int = 0
    tokens_computed: int = 0
    tokens_out: int = 0
    seconds: float = 0.0


class Backend(Protocol):
    """Runs a language model for many conversations at once."""

    usage: Usage

    async def generate(self, request: Request) -> Completion:
        """Return the continuation; requests that wait together are answered in one batch."""
        ...

    async def close(self) -> None:
        """End it and give back what it holds."""
        ...
