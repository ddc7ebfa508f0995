"""Monte Carlo values of states: each state is rolled out once, whoever asks for it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from hpl_gym.agents.agent import Agent
from hpl_gym.trainers.rollout import Simulator, State, cost, rollout


class Values:
    """The values of one task's states, under one policy.

    A state is its task and history. The end of one action group is the start of the next, and
    branches that did the same meet in the same state: each is estimated once, from rollouts whose
    seeds depend on the state and the run's seed alone.

    Args:
        simulator: A simulator of the task.
        agent: The policy.
        policy: What tells the policy and its sampling temperature from others, for the keys.
        rollouts: M, the number of rollouts a state.
        seed: Seed of the run.
        known: Records of values estimated before, by key.
        first: Outcomes of first rollouts that were made already, by the history's digest.
    """

    def __init__(
        self,
        simulator: Simulator,
        agent: Agent,
        policy: str,
        rollouts: int,
        seed: int,
        known: Mapping[str, dict[str, Any]] | None = None,
        first: Mapping[str, float] | None = None,
    ) -> None:
        self._simulator, self._agent, self._policy = simulator, agent, policy
        self._rollouts, self._seed = rollouts, seed
        self._known, self._first = known or {}, first or {}
        self.records: dict[str, dict[str, Any]] = {}

    async def estimate(self, states: Iterable[State]) -> None:
        """Estimate the values of those states in which the episode goes on.

        What was estimated is in `records` afterwards, in the order of `states`.
        """
        wanted = {self._key(state): state for state in states if not state.over}
        found = await asyncio.gather(*(self._record(*item) for item in wanted.items()))
        self.records |= {record["key"]: record for record in found}

    def value(self, state: State) -> float:
        """Return the mean outcome reward of M rollouts from a state that was estimated.

        A state in which the episode is over has its outcome as its value.
        """
        return state.reward if state.over else float(self.records[self._key(state)]["value"])

    def _key(self, state: State) -> str:
        text = f"{self._policy} {self._rollouts} {state.conversation.digest}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    async def _record(self, key: str, state: State) -> dict[str, Any]:
        if key in self._known:
            return self._known[key]
        history = state.conversation.digest
        given = [self._first[history]] if history in self._first else []
        rollouts = await asyncio.gather(
            *(
                rollout(self._simulator, self._agent, state, seed=draw(self._seed, state, number))
                for number in range(len(given), self._rollouts)
            )
        )
        rewards = given + [states[-1].reward for states in rollouts]
        return {
            "key": key,
            "task_id": state.conversation.task_id,
            "history": history,
            "turns": len(state.conversation.turns),
            "policy": self._policy,
            "snapshot": state.snapshot.digest[:16],
            "rewards": rewards,
            "value": sum(rewards) / len(rewards),
            **cost(one for states in rollouts for one in states[1:]),
        }


def draw(seed: int, state: State, number: int) -> int:
    """Return the seed of the rollout with this number from a state."""
    return stream(seed, "draw", state.conversation.digest, number)


def stream(seed: int, *names: object) -> int:
    """Return a seed of its own for each use, derived from the run's `seed`."""
    text = " ".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")
