"""How well the scripted shopper does, beside buying the first result and acting at random.

python benchmarks/webshop_expert.py --count 200
python benchmarks/webshop_expert.py --data shop --goals synthetic --count 500
"""

from __future__ import annotations

import argparse

import gymnasium as gym
from rich.console import Console
from rich.table import Table

import hpl_gym  # noqa: F401
from hpl_gym.agents.agent import Agent, Reply, play
from hpl_gym.agents.random import RandomAgent
from hpl_gym.agents.scripted import expert
from hpl_gym.wrappers.transcript import Conversation


class FirstResult:
    """Searches for the whole instruction and buys the first result as it is."""

    async def act(self, conversation: Conversation, seed: int = 0) -> Reply:
        """Return the next action."""
        turn = len(conversation.turns)
        if turn == 0:
            return Reply(f"Action: search[{conversation.instruction}]")
        if turn == 1:
            parts = conversation.turns[0].observation.split(" [SEP] ")
            asin = next((one for one in parts[3:] if len(one) == 10 and one.isupper()), "")
            return Reply(f"Action: click[{asin}]")
        return Reply("Action: click[buy now]")


def main() -> None:
    """Play and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="generated", help="a catalogue's folder, or generated")
    parser.add_argument("--goals", default="human", choices=("human", "synthetic"))
    parser.add_argument("--split", default="test", choices=("train", "valid", "test"))
    parser.add_argument("--products", type=int, default=1000, help="of a generated shop")
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    env = gym.make(
        "HPL/WebShop-v0",
        split=arguments.split,
        data=arguments.data,
        goals=arguments.goals,
        products=arguments.products,
    )
    count = min(arguments.count, len(env.unwrapped.tasks()))
    agents: dict[str, Agent] = {
        "scripted": expert(env),
        "first result": FirstResult(),
        "random": RandomAgent(),
    }
    table = Table(title=f"{count} {arguments.goals} goals of {arguments.split}, {arguments.data}")
    for column in ("agent", "mean reward", "success", "turns"):
        table.add_column(column)
    for name, agent in agents.items():
        ends = [play(env, agent, task=task) for task in range(count)]
        rewards = [info["score"] for _, info in ends]
        turns = sum(len(conversation.turns) for conversation, _ in ends) / count
        success = 100 * sum(info["success"] for _, info in ends) / count
        table.add_row(name, f"{sum(rewards) / count:.3f}", f"{success:.1f} %", f"{turns:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
