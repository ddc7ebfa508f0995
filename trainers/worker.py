"""What a policy does for one expert trajectory in exploration, or for one task in evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hpl_gym.agents.language_model import LanguageModelAgent, load_agent
from hpl_gym.core import Task
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.evaluate import play_task
from hpl_gym.trainers.rollout import Simulator, State, cost, joined, rollouts, until_met
from hpl_gym.trainers.seeds import draw
from hpl_gym.trainers.segment import Span
from hpl_gym.trainers.trajectory import replay, retrace, turn_record
from hpl_gym.trainers.value import Values
from hpl_gym.trainers.work import repeated
from hpl_gym.wrappers.transcript import Conversation

Record = dict[str, Any]


def branch_key(expert: str, start: int) -> str:
    """Return the key of a branch's record."""
    return f"{expert}#{start}"


def group_key(segmenter: str, expert: str, start: int, stop: int) -> str:
    """Return the key of a group's record."""
    return f"{segmenter}:{expert}#{start}-{stop}"


def load_policy(config: Config, model: Path) -> LanguageModelAgent:
    """Return the agent that explores: the model in a folder, as the settings have it."""
    return load_agent(
        model,
        prompt=config.prompt,
        max_new_tokens=config.max_new_tokens,
        device=config.device,
        backend=config.backend,
    )


class Worker:
    """Explores expert trajectories and plays tasks, any number at a time.

    Args:
        config: The run's settings.
        agent: The reference policy.
        policy: What tells it from other policies.
    """

    def __init__(self, config: Config, agent: LanguageModelAgent, policy: str) -> None:
        settings = config.explore
        self._config = config
        self._agent = agent.at_temperature(settings.temperature)
        self._valuer = agent.at_temperature(settings.value_temperature)
        self._policy = f"{policy} {settings.value_temperature}"
        self._env_seconds = 0.0

    async def branches(self, expert: Record) -> list[Record]:
        """Let the policy go on from every state of an expert trajectory.

        Returns:
            A record for each step of the expert's.
        """
        with self._simulator() as simulator:
            records, _ = await repeated(partial(self._branches, simulator, expert))
        return records

    async def groups(
        self,
        expert: Record,
        branches: Sequence[Record],
        spans: Mapping[str, Sequence[Span]],
    ) -> tuple[list[Record], list[Record]]:
        """Value the ends of the expert's action groups and of the policy's own.

        Args:
            expert: The expert trajectory.
            branches: Its branches.
            spans: The groups of each segmenter.

        Returns:
            The values, and the groups of all segmenters.
        """
        with self._simulator() as simulator:
            both, _ = await repeated(partial(self._groups, simulator, expert, branches, spans))
        return both

    async def episode(self, task: Task, split: str) -> Record:
        """Let the policy play a task in evaluation; see `play_task`."""
        agent = self._agent.at_temperature(self._config.eval.temperature)
        return await play_task(self._config, lambda _: agent, task, split)

    async def usage(self) -> dict[str, float]:
        """Return what backend and environments have done so far in this process.

        Returns:
            `prefill` (context tokens computed), `model_seconds` and `env_seconds`.
        """
        done = self._agent.backend.usage
        return {
            "prefill": done.tokens_computed,
            "model_seconds": done.seconds,
            "env_seconds": self._env_seconds,
        }

    async def close(self) -> None:
        """End the policy's backend."""
        await self._agent.backend.close()

    async def _branches(self, simulator: Simulator, expert: Record) -> list[Record]:
        states = replay(simulator, expert)
        # A branch is its state's rollout with the number 0.
        begins = {state.conversation.digest for state in states}
        branches = await rollouts(simulator, self._agent, states[:-1], draw(self._config.seed, 0))
        bounds = self._bounds(states[-1].conversation)
        return [
            self._branch(expert["key"], start, own, bounds) | cost(until_met(own, begins))
            for start, own in enumerate(branches)
        ]

    def _bounds(self, conversation: Conversation) -> tuple[int, ...]:
        """Return where the turns of a conversation begin and end in its tokens."""
        return self._agent.encoder.encode(conversation, ask=False).bounds

    def _branch(
        self, expert: str, start: int, states: Sequence[State], bounds: Sequence[int]
    ) -> Record:
        entropies = states[1].reply.entropies if states[1].reply else ()
        last = joined(states)
        return {
            "key": branch_key(expert, start),
            "expert": expert,
            "start": start,
            "turns": [turn_record(state.conversation) for state in states[1:]],
            "reward": states[-1].reward,
            "success": states[-1].success,
            "entropy": round(sum(entropies) / max(1, len(entropies)), 6),
            "winner_tokens": [bounds[2 * start], bounds[-1]],
            "bounds": self._bounds(last)[2 * start :],
        }

    async def _groups(
        self,
        simulator: Simulator,
        expert: Record,
        branches: Sequence[Record],
        spans: Mapping[str, Sequence[Span]],
    ) -> tuple[list[Record], list[Record]]:
        states = replay(simulator, expert)
        # A policy may have asked a server what it never says twice.
        is_live = self._config.env.id == "HPL/InterCodeSQL-v0"
        longest: dict[int, int] = {}
        for start, stop in (span for one in spans.values() for span in one):
            longest[start] = max(longest.get(start, 0), stop - start)
        own = {
            start: retrace(
                simulator, states[start], branches[start]["turns"][:length], exact=not is_live
            )
            for start, length in sorted(longest.items())
        }
        same = self._config.explore.temperature == self._config.explore.value_temperature
        first = {
            state.conversation.digest: branches[start]["reward"]
            for start, path in own.items()
            for state in path
        }
        first |= {
            state.conversation.digest: branch["reward"]
            for state, branch in zip(states, branches, strict=False)
        }
        values = Values(
            simulator,
            self._valuer,
            self._policy,
            self._config.explore.rollouts,
            self._config.seed,
            first if same else None,
        )
        groups = [(name, *span) for name, one in spans.items() for span in one]

        def loser(start: int, stop: int) -> tuple[State, int]:
            turns = min(stop - start, len(own[start]) - 1)
            return own[start][turns], branches[start]["bounds"][2 * turns - 1]

        await values.estimate(
            state for _, start, stop in groups for state in (states[stop], loser(start, stop)[0])
        )
        bounds = self._bounds(states[-1].conversation)
        return list(values.records.values()), [
            {
                "key": group_key(name, expert["key"], start, stop),
                "segmenter": name,
                "expert": expert["key"],
                "start": start,
                "stop": stop,
                "winner": values.value(states[stop]),
                "loser": values.value(loser(start, stop)[0]),
                "winner_tokens": [bounds[2 * start], bounds[2 * stop - 1]],
                "loser_tokens": [bounds[2 * start], loser(start, stop)[1]],
            }
            for name, start, stop in groups
        ]

    @contextmanager
    def _simulator(self) -> Iterator[Simulator]:
        with Simulator(*self._config.env.make(self._config.experts.split)) as simulator:
            yield simulator
        self._env_seconds += simulator.seconds
