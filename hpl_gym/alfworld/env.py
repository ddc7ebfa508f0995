"""The ALFWorld environment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium

from hpl_gym.alfworld.engine import NativeEngine
from hpl_gym.alfworld.games import (
    FOLDER,
    Game,
    PackedGamesError,
    files_digest,
    game_path,
    locate,
    read_game,
    real_task,
    real_tasks,
)
from hpl_gym.alfworld.grammar import check_dialect
from hpl_gym.cache import from_anywhere
from hpl_gym.core import (
    DataError,
    HPLGymError,
    LazyActions,
    Outcome,
    Task,
    TextEnv,
    UnknownTaskError,
)

if TYPE_CHECKING:
    from hpl_gym.alfworld.textworld import TextWorldEngine

ENGINES = ("native", "textworld")
GENERATED = "generated/"


class ALFWorldEnv(TextEnv):
    """Household tasks in text.

    ## Description
    An agent stands in a room of a house and is given a task: put some pencil on a shelf, look at a
    book under a lamp, put a clean plate in a cabinet, a hot apple on a table, a cool potato in the
    bin, or two soap bars in a drawer. It goes from receptacle to receptacle, opens and closes them,
    takes and puts objects, and cleans, heats, cools or uses them.

    ## Observation Space
    Text: the introduction (what there is in the room, and the task), then what each command did.
    A command that makes no sense or is not possible now is answered by "Nothing happens.".

    ## Action Space
    Text, one command a turn: `go to R`, `open R`, `close R`, `take O from R`, `move O to R` or
    `put O in/on R`, `clean O with R`, `heat O with R`, `cool O with R`, `use O`, `slice O with O`,
    `examine O` or `examine R`, `look`, `inventory` (and `help` in recent games).
    `info["admissible_actions"]` lists those that do something now.

    ## Rewards
    1.0 when the task is done, else 0.0.

    ## Episode End
    It is terminated when the task is done. As registered it is truncated after 30 turns.

    ## Vectorized
    `gym.make_vec("HPL/ALFWorld-v0", 8)` works; `vectorization_mode="async"` needs
    `vector_kwargs={"shared_memory": False}`, because texts have no fixed size.

    ## Arguments
    Args:
        split: The split `reset` draws from: `train`, `valid_seen` or `valid_unseen`.
        games: Where games come from: `real` (the benchmark's files, as found by
            `hpl_gym.alfworld.games.locate`), `generated`, `auto` (real if found, else generated),
            or a folder with the benchmark's layout. A task named by its id is found either way.
        engine: `native` (fast; restores in microseconds) or `textworld` (the reference).
        dialect: How observations and admissible commands speak: `game` (as the game file does),
            `move` (`move O to R`) or `put` (`put O in/on R`). Both are always understood.
        rooms: Size of generated rooms: `full` or `small`.
        generator_seed: Seed of the generated games: another seed, other games.
        render_mode: `ansi` or None.

    Raises:
        HPLGymError: An argument has a value that does not exist; a split is looked for when
            `tasks` or `reset` needs it.
    """

    env_id: ClassVar[str] = "HPL/ALFWorld-v0"

    def __init__(
        self,
        split: str = "train",
        games: str | Path = "auto",
        engine: str = "native",
        dialect: str = "game",
        rooms: str = "full",
        generator_seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(split, render_mode)
        if engine not in ENGINES:
            raise HPLGymError(f"There is no engine {engine!r}: choose one of {', '.join(ENGINES)}.")
        check_dialect(dialect)
        from hpl_gym.alfworld.generate import check_generator

        check_generator(rooms, generator_seed)
        self.games = games
        self.engine_name = engine
        self.dialect = dialect
        self.rooms = rooms
        self.generator_seed = generator_seed
        self._folder = None if games in ("auto", "real", "generated") else _game_folder(Path(games))
        self._engine: NativeEngine | TextWorldEngine | None = None
        self._game: Game | None = None

    @property
    def backend(self) -> str:
        """The engine: ``native`` or ``textworld``."""
        return self.engine_name

    @property
    def data_digest(self) -> str:
        """A digest of the split's game files; "" where games are generated."""
        return files_digest(self._tasks_root, self.split) if self._tasks_root else ""

    def tasks(self, split: str | None = None) -> Sequence[Task]:
        """Return the tasks of `split` (default: the environment's), in one fixed order.

        Raises:
            DataError: There are no games of that split.
        """
        split = split or self.split
        if self._tasks_root is not None:
            return real_tasks(self._tasks_root, split)
        from hpl_gym.alfworld.generate import generated_tasks

        return generated_tasks(split, self.rooms, self.generator_seed)

    def locations(self) -> dict[str, str]:
        """Return the receptacle in which each object that one can take or use is at the start.

        This is what an informed expert may know and an agent may not.
        """
        engine = self._playing()
        return engine.locations(engine.start().state)

    @cached_property
    def _root(self) -> Path:
        """The folder of the real games: it stays the same whatever becomes of the variables."""
        return self._folder or locate()

    @cached_property
    def _tasks_root(self) -> Path | None:
        """The folder of the games that make up the splits; None if those are generated."""
        if self.games == "generated":
            return None
        try:
            return self._root
        except PackedGamesError:
            raise
        except DataError:
            if self.games == "auto":
                return None
            raise

    def _task_by_id(self, task_id: str) -> Task:
        if task_id.startswith(GENERATED):
            return _generated(task_id).task
        task = real_task(self._root, task_id)
        if task is None:
            raise UnknownTaskError(
                f"There is no playable ALFWorld task {task_id!r} in {self._root}."
            )
        return task

    def _begin(self, task: Task) -> tuple[Any, str]:
        if task.task_id.startswith(GENERATED):
            game = _generated(task.task_id)
        else:
            game = read_game(task, game_path(self._root, task.task_id))
        engine = self._engine
        if engine is None or game != self._game:
            if self.engine_name == "native":
                engine = _native(game, self.dialect)
            else:
                from hpl_gym.alfworld.textworld import TextWorldEngine

                engine = TextWorldEngine(game, self.dialect)
        outcome = engine.start()
        self._engine, self._game = engine, game
        return outcome.state, outcome.observation

    def _advance(self, state: Any, action: str) -> Outcome:
        return self._playing().step(state, action)

    def _instruction(self) -> str:
        return self._playing().instruction

    def _admissible(self, state: Any) -> Sequence[str]:
        engine = self._playing()
        if isinstance(engine, NativeEngine):
            return LazyActions(lambda: engine.admissible(state))
        # TextWorld has computed them anyway, and what refers to the engine keeps it in memory.
        return engine.admissible(state)

    def _data_version(self) -> str:
        assert self._game is not None
        return f"{self.engine_name}-{self.dialect}-{self._game.digest}"

    def _playing(self) -> NativeEngine | TextWorldEngine:
        if self._engine is None:
            raise gymnasium.error.ResetNeeded("There is no episode yet: call reset() first.")
        return self._engine


@lru_cache(maxsize=128)
def _native(game: Game, dialect: str) -> NativeEngine:
    return NativeEngine(game, dialect)


@lru_cache(maxsize=64)
def _generated(task_id: str) -> Game:
    from hpl_gym.alfworld.generate import generate_game

    return generate_game(task_id)


def _game_folder(path: Path) -> Path:
    """Return the folder of the splits, given it or the folder that it is in."""
    path = from_anywhere(path)
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {path}: games is a folder of games, 'auto', 'real' or 'generated'."
        )
    return folder
