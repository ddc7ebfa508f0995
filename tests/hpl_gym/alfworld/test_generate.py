"""Generated games: reproducible, solvable, like real ones in size, and of one split only."""

import hashlib
import importlib.util
import json
import os
import random
import re
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpl_gym.alfworld import floorplans
from hpl_gym.alfworld.engine import NativeEngine
from hpl_gym.alfworld.games import TASK_TYPES, Game, read_game, real_tasks
from hpl_gym.alfworld.generate import (
    ROOM_SIZES,
    SPLIT_SIZES,
    generate_game,
    generated_tasks,
    write_games,
)
from hpl_gym.alfworld.pddl import Problem
from hpl_gym.alfworld.versions import read_version
from hpl_gym.core import SPLITS, DataError, HPLGymError, MissingExtraError, UnknownTaskError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("alfworld") is None,
    reason="generated games need the alfworld package: pip install 'hpl-gym[alfworld]'",
)

GOAL_FACT = {
    "pick_clean_then_place_in_recep": "isclean",
    "pick_heat_then_place_in_recep": "ishot",
    "pick_cool_then_place_in_recep": "iscool",
}


class Contents:
    """What is in a game, read from its problem text."""

    def __init__(self, game: Game) -> None:
        problem = Problem.read(game.problem, read_version(game).predicates)
        self.facts = problem.facts
        self.kinds = dict(self.facts["objecttype"])
        self.holders = dict(self.facts["receptacletype"])
        self.openable = {name for (name,) in self.facts.get("openable", ())}
        goal = game.problem[game.problem.index("(:goal") :].lower()
        # The goal names the lamp before the object that is looked at.
        self.wanted = re.findall(r"objecttype \?\w+ (\w+)", goal)[-1]
        self.targets = set(re.findall(r"receptacletype \?\w+ (\w+)", goal))
        self.inside = defaultdict(list)
        for thing, holder in self.facts["inreceptacle"]:
            self.inside[holder].append(self.kinds[thing])

    def signature(self, task_type: str) -> str:
        """What two equal games have in common, however their entities are numbered."""
        holders = (
            (kind, name in self.openable, sorted(self.inside[name]))
            for name, kind in self.holders.items()
        )
        return repr((task_type, self.wanted, sorted(self.targets), sorted(holders)))

    def places_of_wanted(self) -> list[str]:
        return [
            self.holders[name]
            for name in self.holders
            for kind in self.inside[name]
            if kind == self.wanted
        ]


def sample(split: str, rooms: str, count: int, seed: int = 0) -> list[Game]:
    return [generate_game(task.task_id) for task in generated_tasks(split, rooms, seed)[:count]]


@pytest.mark.parametrize("split", SPLITS)
def test_tasks_are_listed_in_a_fixed_order_with_types_in_turn(split: str) -> None:
    tasks = generated_tasks(split, "small", 7)
    assert len(tasks) == SPLIT_SIZES[split]
    assert tasks[3].task_id == f"generated/small-7/{split}/00003"
    assert {task.split for task in tasks} == {split}
    assert Counter(task.task_type for task in tasks[:60]) == dict.fromkeys(TASK_TYPES, 10)
    assert generate_game(tasks[3].task_id).task == tasks[3]


@pytest.mark.parametrize("rooms", ROOM_SIZES)
@pytest.mark.parametrize("split", SPLITS)
def test_every_game_is_solved_by_its_walkthrough(split: str, rooms: str) -> None:
    for game in sample(split, rooms, 48):
        engine = NativeEngine(game)
        outcome = engine.start()
        for command in game.walkthrough:
            assert not outcome.terminated
            assert command in engine.admissible(outcome.state), game.task
            outcome = engine.step(outcome.state, command)
        assert outcome.success
        assert outcome.terminated
        assert 3 <= len(game.walkthrough) <= 16


@pytest.mark.parametrize("rooms", ROOM_SIZES)
def test_textworld_plays_the_games_as_the_native_engine_does(rooms: str) -> None:
    pytest.importorskip("textworld", reason="needs TextWorld: pip install 'hpl-gym[alfworld]'")
    from hpl_gym.alfworld.textworld import TextWorldEngine

    games = sample("valid_unseen", rooms, 6)
    for game in games if rooms == "small" else games[::3]:
        native, reference = NativeEngine(game), TextWorldEngine(game)
        ours, theirs = native.start(), reference.start()
        for command in game.walkthrough:
            assert ours.observation == theirs.observation
            assert native.admissible(ours.state) == reference.admissible(theirs.state)
            ours, theirs = native.step(ours.state, command), reference.step(theirs.state, command)
        assert theirs.success, game.task
        assert ours.observation == theirs.observation


def test_a_game_is_the_same_in_every_process() -> None:
    tasks = [
        generated_tasks(split, rooms, 3)[i]
        for split in SPLITS
        for rooms in ROOM_SIZES
        for i in (1, 5, 100)
    ]
    ids = [task.task_id for task in tasks]
    script = (
        "import sys; from hpl_gym.alfworld.generate import generate_game\n"
        "for task in sys.argv[1:]:\n"
        "    game = generate_game(task); print(game.digest, *game.walkthrough, sep='|')"
    )
    expected = []
    for game in map(generate_game, ids):
        expected.append("|".join((game.digest, *game.walkthrough)))
    assert len(set(expected)) == len(ids)
    for hash_seed in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", script, *reversed(ids)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stdout.split("\n")[:-1] == expected[::-1]


def test_another_seed_gives_other_games() -> None:
    assert generate_game("generated/full-0/train/00000") != generate_game(
        "generated/full-1/train/00000"
    )
    first, second = (
        [
            Contents(game).signature(game.task.task_type)
            for game in sample("train", "full", 24, seed)
        ]
        for seed in (0, 1)
    )
    assert not set(first) & set(second)


def test_splits_share_no_game_whatever_the_seed_and_the_rooms() -> None:
    owner: dict[str, str] = {}
    for split, seed in ((split, seed) for split in SPLITS for seed in (0, 1)):
        for rooms, count in (("small", 90), ("full", 12)):
            for game in sample(split, rooms, count, seed):
                signature = Contents(game).signature(game.task.task_type)
                assert owner.setdefault(signature, split) == split, game.task


def test_a_content_is_given_to_one_split_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from hpl_gym.alfworld import generate

    # Were it not for the rejection, the same draws would be made for every split.
    class SameDraws(random.Random):
        def __init__(self, _: int) -> None:
            super().__init__(1)

    monkeypatch.setattr(generate, "random", SimpleNamespace(Random=SameDraws))
    games = [generate_game(f"generated/small-0/{split}/00003") for split in SPLITS[:2]]
    signatures = {Contents(game).signature(game.task.task_type) for game in games}
    assert len(signatures) == 2


def test_valid_unseen_alone_has_the_held_out_floor_plans(tmp_path: Path) -> None:
    numbers = {
        split: {
            int(path.parent.parent.name.split("-")[-1])
            for path in write_games(tmp_path, split, 120, rooms="small")
        }
        for split in SPLITS
    }
    assert numbers["valid_unseen"] == floorplans.HELD_OUT
    assert not numbers["train"] & floorplans.HELD_OUT
    assert not numbers["valid_seen"] & floorplans.HELD_OUT
    assert len(numbers["valid_seen"] | numbers["train"]) > 75


def test_nothing_asked_for_is_done_at_the_start() -> None:
    for game in sample("train", "full", 90) + sample("valid_unseen", "small", 90):
        contents, kind = Contents(game), game.task.task_type
        assert not contents.facts.get("istoggled")
        assert not contents.facts.get("opened")
        places = contents.places_of_wanted()
        assert len(places) >= (2 if kind == "pick_two_obj_and_place" else 1)
        if kind in GOAL_FACT:
            done = {contents.kinds[name] for (name,) in contents.facts.get(GOAL_FACT[kind], ())}
            assert contents.wanted not in done
        else:
            assert not set(places) & contents.targets


def test_rules_of_the_house_are_kept() -> None:
    rules = floorplans.rules()
    kinds = {f"{kind}type".lower(): kind for kind in (*rules.objects, *rules.accepts)}
    for game in sample("valid_seen", "full", 60):
        contents = Contents(game)
        accepted = set(contents.facts["cancontain"])
        for holder, things in contents.inside.items():
            for thing in things:
                known = any(thing == accepted_kind for _, accepted_kind in accepted)
                fine = (contents.holders[holder], thing) in accepted
                measured = kinds[contents.holders[holder]] in rules.homes[kinds[thing]]
                assert fine or (not known and measured), (holder, thing)
        assert accepted <= {
            (f"{holder}type".lower(), f"{thing}type".lower())
            for holder, things in rules.accepts.items()
            for thing in things
        }


def test_goals_and_wordings_vary() -> None:
    wanted, targets, wordings = set(), set(), defaultdict(set)
    for game in sample("train", "small", 360):
        contents = Contents(game)
        wanted.add(contents.wanted)
        targets |= contents.targets
        task = re.search(r"Your task is to: (.*?)\.\"", game.grammar)
        assert task is not None
        names = {name.removesuffix("type") for name in {contents.wanted, *contents.targets}}
        words = ["X" if word in names else word for word in task[1].split()]
        assert names <= set(task[1].split())
        wordings[game.task.task_type].add(" ".join(words))
    assert len(wanted) > 40
    assert len(targets) > 15
    assert {kind: len(texts) for kind, texts in wordings.items()} == dict.fromkeys(TASK_TYPES, 2)


def test_full_rooms_are_as_large_as_real_ones() -> None:
    sizes = defaultdict(list)
    for game in sample("train", "full", 120) + sample("valid_seen", "full", 60):
        engine, contents = NativeEngine(game), Contents(game)
        start = engine.start()
        sizes["objects"].append(len(contents.kinds))
        sizes["receptacles"].append(len(contents.holders))
        sizes["commands"].append(len(engine.admissible(start.state)))
        sizes["characters"].append(len(start.observation))
    # Medians and 5th to 95th percentiles of 1,000 real games (docs/generated_games.md).
    real = {
        "objects": (42, 22, 63),
        "receptacles": (21, 9, 51),
        "commands": (23, 11, 53),
        "characters": (462, 272, 867),
    }
    for name, (median, low, high) in real.items():
        assert statistics.median(sizes[name]) == pytest.approx(median, rel=0.15), name
        within = sum(low <= size <= high for size in sizes[name])
        assert within > 0.8 * len(sizes[name]), name


@pytest.mark.parametrize("split", SPLITS)
def test_small_rooms_are_small_and_mixed(split: str) -> None:
    shares = []
    for game in sample(split, "small", 90):
        contents = Contents(game)
        assert 3 <= len(contents.holders) <= 5
        assert 4 <= len(contents.kinds) <= 8
        assert len(contents.facts["inreceptacle"]) == len(contents.kinds)
        shares.append(len(contents.openable) / len(contents.holders))
    assert 0.25 < statistics.mean(shares) < 0.5
    assert sum(share > 0 for share in shares) > 50


@pytest.mark.parametrize(
    "number", [n for first in floorplans.ROOMS.values() for n in (first, first + 13, first + 29)]
)
def test_floor_plans_are_complete(number: int) -> None:
    plan = floorplans.floor_plan(number)
    ids = [receptacle.id for receptacle in plan.receptacles]
    ids += [name for name, _, _ in plan.fixtures]
    assert len(set(ids)) == len(ids)
    assert number in range(floorplans.ROOMS[plan.room], floorplans.ROOMS[plan.room] + 30)
    assert len(plan.spots) > 10
    assert not set(plan.spots) & {receptacle.location for receptacle in plan.receptacles}
    assert "GarbageCan" in {receptacle.kind for receptacle in plan.receptacles}


def test_written_games_are_found_and_read_as_real_ones(tmp_path: Path) -> None:
    paths = write_games(tmp_path, "valid_seen", 8, rooms="full", seed=4)
    root = tmp_path / "json_2.1.1"
    tasks = real_tasks(root, "valid_seen")
    assert {root / task.task_id / "game.tw-pddl" for task in tasks} == set(paths)
    generated = {game.problem: game for game in sample("valid_seen", "full", 8, seed=4)}
    for task in tasks:
        path = root / task.task_id / "game.tw-pddl"
        game = read_game(task, path)
        assert game.task.task_type == generated[game.problem].task.task_type
        assert game.walkthrough == generated[game.problem].walkthrough
        assert game.digest == generated[game.problem].digest
        data = json.loads(path.with_name("traj_data.json").read_text(encoding="utf-8"))
        kind, wanted, _, target, number = task.task_id.split("/")[1].split("-")
        params = data["pddl_params"]
        assert (data["task_type"], data["task_id"]) == (kind, task.task_id.split("/")[2])
        assert params["object_target"] == wanted
        assert params["parent_target"] + params["toggle_target"] == target
        assert data["scene"]["floor_plan"] == f"FloorPlan{number}"
        assert data["turk_annotations"]["anns"][0]["task_desc"] in game.grammar


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    def written() -> dict[str, str]:
        return {
            str(file.relative_to(tmp_path)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in tmp_path.rglob("*")
            if file.is_file()
        }

    write_games(tmp_path, "train", 4, rooms="small")
    before = written()
    assert len(before) == 8
    write_games(tmp_path, "train", 4, rooms="small")
    assert written() == before


def test_alfworld_itself_loads_written_games(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    textworld = pytest.importorskip("textworld", reason="needs pip install 'hpl-gym[alfworld]'")
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))  # importing alfworld sets it
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs.pddl import PddlEnv

    paths = write_games(tmp_path, "valid_unseen", 6, rooms="small")
    for path in (paths[1], paths[3]):
        infos = textworld.EnvInfos(won=True, admissible_commands=True)
        env = AlfredDemangler(PddlEnv(infos), shuffle=False)
        env.load(str(path))
        state = env.reset()
        for command in json.loads(path.read_text(encoding="utf-8"))["walkthrough"]:
            assert command in state["admissible_commands"]
            state, _, done = env.step(command)
        assert done
        assert state["won"]


@pytest.mark.parametrize(
    "task_id",
    [
        "",
        "generated",
        "generated/full-0/train",
        "generated/full-0/train/0",
        "generated/full-0/train/000000",
        "generated/full-0/train/06000",
        "generated/full-0/valid_seen/00240",
        "generated/full-0/test/00000",
        "generated/huge-0/train/00000",
        "generated/full-/train/00000",
        "generated/full-00/train/00000",
        "generated/full--1/train/00000",
        "generated/full-0/train/00000\n",
        "generated/full-٣/train/00000",
        "generated/full-0/train/0000x",
        "train/pick_and_place_simple-Mug-None-Desk-301/trial",
    ],
)
def test_a_malformed_id_is_refused(task_id: str) -> None:
    with pytest.raises(UnknownTaskError, match="no generated task"):
        generate_game(task_id)


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split 'test'"):
        generated_tasks("test")
    with pytest.raises(HPLGymError, match="no rooms 'huge'"):
        generated_tasks("train", "huge")
    with pytest.raises(HPLGymError, match=r"no rooms \['small'\]"):
        generated_tasks("train", ["small"])
    for seed in (-1, "x", [1], 0.5, True):
        with pytest.raises(HPLGymError, match=re.escape(f"seed of generated games is {seed!r}")):
            generated_tasks("train", "full", seed)
    for count in (0, -1, 241):
        with pytest.raises(HPLGymError, match="there can be 1 to 240"):
            write_games(tmp_path, "valid_seen", count)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_games(file, "train", 1, rooms="small")


def test_without_the_alfworld_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(floorplans.importlib.util, "find_spec", lambda _: None)
    floorplans.rules.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match=re.escape("pip install 'hpl-gym[alfworld]'")):
            generate_game("generated/small-0/train/00000")
    finally:
        floorplans.rules.cache_clear()


def test_generating_does_not_import_the_heavy_packages() -> None:
    script = (
        "import os, sys; os.environ.pop('ALFWORLD_DATA', None)\n"
        "from hpl_gym.alfworld.generate import generate_game\n"
        "generate_game('generated/small-0/train/00000')\n"
        "heavy = {'alfworld', 'textworld', 'fast_downward', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert 'ALFWORLD_DATA' not in os.environ\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
