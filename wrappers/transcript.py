"""The chat history of an episode: an immutable value, and the wrapper that keeps it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, SupportsFloat

import gymnasium
from gymnasium.utils import RecordConstructorArgs


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: what the agent wrote, and what the environment answered.

    Attributes:
        reply: The agent's whole reply.
        observation: The environment's answer.
        token_ids: The tokens a language model sampled for the reply, so that training sees these
            very tokens; empty for replies that came as text.
    """

    reply: str
    observation: str
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Conversation:
    """An episode as its agent sees it.

    Attributes:
        env_id: Which benchmark is played (chooses the prompt).
        task_id: The task.
        task_type: The benchmark's category of the task.
        instruction: What is to be done.
        observation: The first observation.
        turns: What followed, in order.
        admissible: The commands that would have an effect now, where the environment knows them
            (see ``info["admissible_actions"]``): for random and human play. It is no part of the
            history: not compared, not in the digest.
    """

    env_id: str
    task_id: str
    task_type: str
    instruction: str
    observation: str
    turns: tuple[Turn, ...] = ()
    admissible: Sequence[str] | None = field(default=None, compare=False, repr=False)

    def add(
        self,
        reply: str,
        observation: str,
        token_ids: tuple[int, ...] = (),
        admissible: Sequence[str] | None = None,
    ) -> Conversation:
        """Return this conversation with one more turn."""
        turns = (*self.turns, Turn(reply, observation, token_ids))
        return replace(self, turns=turns, admissible=admissible)

    def prefix(self, turns: int) -> Conversation:
        """Return the conversation as it was after its first `turns` turns."""
        return replace(self, turns=self.turns[:turns], admissible=None)

    def messages(self, prompt: str) -> list[dict[str, str]]:
        """Return chat messages: `prompt` as system, observations as user, replies as assistant."""
        chat = [
            {"role": "system", "content": prompt},
            {"role": "user", "content": self.observation},
        ]
        for turn in self.turns:
            chat.append({"role": "assistant", "content": turn.reply})
            chat.append({"role": "user", "content": turn.observation})
        return chat

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of task and history, the same in every process."""
        history = [self.env_id, self.task_id, self.observation]
        history += [text for turn in self.turns for text in (turn.reply, turn.observation)]
        return hashlib.sha256(json.dumps(history).encode()).hexdigest()


class TranscriptWrapper(gymnasium.Wrapper[str, str, str, str], RecordConstructorArgs):
    """Keeps the chat history in ``info["conversation"]``, restorable with the environment.

    Put it outside of `ReActWrapper`, so that the replies are kept whole.

    Example:
        >>> env = TranscriptWrapper(ReActWrapper(gym.make("HPL/ALFWorld-v0")))
        >>> _, info = env.reset()
        >>> info["conversation"].turns
        ()
    """

    def __init__(self, env: gymnasium.Env[str, str]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Reset the environment and begin a new conversation."""
        observation, info = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        self._conversation = Conversation(
            self.unwrapped.env_id,  # type: ignore[attr-defined]
            info["task_id"],
            info["task_type"],
            info["instruction"],
            observation,
            admissible=info["admissible_actions"],
        )
        return observation, {**info, "conversation": self._conversation}

    def step(self, action: str) -> tuple[str, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take the step and append it to the conversation."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._conversation = self._conversation.add(
            action, observation, admissible=info["admissible_actions"]
        )
        info = {**info, "conversation": self._conversation}
        return observation, reward, terminated, truncated, info
