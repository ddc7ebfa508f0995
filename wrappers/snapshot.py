"""Snapshots over any stack of wrappers: by state where there is access to it, else by replay."""

from __future__ import annotations

import io
import pickle
import random
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, SupportsFloat

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import RecordConstructorArgs
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.wrappers import PassiveEnvChecker

from hpl_gym.core import (
    LazyActions,
    ReplayDivergenceError,
    Snapshot,
    SnapshotEnvError,
    SnapshotStackError,
    TextEnv,
)
from hpl_gym.wrappers.transcript import Conversation

# What gymnasium's base class keeps in a wrapper, the same all the time.
_CONSTANT = {
    "env",
    "_action_space",
    "_observation_space",
    "_metadata",
    "_cached_spec",
    "_saved_kwargs",
}
# Immutable, and too long to copy or (LazyActions) not to be computed without need.
_KEPT = {LazyActions, Conversation, Snapshot}
_IMMUTABLE = _KEPT | {type(None), bool, int, float, str, bytes}


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.kept: list[Any] = []

    def persistent_id(self, obj: Any) -> int | None:
        if isinstance(obj, gymnasium.Env):
            raise pickle.PicklingError("it refers to an environment or a wrapper")
        if type(obj) not in _KEPT:
            return None
        self.kept.append(obj)
        return len(self.kept) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, kept: tuple[Any, ...]) -> None:
        super().__init__(file)
        self.kept = kept

    def persistent_load(self, pid: int) -> Any:
        return self.kept[pid]


@dataclass(frozen=True, slots=True)
class Fields:
    """Named values, held so that nothing done to them later reaches this copy.

    Attributes:
        immutable: The immutable ones, as they are.
        mutable: The others, pickled together, so that what they share stays shared.
        kept: Large immutable values that `mutable` refers to.
    """

    immutable: tuple[tuple[str, Any], ...]
    mutable: bytes
    kept: tuple[Any, ...]

    @classmethod
    def hold(cls, owner: str, items: Iterable[tuple[str, Any]]) -> Fields:
        """Copy `items`.

        Raises:
            SnapshotStackError: One of the values cannot be pickled; `owner` says whose it is.
        """
        immutable, mutable = [], {}
        for name, value in items:
            if type(value) in _IMMUTABLE:
                immutable.append((name, value))
            else:
                mutable[name] = value
        if not mutable:
            return cls(tuple(immutable), b"", ())
        file = io.BytesIO()
        pickler = _Pickler(file)
        try:
            pickler.dump(mutable)
        except Exception as error:  # a class's own way of pickling may raise what it likes
            raise SnapshotStackError(
                f"{owner} cannot be saved, one of {sorted(mutable)} cannot be pickled ({error}): "
                "put what holds it outside of SnapshotWrapper."
            ) from error
        return cls(tuple(immutable), file.getvalue(), tuple(pickler.kept))

    def copy(self) -> dict[str, Any]:
        """Return fresh copies of the values by name."""
        values = dict(self.immutable)
        if self.mutable:
            values.update(_Unpickler(io.BytesIO(self.mutable), self.kept).load())
        return values


@dataclass(frozen=True, slots=True)
class Recording:
    """How to get to a state by replay.

    Attributes:
        env: The unwrapped environment's name.
        layers: The wrappers' fields before the reset.
        seed: The seed of the reset.
        options: The options of the reset.
        first: The first observation, pickled in a tuple.
        steps: For each step the action and what came of it (observation, reward, terminated and
            truncated), both pickled.
    """

    env: str
    layers: Fields
    seed: int
    options: Fields
    first: bytes
    steps: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class WrappedSnapshot:
    """An episode at one point as a stack of wrappers has it: immutable, hashable, picklable.

    Equal snapshots are of equal states, but for the generator that wrappers may draw from. The
    reverse holds as long as the wrappers' fields are immutable: what is mutable is compared as
    pickled, and equal values may pickle differently.

    Attributes:
        stack: The wrappers' classes, outermost first.
        base: The unwrapped environment's snapshot, or how to get there by replay.
        layers: The wrappers' fields, together, so that what they share stays shared.
        terminated: Whether the episode has ended.
        truncated: Whether it was cut off, by a turn limit for instance.
        observation: The observation last returned.
        info: The `info` last returned.
        random: State of the environment's generator, which wrappers may draw from; pickled.
    """

    stack: tuple[str, ...]
    base: Snapshot | Recording
    layers: Fields
    terminated: bool
    truncated: bool
    observation: Fields = field(compare=False, repr=False)
    info: Fields = field(compare=False, repr=False)
    random: bytes = field(compare=False, repr=False)


class SnapshotWrapper(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Gives `snapshot` and `restore` to any stack of wrappers: put it outermost.

    The wrappers' own fields (counters, histories, ...) are saved and restored with the environment:
    whatever they hold but spaces, environments, specs and callables, which count as constant. An
    environment that gives no access to its state, any but a `TextEnv`, is restored by a reset with
    the same seed and options and a replay of the actions, where every observation, reward and
    ending is checked against the recorded one.

    Args:
        env: The environment with all its wrappers.
        replay: Restore by replay even where there is access to the state.

    Example:
        >>> env = SnapshotWrapper(TranscriptWrapper(gym.make("HPL/ALFWorld-v0")))
        >>> observation, info = env.reset(seed=1)
        >>> start = env.snapshot()
        >>> _ = env.step("look")
        >>> env.restore(start)[0] == observation
        True
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, replay: bool = False) -> None:
        RecordConstructorArgs.__init__(self, replay=replay)
        super().__init__(env)
        self._layers: list[gymnasium.Wrapper[Any, Any, Any, Any]] = []
        while isinstance(env, gymnasium.Wrapper):
            # What the checker keeps is what it has checked so far, nothing of the episode.
            if not isinstance(env, PassiveEnvChecker):
                self._layers.append(env)
            env = env.env
        self._stack = tuple(f"{type(x).__module__}.{type(x).__qualname__}" for x in self._layers)
        self._replays = replay or not isinstance(env, TextEnv)
        self._seeds = random.Random()
        self._recording: Recording | None = None
        self._steps: list[tuple[bytes, bytes]] = []
        self._shown: tuple[Any, dict[str, Any], bool, bool] | None = None

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment.

        Where restoring is by replay and `seed` is None, a seed is drawn, from the last one.
        """
        self._shown = self._recording = None
        if not self._replays:
            observation, info = super().reset(seed=seed, options=options)  # type: ignore[arg-type]
        else:
            seed = self._seeds.getrandbits(31) if seed is None else seed
            self._seeds.seed(seed)
            held = Fields.hold("reset()", [("options", options)])
            recording = Recording(str(self.unwrapped), self._save(), seed, held, b"")
            observation, info = super().reset(seed=seed, options=options)  # type: ignore[arg-type]
            self._recording = replace(recording, first=pickle.dumps((observation,)))
            self._steps = []
        self._shown = observation, dict(info), False, False
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step."""
        played = pickle.dumps(action) if self._recording else b""
        recording, self._recording = self._recording, None  # a step that raises ends it
        observation, reward, terminated, truncated, info = super().step(action)
        if recording:
            outcome = pickle.dumps((observation, reward, terminated, truncated))
            self._steps.append((played, outcome))
            self._recording = recording
        self._shown = observation, dict(info), terminated, truncated
        return observation, reward, terminated, truncated, info

    def snapshot(self) -> WrappedSnapshot:
        """Return the state of the episode and of all wrappers.

        Raises:
            gymnasium.error.ResetNeeded: No episode was started, or one that is restored by replay
                had an exception.
            SnapshotStackError: A wrapper or `info` holds what cannot be pickled.
        """
        if self._shown is None or (self._replays and not self._recording):
            raise gymnasium.error.ResetNeeded(
                "There is no episode to save, or an exception ended it: call reset() first."
            )
        observation, info, terminated, truncated = self._shown
        base: Snapshot | Recording
        if self._recording:
            base = replace(self._recording, steps=tuple(self._steps))
        else:
            base = self._text_env.snapshot()
        return WrappedSnapshot(
            self._stack,
            base,
            self._save(),
            terminated,
            truncated,
            Fields.hold("The observation", [("observation", observation)]),
            Fields.hold("info", info.items()),
            b"" if self._replays else pickle.dumps(self.np_random.bit_generator.state),
        )

    def restore(self, snapshot: WrappedSnapshot) -> tuple[Any, dict[str, Any]]:
        """Go back (or on) to `snapshot`.

        Where restoring is by state, the environment must be playing the snapshot's task. A replay
        begins with a reset, so it may be playing anything.

        Returns:
            The observation and `info` as they were when the snapshot was taken.

        Raises:
            SnapshotStackError: The snapshot is of another stack of wrappers.
            SnapshotEnvError: It is of another environment.
            SnapshotTaskError: It is of another task than the one being played.
            SnapshotVersionError: It is of another version of the environment or of the data.
            ReplayDivergenceError: The environment does not do again what it did.
        """
        if not isinstance(snapshot, WrappedSnapshot) or snapshot.stack != self._stack:
            theirs = snapshot.stack if isinstance(snapshot, WrappedSnapshot) else ()
            raise SnapshotStackError(
                f"The snapshot is of the wrappers {list(theirs)} and this environment has "
                f"{list(self._stack)}: restore it into the same stack, in the same order."
            )
        if isinstance(snapshot.base, Recording) != self._replays:
            raise SnapshotStackError(
                "The snapshot and this environment are not restored the same way, one by state "
                "and one by replay: make both by SnapshotWrapper with the same `replay`."
            )
        if isinstance(snapshot.base, Recording):
            self._replay(snapshot.base)
        else:
            self._text_env.restore(snapshot.base)
            self.np_random.bit_generator.state = pickle.loads(snapshot.random)
        self._load(snapshot.layers)
        observation, info = snapshot.observation.copy()["observation"], snapshot.info.copy()
        self._shown = observation, dict(info), snapshot.terminated, snapshot.truncated
        return observation, info

    @property
    def _text_env(self) -> TextEnv:
        env = self.unwrapped
        assert isinstance(env, TextEnv)
        return env

    def _save(self) -> Fields:
        layers = [sorted(_state(layer).items(), key=itemgetter(0)) for layer in self._layers]
        fields = [(f"{place}.{name}", one) for place, own in enumerate(layers) for name, one in own]
        try:
            return Fields.hold("The wrappers", fields)
        except SnapshotStackError:
            for layer, own in zip(self._layers, layers, strict=True):
                Fields.hold(type(layer).__name__, own)  # says whose it is
            raise

    def _load(self, layers: Fields) -> None:
        values: list[dict[str, Any]] = [{} for _ in self._layers]
        for field_, value in layers.copy().items():
            place, _, name = field_.partition(".")
            values[int(place)][name] = value
        for layer, own in zip(self._layers, values, strict=True):
            for name in _state(layer).keys() - own.keys():
                delattr(layer, name)
            vars(layer).update(own)

    def _replay(self, recording: Recording) -> None:
        if recording.env != str(self.unwrapped):
            raise SnapshotEnvError(
                f"The snapshot is of {recording.env}, this environment is {self.unwrapped}: "
                "restore it into an environment of its own kind."
            )
        self._load(recording.layers)
        options = recording.options.copy()["options"]
        observation, _ = self.reset(seed=recording.seed, options=options)
        _compare("At the reset", recording.first, (observation,))
        for number, (action, outcome) in enumerate(recording.steps, 1):
            played = pickle.loads(action)
            _compare(f"At step {number} ({reprlib.repr(played)})", outcome, self.step(played)[:4])


def _state(layer: gymnasium.Wrapper[Any, Any, Any, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(layer).items()
        if name not in _CONSTANT
        and (
            type(value) in _IMMUTABLE
            or not (callable(value) or isinstance(value, gymnasium.Space | gymnasium.Env | EnvSpec))
        )
    }


def _compare(where: str, recorded: bytes, now: tuple[Any, ...]) -> None:
    names = ("observation", "reward", "terminated", "truncated")
    for name, old, new in zip(names, pickle.loads(recorded), now, strict=False):
        # NaN is unlike itself, but its pickle is not.
        if pickle.dumps(old) != pickle.dumps(new) and not data_equivalence(old, new, exact=True):
            raise ReplayDivergenceError(
                f"{where} the replay gives {name} {reprlib.repr(new)} and the recording has "
                f"{reprlib.repr(old)}: the environment is not deterministic, or another one."
            )
