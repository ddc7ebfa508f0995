"""Monte Carlo values of states: each state is rolled out once, whoever asks for it."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from hpl_gym.agents.agent import Agent
from hpl_gym.trainers.rollout import Simulator, State, rollout


class Values:
    """The values of one task's states, under one policy.

    A state is its history. The end of one action group is the start of the next, and branches that
    did the same meet in the same state: each is estimated once.

    Args:
        simulator: A simulator of the task.
        agent: The policy, with its sampling temperature.
        rollouts: M, the number of rollouts a state.
        seed: Seed of the rollouts.
    """

    def __init__(self, simulator: Simulator, agent: Agent, rollouts: int, seed: int) -> None:
        self._simulator, self._agent = simulator, agent
        self._rollouts, self._seed = rollouts, seed
        self._rewards: dict[str, asyncio.Task[list[float]]] = {}
        self._states: dict[str, State] = {}

    async def value(self, state: State) -> float:
        """Return the mean outcome reward of M rollouts from `state`.

        A state in which the episode is over has its outcome as its value, and is not rolled out.
        """
        if state.over:
            return state.reward
        key = state.conversation.digest
        if key not in self._rewards:
            self._states[key] = state
            self._rewards[key] = asyncio.ensure_future(self._estimate(state))
        rewards = await asyncio.shield(self._rewards[key])
        return sum(rewards) / len(rewards)

    def records(self) -> list[dict[str, Any]]:
        """Return the estimates made, as records, in the order in which they were asked for."""
        return [
            {
                "key": key,
                "task_id": state.conversation.task_id,
                "turns": len(state.conversation.turns),
                "snapshot": state.snapshot.digest[:16],
                "rewards": self._rewards[key].result(),
                "value": sum(self._rewards[key].result()) / self._rollouts,
            }
            for key, state in self._states.items()
        ]

    async def _estimate(self, state: State) -> list[float]:
        # Seeds differ between states, so that estimates along one trajectory are independent.
        key = state.conversation.digest
        seeds = [stream(self._seed, "value", key, draw) for draw in range(self._rollouts)]
        ends = await asyncio.gather(
            *(rollout(self._simulator, self._agent, state, seed=seed) for seed in seeds)
        )
        return [states[-1].reward for states in ends]


def stream(seed: int, *names: object) -> int:
    """Return a seed of its own for each use, derived from the run's `seed`."""
    text = " ".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")
