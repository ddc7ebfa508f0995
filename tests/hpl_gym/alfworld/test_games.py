import io
import os
import stat
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from hpl_gym.alfworld import games
from hpl_gym.alfworld.env import ALFWorldEnv
from hpl_gym.alfworld.games import (
    Game,
    game_path,
    locate,
    locate_or_unpack,
    read_game,
    real_task,
    real_tasks,
    unpack,
)
from hpl_gym.core import DataError, HPLGymError, Task
from tests.hpl_gym.alfworld.house import TASK, house, write_house

PLAYABLE = "pick_and_place_simple-Apple-None-Shelf-1/trial_T2"


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ALFWORLD_DATA", "HPL_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HPL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def archive(data: Path, split: str, task: str, **content: object) -> None:
    """Write an archive of one game into a data folder."""
    source = data.parent / "source"
    write_house(source, f"json_2.1.1/{split}/{task}", **content)
    (data / "alfworld").mkdir(parents=True, exist_ok=True)
    with tarfile.open(data / "alfworld" / f"{split}.tar.xz", "w:xz") as tar:
        tar.add(source / "json_2.1.1" / split, f"json_2.1.1/{split}")


def test_playable_tasks_are_listed_in_one_order(tmp_path: Path) -> None:
    for task in (
        PLAYABLE,
        "pick_and_place_simple-Apple-None-Shelf-1/trial_T1",
        "look_at_obj_in_light-Book-None-DeskLamp-301/trial_T9",
        "pick_and_place_with_movable_recep-Apple-Pot-Shelf-1/trial_T1",
        "pick_heat_then_place_in_recep-AppleSliced-None-Shelf-1/trial_T1",
        "another_kind-Apple-None-Shelf-1/trial_T1",
    ):
        write_house(tmp_path, f"train/{task}")
    unsolvable = "train/pick_and_place_simple-Egg-None-Shelf-1"
    write_house(tmp_path, f"{unsolvable}/trial_T1", solvable=False)
    write_house(tmp_path, f"{unsolvable}/trial_T2", solvable=None)
    write_house(tmp_path, f"{unsolvable}/trial_T3").unlink()
    no_trajectory = write_house(tmp_path, f"{unsolvable}/trial_T4")
    (no_trajectory.parent / "traj_data.json").unlink()
    walked = write_house(
        tmp_path, "train/pick_and_place_simple-Pen-None-Bed-1/t", walkthrough=["look"] * 999
    )

    tasks = real_tasks(tmp_path, "train")

    assert [task.task_id.removeprefix("train/") for task in tasks] == [
        "look_at_obj_in_light-Book-None-DeskLamp-301/trial_T9",
        "pick_and_place_simple-Apple-None-Shelf-1/trial_T1",
        PLAYABLE,
        "pick_and_place_simple-Pen-None-Bed-1/t",
    ]
    assert {task.split for task in tasks} == {"train"}
    assert tasks[0].task_type == "look_at_obj_in_light"
    assert all(real_task(tmp_path, task.task_id) == task for task in tasks)
    assert read_game(tasks[-1], walked).walkthrough == ("look",) * 999


@pytest.mark.parametrize(
    "task_id",
    [
        *("", "train", "train//", "train/pick_and_place_simple-Apple-None-Shelf-1"),
        *(f"../train/{PLAYABLE}", f"train/{PLAYABLE}/..", "train/../pick_and_place_simple-x"),
        f"train/{PLAYABLE.split('/')[0]}/{'x' * 300}",
        *(f"valid_seen/{PLAYABLE}", f"train/{PLAYABLE}1", f"/train/{PLAYABLE}"),
    ],
)
def test_an_unknown_task_id_is_no_task(tmp_path: Path, task_id: str) -> None:
    write_house(tmp_path, f"train/{PLAYABLE}")
    assert real_task(tmp_path, f"train/{PLAYABLE}") is not None
    assert real_task(tmp_path, task_id) is None


def test_what_the_files_hold_is_told_by_a_digest(tmp_path: Path) -> None:
    path = write_house(tmp_path / "json_2.1.1", f"train/{PLAYABLE}")
    first = ALFWorldEnv(games=tmp_path).data_digest
    assert len(first) == 16
    assert ALFWorldEnv(games=tmp_path).data_digest == first
    path.write_text(path.read_text() + " ")
    assert ALFWorldEnv(games=tmp_path).data_digest != first
    assert ALFWorldEnv(games="generated").data_digest == ""


def test_a_folder_without_games_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*valid_unseen"):
        real_tasks(tmp_path, "valid_unseen")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="no playable game"):
        real_tasks(tmp_path, "train")


def test_reading_a_game(tmp_path: Path) -> None:
    path = write_house(tmp_path, f"train/{PLAYABLE}", walkthrough=["look", "inventory"])
    game, wanted = read_game(TASK, path), house()
    assert game == Game(TASK, wanted.domain, wanted.grammar, wanted.problem, ("look", "inventory"))
    assert game_path(tmp_path, f"train/{PLAYABLE}") == path
    assert len(game.digest) == 16
    assert game.digest == wanted.digest != house(old=True).digest


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"solvable": False}, "not marked as solvable"),
        ({"solvable": None}, "not marked as solvable"),
        ({"grammar": None}, "lacks one of"),
        ({"pddl_problem": 7}, "lacks one of"),
        ({"walkthrough": 5}, "no list of commands"),
        ({"walkthrough": [["look"]]}, "no list of commands"),
    ],
)
def test_an_unplayable_game_file(tmp_path: Path, content: dict[str, object], says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_game(TASK, write_house(tmp_path, f"train/{PLAYABLE}", **content))


def test_a_broken_game_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no game file"):
        read_game(TASK, tmp_path / "game.tw-pddl")
    for text in (b"", b"{", b"[]", b"\xff\xfe", b'"pddl_domain grammar pddl_problem"'):
        (tmp_path / "game.tw-pddl").write_bytes(text)
        with pytest.raises(DataError, match="is broken"):
            read_game(TASK, tmp_path / "game.tw-pddl")
    with pytest.raises(DataError, match="cannot be read"):
        read_game(TASK, tmp_path)


def test_where_games_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="set ALFWORLD_DATA or HPL_DATA"):
        locate()
    last = tmp_path / "home" / ".cache" / "alfworld" / "json_2.1.1"
    third = tmp_path / "data" / "alfworld" / "json_2.1.1"
    second = tmp_path / "data" / "json_2.1.1"
    first = tmp_path / "own" / "json_2.1.1"
    last.mkdir(parents=True)
    assert locate() == last
    monkeypatch.setenv("ALFWORLD_DATA", "")
    monkeypatch.setenv("HPL_DATA", str(tmp_path / "data"))
    for folder in (third, second):
        folder.mkdir(parents=True)
        assert locate() == folder
    first.mkdir(parents=True)
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "own"))
    assert locate() == first


@pytest.mark.parametrize("variable", ["ALFWORLD_DATA", "HPL_DATA"])
def test_a_variable_that_names_no_data_is_never_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (tmp_path / "home" / ".cache" / "alfworld" / "json_2.1.1").mkdir(parents=True)
    monkeypatch.setenv(variable, str(tmp_path / "typo"))
    for look in (locate, locate_or_unpack, ALFWorldEnv(games="auto").tasks):
        with pytest.raises(HPLGymError, match=f"{variable} is set to .*/typo"):
            look()


def test_the_variable_as_the_alfworld_package_sets_it_is_no_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "home" / ".cache" / "alfworld"))
    assert ALFWorldEnv(games="auto").tasks()[0].task_id.startswith("generated/")
    for place in ("home/.cache/alfworld", "data"):
        write_house(tmp_path / place, f"json_2.1.1/train/{PLAYABLE}")
    assert locate() == tmp_path / "home/.cache/alfworld/json_2.1.1"
    monkeypatch.setenv("HPL_DATA", str(tmp_path / "data"))
    assert locate() == tmp_path / "data/json_2.1.1"


def test_a_relative_folder_stays_the_same_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    envs = []
    for name in ("a", "b"):
        write_house(tmp_path / name / "games", f"train/{PLAYABLE[:-2]}{name}")
        monkeypatch.chdir(tmp_path / name)
        envs.append(ALFWorldEnv(games="games"))
    for env, name in zip(envs, ("a", "b"), strict=True):
        assert env.reset(seed=0)[1]["task_id"].endswith(name)


def test_a_home_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPL_DATA", "~nobodyhere/data")
    with pytest.raises(HPLGymError, match="not known whose home"):
        locate()


def test_games_that_are_being_unpacked_are_not_taken(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "alfworld"
    (cache / "partial-0123456789" / "json_2.1.1").mkdir(parents=True)
    with pytest.raises(DataError, match="No real ALFWorld games were found"):
        locate()
    done = cache / "0123456789abcdef" / "json_2.1.1"
    done.mkdir(parents=True)
    assert locate() == done


def test_archives_are_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    archive(data, "train", PLAYABLE)
    archive(data, "valid_seen", PLAYABLE)
    monkeypatch.setenv("HPL_DATA", str(data))
    (tmp_path / "home" / ".cache" / "alfworld" / "json_2.1.1").mkdir(parents=True)
    for look in (locate, ALFWorldEnv(games="auto").tasks):
        with pytest.raises(DataError, match="hpl data alfworld unpack"):
            look()
    killed = tmp_path / "cache" / "alfworld" / "partial-killed"
    working = killed.with_name("partial-at-work")
    for partial in (killed, working):
        (partial / "json_2.1.1").mkdir(parents=True)
    os.utime(killed, (0, 0))
    before = sorted(path.relative_to(data) for path in data.rglob("*"))

    root = unpack(data)

    assert sorted(path.relative_to(data) for path in data.rglob("*")) == before
    assert root.is_relative_to(tmp_path / "cache")
    assert stat.S_IMODE(root.parent.stat().st_mode) == 0o755
    assert [one.name for one in killed.parent.glob("partial-*")] == [working.name]
    assert locate() == locate_or_unpack() == root
    assert [len(real_tasks(root, split)) for split in ("train", "valid_seen")] == [1, 1]
    stamp = root.stat().st_mtime_ns
    assert unpack(data) == root
    assert root.stat().st_mtime_ns == stamp
    monkeypatch.delenv("HPL_DATA")
    assert locate() == root


def test_a_changed_archive_is_unpacked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    archive(data, "train", PLAYABLE)
    monkeypatch.setenv("HPL_DATA", str(data))
    old = locate_or_unpack()
    archive(data, "train", "pick_and_place_simple-Pen-None-Bed-1/trial_T1")
    new = locate_or_unpack()
    assert new != old
    assert [len(real_tasks(root, "train")) for root in (old, new)] == [1, 2]


def test_a_bad_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with pytest.raises(DataError, match="no archives"):
        unpack(data)
    archive(data, "train", PLAYABLE)
    path = data / "alfworld" / "train.tar.xz"
    whole = path.read_bytes()
    middle = len(whole) // 2
    for broken in (b"", b"text", whole[:middle], whole[:middle] + b"?" + whole[middle + 1 :]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="is broken"):
            unpack(data)
    with tarfile.open(path, "w:xz") as tar:
        entry = tarfile.TarInfo("../../escaped")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"text"))
    with pytest.raises(DataError, match="is broken"):
        unpack(data)
    with tarfile.open(path, "w:xz") as tar:
        entry = tarfile.TarInfo("json_2.1.1/train/link")
        entry.type, entry.linkname = tarfile.LNKTYPE, "nowhere"
        tar.addfile(entry)
    with pytest.raises(DataError, match="is broken"):
        unpack(data)
    with tarfile.open(path, "w:xz") as tar:
        tar.add(data.parent / "source" / "json_2.1.1" / "train", "other/train")
    with pytest.raises(DataError, match="no folder json_2"):
        unpack(data)
    assert list((tmp_path / "cache").rglob("*")) == [tmp_path / "cache" / "alfworld"]
    assert not list(tmp_path.rglob("escaped"))


def test_the_benchmark_has_the_right_number_of_tasks(alfworld_data: Path) -> None:
    types = {
        "train": (308, 790, 650, 533, 459, 813),
        "valid_seen": (13, 35, 27, 25, 16, 24),
        "valid_unseen": (18, 24, 31, 21, 23, 17),
    }
    found = [split for split in types if (alfworld_data / split).is_dir()]
    assert found
    for split in found:
        tasks: tuple[Task, ...] = real_tasks(alfworld_data, split)
        counts = Counter(task.task_type for task in tasks)
        assert tuple(counts[kind] for kind in games.TASK_TYPES) == types[split]
        assert list(tasks) == sorted(tasks, key=lambda task: task.task_id)
