"""Compares generated ALFWorld games with real ones in size, and times the generator.

Prints a table: median and, in brackets, 5th to 95th percentile.

    ALFWORLD_DATA=... python benchmarks/alfworld_generated.py --games 1000
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterable, Iterator, Sequence

from hpl_gym.alfworld.engine import NativeEngine
from hpl_gym.alfworld.games import Game, game_path, locate, read_game, real_tasks
from hpl_gym.alfworld.generate import ROOM_SIZES, generate_game, generated_tasks
from hpl_gym.alfworld.pddl import Problem
from hpl_gym.alfworld.versions import read_version
from hpl_gym.core import SPLITS, DataError

COLUMNS = (
    "objects",
    "of these within reach",
    "receptacles",
    "of these to be opened",
    "commands at the start",
    "characters of the first observation",
)


def sizes(game: Game) -> tuple[int, ...]:
    """Return the `COLUMNS` of one game."""
    facts = Problem.read(game.problem, read_version(game).predicates).facts
    engine = NativeEngine(game)
    start = engine.start()
    portable = {name for (name,) in facts["pickupable"]}
    return (
        len(facts["objecttype"]),
        len(portable & {name for name, _ in facts["inreceptacle"]}),
        len(facts["receptacletype"]),
        len(facts.get("openable", ())),
        len(engine.admissible(start.state)),
        len(start.observation),
    )


def spread(values: Sequence[int]) -> str:
    """Return the median and the 5th and 95th percentiles."""
    ordered = sorted(values)
    low, middle, high = (ordered[int(part * len(ordered))] for part in (0.05, 0.5, 0.95))
    return f"{middle} ({low}-{high})"


def real_games(split: str, count: int) -> Iterator[Game]:
    """Yield a fixed random choice of the real games of a split."""
    root = locate()
    tasks = list(real_tasks(root, split))
    random.Random(1).shuffle(tasks)
    for task in tasks[:count]:
        yield read_game(task, game_path(root, task.task_id))


def print_row(label: str, games: Iterable[Game]) -> None:
    """Print the row of the table for some games."""
    rows = [sizes(game) for game in games]
    cells = [spread(values) for values in zip(*rows, strict=True)]
    print("|", " | ".join([label, str(len(rows)), *cells]), "|", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", type=int, default=1000, help="at most so many of each kind")
    count = parser.parse_args().games
    print("|", " | ".join(["games", "number", *COLUMNS]), "|")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for split in SPLITS:
        try:
            print_row(f"real {split}", real_games(split, count))
        except DataError as error:
            print(f"(no real {split}: {error})")
    seconds = {}
    for rooms in ROOM_SIZES:
        for split in SPLITS:
            began = time.perf_counter()
            games = [generate_game(task.task_id) for task in generated_tasks(split, rooms)[:count]]
            seconds[f"{rooms}, {split}"] = (time.perf_counter() - began) / len(games)
            print_row(f"generated {rooms} {split}", games)
    print("\nmilliseconds a game, solved on the native engine:")
    print(", ".join(f"{label} {1000 * mean:.1f}" for label, mean in seconds.items()))
