import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from hpl_gym.core import (
    HPLGymError,
    LazyActions,
    SnapshotEnvError,
    SnapshotTaskError,
    SnapshotVersionError,
    Task,
    UnicodeText,
    UnknownTaskError,
    canonical,
)
from tests.toy import ACTIONS, ToyEnv, make, outcome, walk

ROOT = Path(__file__).parents[2]
walks = st.lists(st.sampled_from(ACTIONS), max_size=15)


def start(task: str = "hard") -> ToyEnv:
    env = ToyEnv()
    env.reset(options={"task": f"train/{task}"})
    return env


def in_another_process(code: str, hash_seed: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.filterwarnings("error")
def test_gymnasiums_checks_pass():
    check_env(make().unwrapped)


def test_made_by_id_it_has_the_turn_limit():
    env = make()
    env.reset(seed=0)
    ends = [env.step("dance")[2:4] for _ in range(12)]
    assert ends == [(False, False)] * 11 + [(False, True)]


def test_info_has_all_keys():
    env = ToyEnv()
    _, info = env.reset(options={"task": "train/easy"})
    assert info == {
        "task_id": "train/easy",
        "task_type": "easy",
        "instruction": "Carry every coin to the hall.",
        "admissible_actions": ("go kitchen", "go attic", "give up"),
        "valid": True,
        "success": False,
        "score": 0.0,
        "steps": 0,
        "backend": "native",
    }
    assert env.step("dance")[4]["valid"] is False
    for action in ("go kitchen", "take gold", "go hall"):
        assert env.step(action)[1:4] == (0.0, False, False)
    _, reward, terminated, truncated, info = env.step("drop gold")
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (info["success"], info["score"], info["steps"]) == (True, 1.0, 5)
    assert env.render() == "You drop gold."


def test_no_step_without_an_episode():
    env = ToyEnv()
    assert env.render() == ""
    for method in (env.snapshot, lambda: env.step("dance")):
        with pytest.raises(gymnasium.error.ResetNeeded):
            method()
    env.reset(seed=0)
    env.step("give up")
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("dance")


# Tasks


@pytest.mark.parametrize("task", [1.0, [1], b"1", {}])
def test_what_is_no_task_is_named(task):
    with pytest.raises(UnknownTaskError, match="is no task"):
        ToyEnv().reset(options={"task": task})


def test_tasks_are_found_by_value_id_and_index():
    env = ToyEnv(split="valid_seen")
    task = Task("train/hard", "train", "hard")
    assert env.find_task(task) == env.find_task("train/hard") == task
    assert env.find_task(1) == Task("valid_seen/hard", "valid_seen", "hard")
    assert env.reset(options={"task": 0})[1]["task_id"] == "valid_seen/easy"


@pytest.mark.parametrize("task", ["train/none", -1, 2])
def test_unknown_tasks_are_named_errors(task):
    with pytest.raises(UnknownTaskError, match=r"none|0 to 1"):
        ToyEnv().reset(options={"task": task})


def test_the_seed_draws_the_task():
    def draws(seed: int) -> list[str]:
        env = ToyEnv()
        first = env.reset(seed=seed)[1]["task_id"]
        return [first, *(env.reset()[1]["task_id"] for _ in range(9))]

    assert draws(3) == draws(3)
    assert len({tuple(draws(seed)) for seed in range(5)}) == 5


# LazyActions


def test_lazy_actions_are_computed_once_and_only_when_used():
    env = start()
    for action in ("go attic", "take gold"):
        env.step(action)
    env.restore(env.snapshot())
    assert env.computed == 0
    actions = env.step("go hall")[4]["admissible_actions"]
    assert env.computed == 0
    assert "give up" in actions
    assert len(actions) == 4
    assert env.computed == 1


def test_lazy_actions_are_like_a_tuple():
    plain = ("go", "look", "take")
    lazy = LazyActions(lambda: list(plain))
    assert lazy == plain
    assert plain == lazy
    assert lazy == LazyActions(lambda: plain)
    assert lazy != plain[:2]
    assert (lazy[0], lazy[1:], repr(lazy), hash(lazy)) == (
        "go",
        plain[1:],
        repr(plain),
        hash(plain),
    )
    copy = pickle.loads(pickle.dumps(lazy))
    assert type(copy) is tuple
    assert copy == plain


# UnicodeText


@given(st.text())
def test_unicode_text_contains_any_text_that_fits(text):
    assert UnicodeText().contains(text)
    assert UnicodeText(3).contains(text) == (len(text) <= 3)


def test_unicode_text_contains_only_text():
    assert not UnicodeText().contains(b"bytes")
    assert not UnicodeText().contains(None)


def test_unicode_text_samples_are_seeded_and_fit():
    space = UnicodeText(5, seed=1)
    samples = [space.sample() for _ in range(50)]
    assert all(map(space.contains, samples))
    assert len(set(samples)) > 20
    space.seed(1)
    assert [space.sample() for _ in range(50)] == samples
    assert space == UnicodeText(5)
    assert space != UnicodeText(6)


# Snapshots


@given(walks, walks, walks)
def test_restoring_gives_the_same_future(before, after, elsewhere):
    env = start()
    walk(env, before)
    saved = env.snapshot()
    now = env.restore(saved)
    if not saved.terminated:
        expected = walk(env, after)
        env.reset(options={"task": "train/hard"})
        walk(env, elsewhere)
        assert outcome(env.restore(pickle.loads(pickle.dumps(saved)))) == outcome(now)
        assert env.snapshot() == saved
        assert walk(env, after) == expected
    other = start()
    assert outcome(other.restore(saved)) == outcome(now)


@given(walks.filter(bool))
def test_restored_info_is_what_the_step_returned(actions):
    env = start()
    observation, *_, info = walk(env, actions)[-1]
    saved = env.snapshot()
    env.reset(options={"task": "train/hard"})
    assert outcome(env.restore(saved)) == (observation, info)


def test_restoring_an_ended_episode_ends_it():
    env = start("easy")
    for action in ("go kitchen", "take gold", "go hall", "drop gold"):
        env.step(action)
    saved = env.snapshot()
    env.reset(options={"task": "train/easy"})
    assert env.restore(saved)[1]["success"] is True
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("dance")


def test_snapshots_are_values():
    one, two = start().snapshot(), start().snapshot()
    assert one == two
    assert len({one, two, pickle.loads(pickle.dumps(one))}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.steps = 3
    assert one.digest == two.digest
    assert pickle.dumps(one) == pickle.dumps(two)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(start().snapshot())])
def test_the_digest_covers_every_field(field):
    one = start().snapshot()
    value = getattr(one, field)
    other = f"{value}!" if isinstance(value, str) else ("state" if field == "state" else 1 - value)
    assert dataclasses.replace(one, **{field: other}).digest != one.digest


@given(st.frozensets(st.text()), st.dictionaries(st.text(), st.frozensets(st.integers())))
def test_the_canonical_form_tells_values_apart_but_not_their_order(names, table):
    backwards = dict(reversed(table.items()))
    assert canonical((names, table)) == canonical((names, backwards))
    assert canonical((names | {"\x00new"}, table)) != canonical((names - {"\x00new"}, table))
    assert canonical(frozenset({"a"})) != canonical(("a",))


def test_a_snapshot_of_another_process_is_the_same():
    code = (
        "import pickle, sys; from tests.toy import ToyEnv; env = ToyEnv();"
        "env.reset(options={'task': 'train/hard'}); env.step('go attic'); env.step('take gold');"
        "saved = env.snapshot(); print(saved.digest); print(pickle.dumps(saved).hex())"
    )
    env = start()
    env.step("go attic")
    env.step("take gold")
    outputs = [in_another_process(code, seed).split() for seed in (1, 2)]
    for digest, pickled in outputs:
        assert digest == env.snapshot().digest
        theirs = pickle.loads(bytes.fromhex(pickled))
        assert theirs == env.snapshot()
        assert outcome(start().restore(theirs)) == outcome(env.restore(env.snapshot()))


def test_snapshots_of_something_else_are_named_errors():
    env, saved = start(), start().snapshot()
    with pytest.raises(SnapshotEnvError, match=r"HPL/Other-v0, this environment is HPL/Toy-v0"):
        env.restore(dataclasses.replace(saved, env_id="HPL/Other-v0"))
    with pytest.raises(SnapshotTaskError, match=r"train/easy.*call reset"):
        env.restore(start("easy").snapshot())
    with pytest.raises(SnapshotTaskError, match="plays no task"):
        ToyEnv().restore(saved)
    with pytest.raises(SnapshotVersionError, match="1-older"):
        env.restore(dataclasses.replace(saved, version="1-older"))
    assert env.snapshot() == saved
    assert issubclass(SnapshotEnvError, HPLGymError)
