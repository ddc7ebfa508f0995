import os
import pickle
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import gymnasium
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpl_gym  # noqa: F401
from hpl_gym.alfworld.generate import generate_game
from hpl_gym.core import TextEnv
from hpl_gym.wrappers import ReActWrapper, SnapshotWrapper, TranscriptWrapper
from tests.toy import outcome

ROOT = Path(__file__).parents[3]
# Where a number points to in the list of admissible commands; every sixth is a malformed one.
walks = st.lists(st.integers(0, 1000), max_size=8)


@cache
def env_and_solutions(engine: str) -> tuple[SnapshotWrapper, list[tuple[str, tuple[str, ...]]]]:
    env = gymnasium.make("HPL/ALFWorld-v0", games="generated", rooms="small", engine=engine)
    bare = env.unwrapped
    assert isinstance(bare, TextEnv)
    tasks = bare.tasks()[: 6 if engine == "native" else 1]
    solutions = [(task.task_id, generate_game(task.task_id).walkthrough) for task in tasks]
    return SnapshotWrapper(TranscriptWrapper(ReActWrapper(env))), solutions


def walk(env, info, choices):
    """Take the commands that `choices` point to; return them and what the steps returned."""
    commands, results = [], []
    for choice in choices:
        admissible = info["admissible_actions"]
        commands.append(admissible[choice % len(admissible)] if choice % 6 else f"dance {choice}")
        results.append(outcome(env.step(f"Action: {commands[-1]}")))
        info = results[-1][-1]
        if results[-1][2] or results[-1][3]:
            break
    return commands, results


def check(engine, task, solved, before, after):
    """Go a part of the way to the goal, walk, save, walk on; then restore and walk on again."""
    env, solutions = env_and_solutions(engine)
    task_id, solution = solutions[task % len(solutions)]
    observation, info = env.reset(options={"task": task_id})
    for command in solution[: solved % (len(solution) + 1)]:
        observation, _, over, _, info = env.step(f"Action: {command}")
    over = info["success"]
    if not over:
        results = walk(env, info, before)[1]
        observation, info = (results[-1][0], results[-1][-1]) if results else (observation, info)
    saved = env.snapshot()
    assert saved.terminated == info["success"]
    if saved.terminated or saved.truncated:
        commands, expected = [], []
    else:
        commands, expected = walk(env, info, after)
    env.reset(options={"task": task_id})
    env.step("Action: look")
    for copy in (saved, pickle.loads(pickle.dumps(saved))):
        assert outcome(env.restore(copy)) == outcome((observation, info))
        assert env.snapshot() == copy == saved
        assert copy.base.digest == saved.base.digest
        assert [outcome(env.step(f"Action: {command}")) for command in commands] == expected


@given(task=st.integers(0, 5), solved=st.integers(0, 40), before=walks, after=walks)
@settings(deadline=None, max_examples=60)
def test_restoring_gives_the_same_future(task, solved, before, after):
    check("native", task, solved, before, after)


@given(solved=st.integers(0, 40), before=walks, after=walks)
@settings(deadline=None, max_examples=3)
def test_restoring_gives_the_same_future_on_textworld(solved, before, after):
    pytest.importorskip("textworld")
    check("textworld", 0, solved, before, after)


def test_every_state_of_a_solution_is_valid_in_another_process():
    there = (
        "import pickle; from tests.hpl_gym.alfworld.test_snapshots import env_and_solutions\n"
        "env, solutions = env_and_solutions('native'); everything = []\n"
        "for task_id, solution in solutions:\n"
        "    env.reset(options={'task': task_id}); states = [env.snapshot()]\n"
        "    for command in solution:\n"
        "        env.step(f'Action: {command}'); states.append(env.snapshot())\n"
        "    everything.append([(s, s.base.digest) for s in states])\n"
        "print(pickle.dumps(everything).hex())"
    )
    env, solutions = env_and_solutions("native")
    outputs = []
    for hash_seed in ("1", "2"):
        variables = {**os.environ, "PYTHONHASHSEED": hash_seed}
        outputs.append(
            subprocess.check_output([sys.executable, "-c", there], cwd=ROOT, env=variables)
        )
    for output in outputs:
        everything = pickle.loads(bytes.fromhex(output.decode()))
        for (task_id, solution), states in zip(solutions, everything, strict=True):
            env.reset(options={"task": task_id})
            for number, (saved, digest) in enumerate(states):
                info = env.restore(saved)[1]
                now = env.snapshot()
                assert (now, now.base.digest, info["steps"]) == (saved, digest, number)
                if number < len(solution):
                    assert not saved.terminated
                    env.step(f"Action: {solution[number]}")
                    assert env.snapshot() == states[number + 1][0]
            assert saved.terminated
            assert saved.base.score == 1.0


def test_the_guides_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guide = (ROOT / "docs" / "snapshots.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL):
        exec(block, names)
    assert len(names["outcomes"]) == 3  # type: ignore[arg-type]
