"""Generated ALFWorld games: new rooms and goals out of what the `alfworld` package ships.

A game follows from its task id alone. The content of a game decides which split may have it, so
that no two splits share one, whatever the seeds and the sizes of rooms.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hpl_gym.alfworld.engine import NativeEngine
from hpl_gym.alfworld.floorplans import rules
from hpl_gym.alfworld.games import FOLDER, GAME_FILE, Game, real_tasks
from hpl_gym.alfworld.plans import plan_room
from hpl_gym.alfworld.problems import entity_names, initial_facts, problem_text
from hpl_gym.alfworld.rooms import LOOK, TREATMENTS, TWO, Room, draw_room
from hpl_gym.core import SPLITS, DataError, HPLGymError, Task, UnknownTaskError

ROOM_SIZES = ("full", "small")
SPLIT_SIZES = {"train": 6000, "valid_seen": 240, "valid_unseen": 240}
_TYPES = ("pick_and_place_simple", LOOK, *TREATMENTS, TWO)
_TASK_ID = re.compile(
    rf"generated/({'|'.join(ROOM_SIZES)})-(0|[1-9][0-9]*)/({'|'.join(SPLITS)})/([0-9]{{5}})"
)


class _Drawn(NamedTuple):
    game: Game
    room: Room
    sentence: str


def check_generator(rooms: str, seed: int) -> None:
    """Raise where there are no such generated games.

    Raises:
        HPLGymError: There are no such rooms, or the seed is no whole number of 0 or greater.
    """
    if rooms not in ROOM_SIZES:
        raise HPLGymError(f"There are no rooms {rooms!r}: choose {' or '.join(ROOM_SIZES)}.")
    if type(seed) is not int or seed < 0:
        raise HPLGymError(
            f"The seed of generated games is {seed!r}: it must be a whole number of 0 or greater."
        )


def generated_tasks(split: str, rooms: str = "full", seed: int = 0) -> Sequence[Task]:
    """Return the tasks of a split of generated games, in one fixed order; no game is made.

    The six task types take turns. There are 6,000 tasks in train, 240 in valid_seen (the same
    floor plans, other games) and 240 in valid_unseen (other floor plans).

    Args:
        split: `train`, `valid_seen` or `valid_unseen`.
        rooms: `full` (rooms like the benchmark's) or `small` (3 to 5 receptacles, 4 to 8
            objects).
        seed: Another seed (0 or greater), other games.

    Raises:
        DataError: There is no such split.
        HPLGymError: There are no such rooms, or the seed is no whole number of 0 or greater.
    """
    if split not in SPLIT_SIZES:
        raise DataError(
            f"There is no split {split!r} of generated games: choose one of {', '.join(SPLITS)}."
        )
    check_generator(rooms, seed)
    return _tasks(split, rooms, seed)


@lru_cache(maxsize=32)
def _tasks(split: str, rooms: str, seed: int) -> tuple[Task, ...]:
    return tuple(
        Task(f"generated/{rooms}-{seed}/{split}/{i:05d}", split, _TYPES[i % len(_TYPES)])
        for i in range(SPLIT_SIZES[split])
    )


def generate_game(task_id: str) -> Game:
    """Return the game of a generated task; its walkthrough was played to the end.

    Args:
        task_id: An id as `generated_tasks` gives it.

    Raises:
        UnknownTaskError: It is no id of a generated task.
        MissingExtraError: The `alfworld` package is not installed.
    """
    return _draw(task_id).game


def write_games(
    folder: Path, split: str, count: int, rooms: str = "full", seed: int = 0
) -> list[Path]:
    """Write the first games of a split as files that TextWorld and ALFWorld read.

    Args:
        folder: Where to write; gets `json_2.1.1/<split>/<task>/<trial>/` with `game.tw-pddl` and
            `traj_data.json`. What is there of these games is replaced by the same bytes.
        split: As of `generated_tasks`.
        count: How many games.
        rooms: As of `generated_tasks`.
        seed: As of `generated_tasks`.

    Returns:
        The game files.

    Raises:
        DataError: There is no such split, or a file cannot be written.
        HPLGymError: The split has fewer games, there are no such rooms, or the seed is negative.
        MissingExtraError: The `alfworld` package is not installed.
    """
    tasks = generated_tasks(split, rooms, seed)
    if not 0 < count <= len(tasks):
        raise HPLGymError(
            f"{count} games of {split!r} were asked for: there can be 1 to {len(tasks)}."
        )
    paths = []
    for index, task in enumerate(tasks[:count]):
        game, room, sentence = _draw(task.task_id)
        goal, number = room.goal, room.plan.number
        name = f"{goal.task_type}-{goal.kind}-None-{goal.target or goal.lamp}-{number}"
        trial = f"trial_generated_{rooms}_{seed}_{index:05d}"
        path = Path(folder) / FOLDER / split / name / trial / GAME_FILE
        data = {
            "pddl_domain": game.domain,
            "grammar": game.grammar,
            "pddl_problem": game.problem,
            "solvable": True,
            "walkthrough": list(game.walkthrough),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path.with_name("traj_data.json"), _trajectory(room, sentence, trial, seed))
            _write(path, data)
        except OSError as error:
            raise DataError(f"The game file {path} cannot be written: {error.strerror}.") from None
        paths.append(path)
    real_tasks.cache_clear()
    return paths


def _draw(task_id: str) -> _Drawn:
    match = _TASK_ID.fullmatch(task_id)
    if match is None or int(match[4]) >= SPLIT_SIZES[match[3]]:
        raise UnknownTaskError(
            f"There is no generated task {task_id!r}: ids are generated/<full or small>-<seed>/"
            "<split>/<five digits>, e.g. generated/full-0/train/00042."
        )
    rooms, _, split, index = match.groups()
    task = Task(task_id, split, _TYPES[int(index) % len(_TYPES)])
    rng = random.Random(int.from_bytes(hashlib.sha256(task_id.encode()).digest()))
    while True:
        room = draw_room(rng, task.task_type, split == "valid_unseen", rooms == "small")
        if room is None or _split_of(room) != split:
            continue
        drawn = _as_game(task, room, rng)
        if _is_solved_by_walkthrough(drawn.game):
            return drawn


def _split_of(room: Room) -> str:
    """Return the one split that may have a game of this content."""
    digest = hashlib.sha256(room.content().encode()).digest()
    return SPLITS[int.from_bytes(digest) % len(SPLITS)]


def _as_game(task: Task, room: Room, rng: random.Random) -> _Drawn:
    known, goal = rules(), room.goal
    sentence = rng.choice(known.goals[goal.task_type]["templates"]).format(
        obj=goal.kind.lower(), recep=goal.target.lower(), toggle=goal.lamp.lower()
    )
    grammar = known.grammar.replace("UNKNOWN GOAL", sentence)
    facts = initial_facts(room)
    problem = problem_text(re.sub(r"\W", "_", task.task_id), room, facts)
    walkthrough = plan_room(room, entity_names(room, facts))
    return _Drawn(Game(task, known.domain, grammar, problem, walkthrough), room, sentence)


def _is_solved_by_walkthrough(game: Game) -> bool:
    """Whether every command of the walkthrough does something and only the last one wins."""
    engine = NativeEngine(game)
    outcome = engine.start()
    for turn, command in enumerate(game.walkthrough, start=1):
        outcome = engine.step(outcome.state, command)
        if not outcome.valid or outcome.success != (turn == len(game.walkthrough)):
            return False
    return outcome.success


def _trajectory(room: Room, sentence: str, trial: str, seed: int) -> dict[str, Any]:
    goal, number = room.goal, room.plan.number
    x, z, rotation, horizon = map(int, room.start.split("|")[1:])
    return {
        "task_id": trial,
        "task_type": goal.task_type,
        "pddl_params": {
            "mrecep_target": "",
            "object_sliced": False,
            "object_target": goal.kind,
            "parent_target": goal.target,
            "toggle_target": goal.lamp,
        },
        "scene": {
            "dirty_and_empty": False,
            "floor_plan": f"FloorPlan{number}",
            "init_action": {
                "action": "TeleportFull",
                "horizon": horizon,
                "rotateOnTeleport": True,
                "rotation": rotation * 90,
                "x": x / 4,
                "y": 0.9,
                "z": z / 4,
            },
            "object_poses": [],
            "object_toggles": [{"isOn": False, "objectType": goal.lamp}] if goal.lamp else [],
            "random_seed": seed,
            "scene_num": number,
        },
        "turk_annotations": {"anns": [{"task_desc": sentence, "high_descs": []}]},
        "plan": {"high_pddl": [], "low_actions": []},
    }


def _write(path: Path, data: dict[str, Any]) -> None:
    """Write JSON whole or not at all."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file)
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
