import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import hpl_gym  # noqa: F401
from hpl_gym.core import DataError, HPLGymError, TextEnv, UnknownTaskError
from hpl_gym.webshop.catalog import Catalog, build_catalog
from hpl_gym.webshop.env import split_numbers
from hpl_gym.webshop.generate import generate_products
from hpl_gym.wrappers import ReActWrapper, SnapshotWrapper, TranscriptWrapper
from tests.hpl_gym.webshop.shop import entries

ROOT = Path(__file__).parents[3]
walks = st.lists(st.integers(0, 1000), max_size=8)


@cache
def make(**kwargs) -> TextEnv:
    env = gymnasium.make("HPL/WebShop-v0", products=600, **kwargs).unwrapped
    assert isinstance(env, TextEnv)
    return env


def walk(env, info, choices):
    """Take the actions that `choices` point to; every sixth is one that cannot be done."""
    results = []
    for choice in choices:
        actions = info["admissible_actions"]
        action = actions[choice % len(actions)] if choice % 6 else f"click[nothing {choice}]"
        observation, reward, terminated, truncated, info = env.step(action)
        results.append((observation, reward, terminated, truncated, tuple(info.items())))
        if terminated or truncated:
            break
    return results


def test_gymnasium_accepts_it():
    check_env(gymnasium.make("HPL/WebShop-v0", products=600).unwrapped, skip_render_check=True)
    vector = gymnasium.make_vec("hpl_gym:HPL/WebShop-v0", 2, products=600)
    observations, _ = vector.reset(seed=[0, 1])
    assert all(one.startswith("WebShop [SEP] Instruction:") for one in observations)


def test_an_episode(folder):
    env = gymnasium.make("HPL/WebShop-v0", data=str(folder)).unwrapped
    task = next(one for one in env.tasks("train") if one.task_type == "fashion")
    observation, info = env.reset(options={"task": task})
    assert "a black shirt i can machine wash" in observation
    assert list(info["admissible_actions"]) == [f"search[{info['instruction']}]"]
    assert env.step("dance")[0] == observation
    for action in ("search[shirt]", "click[B000000003]", "click[midnight black]"):
        _, reward, terminated, _, info = env.step(action)
        assert (reward, terminated, info["valid"]) == (0.0, False, True)
    observation, reward, terminated, truncated, info = env.step("click[Buy Now]")
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["success"]
    assert info["score"] == 1.0
    assert observation.endswith("[SEP] 1.0")
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("click[back to search]")


def test_ten_turns():
    env = gymnasium.make("HPL/WebShop-v0", products=600)
    env.reset(seed=0)
    ends = [env.step("search[shirt]")[1:4] for _ in range(10)]
    assert ends[-1] == (0.0, False, True)
    assert not any(truncated for _, _, truncated in ends[:-1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 199), walks, walks)
def test_restored_episodes_go_on_as_the_original(task, before, after):
    env = make(split="test")
    _, info = env.reset(options={"task": task})
    results = walk(env, info, before)
    if results and results[-1][2]:
        return
    info = dict(results[-1][-1]) if results else info
    saved = pickle.loads(pickle.dumps(env.snapshot()))
    assert hash(saved) == hash(env.snapshot())
    ahead = walk(env, info, after)
    observation, restored = env.restore(saved)
    assert observation == saved.observation
    assert restored == info
    assert walk(env, restored, after) == ahead


def test_snapshots_are_good_in_a_stack_of_wrappers():
    env = SnapshotWrapper(TranscriptWrapper(ReActWrapper(make(split="test"))))
    env.reset(options={"task": 1})
    env.step("Action: search[shirt]")
    saved = env.snapshot()
    one = env.step("Action: click[< Prev]")
    env.restore(saved)
    assert env.step("Action: click[< Prev]")[0] == one[0]


EPISODES = """
import sys, hashlib, random, gymnasium, hpl_gym
env = gymnasium.make("HPL/WebShop-v0", products=600, split="test").unwrapped
seen = hashlib.sha256()
for task in range(30):
    draw = random.Random(task)
    observation, info = env.reset(options={"task": task})
    for turn in range(10):
        action = draw.choice(info["admissible_actions"])
        if turn > 5 and "click[buy now]" in info["admissible_actions"]:
            action = "click[buy now]"
        observation, reward, over, _, info = env.step(action)
        seen.update(f"{action} {observation} {reward}".encode())
        if over:
            break
print(seen.hexdigest(), env.snapshot().digest)
"""


def test_eight_processes_that_make_the_shop_at_once_see_the_same(tmp_path):
    def start(hash_seed):
        return subprocess.Popen(
            [sys.executable, "-c", EPISODES],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": str(hash_seed), "HPL_CACHE": str(tmp_path)},
        )

    processes = [start(hash_seed) for hash_seed in range(8)]
    shown = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 8
    assert len(shown) == 1
    assert [path.name for path in (tmp_path / "webshop").iterdir()] == ["generated-2.1-0-600"]


@pytest.mark.parametrize("goals", ["human", "synthetic"])
def test_splits_are_disjoint_and_fixed(goals):
    env = make(goals=goals)
    ids = {
        split: [task.task_id for task in env.tasks(split)] for split in ("train", "valid", "test")
    }
    assert len(ids["test"]) == len(ids["valid"]) == 200
    assert len({one for split in ids.values() for one in split}) == env.catalog.goals[goals]
    for split, index in (("train", 3), ("valid", 0), ("test", 199)):
        task = env.tasks(split)[index]
        assert env.find_task(task.task_id) == task


@pytest.mark.parametrize(
    ("count", "sizes"), [(12_087, (500, 1000, 10_587)), (6910, (500, 1000, 5410)), (13, (2, 2, 9))]
)
def test_the_benchmarks_splits(count, sizes):
    numbers = [split_numbers(split, count, generated=False) for split in ("test", "valid", "train")]
    assert tuple(map(len, numbers)) == sizes
    assert [one for split in numbers for one in split] == list(range(count))


def test_bad_arguments(tmp_path):
    for arguments, message in (
        ({"goals": "robot"}, "no goals 'robot'"),
        ({"products": 5}, "at least 600"),
        ({"products": "many"}, "not 'many' and 0"),
        ({"data": tmp_path}, "is no WebShop catalogue"),
    ):
        with pytest.raises(HPLGymError, match=message):
            gymnasium.make("HPL/WebShop-v0", **arguments)
    with pytest.raises(DataError, match="no split 'valid_seen'"):
        make().tasks("valid_seen")
    for task_id in ("x", "generated-0-600/human/999999-0", "generated-1-600/human/0-0"):
        with pytest.raises(UnknownTaskError, match="no task"):
            make().reset(options={"task": task_id})


def test_a_catalogue_is_the_one_that_lies_there_now(monkeypatch, tmp_path):
    def digest():
        return gymnasium.make("HPL/WebShop-v0", data="shop").unwrapped.data_digest

    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        build_catalog(Path("shop"), entries(), seed=ord(place))
        assert digest() == Catalog(Path("shop")).digest
    build_catalog(Path("shop"), entries(), seed=3)
    assert digest() == Catalog(Path("shop")).digest


def test_a_cache_that_cannot_be_made(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HPL_CACHE", str(tmp_path / "file"))
    with pytest.raises(HPLGymError, match="set HPL_CACHE"):
        gymnasium.make("HPL/WebShop-v0", products=601)


def test_the_benchmarks_own_products_are_found(thousand, monkeypatch):
    with pytest.raises(DataError, match="set WEBSHOP_DATA"):
        gymnasium.make("HPL/WebShop-v0", data="real")
    monkeypatch.setenv("WEBSHOP_DATA", str(thousand.folder))
    for data in ("auto", "real"):
        env = gymnasium.make("HPL/WebShop-v0", data=data).unwrapped
        assert env.catalog.digest == thousand.digest


def test_generated_products_follow_from_the_seed():
    products = list(generate_products(700, 3))
    assert products == list(generate_products(700, 3))
    assert products[:50] != list(generate_products(50, 4))
    assert len({one["asin"] for one in products}) == 700
    assert {one["category"] for one in products} == {
        "beauty",
        "electronics",
        "fashion",
        "garden",
        "grocery",
    }


def test_the_benchmarks_own_thousand_products(thousand):
    env = gymnasium.make("HPL/WebShop-v0", data=thousand.folder, goals="synthetic").unwrapped
    assert thousand.products == 1000
    assert thousand.goals == {"human": 13, "synthetic": 6910}
    for task in env.tasks("test")[:50]:
        _, info = env.reset(options={"task": task})
        walk(env, info, range(1, 10))
