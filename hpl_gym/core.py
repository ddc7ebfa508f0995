"""The core every environment shares: tasks, snapshots, the text space, errors and `TextEnv`."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, ClassVar, SupportsFloat, overload

import gymnasium

SPLITS = ("train", "valid_seen", "valid_unseen")


class HPLGymError(Exception):
    """Base of every error of this package; its text says what is wrong and how to mend it."""


class DataError(HPLGymError):
    """Benchmark data are missing, broken or empty."""


class UnknownTaskError(HPLGymError):
    """A task id or index that the environment does not have."""


class MissingExtraError(HPLGymError):
    """An optional dependency is not installed."""


class SnapshotError(HPLGymError):
    """Base of the errors that `TextEnv.restore` raises."""


class SnapshotEnvError(SnapshotError):
    """The snapshot belongs to another environment."""


class SnapshotTaskError(SnapshotError):
    """The snapshot belongs to another task."""


class SnapshotVersionError(SnapshotError):
    """The snapshot was taken by another version of the environment, or of the task's data."""


class SnapshotStackError(SnapshotError):
    """The snapshot belongs to another stack of wrappers, or the stack cannot be saved."""


class ReplayDivergenceError(SnapshotError):
    """Replaying a prefix gave another observation than the one recorded."""


class EnvironmentFaultError(HPLGymError):
    """What the environment runs on failed, not the agent: the episode does not count."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a benchmark.

    Attributes:
        task_id: Unique in its benchmark, stable across machines and sessions.
        split: One of `SPLITS` (or a benchmark's own split name).
        task_type: The benchmark's category of the task.
    """

    task_id: str
    split: str
    task_type: str


@dataclass(frozen=True)
class Snapshot:
    """The whole state of an episode at one point: small, immutable, hashable and picklable.

    Attributes:
        env_id: Registered id of the environment, e.g. ``HPL/ALFWorld-v0``.
        version: The environment's state version together with the digest of the task's data.
        task_id: The task being played.
        steps: Actions taken so far.
        state: The engine's state, an immutable value.
        observation: The text last shown.
        valid: Whether the last action was understood.
        score: The outcome reward, 0.0 before the end.
        terminated: Whether the episode has ended.
    """

    env_id: str
    version: str
    task_id: str
    steps: int
    state: Any
    observation: str
    valid: bool
    score: float
    terminated: bool

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the fields, the same in every process."""
        return hashlib.sha256(repr(canonical(self)).encode()).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}


def canonical(value: Any) -> Any:
    """Return `value` in lists, sets and mappings sorted: its `repr` is the same in every process.

    Tuples, lists, sets, mappings and dataclasses may be nested; what else `value` holds must have
    a `repr` that tells its value.
    """
    if isinstance(value, frozenset | set):
        return ["set", *sorted((canonical(item) for item in value), key=repr)]
    if isinstance(value, tuple | list):
        return [canonical(item) for item in value]
    if isinstance(value, Mapping):
        return ["mapping", *sorted((canonical(item) for item in value.items()), key=repr)]
    if is_dataclass(value):
        return [type(value).__name__, *(canonical(getattr(value, f.name)) for f in fields(value))]
    return value


class LazyActions(Sequence[str]):
    """A tuple of admissible actions that is computed at its first use.

    It equals, iterates, indexes and pickles as the tuple of strings that `compute` returns.

    Args:
        compute: Called at most once; returns the actions in a stable order.
    """

    def __init__(self, compute: Callable[[], Sequence[str]]) -> None:
        self._compute = compute

    @cached_property
    def _actions(self) -> tuple[str, ...]:
        return tuple(self._compute())

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self._actions[index]

    def __len__(self) -> int:
        return len(self._actions)

    def __iter__(self) -> Iterator[str]:
        return iter(self._actions)

    def __eq__(self, other: object) -> bool:
        return self._actions == (other._actions if isinstance(other, LazyActions) else other)

    def __hash__(self) -> int:
        return hash(self._actions)

    def __repr__(self) -> str:
        return repr(self._actions)

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._actions,)


class UnicodeText(gymnasium.Space[str]):
    """All Unicode strings of at most `max_length` characters.

    `gymnasium.spaces.Text` admits only a fixed character set; what language models write and
    what databases and shops show does not keep to one.

    Args:
        max_length: Longest string in the space, in characters.
        seed: Seed of `sample`.
    """

    def __init__(self, max_length: int = 65_536, seed: int | None = None) -> None:
        super().__init__(shape=(), dtype=str, seed=seed)
        self.max_length = max_length

    @property
    def is_np_flattenable(self) -> bool:
        """Text has no fixed-size array form."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """Return up to 32 random printable characters (`mask` and `probability` are not used)."""
        length = int(self.np_random.integers(0, min(32, self.max_length) + 1))
        codes = self.np_random.integers(32, 127, size=length)
        return "".join(map(chr, codes))

    def contains(self, x: Any) -> bool:
        """Whether `x` is a string that fits."""
        return isinstance(x, str) and len(x) <= self.max_length

    def __repr__(self) -> str:
        return f"UnicodeText({self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeText) and self.max_length == other.max_length

    def __hash__(self) -> int:
        return hash((UnicodeText, self.max_length))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one action did.

    Attributes:
        state: The engine state after it.
        observation: The text shown.
        valid: Whether the action was understood.
        terminated: Whether the episode is over.
        reward: The outcome reward in [0, 1]; 0.0 unless `terminated`.
        success: Whether the task was solved.
    """

    state: Any
    observation: str
    valid: bool
    terminated: bool = False
    reward: float = 0.0
    success: bool = False


class TextEnv(gymnasium.Env[str, str]):
    """Base of the three environments: an episode is a chain of immutable states.

    A benchmark implements `tasks`, `_begin`, `_advance`, `_instruction`, `_admissible` and
    `_data_version`; this class does the Gymnasium protocol, `snapshot` and `restore`.

    Observations and actions are text (`UnicodeText`). The reward is 0.0 until the episode ends and
    then the benchmark's outcome reward. A malformed action is never an error: it costs a turn and
    gets the benchmark's own reply. `info` always has ``task_id``, ``task_type``, ``instruction``,
    ``admissible_actions``, ``valid``, ``success``, ``score``, ``steps`` and ``backend``.

    Args:
        split: The split from which `reset` draws a task when none is named.
        render_mode: ``ansi`` or None.

    Raises:
        HPLGymError: There is no such render mode.
    """

    env_id: ClassVar[str]
    state_version: ClassVar[int] = 1
    # Gymnasium warns of environments that render without a frame rate.
    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["ansi"],
        "render_fps": 1,
    }

    def __init__(self, split: str = "train", render_mode: str | None = None) -> None:
        self.observation_space = UnicodeText()
        self.action_space = UnicodeText()
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise HPLGymError(f"There is no render mode {render_mode!r}: use 'ansi' or None.")
        self.split = split
        self.render_mode = render_mode
        self.task: Task | None = None

    @property
    def backend(self) -> str:
        """What computes the states: the same tasks may look different on another backend."""
        return "native"

    @property
    def data_digest(self) -> str:
        """A digest of the files that hold the tasks of the split; "" where tasks are generated."""
        return ""

    def tasks(self, split: str | None = None) -> Sequence[Task]:
        """Return the tasks of `split` (default: the environment's), in one fixed order."""
        raise NotImplementedError

    def find_task(self, task: Task | str | int) -> Task:
        """Return the task meant by a `Task`, a task id, or an index into the current split.

        Raises:
            UnknownTaskError: No such task.
        """
        if isinstance(task, Task):
            return task
        if isinstance(task, str):
            return self._task_by_id(task)
        tasks = self.tasks()
        try:
            task = operator.index(task)
        except TypeError:
            raise UnknownTaskError(
                f"{task!r} is no task: name a Task, a task's id, or its index in the split."
            ) from None
        if not 0 <= task < len(tasks):
            raise UnknownTaskError(
                f"Task index {task} is out of range: split {self.split!r} has {len(tasks)} tasks "
                f"(0 to {len(tasks) - 1})."
            )
        return tasks[task]

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds the choice of the task when `options` names none.
            options: ``{"task": Task | str | int}`` names the task to play.

        Returns:
            The first observation and `info`.

        Raises:
            UnknownTaskError: The named task does not exist.
            DataError: The task's data cannot be read.
        """
        super().reset(seed=seed)
        if options and options.get("task") is not None:
            task = self.find_task(options["task"])
        else:
            task = self.find_task(int(self.np_random.integers(len(self.tasks()))))
        state, observation = self._begin(task)
        self.task, self._version = task, f"{self.state_version}-{self._data_version()}"
        self._steps = 0
        self._last = Outcome(state, observation, valid=True)
        return observation, self._info()

    def step(self, action: str) -> tuple[str, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take one action.

        Raises:
            gymnasium.error.ResetNeeded: No episode is running.
        """
        if self.task is None or self._last.terminated:
            raise gymnasium.error.ResetNeeded("The episode is over: call reset() before step().")
        self._last = self._advance(self._last.state, action)
        self._steps += 1
        last = self._last
        return last.observation, last.reward, last.terminated, False, self._info()

    def snapshot(self) -> Snapshot:
        """Return the state of the episode as a value that any process can restore.

        Raises:
            gymnasium.error.ResetNeeded: No episode was started.
        """
        if self.task is None:
            raise gymnasium.error.ResetNeeded("There is no episode yet: call reset() first.")
        last = self._last
        return Snapshot(
            self.env_id,
            self._version,
            self.task.task_id,
            self._steps,
            last.state,
            last.observation,
            last.valid,
            last.reward,
            last.terminated,
        )

    def restore(self, snapshot: Snapshot) -> tuple[str, dict[str, Any]]:
        """Go back (or on) to `snapshot`, which must belong to the task that is being played.

        Returns:
            The observation and `info` as they were when the snapshot was taken.

        Raises:
            SnapshotEnvError: The snapshot is of another environment.
            SnapshotTaskError: It is of another task than the one being played.
            SnapshotVersionError: It is of another version of the environment or of the data.
        """
        if snapshot.env_id != self.env_id:
            raise SnapshotEnvError(
                f"The snapshot is of {snapshot.env_id}, this environment is {self.env_id}: "
                "restore it into an environment of its own kind."
            )
        if self.task is None or snapshot.task_id != self.task.task_id:
            playing = "no task" if self.task is None else f"task {self.task.task_id!r}"
            raise SnapshotTaskError(
                f"The snapshot is of task {snapshot.task_id!r} and the environment plays "
                f"{playing}: call reset(options={{'task': {snapshot.task_id!r}}}) first."
            )
        if snapshot.version != self._version:
            raise SnapshotVersionError(
                f"The snapshot has version {snapshot.version} and the environment "
                f"{self._version}: the engine or the task's data changed since; take it again."
            )
        self._steps = snapshot.steps
        self._last = Outcome(
            snapshot.state,
            snapshot.observation,
            snapshot.valid,
            snapshot.terminated,
            snapshot.score,
            snapshot.terminated and snapshot.score == 1.0,
        )
        return snapshot.observation, self._info()

    def render(self) -> str:
        """Return the text last shown."""
        return self._last.observation if self.task else ""

    def _info(self) -> dict[str, Any]:
        assert self.task is not None
        last = self._last
        return {
            "task_id": self.task.task_id,
            "task_type": self.task.task_type,
            "instruction": self._instruction(),
            "admissible_actions": self._admissible(last.state),
            "valid": last.valid,
            "success": last.success,
            "score": last.reward,
            "steps": self._steps,
            "backend": self.backend,
        }

    def _task_by_id(self, task_id: str) -> Task:
        raise NotImplementedError

    def _begin(self, task: Task) -> tuple[Any, str]:
        """Load `task`; return its first state and observation."""
        raise NotImplementedError

    def _advance(self, state: Any, action: str) -> Outcome:
        raise NotImplementedError

    def _instruction(self) -> str:
        raise NotImplementedError

    def _admissible(self, state: Any) -> Sequence[str] | None:
        raise NotImplementedError

    def _data_version(self) -> str:
        """A short digest of the current task's data and of what else changes its texts."""
        raise NotImplementedError
