"""The InterCode-SQL environment."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

import gymnasium

from hpl_gym.cache import cache_folder, data_folder, from_anywhere, last_written
from hpl_gym.core import (
    DataError,
    EnvironmentFaultError,
    HPLGymError,
    LazyActions,
    Outcome,
    Task,
    TextEnv,
    UnknownTaskError,
)
from hpl_gym.intercode_sql.questions import (
    SPLITS,
    Question,
    QuestionSet,
    generated_questions,
    read_questions,
    table_of,
)
from hpl_gym.intercode_sql.result import LOST, TOO_SLOW, Result
from hpl_gym.intercode_sql.reward import score
from hpl_gym.intercode_sql.session import Session
from hpl_gym.intercode_sql.tables import as_name

SHOWN = 350
_BLOCK = re.compile(r"```(?:sql|mysql)?[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_CUT = "... (cut)"
_LOOKS = ("DESC", "SELECT * FROM", "SELECT COUNT(*) FROM")


@dataclass(frozen=True, slots=True)
class State:
    """Where an episode is.

    Attributes:
        log: Statements that may have changed something, in their order; nearly always empty.
        result: What the last statement gave; None before the first.
    """

    log: tuple[str, ...] = ()
    result: Result | None = None


class Server(Hashable, Protocol):
    """What runs the statements: SQLite, or a MySQL server."""

    name: str

    @property
    def version(self) -> str:
        """The name, and what else decides how statements are answered."""

    def session(self, database: str) -> Session:
        """Return a new episode's view of a database."""


class InterCodeSQLEnv(TextEnv):
    """Answering questions by running SQL.

    ## Description
    A question about a database is to be answered by a query. The agent looks at tables, tries
    queries, and submits when the last one has given the answer.

    ## Observation Space
    Text. First the question; then what a statement gave: a Python list of tuples, `None` where it
    gives no rows, or `Error executing query: ` and MySQL's message. What is longer than `shown`
    characters is cut there.

    ## Action Space
    Text: one SQL statement, in a ```sql block or as it is, or `submit`. Nothing an agent writes
    changes what other episodes see: its first write gives the episode a private copy of the
    database, which is dropped at the end. Statements have 5 seconds, results 10,000 rows.

    ## Rewards
    On `submit`, the overlap of the last statement's rows with those of the gold query, times the
    agreement of their order (`hpl_gym.intercode_sql.reward`); else 0.0. Success is a reward of 1.

    ## Episode End
    It is terminated by `submit`. As registered it is truncated after 10 turns.

    ## Arguments
    Args:
        split: The split `reset` draws from: `train`, `valid` or `test`.
        data: `generated` (made from a seed), a folder with InterCode's `ic_spider_dbs.sql` and
            `ic_spider_dev.json`, `real`: such a folder in `$INTERCODE_DATA` or
            `$HPL_DATA/intercode_sql`, or `auto`: that where it is there, else generated.
        server: `sqlite`; `private` (a MariaDB or MySQL server of one's own, started where it is
            installed), `docker` (MySQL by Docker Compose), an address like
            `mysql://user:password@host:port`, or `auto`: $HPL_MYSQL_DSN if set, else `sqlite`.
        indices: A file with a list of question numbers for each split that has one; without it,
            no database is in two splits.
        shown: Characters of an observation that are shown, at least 10.
        databases: How many generated databases.
        generator_seed: Another seed, other databases.
        render_mode: `ansi` or None.

    Raises:
        HPLGymError: The server cannot be used, or an argument has a value that does not exist.
        DataError: The files are missing or not what they should be.
    """

    env_id: ClassVar[str] = "HPL/InterCodeSQL-v0"

    def __init__(
        self,
        split: str = "train",
        data: str | Path = "auto",
        server: str = "auto",
        indices: Mapping[str, str | Path] | None = None,
        shown: int = SHOWN,
        databases: int = 24,
        generator_seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(split, render_mode)
        for name, value, least in (
            ("shown", shown, len(_CUT) + 1),
            ("databases", databases, 1),
            ("generator_seed", generator_seed, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise HPLGymError(
                    f"{name} must be a whole number of {least} or more, not {value!r}."
                )
        self.shown = shown
        folder = _folder(data)
        if unknown := set(indices or ()) - set(SPLITS):
            raise HPLGymError(
                f"indices names no split {min(unknown)!r}: choose among {', '.join(SPLITS)}."
            )
        if indices and folder is None:
            raise HPLGymError(
                "indices is for the questions of a folder, and these are generated: name the "
                "folder in data, or leave indices out."
            )
        if folder is None:
            self.questions = _generated(databases, generator_seed)
        else:
            self.questions = _read(
                folder, {name: from_anywhere(path) for name, path in (indices or {}).items()}
            )
        if server == "auto":
            server = os.environ.get("HPL_MYSQL_DSN") or "sqlite"
        self.server = _server(str(server), self.questions)
        self._session: Session | None = None
        self._question: Question | None = None

    @property
    def backend(self) -> str:
        """What runs the statements, such as ``sqlite 3.45.1`` or ``mariadb 10.11.14``."""
        return self.server.name

    @property
    def data_digest(self) -> str:
        """A digest of databases, questions and index lists; "" where they are generated."""
        if self.questions.name.startswith("generated-"):
            return ""
        parts = repr((self.questions.name, self.questions.indices))
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    def tasks(self, split: str | None = None) -> Sequence[Task]:
        """Return the tasks of `split` (default: the environment's), in one fixed order.

        Raises:
            DataError: There is no such split, or it has no task.
        """
        split = split or self.split
        if split not in SPLITS:
            raise DataError(f"There is no split {split!r}: choose one of {', '.join(SPLITS)}.")
        tasks = [
            Task(f"{self.questions.name}/{one.number}", split, one.hardness)
            for one in self.questions.split(split)
        ]
        if not tasks:
            raise DataError(f"Split {split!r} has no questions: choose another split or data.")
        return tasks

    def question(self) -> Question:
        """Return the question that is played, with its gold query."""
        if self._question is None:
            raise gymnasium.error.ResetNeeded("There is no episode yet: call reset() first.")
        return self._question

    def gold(self) -> Result:
        """Return what the gold query of the question gives; an error gives no rows."""
        question = self.question()
        return _gold(self.server, question.database, question.gold)

    def close(self) -> None:
        """Drop the episode's private copy, if it has one."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def _task_by_id(self, task_id: str) -> Task:
        question = self._find(task_id)
        return Task(task_id, self.questions.split_of(question), question.hardness)

    def _find(self, task_id: str) -> Question:
        name, _, number = task_id.rpartition("/")
        count = len(self.questions.questions)
        if (
            name == self.questions.name
            and number.isdecimal()
            and len(number) < 10
            and int(number) < count
        ):
            return self.questions.questions[int(number)]
        raise UnknownTaskError(
            f"There is no task {task_id!r} here: tasks are {self.questions.name}/0 to "
            f"{self.questions.name}/{count - 1}."
        )

    def _begin(self, task: Task) -> tuple[Any, str]:
        question = self._find(task.task_id)
        self.close()
        self._question = question
        self._session = self.server.session(self._question.database)
        return State(), self._question.text

    def _advance(self, state: State, action: str) -> Outcome:
        if self._session is None:  # closed, or made for a restored state
            self._session = self.server.session(self.question().database)
        statement = read_action(action)
        if statement.rstrip(";").strip().lower() == "submit":
            rows = state.result.rows if state.result else None
            reward = score(rows, self.gold().rows or ())
            self._session.close()
            shown = self._show(state.result) if state.result else self.question().text
            return Outcome(state, shown, True, True, reward, success=reward == 1.0)
        log, result = self._session.run(state.log, statement)
        return Outcome(State(log, result), self._show(result), valid=not result.error)

    def _show(self, result: Result) -> str:
        text = result.text
        return text if len(text) <= self.shown else text[: self.shown - len(_CUT)] + _CUT

    def _instruction(self) -> str:
        return self.question().text

    def _admissible(self, state: State) -> Sequence[str]:
        statements = self.questions.databases[self.question().database]

        def actions() -> list[str]:
            tables = sorted({table_of(statement) for statement in statements})
            looks = [f"{look} {as_name(table)}" for table in tables for look in _LOOKS]
            return ["SHOW TABLES", *looks, "submit"]

        return LazyActions(actions)

    def _data_version(self) -> str:
        question = self.question().digest
        return f"{self.questions.digest}-{question}-{self.shown}-{self.server.version}"


def read_action(action: str) -> str:
    """Return the statement in an action: what is in its first code block, else all of it."""
    match = _BLOCK.search(action)
    return (match[1] if match else action).strip()


def _folder(data: str | Path) -> Path | None:
    """Return the folder of the benchmark's files; None for generated ones."""
    if data == "generated":
        return None
    if data not in {"auto", "real"}:
        return from_anywhere(data)
    if folder := os.environ.get("INTERCODE_DATA"):
        return from_anywhere(folder)
    data_root = data_folder()
    if data_root and (found := data_root / "intercode_sql").is_dir():
        return found
    if data == "real":
        raise DataError(
            "The benchmark's own databases are not there: set INTERCODE_DATA to the folder with "
            "ic_spider_dbs.sql and ic_spider_dev.json, or use data='generated'."
        )
    return None


_generated = lru_cache(maxsize=8)(generated_questions)


def _read(folder: Path, indices: dict[str, Path]) -> QuestionSet:
    files = folder / "ic_spider_dbs.sql", folder / "ic_spider_dev.json"
    written = tuple(map(last_written, (*files, *indices.values())))
    return _kept(*files, tuple(indices.items()), written)


@lru_cache(maxsize=8)
def _kept(
    dump: Path, questions: Path, indices: tuple[tuple[str, Path], ...], _written: object
) -> QuestionSet:
    return read_questions(dump, questions, dict(indices))


_servers: dict[tuple[str, str, int], Server] = {}


def _server(server: str, questions: QuestionSet) -> Server:
    """Return the server, one for each process and question set: connections are not inherited."""
    key = (server, questions.digest, os.getpid())
    if key not in _servers:
        _servers[key] = _start(server, questions)
    return _servers[key]


def _start(server: str, questions: QuestionSet) -> Server:
    if server == "sqlite":
        from hpl_gym.intercode_sql.sqlite import SQLiteServer

        return SQLiteServer(questions)
    from hpl_gym.intercode_sql.mysql import MySQLServer

    if server == "private":
        from hpl_gym.intercode_sql.server import private_server

        return MySQLServer(private_server(), questions, restart=private_server)
    if server == "docker":
        from hpl_gym.intercode_sql.docker import docker_server

        return MySQLServer(docker_server(_dump_file(questions)), questions)
    from hpl_gym.intercode_sql.address import parse_dsn

    return MySQLServer(parse_dsn(server), questions)


def _dump_file(questions: QuestionSet) -> Path:
    """Return a file with the databases."""
    path = cache_folder("sql") / f"{questions.digest}.sql"
    if not path.is_file():
        part = path.with_name(f"{path.name}.part-{os.getpid()}")
        part.write_text(questions.dump, encoding="utf-8")
        part.rename(path)
    return path


@lru_cache(maxsize=8192)
def _gold(server: Server, database: str, query: str) -> Result:
    result = server.session(database).run((), query)[1]
    if result.error in (LOST, TOO_SLOW):
        raise EnvironmentFaultError(
            f"The gold query of a question about {database} failed ({result.error}): the server is "
            "overloaded."
        )
    return result
