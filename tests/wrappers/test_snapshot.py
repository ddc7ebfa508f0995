import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import (
    NormalizeObservation,
    RecordEpisodeStatistics,
    TimeLimit,
    TransformObservation,
)
from hypothesis import given
from hypothesis import strategies as st

from hpl_gym.core import (
    ReplayDivergenceError,
    SnapshotEnvError,
    SnapshotError,
    SnapshotStackError,
    SnapshotTaskError,
    UnknownTaskError,
)
from hpl_gym.wrappers import ReActWrapper, SnapshotWrapper, TranscriptWrapper, WrappedSnapshot
from tests.toy import ACTIONS, STACKS, make, outcome, shared, stacked, walk

ROOT = Path(__file__).parents[2]
HARD = {"task": "train/hard"}
walks = st.lists(st.sampled_from(ACTIONS), max_size=14)
ways = [(name, replay) for name in STACKS for replay in (False, True)]


@pytest.mark.parametrize(("name", "replay"), ways)
@given(before=walks, after=walks, elsewhere=walks)
def test_restoring_gives_the_same_future(name, replay, before, after, elsewhere):
    env = shared(name, replay)
    last = [env.reset(seed=7, options=HARD), *walk(env, before)][-1]
    saved = env.snapshot()
    over = saved.terminated or saved.truncated
    expected = [] if over else walk(env, after)
    for copy in (saved, pickle.loads(pickle.dumps(saved))):
        env.reset(seed=8, options=HARD)
        walk(env, elsewhere)
        assert outcome(env.restore(copy)) == outcome((last[0], last[-1]))
        assert copy == saved
        assert hash(copy) == hash(saved)
        assert name == "notebook" or env.snapshot() == saved
        assert over or walk(env, after) == expected


@pytest.mark.parametrize("name", STACKS)
@given(before=walks, after=walks)
def test_both_ways_of_restoring_agree(name, before, after):
    futures = []
    for replay in (False, True):
        env = shared(name, replay)
        env.reset(seed=7, options=HARD)
        walk(env, before)
        saved = env.snapshot()
        env.reset(seed=7, options=HARD)
        restored = outcome(env.restore(saved))
        over = saved.terminated or saved.truncated
        futures.append((restored, [] if over else walk(env, after)))
    assert futures[0] == futures[1]


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_snapshots_are_valid_in_another_process(hash_seed):
    there = (
        "import pickle; from tests.toy import stacked, walk; all = []\n"
        f"for name, replay in {ways}:\n"
        "    env = stacked(name, replay=replay)\n"
        "    env.reset(seed=7, options={'task': 'train/hard'})\n"
        "    walk(env, ['go attic', 'take gold', 'dance', 'go hall']); saved = env.snapshot()\n"
        "    all.append((saved, walk(env, ['drop gold', 'go kitchen'])))\n"
        "print(pickle.dumps(all).hex())"
    )
    output = subprocess.check_output(
        [sys.executable, "-c", there],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        text=True,
    )
    for (name, replay), (saved, expected) in zip(
        ways, pickle.loads(bytes.fromhex(output)), strict=True
    ):
        env = stacked(name, replay=replay)
        env.reset(seed=8, options=HARD)
        assert env.restore(saved)[0] == "You are in the hall."
        assert name == "notebook" or env.snapshot() == saved
        assert walk(env, ["drop gold", "go kitchen"]) == expected


def test_the_turn_limit_goes_on_counting():
    env = stacked("usual")
    env.reset(options=HARD)
    walk(env, ["dance"] * 10)
    saved = env.snapshot()
    for _ in range(2):
        ends = [result[3] for result in walk(env, ["dance"] * 9)]
        assert ends == [False, True]
        assert env.snapshot().truncated
        env.restore(saved)
        assert not env.snapshot().truncated


def test_an_ended_episode_stays_ended():
    env = stacked("usual")
    env.reset(options=HARD)
    walk(env, ["give up"])
    saved = env.snapshot()
    assert saved.terminated
    env.reset(options=HARD)
    env.restore(saved)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("Action: dance")
    assert env.snapshot() == saved


def test_fields_that_came_later_are_gone_again():
    env = stacked("notebook")
    env.reset(seed=1, options=HARD)
    start = env.snapshot()
    walk(env, ["dance"] * 3)
    end = env.snapshot()
    assert env.env.finished == 2
    env.restore(start)
    assert not hasattr(env.env, "finished")
    env.restore(end)
    assert env.env.finished == 2
    assert env.env.current is env.env.subgoals[-1]


def test_what_happens_later_does_not_reach_the_snapshot():
    env = stacked("notebook")
    env.reset(seed=1, options=HARD)
    walk(env, ["dance"])
    saved, copy = env.snapshot(), pickle.dumps(env.snapshot())
    for _ in range(2):
        env.env.subgoals.append(["mutated"])
        env.restore(saved)[1]["notes"].append("mutated")
        assert env.env.subgoals == [["DANCE"]]
    assert saved == pickle.loads(copy)
    assert env.restore(saved)[1]["notes"] == [["DANCE"]]
    env.reset(seed=1, options=HARD)[1]["conversation"] = None
    assert env.restore(env.snapshot())[1]["conversation"].turns == ()


def test_no_admissible_actions_are_computed_for_a_snapshot():
    env = SnapshotWrapper(STACKS["notebook"](make()))
    env.reset(seed=1, options=HARD)
    before = env.unwrapped.computed  # by gymnasium's checker, at the first reset
    for _ in range(3):
        env.step("dance")
        info = env.restore(env.snapshot())[1]
    assert env.unwrapped.computed == before
    assert info["admissible_actions"] == ("go kitchen", "go attic", "give up")


def test_snapshots_are_frozen_and_none_is_there_before_a_reset():
    env = stacked("usual")
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.snapshot()
    env.reset(options=HARD)
    with pytest.raises(dataclasses.FrozenInstanceError):
        env.snapshot().truncated = True
    with pytest.raises(UnknownTaskError):
        env.reset(options={"task": "train/none"})
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.snapshot()


def test_the_checkers_presence_does_not_matter():
    env = SnapshotWrapper(gymnasium.make("HPL/Toy-v0", disable_env_checker=True))
    env.reset(options=HARD)
    checked = stacked("made")
    checked.reset(options=HARD)
    assert checked.restore(env.snapshot())[0] == "A hall. Coins: gold, silver."


@pytest.mark.filterwarnings("error", "ignore:.*is different from the unwrapped version")
def test_gymnasiums_checks_pass():
    env = SnapshotWrapper(RecordEpisodeStatistics(make()))
    check_env(env, skip_render_check=True)
    assert isinstance(gymnasium.make(env.spec), SnapshotWrapper)


# Errors


def test_another_stack_is_a_named_error():
    env = stacked("usual")
    env.reset(options=HARD)
    saved = env.snapshot()
    other = SnapshotWrapper(ReActWrapper(TranscriptWrapper(make())))
    other.reset(options=HARD)
    for wrong in (saved, env.unwrapped.snapshot()):
        with pytest.raises(SnapshotStackError, match="restore it into the same stack"):
            other.restore(wrong)
    assert issubclass(SnapshotStackError, SnapshotError)


def test_another_way_of_restoring_is_a_named_error():
    env, other = stacked("usual"), stacked("usual", replay=True)
    for one, two in ((env, other), (other, env)):
        one.reset(options=HARD)
        two.reset(options=HARD)
        with pytest.raises(SnapshotStackError, match="with the same `replay`"):
            one.restore(two.snapshot())


def test_another_task_is_a_named_error():
    env = stacked("usual")
    env.reset(options=HARD)
    saved = env.snapshot()
    env.reset(options={"task": "train/easy"})
    now = env.snapshot()
    with pytest.raises(SnapshotTaskError, match="train/hard"):
        env.restore(saved)
    assert env.snapshot() == now


@pytest.mark.parametrize("replay", [False, True])
def test_what_cannot_be_pickled_is_a_named_error(replay):
    wrapped = RecordEpisodeStatistics(make())
    wrapped.lines = (line for line in "ab")
    env = SnapshotWrapper(wrapped, replay=replay)
    refused = pytest.raises(SnapshotStackError, match=r"RecordEpisodeStat.*lines.*generator")
    if replay:  # which needs the fields that there were before
        with refused:
            env.reset(options=HARD)
    else:
        env.reset(options=HARD)
        with refused:
            env.snapshot()


@pytest.mark.parametrize("replay", [False, True])
def test_a_wrapper_that_a_list_holds_is_not_cloned(replay):
    class Hooked(gymnasium.Wrapper):
        def __init__(self, env):
            super().__init__(env)
            self.hooks = [self.count]

        def count(self):
            pass

    env = SnapshotWrapper(Hooked(gymnasium.make("CartPole-v1")), replay=replay)
    with pytest.raises(SnapshotStackError, match=r"Hooked.*hooks.*refers to an environment"):
        env.reset(seed=0)


def test_whatever_pickling_raises_is_a_named_error():
    class Odd:
        def __reduce__(self):
            raise ValueError("never")

    wrapped = RecordEpisodeStatistics(make())
    wrapped.odd = Odd()
    env = SnapshotWrapper(wrapped)
    env.reset(options=HARD)
    with pytest.raises(SnapshotStackError, match=r"odd.*never"):
        env.snapshot()
    with pytest.raises(SnapshotStackError, match="options"):
        SnapshotWrapper(make(), replay=True).reset(options=HARD | {"odd": Odd()})


@pytest.mark.parametrize("replay", [False, True])
def test_wrappers_that_share_a_list_share_it_afterwards(replay):
    class Writes(gymnasium.Wrapper):
        def step(self, action):
            self.log.append(action)
            return super().step(action)

    class Counts(gymnasium.Wrapper):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, float(len(self.log)), *rest

    writes = Writes(make())
    counts = Counts(writes)
    counts.log = writes.log = []
    env = SnapshotWrapper(counts, replay=replay)
    env.reset(options=HARD)
    env.step("look")
    saved = env.snapshot()
    assert env.step("look")[1] == 2
    env.restore(saved)
    assert env.step("look")[1] == 2


def test_an_episode_with_an_exception_is_not_replayed():
    class Jams(gymnasium.Wrapper):
        def step(self, action):
            result = super().step(action)
            if action == "jam":
                raise RuntimeError("jammed")
            return result

    env = SnapshotWrapper(Jams(make()), replay=True)
    env.reset(options=HARD)
    with pytest.raises(RuntimeError, match="jammed"):
        env.step("jam")
    env.step("look")
    with pytest.raises(gymnasium.error.ResetNeeded, match="an exception ended it"):
        env.snapshot()
    env.reset(options=HARD)
    with pytest.raises(Exception, match="pickle"):
        env.step(lambda: "look")
    env.restore(env.snapshot())


def test_the_order_in_which_fields_came_does_not_matter():
    class Marked(gymnasium.Wrapper):
        def step(self, action):
            setattr(self, f"did_{action}", True)
            return super().step(action)

    saved = []
    for actions in (("dance", "sing"), ("sing", "dance")):
        env = SnapshotWrapper(Marked(make()))
        env.reset(options=HARD)
        for action in actions:
            env.step(action)
        saved.append(env.snapshot())
    assert saved[0] == saved[1]


# Foreign environments


def foreign() -> SnapshotWrapper:
    env = RecordEpisodeStatistics(NormalizeObservation(gymnasium.make("CartPole-v1")))
    return SnapshotWrapper(TransformObservation(env, lambda x: {"x": x, "nan": np.nan}, None))


class Clock(gymnasium.Env):
    """Is not the same twice: which of its values differs is chosen by `what`."""

    observation_space = gymnasium.spaces.Box(0, 100)
    action_space = gymnasium.spaces.Discrete(2)
    resets = 0

    def __init__(self, what: str = "", when: int = 0) -> None:
        self.what, self.when = what, when

    def changed(self, what: str) -> bool:
        return self.resets > 1 and (what, self.steps) == (self.what, self.when)

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        self.steps = 0
        return np.array([1e-7 * self.changed("observation")]), {}

    def step(self, action):
        self.steps += 1
        observation = np.array([self.steps + 1e-7 * self.changed("observation")])
        ends = self.changed("terminated"), self.changed("truncated")
        return observation, float(self.changed("reward")), *ends, {}


@given(
    seed=st.none() | st.integers(0, 9),
    before=st.lists(st.integers(0, 1), max_size=4),
    after=st.lists(st.integers(0, 1), max_size=4),
)
def test_foreign_environments_are_restored_by_replay(seed, before, after):
    env = foreign()
    env.reset(seed=1)
    last = [env.reset(seed=seed), *(env.step(action) for action in before)][-1]
    saved = env.snapshot()
    assert isinstance(hash(saved), int)

    def future():
        steps = [env.step(action)[:4] for action in after]
        episodes = env.env.env.episode_count, list(env.env.env.return_queue)
        return steps, episodes, env.reset()

    expected = future()
    for copy in (saved, pickle.loads(pickle.dumps(saved))):
        np.testing.assert_equal(env.restore(copy), (last[0], last[-1]))
        np.testing.assert_equal(future(), expected)


def test_a_replay_needs_no_reset_before_it():
    env = foreign()
    env.reset(seed=3)
    env.step(1)
    saved = env.snapshot()
    expected = env.step(0)[:4]
    other = foreign()
    other.restore(saved)
    np.testing.assert_equal(other.step(0)[:4], expected)


@pytest.mark.parametrize(
    ("what", "when", "sentence"),
    [
        ("observation", 0, r"At the reset the replay gives observation .*1.e-07.* has array\(.0"),
        (
            "observation",
            2,
            r"At step 2 \(1\) the replay gives observation .*2.0000001.* has array\(.2",
        ),
        ("reward", 1, r"At step 1 \(0\) the replay gives reward 1.0 and the recording has 0.0"),
        ("terminated", 3, r"At step 3 \(1\) the replay gives terminated True"),
        ("truncated", 3, r"At step 3 \(1\) the replay gives truncated True"),
    ],
)
def test_a_replay_that_differs_says_where_and_how(what, when, sentence):
    env = SnapshotWrapper(TimeLimit(Clock(what, when), 10))
    env.reset()
    for action in (0, 1, 1):
        env.step(action)
    with pytest.raises(ReplayDivergenceError, match=sentence):
        env.restore(env.snapshot())


def test_what_differs_later_than_the_snapshot_is_not_looked_at():
    env = SnapshotWrapper(Clock("reward", 2))
    env.reset()
    env.step(0)
    saved = env.snapshot()
    env.step(1)
    assert env.restore(saved) == (np.array([1.0]), {})


def test_a_replay_in_another_environment_is_a_named_error():
    env, other = SnapshotWrapper(Clock()), SnapshotWrapper(gymnasium.make("CartPole-v1").unwrapped)
    env.reset()
    saved = env.snapshot()
    assert isinstance(saved, WrappedSnapshot)
    with pytest.raises(SnapshotEnvError, match=r"Clock.*CartPole"):
        other.restore(saved)
