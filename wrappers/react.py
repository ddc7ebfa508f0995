"""Thought / Action replies: what they look like and how the action is found in one."""

from __future__ import annotations

import re
from dataclasses import dataclass

import gymnasium

_ACTION = re.compile(r"^[ \t]*action[ \t]*:[ \t]*(.*?)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_THOUGHT = re.compile(r"^[ \t]*thought[ \t]*:[ \t]*", re.IGNORECASE)


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

    The first line that begins with ``Action:`` is the action; all before it is the thought. A
    multi-line action goes on to the end when the ``Action:`` line opens a code block.
    """
    match = _ACTION.search(reply)
    if match is None:
        return ThoughtAction(_THOUGHT.sub("", reply).strip(), "")
    thought = _THOUGHT.sub("", reply[: match.start()]).strip()
    action = match.group(1)
    if not action or action.startswith("```"):
        action = reply[match.start(1) :].strip()
    return ThoughtAction(thought, action)


class ReActWrapper(gymnasium.ActionWrapper[str, str, str]):
    r"""Lets an agent act by ``Thought: ... Action: ...`` replies.

    Only the action reaches the environment. A reply without an action reaches it as an empty
    action, which costs a turn like any other malformed one.

    Example:
        >>> env = ReActWrapper(gym.make("HPL/ALFWorld-v0"))
        >>> env.step("Thought: Let me see what is here.\nAction: look")
    """

    def action(self, action: str) -> str:
        """Return the command in the reply `action`."""
        return parse_reply(action).action
