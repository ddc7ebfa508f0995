"""The two engines play alike.

`HPL_DIFFERENTIAL=full pytest tests/hpl_gym/alfworld/test_textworld.py` walks through every
valid_seen game and 60 train games instead of a few (ten minutes).
"""

import os
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from hpl_gym.alfworld import textworld
from hpl_gym.alfworld.engine import NativeEngine
from hpl_gym.alfworld.games import game_path, read_game, real_tasks
from hpl_gym.alfworld.generate import generate_game, generated_tasks
from hpl_gym.alfworld.textworld import TextWorldEngine
from hpl_gym.core import DataError, HPLGymError, MissingExtraError
from tests.hpl_gym.alfworld.house import house
from tests.hpl_gym.alfworld.test_engine import TOUR
from tests.hpl_gym.alfworld.walks import seen, walk

ROOT = Path(__file__).parents[3]
DIALECTS = ("game", "put", "move")
FULL = os.environ.get("HPL_DIFFERENTIAL") == "full"
# Hardly ever reached at random. (TextWorld cannot read a game that cannot be solved at all.)
FAR = "(and (isSliced Apple_bar_1) (isSliced Apple_bar_2) (isClean Spoon_bar_1))"
GOALS = {
    "or": "(or (exists (?a - agent) (holds ?a Mug_bar_1)) (opened Drawer_bar_1))",
    "forall": "(forall (?r - receptacle) (or (not (openable ?r)) (opened ?r)))",
    "imply": """(forall (?o - object)
        (imply (objectType ?o MugType) (inReceptacle ?o Shelf_bar_1)))""",
    "two": """(exists (?r - receptacle) (exists (?o1 - object) (and
        (objectType ?o1 MugType) (receptacleType ?r ShelfType) (inReceptacle ?o1 ?r)
        (exists (?o2 - object) (and
            (not (= ?o1 ?o2)) (objectType ?o2 MugType) (inReceptacle ?o2 ?r))))))""",
    "not": "(not (exists (?o - object) (inReceptacle ?o Desk_bar_2)))",
    "and": "(and (isSliced Apple_bar_1) (not (holdsAny agent1)))",
    "light": """(and
        (exists (?ot - object ?r - receptacle ?a - agent ?l - location) (and
            (objectType ?ot DeskLampType) (toggleable ?ot) (isToggled ?ot)
            (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?ot ?r)))
        (exists (?o - object ?a - agent) (and (objectType ?o SpoonType) (holds ?a ?o))))""",
    "one name twice": """(exists (?o - object) (and
        (isHot ?o) (exists (?o - object) (and (isClean ?o) (objectAtLocation ?o loc_bar_4)))))""",
    "here": """(exists (?l - location ?a - agent) (and
        (atLocation ?a ?l) (exists (?o - object) (and (objectAtLocation ?o ?l) (isSliced ?o)))))""",
    "nowhere": """(exists (?o - object) (and
        (or (isClean ?o) (isSliced ?o)) (forall (?r - receptacle) (not (inReceptacle ?o ?r)))))""",
    "solved": "(opened Microwave_bar_1)",
}


@pytest.mark.parametrize("old", [False, True])
def test_the_tour_of_the_house(old: bool) -> None:
    native, reference = NativeEngine(house(old=old)), TextWorldEngine(house(old=old))
    ours, theirs = native.start(), reference.start()
    for command, text in {"": "", **TOUR, "look ": ""}.items():
        ours, theirs = native.step(ours.state, command), reference.step(theirs.state, command)
        assert seen(ours) == seen(theirs)
        assert native.admissible(ours.state) == reference.admissible(theirs.state)
        assert old or not text or theirs.observation == text


@pytest.mark.parametrize("seed", range(6))
def test_walks_through_the_house(seed: int) -> None:
    start = "loc_bar_1" if seed % 3 == 0 else "loc_bar_9"
    game = house(FAR, start=start, old=seed % 2 == 0)
    assert walk(game, DIALECTS[seed % 3], seed, 40) == 40


@pytest.mark.parametrize("name", GOALS)
def test_goals(name: str) -> None:
    """Go a short way to the goal, found at random on the native engine."""
    game = house(GOALS[name])
    native, reference = NativeEngine(game), TextWorldEngine(game)
    way = ["look"] * 80
    for seed in range(300):
        rng, outcome, tried = random.Random(seed), native.start(), []
        while not outcome.terminated and len(tried) < len(way) - 1:
            kinds = defaultdict(list)
            for command in native.admissible(outcome.state):
                kinds[command.split()[0]].append(command)
            tried.append(rng.choice(kinds[rng.choice(sorted(kinds))]))
            outcome = native.step(outcome.state, tried[-1])
        if outcome.terminated:
            way = tried
    ours, theirs = native.start(), reference.start()
    for command in way:
        ours, theirs = native.step(ours.state, command), reference.step(theirs.state, command)
        assert seen(ours) == seen(theirs)
    assert theirs.success


@pytest.mark.parametrize("index", range(3))
def test_walks_through_generated_games(index: int) -> None:
    rooms = "small" if index else "full"
    task = generated_tasks("valid_seen", rooms, 0)[index]
    walk(generate_game(task.task_id), DIALECTS[index % 3], index, 20)


def test_walks_through_real_games(alfworld_data: Path) -> None:
    seen_tasks, train = (real_tasks(alfworld_data, split) for split in ("valid_seen", "train"))
    # One of each type and two of the crowded kitchens; or all.
    tasks = [*seen_tasks, *train[::60]] if FULL else [*seen_tasks[::28], *train[::1800]]
    for number, task in enumerate(tasks):
        game = read_game(task, game_path(alfworld_data, task.task_id))
        walk(game, DIALECTS[number % 3], number, 30 if FULL else 20)


def test_going_back_and_forth() -> None:
    game = house(FAR)
    engine, rng = TextWorldEngine(game), random.Random(0)
    outcome, trail = engine.start(), []
    for _ in range(25):
        command = rng.choice(engine.admissible(outcome.state))
        trail.append((outcome, command))
        outcome = engine.step(outcome.state, command)
    expected = {
        outcome.state: (
            seen(engine.step(outcome.state, command)),
            engine.admissible(outcome.state),
            engine.locations(outcome.state),
        )
        for outcome, command in trail
    }
    other = TextWorldEngine(game)
    for _ in range(2):
        rng.shuffle(trail)
        for outcome, command in trail:
            # `engine` was there; `other` gets there by replay the first time.
            for player in (engine, other):
                assert expected[outcome.state] == (
                    seen(player.step(outcome.state, command)),
                    player.admissible(outcome.state),
                    player.locations(outcome.state),
                )


def test_a_forgotten_state_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textworld, "_REMEMBERED_STATES", 2)
    engine = TextWorldEngine(house())
    first = engine.start().state
    there = engine.step(first, "go to desk 1").state
    took = engine.step(there, "take spoon 1 from desk 1").state
    for command in ("go to shelf 1", "go to fridge 1", "open fridge 1"):
        engine.step(first, command)
    assert engine.step(took, "inventory").observation == "You are carrying: a spoon 1."
    assert "go to desk 1" in engine.admissible(first)
    assert len(engine._visited) == 2


def test_loading_a_game_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    import fast_downward

    translations = []
    translate = fast_downward.pddl2sas

    def counted(*args, **kwargs):
        translations.append(args)
        return translate(*args, **kwargs)

    monkeypatch.setattr(fast_downward, "pddl2sas", counted)
    arguments, output = list(sys.argv), sys.stdout
    libraries = len(textworld._idle_libraries)
    engines = [TextWorldEngine(house()) for _ in range(2)]
    assert len(translations) == 2
    assert fast_downward.pddl2sas is counted
    assert (sys.argv, sys.stdout) == (arguments, output)
    del engines
    assert len(textworld._idle_libraries) == max(libraries, 2)
    TextWorldEngine(house())
    assert len(textworld._idle_libraries) == max(libraries, 2)


CODE = """
import os
from hpl_gym.alfworld.generate import generate_game, generated_tasks
from hpl_gym.alfworld.textworld import TextWorldEngine
TextWorldEngine(generate_game(generated_tasks("train", "small", 0)[0].task_id))
print(os.environ.get("ALFWORLD_DATA"))
"""


@pytest.mark.parametrize("named", [False, True])
def test_where_games_are_looked_for_stays_the_same(tmp_path: Path, named: bool) -> None:
    env = {name: one for name, one in os.environ.items() if name != "ALFWORLD_DATA"}
    env |= {"HOME": str(tmp_path)} | ({"ALFWORLD_DATA": str(tmp_path / "own")} if named else {})
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [env.get("ALFWORLD_DATA", "None")]


def test_what_textworld_cannot_read_is_a_data_error() -> None:
    game = house()
    for problem in ("", game.problem.replace("(opened ", "(opened Oven"), game.problem[:-1]):
        with pytest.raises(DataError, match="TextWorld cannot read the game of task 'test/house'"):
            TextWorldEngine(type(game)(game.task, game.domain, game.grammar, problem))
    with pytest.raises(HPLGymError, match="no dialect"):
        TextWorldEngine(game, "drop")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textworld.envs.pddl", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hpl-gym\[alfworld\]'"):
        TextWorldEngine(house())
