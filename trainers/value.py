"""Monte Carlo values of states: each state is rolled out once, whoever asks for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpl_gym.agents.agent import Agent
from hpl_gym.trainers.rollout import Simulator, State, cost, rollouts, until_met
from hpl_gym.trainers.seeds import draw
from hpl_gym.trainers.work import together


class Values:
    """The values of one task's states, under one policy.

    A state is its task and history. The end of one action group is the start of the next, and
    branches that did the same meet in the same state: each is estimated once, from M rollouts.

    The rollouts with one number have one seed, whatever state they start from, and a reply depends
    on the seed, the history and its tokens alone. So a rollout that comes to a state which is
    valued too goes on as that state's rollout with this number, and is computed once. The M
    rollouts of a state are independent of each other, and its value is unbiased; values along one
    path share outcomes.

    Args:
        simulator: A simulator of the task.
        agent: The policy.
        policy: What tells the policy and its sampling temperature from others, for the keys.
        rollouts: M, the number of rollouts a state.
        seed: Seed of the run.
        first: Outcomes of the rollouts with number 0 where these were made before, by the
            histories' digests.
    """

    def __init__(
        self,
        simulator: Simulator,
        agent: Agent,
        policy: str,
        rollouts: int,
        seed: int,
        first: Mapping[str, float] | None = None,
    ) -> None:
        self._simulator, self._agent, self._policy = simulator, agent, policy
        self._rollouts, self._seed = rollouts, seed
        self._first = first or {}
        self.records: dict[str, dict[str, Any]] = {}

    async def estimate(self, states: Iterable[State]) -> None:
        """Estimate the values of those states in which the episode goes on.

        What was estimated is in `records` afterwards, in the order of `states`.
        """
        wanted: dict[str, State] = {}
        for state in states:
            if not state.over:
                # One text may have been said in several tokens: the first state's are its context.
                wanted.setdefault(state.conversation.digest, state)
        rewards: dict[str, list[float]] = {digest: [] for digest in wanted}
        own: dict[str, list[State]] = {digest: [] for digest in wanted}
        paths = await together(self._roll(wanted, number) for number in range(self._rollouts))
        for number, found in enumerate(paths):
            for digest in wanted:
                if digest in found:
                    rewards[digest].append(found[digest][-1].reward)
                    own[digest] += until_met(found[digest], found)
                else:
                    assert number == 0
                    rewards[digest].append(self._first[digest])
        for digest, state in wanted.items():
            record = self._record(state, rewards[digest], own[digest])
            self.records[record["key"]] = record

    async def _roll(self, wanted: Mapping[str, State], number: int) -> dict[str, list[State]]:
        """Return the states reached from each wanted one in the rollout with this number."""
        left = {
            digest: state
            for digest, state in wanted.items()
            if number > 0 or digest not in self._first
        }
        seed = draw(self._seed, number)
        paths = await rollouts(self._simulator, self._agent, left.values(), seed)
        return dict(zip(left, paths, strict=True))

    def value(self, state: State) -> float:
        """Return the mean outcome reward of M rollouts from a state that was estimated.

        A state in which the episode is over has its outcome as its value.
        """
        return state.reward if state.over else float(self.records[self._key(state)]["value"])

    def _key(self, state: State) -> str:
        text = f"{self._policy} {self._rollouts} {state.conversation.digest}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _record(self, state: State, rewards: list[float], own: Sequence[State]) -> dict[str, Any]:
        return {
            "key": self._key(state),
            "task_id": state.conversation.task_id,
            "history": state.conversation.digest,
            "turns": len(state.conversation.turns),
            "policy": self._policy,
            "snapshot": state.snapshot.digest[:16],
            "rewards": rewards,
            "value": sum(rewards) / len(rewards),
            **cost(own),
        }
