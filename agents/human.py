"""A person who plays in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hpl_gym.agents.agent import Reply
from hpl_gym.core import HPLGymError
from hpl_gym.wrappers.react import ThoughtAction
from hpl_gym.wrappers.transcript import Conversation

_HELP = "(type a command; ? lists the commands that would have an effect, where they are known)"


@dataclass(frozen=True)
class HumanAgent:
    """Shows what the environment says and asks for a command.

    Attributes:
        read: Asks for a line with a prompt, as `input` does.
        write: Shows a text, as `print` does.
    """

    read: Callable[[str], str] = input
    write: Callable[[str], None] = print

    async def act(self, conversation: Conversation, seed: int = 0) -> Reply:
        """Return what the person types.

        Raises:
            HPLGymError: The input ended.
        """
        if conversation.turns:
            self.write(conversation.turns[-1].observation)
        else:
            self.write(f"{conversation.observation}\n\n{_HELP}")
        while True:
            try:
                command = self.read("> ").strip()
            except EOFError:
                raise HPLGymError(
                    "The input ended before the episode: play in a terminal, or give a command "
                    "for every turn."
                ) from None
            if command != "?":
                return Reply(str(ThoughtAction("", command)))
            self.write("\n".join(conversation.admissible or ["(not known here)"]))
