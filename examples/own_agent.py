"""An agent of your own on all three benchmarks, without a language model.

An agent is anything with `async act(conversation, seed) -> Reply`; the conversation holds all that
was seen and said so far, and what can be done where the benchmark says it.

    python examples/own_agent.py
"""

import gymnasium as gym

import hpl_gym  # noqa: F401
from hpl_gym.agents import Reply, play
from hpl_gym.wrappers import Conversation


class Simple:
    """Goes from place to place; buys what is found last; submits the list of tables."""

    async def act(self, conversation: Conversation, seed: int = 0) -> Reply:
        """Return a reply with a thought and an action."""
        return Reply(f"Thought: Let me try this.\nAction: {self.choose(conversation)}")

    def choose(self, conversation: Conversation) -> str:
        """Return the next action."""
        turns = conversation.turns
        if conversation.env_id == "HPL/ALFWorld-v0":
            places = [one for one in conversation.admissible or () if one.startswith("go to")]
            return places[len(turns) % len(places)]
        if conversation.env_id == "HPL/WebShop-v0":
            if not turns:
                return f"search[{conversation.instruction}]"
            links = list(conversation.admissible or ())
            return "click[buy now]" if "click[buy now]" in links else links[-1]
        return ("SHOW TABLES", "submit")[min(len(turns), 1)]


def main() -> None:
    """Play one episode of each benchmark."""
    for name in ("ALFWorld", "WebShop", "InterCodeSQL"):
        conversation, info = play(gym.make(f"HPL/{name}-v0"), Simple(), task=0)
        print(f"{name}: {conversation.instruction.splitlines()[0][:70]}")
        print(f"    {info['steps']} turns, score {info['score']:.2f}")


if __name__ == "__main__":
    main()
