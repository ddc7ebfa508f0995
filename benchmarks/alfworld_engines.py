"""Compare the native ALFWorld engine with TextWorld on the same games, side by side.

    ALFWORLD_DATA=/data python benchmarks/alfworld_engines.py --games 10 --json engines.json
    python benchmarks/alfworld_engines.py --source generated

Each game is played along one walk of 25 commands that are possible there. The columns are the
environment of this project with `engine="native"`, plain TextWorld as ALFWorld's users know it
(PddlEnv under AlfredDemangler), and this project's restorable TextWorld engine. "Restore" goes
back to the state after so many commands: plain TextWorld can only reset and replay. Times are
medians over the games. Needs `pip install 'hpl-gym[alfworld]'`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from hpl_gym.alfworld.engine import NativeEngine
from hpl_gym.alfworld.env import ALFWorldEnv
from hpl_gym.alfworld.games import Game, game_path, locate, read_game, real_tasks
from hpl_gym.alfworld.generate import generate_game, generated_tasks
from hpl_gym.alfworld.textworld import TextWorldEngine

DEPTHS = (5, 15, 25)
Times = dict[str, float]


def timed(call: Callable[[], Any], repeat: int = 1) -> float:
    """Return the seconds that one `call` takes, on average."""
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat


def pick_games(source: str, split: str, count: int) -> list[Game]:
    """Return `count` games spread over a split."""
    if source == "generated":
        tasks = generated_tasks(split)
        chosen = [tasks[i * len(tasks) // count] for i in range(count)]
        return [generate_game(task.task_id) for task in chosen]
    root = locate()
    real = real_tasks(root, split)
    chosen = [real[i * len(real) // count] for i in range(count)]
    return [read_game(task, game_path(root, task.task_id)) for task in chosen]


def random_walk(game: Game, seed: int) -> list[str]:
    """Return possible commands as many as the greatest depth that do not end the game."""
    engine = NativeEngine(game)
    for attempt in range(100):
        rng = random.Random(f"{seed}-{attempt}")
        outcome = engine.start()
        walk: list[str] = []
        while len(walk) < max(DEPTHS) and not outcome.terminated:
            walk.append(rng.choice(engine.admissible(outcome.state)))
            outcome = engine.step(outcome.state, walk[-1])
        if not outcome.terminated:
            return walk
    raise SystemExit(f"Every walk through {game.task.task_id} solves it: choose other games.")


def measure_env(engine: str, game: Game, walk: list[str], repeat: int) -> Times:
    """Measure this project's environment on one game."""
    make = NativeEngine if engine == "native" else TextWorldEngine
    times = {"load": timed(lambda: make(game))}
    env = ALFWorldEnv(engine=engine)
    options = {"task": game.task}
    env.reset(options=options)
    times["reset"] = timed(lambda: env.reset(options=options), repeat)

    def play(ask: bool) -> float:
        seconds = 0.0
        for _ in range(repeat):
            env.reset(options=options)
            start = time.perf_counter()
            for command in walk:
                info = env.step(command)[4]
                if ask:
                    tuple(info["admissible_actions"])
            seconds += time.perf_counter() - start
        return seconds / repeat / len(walk)

    times["step"] = play(ask=False)
    times["step, admissible"] = play(ask=True)
    env.reset(options=options)
    snapshots = [env.snapshot()]
    for command in walk:
        env.step(command)
        snapshots.append(env.snapshot())
    times["snapshot"] = timed(env.snapshot, repeat)

    def restore(depth: int) -> None:
        env.restore(snapshots[depth])
        if isinstance(env._engine, TextWorldEngine):
            # It goes back only when it has to; a restore is measured in full here.
            env._engine._go_to(snapshots[depth].state)

    def back_and_forth(depth: int) -> None:
        restore(depth)
        restore(0)

    def replay(depth: int) -> None:
        env.reset(options=options)
        for command in walk[:depth]:
            env.step(command)

    for depth in DEPTHS:
        times[f"restore, depth {depth}"] = timed(partial(back_and_forth, depth), repeat) / 2
        times[f"reset + replay, depth {depth}"] = timed(partial(replay, depth), repeat)
    return times


def measure_textworld(game: Game, walk: list[str]) -> Times:
    """Measure plain TextWorld on one game."""
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs.pddl import PddlEnv

    infos = textworld.EnvInfos(won=True, admissible_commands=True)
    env = AlfredDemangler(PddlEnv(infos), shuffle=False)
    data = {
        "pddl_domain": game.domain,
        "grammar": game.grammar,
        "pddl_problem": game.problem,
    }
    times = {"load": timed(lambda: env.load(data)), "reset": timed(env.reset)}
    marks = [time.perf_counter()]
    for command in walk:
        env.step(command)
        marks.append(time.perf_counter())
    times["step, admissible"] = (marks[-1] - marks[0]) / len(walk)
    times["step"] = times["step, admissible"]  # it always computes them
    for depth in DEPTHS:
        start = time.perf_counter()
        env.reset()
        for command in walk[:depth]:
            env.step(command)
        times[f"reset + replay, depth {depth}"] = time.perf_counter() - start
    return times


def shown(seconds: float | None) -> str:
    """Return a time with a fitting unit."""
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--games", type=int, default=5, help="how many games")
    parser.add_argument("--source", default="real", choices=("real", "generated"))
    parser.add_argument("--split", default="valid_seen")
    parser.add_argument("--json", type=Path, help="write the figures (seconds) to this file too")
    args = parser.parse_args()

    columns = ("native", "TextWorld", "restorable")
    all_times: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in columns}
    for number, game in enumerate(track(pick_games(args.source, args.split, args.games))):
        walk = random_walk(game, number)
        for name, times in zip(
            columns,
            (
                measure_env("native", game, walk, 200),
                measure_textworld(game, walk),
                measure_env("textworld", game, walk, 1),
            ),
            strict=True,
        ):
            for operation, seconds in times.items():
                all_times[name][operation].append(seconds)
    medians = {
        name: {operation: statistics.median(seconds) for operation, seconds in times.items()}
        for name, times in all_times.items()
    }
    table = Table(title=f"ALFWorld engines, {args.games} {args.source} games of {args.split}")
    table.add_column("", no_wrap=True)
    for name in (*columns, "ratio"):
        table.add_column(name, justify="right")
    for operation, ours in medians["native"].items():
        depth = operation.partition("restore, ")[2]
        plain = medians["TextWorld"]
        theirs = plain.get(f"reset + replay, {depth}" if depth else operation)
        table.add_row(
            operation,
            *(shown(medians[name].get(operation)) for name in columns),
            f"{theirs / ours:,.0f}x" if theirs else "-",
        )
    Console().print(table)
    Console().print(
        "Step, admissible: the step and the list of what can be done then, which TextWorld always "
        "makes. Restorable: this project's TextWorld engine. Ratio: TextWorld to native; TextWorld "
        "cannot restore, so its reset and replay to that depth stand for it."
    )
    if args.json:
        args.json.write_text(json.dumps(medians, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
