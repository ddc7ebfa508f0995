"""What an agent is, and how one plays an episode."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import gymnasium

from hpl_gym.wrappers.react import ReActWrapper, ThoughtAction, parse_reply
from hpl_gym.wrappers.transcript import Conversation, TranscriptWrapper


@dataclass(frozen=True)
class Reply:
    """What an agent answers.

    Attributes:
        text: The whole reply, `Thought: ...` and `Action: ...`.
        token_ids: The tokens a language model produced; empty for other agents.
        logprobs: Log-probability of each of these tokens, in nats, at temperature 1.
        entropies: Entropy in nats of the distribution at each token, at temperature 1.
        tokens_in: Tokens of the context it answers; 0 for other agents.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()
    tokens_in: int = 0

    @cached_property
    def parts(self) -> ThoughtAction:
        """The reply's thought and action."""
        return parse_reply(self.text)

    @property
    def thought(self) -> str:
        """The reasoning in the reply."""
        return self.parts.thought

    @property
    def action(self) -> str:
        """The command in the reply."""
        return self.parts.action


class Agent(Protocol):
    """Anything that answers a conversation."""

    async def act(self, conversation: Conversation, seed: int = 0) -> Reply:
        """Return the next reply.

        Args:
            conversation: The episode so far.
            seed: Seed of this rollout's random choices. The same conversation and seed give the
                same reply, whatever else is running; greedy and scripted agents do not use it.
        """
        ...


def play(
    env: gymnasium.Env[str, str], agent: Agent, *, task: Any = None, seed: int = 0
) -> tuple[Conversation, dict[str, Any]]:
    """Play one episode from its start to its end, for people who write scripts.

    Args:
        env: An environment of this package, as `gymnasium.make` returns it.
        agent: Who plays.
        task: The task, its id or its index; drawn by `seed` if None.
        seed: Seed of the task's choice and of the agent's sampling.

    Returns:
        The conversation and the last `info` (``success``, ``score``, ``steps``, ...).
    """
    episode = _play(TranscriptWrapper(ReActWrapper(env)), agent, task, seed)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(episode)
    with ThreadPoolExecutor(1) as thread:  # notebooks have a running event loop
        return thread.submit(asyncio.run, episode).result()


async def _play(
    env: TranscriptWrapper, agent: Agent, task: Any, seed: int
) -> tuple[Conversation, dict[str, Any]]:
    _, info = env.reset(seed=seed, options=None if task is None else {"task": task})
    conversation, over = info["conversation"], False
    while not over:
        reply = await agent.act(conversation, seed)
        observation, _, terminated, truncated, info = env.step(reply.text)
        # With the tokens that were sampled, which the environment does not know.
        conversation = conversation.add(
            reply.text, observation, reply.token_ids, info["admissible_actions"]
        )
        over = terminated or truncated
    return conversation, info
