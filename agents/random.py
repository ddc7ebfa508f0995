"""An agent that draws uniformly from the commands that would have an effect."""

from __future__ import annotations

import random

from hpl_gym.agents.agent import Reply
from hpl_gym.core import HPLGymError
from hpl_gym.wrappers.react import ThoughtAction
from hpl_gym.wrappers.transcript import Conversation


class RandomAgent:
    """The floor under every score: each turn a uniformly random admissible command.

    The draw is seeded by the conversation and the seed of `act`, so that the same episode and seed
    give the same play in every process.
    """

    async def act(self, conversation: Conversation, seed: int = 0) -> Reply:
        """Return a random admissible command.

        Raises:
            HPLGymError: The environment does not say which commands are admissible.
        """
        if not conversation.admissible:
            raise HPLGymError(
                f"The random agent needs admissible commands and {conversation.env_id} gave none: "
                "choose another agent, or play through TranscriptWrapper."
            )
        draw = random.Random(f"{conversation.digest} {seed}")
        action = draw.choice(conversation.admissible)
        return Reply(str(ThoughtAction("I try something at random.", action)))
