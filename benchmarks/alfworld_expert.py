"""How often and how fast the scripted ALFWorld expert solves games, by task type.

Real games are found by ALFWORLD_DATA or HPL_DATA; generated ones need no data.

    python benchmarks/alfworld_expert.py --games real --split valid_seen
    python benchmarks/alfworld_expert.py --games generated --rooms small --count 300 --mode informed
"""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict

import gymnasium as gym
from rich.console import Console
from rich.table import Table

import hpl_gym  # noqa: F401
from hpl_gym.agents.agent import play
from hpl_gym.agents.scripted import expert
from hpl_gym.agents.scripted.alfworld_memory import parse_goal
from hpl_gym.wrappers.transcript import Conversation


def fruitless_looks(conversation: Conversation) -> int:
    """Return how many places were looked into before the first wanted object was seen."""
    goal = parse_goal(conversation.instruction)
    assert goal is not None
    looks = 0
    for turn in conversation.turns:
        if re.search(rf"\b{goal.thing} \d", turn.observation):
            break
        looks += "you see" in turn.observation
    return looks


def main() -> None:
    """Play the games and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--games", default="auto", help="real, generated, auto or a folder")
    parser.add_argument("--split", default="valid_seen")
    parser.add_argument("--rooms", default="full", help="of generated games: full or small")
    parser.add_argument("--mode", default="search", choices=("search", "informed"))
    parser.add_argument("--count", type=int, help="how many games, spread over the split")
    args = parser.parse_args()
    env = gym.make(
        "HPL/ALFWorld-v0",
        games=args.games,
        split=args.split,
        rooms=args.rooms,
        max_episode_steps=100,
    )
    tasks = env.unwrapped.tasks()  # type: ignore[attr-defined]
    count = min(args.count or len(tasks), len(tasks))
    turns: dict[str, list[int]] = defaultdict(list)
    looks: Counter[int] = Counter()
    for index in range(count):
        task = tasks[index * len(tasks) // count]
        env.reset(options={"task": task})
        conversation, info = play(env, expert(env, args.mode), task=task)
        for row in (task.task_type, "all"):
            turns[row].append(info["steps"] if info["success"] else 1000)
        looks[min(fruitless_looks(conversation), 3)] += 1

    table = Table(title=f"{args.mode}, {args.games} games {args.rooms}, {args.split}")
    for column in ("task type", "games", "within 30", "within 100", "mean turns", "most turns"):
        table.add_column(column, justify="left" if column == "task type" else "right")
    for row in sorted(turns, key=lambda name: (name == "all", name)):
        solved = [n for n in turns[row] if n <= 100]
        table.add_row(
            row,
            str(len(turns[row])),
            f"{sum(n <= 30 for n in solved) / len(turns[row]):.1%}",
            f"{len(solved) / len(turns[row]):.1%}",
            f"{sum(solved) / max(1, len(solved)):.1f}",
            str(max(solved, default=0)),
        )
    console = Console(width=120)
    console.print(table)
    shares = [f"{looks[n] / count:.0%} {n}{' or more' if n == 3 else ''}" for n in range(4)]
    console.print(f"Fruitless looks before the first wanted object: {', '.join(shares)}.")


if __name__ == "__main__":
    main()
