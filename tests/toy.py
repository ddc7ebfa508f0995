"""A tiny text game with all that the real environments have: carry every coin to the hall."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import gymnasium
from gymnasium.wrappers import RecordEpisodeStatistics

from hpl_gym.core import LazyActions, Outcome, Task, TextEnv, UnknownTaskError
from hpl_gym.wrappers import ReActWrapper, SnapshotWrapper, TranscriptWrapper

ROOMS = ("hall", "kitchen", "attic")
COINS = {"easy": {"gold": "kitchen"}, "hard": {"gold": "attic", "silver": "kitchen"}}


@dataclass(frozen=True)
class State:
    room: str
    places: frozenset[tuple[str, str]]
    carried: frozenset[str] = frozenset()


class ToyEnv(TextEnv):
    env_id = "HPL/Toy-v0"
    computed = 0

    def tasks(self, split: str | None = None) -> Sequence[Task]:
        return [Task(f"{split or self.split}/{kind}", split or self.split, kind) for kind in COINS]

    def _task_by_id(self, task_id: str) -> Task:
        for task in self.tasks(task_id.split("/")[0]):
            if task.task_id == task_id:
                return task
        raise UnknownTaskError(f"There is no task {task_id!r}: choose one of env.tasks().")

    def _begin(self, task: Task) -> tuple[State, str]:
        coins = COINS[task.task_type]
        return State("hall", frozenset(coins.items())), f"A hall. Coins: {', '.join(coins)}."

    def _advance(self, state: State, action: str) -> Outcome:
        verb, _, thing = action.partition(" ")
        places = dict(state.places)
        if verb == "go" and thing in ROOMS and thing != state.room:
            state, text = State(thing, state.places, state.carried), f"You are in the {thing}."
        elif verb == "take" and places.get(thing) == state.room:
            left = state.places - {(thing, state.room)}
            state, text = State(state.room, left, state.carried | {thing}), f"You take {thing}."
        elif verb == "drop" and thing in state.carried:
            there = state.places | {(thing, state.room)}
            state, text = State(state.room, there, state.carried - {thing}), f"You drop {thing}."
        elif action == "give up":
            return Outcome(state, "You give up.", valid=True, terminated=True)
        else:
            return Outcome(state, "Nothing happens.", valid=False)
        if not state.carried and {room for _, room in state.places} == {"hall"}:
            return Outcome(state, text, True, terminated=True, reward=1.0, success=True)
        return Outcome(state, text, valid=True)

    def _instruction(self) -> str:
        return "Carry every coin to the hall."

    def _admissible(self, state: State) -> Sequence[str]:
        return LazyActions(partial(self._actions, state))

    def _actions(self, state: State) -> list[str]:
        self.computed += 1
        go = [f"go {room}" for room in ROOMS if room != state.room]
        take = sorted(f"take {coin}" for coin, room in state.places if room == state.room)
        return [*go, *take, *sorted(f"drop {coin}" for coin in state.carried), "give up"]

    def _data_version(self) -> str:
        return "toy"


ACTIONS = [f"go {room}" for room in ROOMS] + [
    f"{verb} {coin}" for verb in ("take", "drop") for coin in ("gold", "silver")
]
ACTIONS += ["give up", "dance", ""]

gymnasium.register(ToyEnv.env_id, entry_point="tests.toy:ToyEnv", max_episode_steps=12)


def make() -> gymnasium.Env[Any, Any]:
    return gymnasium.make(ToyEnv.env_id)


class Notebook(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Holds what users' wrappers hold: shared lists, infos, sets, functions, late fields."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.shout = lambda text: text.upper()

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self.subgoals: list[list[str]] = [[]]
        self.current = self.subgoals[0]
        self.infos: list[dict[str, Any]] = []
        return super().reset(**options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        self.current.append(self.shout(action))
        if len(self.current) == 3:
            self.current = []
            self.subgoals.append(self.current)
            self.finished = len(self.subgoals)
        self.infos.append(info)
        luck = float(self.np_random.random())
        info = {**info, "notes": [list(goal) for goal in self.subgoals], "luck": luck}
        return observation, reward, terminated, truncated, info


def usual(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    return TranscriptWrapper(ReActWrapper(env))


STACKS: dict[str, Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]]] = {
    "bare": lambda env: env.unwrapped,
    "made": lambda env: env,
    "usual": usual,
    "statistics": lambda env: RecordEpisodeStatistics(usual(env)),
    "notebook": lambda env: Notebook(TranscriptWrapper(RecordEpisodeStatistics(env))),
}


def stacked(name: str, *, replay: bool = False) -> SnapshotWrapper:
    return SnapshotWrapper(STACKS[name](make()), replay=replay)


@cache
def shared(name: str, replay: bool) -> SnapshotWrapper:
    """A stack that many examples of a property test use in turn."""
    return stacked(name, replay=replay)


def walk(env: gymnasium.Env[Any, Any], actions: Sequence[str]) -> list[tuple[Any, ...]]:
    """Take `actions` up to the end of the episode; return what the steps returned."""
    results: list[tuple[Any, ...]] = []
    for action in actions:
        reply = f"Thought: Hm.\nAction: {action}" if "ReAct" in str(env) else action
        results.append(outcome(env.step(reply)))
        if results[-1][2] or results[-1][3]:
            break
    return results


def outcome(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a reset, step or restore returned, without wall-clock times."""
    *rest, info = result
    info = {**info, "admissible_actions": tuple(info["admissible_actions"])}
    if "episode" in info:
        info["episode"] = {key: info["episode"][key] for key in "rl"}
    return (*rest, info)
