"""Episodes as values: start, step and roll out from any state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from hpl_gym.agents.agent import Agent, Reply
from hpl_gym.core import Snapshot, Task, TextEnv
from hpl_gym.wrappers.react import parse_reply
from hpl_gym.wrappers.transcript import Conversation


@dataclass(frozen=True)
class State:
    """An episode at one point, as agent and environment have it.

    Attributes:
        conversation: What the agent has seen.
        snapshot: What the environment restores.
        truncated: Whether the turn limit is reached without an end.
        reply: The agent's reply that led here; None in a first state.
    """

    conversation: Conversation
    snapshot: Snapshot
    truncated: bool
    reply: Reply | None = None

    @property
    def over(self) -> bool:
        """Whether the episode has ended or run out of turns."""
        return self.snapshot.terminated or self.truncated

    @property
    def reward(self) -> float:
        """The outcome reward in [0, 1]; 0.0 before the end and where turns ran out."""
        return self.snapshot.score

    @property
    def success(self) -> bool:
        """Whether the task was solved."""
        return self.snapshot.terminated and self.snapshot.score == 1.0


class Simulator:
    """Steps states of one task: any number of rollouts share one environment.

    Args:
        env: A bare environment.
        limit: Turn limit of an episode.

    Attributes:
        steps: Environment steps taken so far, each from a restored state.
        seconds: Time spent in the environment so far.
    """

    def __init__(self, env: TextEnv, limit: int) -> None:
        self.env = env
        self.limit = limit
        self.steps = 0
        self.seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the environment, which drops what it holds on a server."""
        self.env.close()

    def start(self, task: Task | str | int) -> State:
        """Begin an episode of `task`; this simulator then steps states of this task."""
        begun = time.perf_counter()
        observation, info = self.env.reset(options={"task": task})
        self.seconds += time.perf_counter() - begun
        conversation = Conversation(
            self.env.env_id,
            info["task_id"],
            info["task_type"],
            info["instruction"],
            observation,
            admissible=info["admissible_actions"],
        )
        return State(conversation, self.env.snapshot(), False)

    def step(self, state: State, reply: Reply) -> State:
        """Return the state after `reply`, whatever was stepped before."""
        begun = time.perf_counter()
        self.env.restore(state.snapshot)
        observation, _, terminated, _, info = self.env.step(parse_reply(reply.text).action)
        snapshot = self.env.snapshot()
        self.steps += 1
        self.seconds += time.perf_counter() - begun
        return State(
            state.conversation.add(
                reply.text, observation, reply.token_ids, info["admissible_actions"]
            ),
            snapshot,
            not terminated and info["steps"] >= self.limit,
            reply,
        )


async def rollout(
    simulator: Simulator,
    agent: Agent,
    state: State,
    *,
    seed: int = 0,
    meet: Mapping[str, Awaitable[list[State]]] | None = None,
) -> list[State]:
    """Let `agent` go on from `state` to the end.

    Args:
        simulator: A simulator of the state's task.
        agent: Who acts.
        state: Where to begin.
        seed: Seed of the agent's sampling.
        meet: Other rollouts of this agent and seed, by their first states' histories. One that
            comes to such a state would go on just like it, and waits for it instead.

    Returns:
        The states reached, `state` first.
    """
    await asyncio.sleep(0)  # a scripted agent never waits: others go on, results are written
    states = [state]
    while not states[-1].over:
        reply = await agent.act(states[-1].conversation, seed)
        states.append(simulator.step(states[-1], reply))
        if meet and states[-1].conversation.digest in meet:
            return states + (await meet[states[-1].conversation.digest])[1:]
    return states


async def rollouts(
    simulator: Simulator, agent: Agent, states: Iterable[State], seed: int
) -> list[list[State]]:
    """Let `agent` go on to the end from each of some states, once where they meet.

    Args:
        simulator: A simulator of the states' task.
        agent: Who acts.
        states: Where to begin, each with another history.
        seed: Seed of the agent's sampling.

    Returns:
        The states reached from each, it first.
    """
    tasks: dict[str, asyncio.Future[list[State]]] = {}
    meet: dict[str, asyncio.Future[list[State]]] = {}
    for state in states:
        digest = state.conversation.digest
        tasks[digest] = asyncio.ensure_future(
            rollout(simulator, agent, state, seed=seed, meet=meet)
        )
        # Who is cancelled while waiting must not cancel what others wait for.
        meet[digest] = asyncio.shield(tasks[digest])
        meet[digest].add_done_callback(_take_note)
    try:
        return list(await asyncio.gather(*tasks.values()))
    finally:
        for task in tasks.values():
            task.cancel()


def _take_note(done: asyncio.Future[list[State]]) -> None:
    """Look at an error that nobody may wait for; asyncio would print it."""
    if not done.cancelled():
        done.exception()


def joined(states: Sequence[State]) -> Conversation:
    """Return the conversation of a rollout, in which every turn has the tokens it was said with.

    Where rollouts meet, what was said before may have other tokens in the one that is waited for.
    """
    conversation = states[0].conversation
    for state in states[1:]:
        turn = state.conversation.turns[-1]
        conversation = conversation.add(turn.reply, turn.observation, turn.token_ids)
    return conversation


def until_met(states: Sequence[State], others: Container[str]) -> Sequence[State]:
    """Return the states that a rollout reached by itself, up to one where another began."""
    for place, state in enumerate(states[1:], 1):
        if state.conversation.digest in others:
            return states[1 : place + 1]
    return states[1:]


def cost(states: Iterable[State]) -> dict[str, int]:
    """Return what it took to reach states: model calls, tokens in and out, environment steps."""
    replies = [state.reply for state in states if state.reply is not None]
    return {
        "calls": sum(bool(reply.token_ids) for reply in replies),
        "tokens_in": sum(reply.tokens_in for reply in replies),
        "tokens_out": sum(len(reply.token_ids) for reply in replies),
        "env_steps": len(replies),
    }
