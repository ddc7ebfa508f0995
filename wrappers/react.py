"""Thought / Action replies: what they look like and how the action is found in one."""

from __future__ import annotations

import re
from dataclasses import dataclass

import gymnasium
from gymnasium.utils import RecordConstructorArgs

_ACTION = re.compile(
    r"^[ \t]*action[ \t]*:\s*(```[\s\S]*?(?:```|\Z)|.*)", re.IGNORECASE | re.MULTILINE
)
_THOUGHT = re.compile(r"\A\s*thought[ \t]*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ThoughtAction:
    """A reply taken apart.

    Attributes:
        thought: The reasoning, without its label; empty if there is none.
        action: The command for the environment; empty if the reply names none.
    """

    thought: str
    action: str

    def __str__(self) -> str:
        return f"Thought: {self.thought}\nAction: {self.action}"


def parse_reply(reply: str) -> ThoughtAction:
    """Take a ``Thought: ... Action: ...`` reply apart.

    What follows the first ``Action:`` that begins a line is the action: a code block with its
    fences, or else one line. All before it is the thought.
    """
    match = _ACTION.search(reply)
    thought, action = (reply, "") if match is None else (reply[: match.start()], match.group(1))
    return ThoughtAction(_THOUGHT.sub("", thought).strip(), action.strip())


class ReActWrapper(gymnasium.ActionWrapper[str, str, str], RecordConstructorArgs):
    r"""Lets an agent act by ``Thought: ... Action: ...`` replies.

    Only the action reaches the environment. A reply without an action reaches it as an empty
    action, which costs a turn like any other malformed one.

    Example:
        >>> env = ReActWrapper(gym.make("HPL/ALFWorld-v0"))
        >>> observation, info = env.reset(seed=0)
        >>> env.step("Thought: Let me see what is here.\nAction: look")
    """

    def __init__(self, env: gymnasium.Env[str, str]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def action(self, action: str) -> str:
        """Return the command in the reply `action`."""
        return parse_reply(action).action
