"""The reference engine: TextWorld's own PddlEnv with ALFWorld's names, made restorable.

TextWorld keeps the state of a game in a C++ planner and in Python. Here every state that was
visited is remembered by the commands that led to it, with the planner's number for it, so that
going back to it needs no replay; a state from another process is replayed once.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hpl_gym.alfworld.games import Game
from hpl_gym.alfworld.grammar import Grammar, in_dialect
from hpl_gym.core import DataError, HPLGymError, MissingExtraError, Outcome

History = tuple[str, ...]
"""The state of an episode: the commands that did something so far."""

_REMEMBERED_STATES = 512
_PYTHON_SIDE = ("_facts", "_vars_by_name", "_vars_by_type", "_var_counts")
_TRANSLATION = threading.Lock()
# Each copy of the planner's library stays in memory for good, so they are used again.
_idle_libraries: list[Any] = []


@dataclass(frozen=True, slots=True)
class _Visited:
    planner_state: int
    fields: dict[str, dict[Any, Any]]
    operators: dict[int, Any]
    shown: Any
    moves: int


@dataclass(frozen=True, slots=True)
class _Operator:
    id: int
    nb_effect_atoms: int


class TextWorldEngine:
    """Plays one game with TextWorld.

    Args:
        game: The game.
        dialect: ``game``, ``move`` or ``put``: how texts and admissible commands speak. Both
            ``move X to Y`` and ``put X in/on Y`` are always understood.

    Attributes:
        instruction: What is to be done, e.g. ``put some mug on desk.``.

    Raises:
        MissingExtraError: TextWorld or ALFWorld is not installed.
        DataError: TextWorld cannot read the game.
        HPLGymError: There is no such dialect.
    """

    def __init__(self, game: Game, dialect: str = "game") -> None:
        try:
            import fast_downward

            with _environment_kept("ALFWORLD_DATA"):  # which is where `locate` looks first
                from alfworld.agents.utils.misc import Demangler
            from textworld.envs.pddl import PddlEnv
            from textworld.envs.pddl import logic as pddl_logic
        except ImportError as error:
            raise MissingExtraError(
                "engine='textworld' needs TextWorld and ALFWorld: pip install 'hpl-gym[alfworld]' "
                f"({error})."
            ) from None
        except OSError as error:  # it makes a folder for its data
            raise HPLGymError(
                f"The alfworld package cannot make its folder ({error}): set ALFWORLD_DATA to one "
                "that can be written."
            ) from None
        game = in_dialect(game, dialect)
        grammar = Grammar.read(game.grammar)
        self.instruction = grammar.take("task").removeprefix("Your task is to: ")
        self._says_move = grammar.templates.get("putobject", "").startswith("move")

        library = _idle_libraries.pop() if _idle_libraries else fast_downward.load_lib()
        weakref.finalize(self, _idle_libraries.append, library)
        with _TRANSLATION, _replaced(fast_downward, "load_lib", lambda: library):
            self._env = PddlEnv()
        with _TRANSLATION, _one_translation(fast_downward):
            try:
                self._env.load(
                    {
                        "pddl_domain": game.domain,
                        "grammar": game.grammar,
                        "pddl_problem": game.problem,
                    }
                )
            except (Exception, SystemExit) as error:
                raise DataError(
                    f"TextWorld cannot read the game of task {game.task.task_id!r} "
                    f"({type(error).__name__}: {error})."
                ) from error
        entities = self._env._entity_infos
        demangler = Demangler(game_infos=entities, shuffle=False)
        for entity in entities.values():
            entity.name = demangler.demangle_alfred_name(entity.id)
        self._name = {entity.id: entity.name for entity in entities.values()}

        loaded = self._env._pddl_state
        with _TRANSLATION, _replaced(pddl_logic, "PddlState", lambda *_: loaded):
            introduction = self._env.reset().feedback
        self._start = Outcome((), introduction, valid=True)
        self._visited: OrderedDict[History, _Visited] = OrderedDict()
        self._first = self._remembered()
        self._now: History = ()

    def start(self) -> Outcome:
        """Return the first state and the introduction."""
        return self._start

    def step(self, state: History, command: str) -> Outcome:
        """Return what `command` does in `state`."""
        self._go_to(state)
        command = self._in_spoken_dialect(command.strip())
        shown, score, done = self._env.step(command)
        valid = self._env._last_action is not None
        if valid:
            state = (*state, command)
            self._now = state
            self._visited[state] = self._remembered()
            self._visited.move_to_end(state)
            if len(self._visited) > _REMEMBERED_STATES:
                self._visited.popitem(last=False)
        return Outcome(state, shown.feedback, valid, done, float(score), bool(shown["won"]))

    def admissible(self, state: History) -> tuple[str, ...]:
        """Return the commands that do something in `state`, sorted."""
        return tuple(self._look_up(state).shown["admissible_commands"])

    def locations(self, state: History) -> dict[str, str]:
        """Return the receptacle that each object one can take or use is in; "" for the held one."""
        facts = sorted(
            (fact.name, *fact.names)
            for rows in self._look_up(state).fields["_facts"].values()
            for fact in rows
        )
        usable = {row[1] for row in facts if row[0] in ("pickupable", "toggleable")}
        found: dict[str, str] = {}
        # Sorted, so that an object in two receptacles is said to be in the first.
        for _, item, receptacle in sorted(
            (row for row in facts if row[0] == "inreceptacle"), key=lambda row: (row[2], row[1])
        ):
            if item in usable:
                found.setdefault(self._name[item], self._name[receptacle])
        for row in facts:
            if row[0] == "holds":
                found[self._name[row[2]]] = ""
        return found

    def _in_spoken_dialect(self, command: str) -> str:
        if self._says_move:
            return re.sub(r"^put (.+) in/on (.+)$", r"move \1 to \2", command)
        return re.sub(r"^move (.+) to (.+)$", r"put \1 in/on \2", command)

    def _remembered(self) -> _Visited:
        env = self._env
        operators = env._pddl_state._operators
        return _Visited(
            env.downward_lib.get_state_id(),
            {name: _copied(getattr(env._pddl_state, name)) for name in _PYTHON_SIDE},
            {key: _Operator(op.id, op.nb_effect_atoms) for key, op in operators.items()},
            env.state,
            env._moves,
        )

    def _look_up(self, state: History) -> _Visited:
        if state and state not in self._visited:
            self._go_to(state)
        return self._visited[state] if state else self._first

    def _go_to(self, state: History) -> None:
        """Bring TextWorld to `state`: at once if it was visited in this process, else by replay."""
        if state == self._now:
            return
        known = len(state)
        while known and state[:known] not in self._visited:
            known -= 1
        visited = self._visited[state[:known]] if known else self._first
        if known:
            self._visited.move_to_end(state[:known])
        env = self._env
        env.downward_lib.set_state_id(visited.planner_state)
        for name, value in visited.fields.items():
            setattr(env._pddl_state, name, _copied(value))
        env._pddl_state._operators = visited.operators
        env.state, env._moves = visited.shown, visited.moves
        self._now = state[:known]
        for command in state[known:]:
            self.step(self._now, command)


def _copied(field: dict[Any, Any]) -> dict[Any, Any]:
    copy = field.copy()
    for key, value in copy.items():
        if isinstance(value, set):
            copy[key] = value.copy()
    return copy


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


@contextmanager
def _environment_kept(name: str) -> Iterator[None]:
    """Undo what is done to an environment variable."""
    value = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@contextmanager
def _one_translation(fast_downward: Any) -> Iterator[None]:
    """Let a game be translated once: the second translation only serves a planner not used here."""
    translate = fast_downward.pddl2sas
    done: list[Any] = []

    def once(domain: str, problem: str, verbose: bool = False, optimize: bool = False) -> Any:
        if not done:
            done.append(translate(domain, problem, verbose=verbose))
        return done[0]

    arguments = sys.argv
    try:
        with _replaced(fast_downward, "pddl2sas", once):
            yield
    finally:
        sys.argv = arguments
