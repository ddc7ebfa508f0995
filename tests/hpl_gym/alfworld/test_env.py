import dataclasses
from pathlib import Path

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

import hpl_gym  # noqa: F401
from hpl_gym.alfworld.env import ALFWorldEnv
from hpl_gym.alfworld.games import real_tasks
from hpl_gym.core import DataError, HPLGymError, LazyActions, Task, UnknownTaskError
from tests.hpl_gym.alfworld.house import write_house

FIRST = "train/pick_and_place_simple-Apple-None-Shelf-1/trial_T1"
SECOND = "train/pick_and_place_simple-Apple-None-Shelf-2/trial_T1"
ENV_ID = "HPL/ALFWorld-v0"
SOLUTION = ("go to desk 1", "take apple 2 from desk 1", "go to shelf 1", "move apple 2 to shelf 1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with two games that are both the small house."""
    for task_id in (SECOND, FIRST):
        write_house(tmp_path / "json_2.1.1", task_id)
    return tmp_path


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ALFWORLD_DATA", "HPL_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HPL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("engine", ["native", "textworld"])
def test_gymnasium_accepts_it(root: Path, engine: str) -> None:
    env = gymnasium.make(ENV_ID, games=root, engine=engine)
    check_env(env.unwrapped)


def test_it_is_made_by_name_with_the_turn_limit(root: Path) -> None:
    env = gymnasium.make("hpl_gym:HPL/ALFWorld-v0", games=root)
    env.reset(seed=0)
    ends = [env.step("look")[2:4] for _ in range(30)]
    assert ends == [(False, False)] * 29 + [(False, True)]


@pytest.mark.parametrize("engine", ["native", "textworld"])
def test_an_episode(root: Path, engine: str) -> None:
    env = ALFWorldEnv(games=root, engine=engine)
    observation, info = env.reset(options={"task": FIRST})
    assert observation.endswith("Your task is to: put some apple on shelf.")
    assert env.render() == observation
    assert "look" in info["admissible_actions"]
    assert {**info, "admissible_actions": ()} == {
        "task_id": FIRST,
        "task_type": "pick_and_place_simple",
        "instruction": "put some apple on shelf.",
        "admissible_actions": (),
        "valid": True,
        "success": False,
        "score": 0.0,
        "steps": 0,
        "backend": engine,
    }
    assert env.step("dance")[0] == "Nothing happens."
    for command in SOLUTION[:2]:
        assert env.step(command)[1:4] == (0.0, False, False)
    assert env.locations()["apple 2"] == "desk 2"  # at the start, though it is in hand
    env.step(SOLUTION[2])
    _, reward, terminated, truncated, info = env.step(SOLUTION[3])
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (info["success"], info["score"], info["steps"], info["valid"]) == (True, 1.0, 5, True)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("look")


def test_admissible_actions_are_computed_only_on_demand(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpl_gym.alfworld.engine import NativeEngine

    asked = []
    admissible = NativeEngine.admissible

    def counted(self, state):
        asked.append(state)
        return admissible(self, state)

    monkeypatch.setattr(NativeEngine, "admissible", counted)
    env = ALFWorldEnv(games=root)
    env.reset(seed=0)
    info = env.step("go to desk 1")[4]
    env.step("go to shelf 1")
    assert not asked
    assert isinstance(info["admissible_actions"], LazyActions)
    assert "open drawer 1" in info["admissible_actions"]
    assert len(asked) == 1


def test_tasks_are_found_by_index_id_and_seed(root: Path) -> None:
    env = ALFWorldEnv(games=root)
    tasks = env.tasks()
    assert [task.task_id for task in tasks] == [FIRST, SECOND]
    assert env.tasks("train") == tasks
    drawn = set()
    for seed in range(8):
        first = env.reset(seed=seed)[1]["task_id"]
        assert env.reset(seed=seed)[1]["task_id"] == first
        drawn.add(first)
    assert drawn == {FIRST, SECOND}
    for task in (1, SECOND, tasks[1]):
        assert env.reset(options={"task": task})[1]["task_id"] == SECOND
    for task in (2, -1, "train/nothing", f"{FIRST}x", ""):
        with pytest.raises(UnknownTaskError):
            env.reset(options={"task": task})
    with pytest.raises(DataError, match="valid_seen"):
        env.tasks("valid_seen")


@pytest.mark.parametrize("engine", ["native", "textworld"])
def test_a_game_that_cannot_be_read_leaves_the_episode_as_it_was(root: Path, engine: str) -> None:
    env = ALFWorldEnv(games=root, engine=engine)
    env.reset(options={"task": FIRST})
    env.step("go to desk 1")
    before = env.snapshot()
    path = root / "json_2.1.1" / SECOND / "game.tw-pddl"
    good = path.read_text()
    for text in ("", "{}", good.replace("(:objects", "(:things")):
        path.write_text(text)
        with pytest.raises(DataError):
            env.reset(options={"task": Task(SECOND, "train", "pick_and_place_simple")})
        assert env.snapshot() == before
        assert env.step("take apple 2 from desk 1")[4]["valid"]
        env.restore(before)


def test_a_snapshot_belongs_to_the_games_text_the_engine_and_the_dialect(root: Path) -> None:
    versions = set()
    for arguments in ({}, {"dialect": "put"}, {"engine": "textworld"}):
        env = ALFWorldEnv(games=root, **arguments)
        env.reset(options={"task": FIRST})
        versions.add(env.snapshot().version)
    path = root / "json_2.1.1" / FIRST / "game.tw-pddl"
    path.write_text(path.read_text().replace("put some apple", "put an apple"))
    env.reset(options={"task": FIRST})
    versions.add(env.snapshot().version)
    assert len(versions) == 4


@pytest.mark.parametrize("engine", ["native", "textworld"])
def test_the_dialect_is_that_of_the_texts(root: Path, engine: str) -> None:
    env = ALFWorldEnv(games=root, engine=engine, dialect="put")
    env.reset(options={"task": FIRST})
    for command in SOLUTION[:3]:
        info = env.step(command)[4]
    assert "put apple 2 in/on shelf 1" in info["admissible_actions"]
    assert env.step(SOLUTION[3])[0] == "You put the apple 2 in/on the shelf 1."


def test_where_things_are_is_not_known_before_a_reset() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        ALFWorldEnv(games="generated").locations()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"engine": "inform"}, "no engine 'inform'"),
        ({"dialect": "drop"}, "no dialect 'drop'"),
        ({"games": "unreal"}, "no folder .*unreal"),
        ({"rooms": "huge"}, "no rooms 'huge'"),
        ({"generator_seed": True}, "generated games is True"),
        ({"render_mode": "human"}, "no render mode 'human'"),
    ],
)
def test_unknown_arguments(arguments: dict[str, str], says: str) -> None:
    with pytest.raises(HPLGymError, match=says):
        ALFWorldEnv(**arguments)


@pytest.mark.usefixtures("no_data")
def test_without_real_games() -> None:
    with pytest.raises(DataError, match="No real ALFWorld games were found"):
        ALFWorldEnv(games="real").reset(seed=0)
    env = ALFWorldEnv()
    assert env.reset(seed=0)[1]["task_id"].startswith("generated/full-0/train/")
    small = ALFWorldEnv(games="generated", rooms="small", generator_seed=3, split="valid_seen")
    task_id = small.reset(seed=0)[1]["task_id"]
    assert task_id.startswith("generated/small-3/valid_seen/")
    assert env.reset(options={"task": task_id})[0] == small.reset(options={"task": task_id})[0]
    with pytest.raises(DataError, match="No real ALFWorld games were found"):
        env.reset(options={"task": FIRST})


def test_auto_takes_real_games(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(root))
    assert [task.task_id for task in ALFWorldEnv().tasks()] == [FIRST, SECOND]
    env = ALFWorldEnv(games="generated")
    assert env.tasks()[0].task_id.startswith("generated/")
    assert env.reset(options={"task": SECOND})[1]["task_id"] == SECOND


@pytest.mark.usefixtures("no_data")
def test_the_games_stay_the_same(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = ALFWorldEnv(), ALFWorldEnv(games="real")
    assert before.tasks()[0].task_id.startswith("generated/")
    monkeypatch.setenv("ALFWORLD_DATA", str(root))
    assert before.tasks()[0].task_id.startswith("generated/")
    assert real.tasks()[0].task_id == FIRST
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "elsewhere"))
    assert real.reset(options={"task": 1})[1]["task_id"] == SECOND
    assert real.reset(options={"task": FIRST})[1]["task_id"] == FIRST


@pytest.mark.parametrize(("mode", "options"), [("sync", {}), ("async", {"shared_memory": False})])
def test_vector_environments(root: Path, mode: str, options: dict[str, bool]) -> None:
    envs = gymnasium.make_vec(
        ENV_ID, num_envs=2, vectorization_mode=mode, vector_kwargs=options, games=str(root)
    )
    try:
        observations, info = envs.reset(seed=0)
        assert len(observations) == 2
        assert all("go to desk 1" in actions for actions in info["admissible_actions"])
        observations, rewards, *_ = envs.step(("go to desk 1", "dance"))
        assert observations[0].startswith("You arrive at desk 1.")
        assert observations[1] == "Nothing happens."
        assert list(rewards) == [0.0, 0.0]
    finally:
        envs.close()


def test_real_games_play(alfworld_data: Path) -> None:
    env = ALFWorldEnv(games=alfworld_data, split="valid_seen")
    for task in real_tasks(alfworld_data, "valid_seen")[::20]:
        observation, info = env.reset(options={"task": dataclasses.replace(task)})
        assert observation.startswith("-= Welcome to TextWorld, ALFRED! =-")
        assert info["instruction"] in observation
