"""The embedded default: the databases in SQLite, MySQL's statements translated for it."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from hpl_gym.cache import cache_folder
from hpl_gym.core import DataError
from hpl_gym.intercode_sql.dialect import answer, message, translate
from hpl_gym.intercode_sql.functions import FUNCTIONS, NOW
from hpl_gym.intercode_sql.questions import QuestionSet, rows_of
from hpl_gym.intercode_sql.result import (
    MOST_CHARACTERS,
    TIME_LIMIT,
    TOO_SLOW,
    Result,
    to_result,
)
from hpl_gym.intercode_sql.session import Session
from hpl_gym.intercode_sql.tables import Table, collate, read_table, sqlglot

FORMAT = 2
_WORDS = {"NULL": None, "TRUE": 1, "FALSE": 0}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "Z": "\x1a"}
_FORBIDDEN = frozenset((sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA))
_TEMPORARY = frozenset(
    getattr(sqlite3, name) for name in dir(sqlite3) if name.startswith("SQLITE_CREATE_TEMP_")
)
_LASTING = _TEMPORARY | {sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT}
_CHANCE = frozenset(("random", "randomblob"))
# The codes of a file that is not what was written.
_DAMAGED = frozenset(
    (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
)
_MOST_PAGES = 50_000  # of 4 KiB, in a private copy
_PATTERN = 1000  # bytes of a LIKE pattern
_CHECK = 200  # steps of SQLite's machine between two looks at the clock
# SQLite's own functions that tell the time, with the number of arguments before it.
_CLOCKS = {"date": 0, "time": 0, "datetime": 0, "julianday": 0, "unixepoch": 0, "strftime": 1}


class SQLiteServer:
    """The databases of a question set as SQLite files, which are made at their first use.

    Args:
        questions: The databases.

    Attributes:
        name: What the server is, such as ``sqlite 3.45.1``.
    """

    def __init__(self, questions: QuestionSet) -> None:
        self.name = f"sqlite {sqlite3.sqlite_version}"
        translator = sqlglot().__version__  # which says what DESC shows
        self._folder = cache_folder("sql") / f"{FORMAT}-{questions.digest}-{translator}"
        if not self._folder.is_dir():
            _build(self._folder, questions)
        self._databases: dict[str, SharedDatabase] = {}

    @cached_property
    def version(self) -> str:
        """The name, and the version of what translates the statements."""
        return f"{self.name}-sqlglot {sqlglot().__version__}"

    def session(self, database: str) -> Session:
        """Return a new episode's view of a database."""
        if database not in self._databases:
            self._databases[database] = SharedDatabase(self._folder / f"{database}.sqlite")
        return Session(self._databases[database])


class SharedDatabase:
    """One of the databases, which is only read.

    Args:
        path: Its file.

    Raises:
        DataError: It is not there, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._path = path
        self._uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        self._idle: list[sqlite3.Connection] = []
        try:
            tables = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error
        self.tables = {
            one["name"].lower(): Table(
                one["name"], one["create"], tuple(map(tuple, one["columns"]))
            )
            for one in tables
        }

    def read(self, statement: str) -> Result | None:
        """Run a statement; None if it would have to write.

        Raises:
            DataError: The file is not there, or damaged.
        """
        with self._connection() as connection:
            result = _execute(connection, statement, self.name, self.tables)
        writes = "readonly database" in result.error or result.error == "not authorized"
        return None if writes else result

    def copy(self) -> PrivateCopy:
        """Return a new private copy, in memory."""
        return PrivateCopy(self)

    def copy_into(self, connection: sqlite3.Connection) -> None:
        """Write the whole database into another."""
        with self._connection() as own:
            own.backup(connection)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that no other thread uses."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._open()
        try:
            yield connection
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        self._idle.append(connection)

    def _open(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._uri, uri=True, check_same_thread=False, isolation_level=None
            )
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        _prepare(connection, _FORBIDDEN | _LASTING)
        return connection

    def _damaged(self, error: Exception) -> DataError:
        return DataError(
            f"The database {self._path} cannot be read ({error}): delete the folder "
            f"{self._path.parent} and start again; it is made anew."
        )


class PrivateCopy:
    """A copy of a database in memory, for one episode.

    Args:
        original: The database that is copied.
    """

    def __init__(self, original: SharedDatabase) -> None:
        self._original = original
        self._connection = sqlite3.connect(
            ":memory:", check_same_thread=False, isolation_level=None
        )
        self.broken = False
        original.copy_into(self._connection)
        self._connection.execute(f"PRAGMA max_page_count = {_MOST_PAGES}")
        _prepare(self._connection, _FORBIDDEN)

    def run(self, statement: str) -> Result:
        """Run a statement."""
        return _execute(self._connection, statement, self._original.name, self._original.tables)

    def drop(self) -> None:
        """Forget the copy."""
        self._connection.close()


def _prepare(connection: sqlite3.Connection, forbidden: frozenset[int]) -> None:
    def authorize(action: int, name: str | None, function: str | None, *_: Any) -> int:
        if action == sqlite3.SQLITE_FUNCTION:
            allowed = str(function).lower() not in _CHANCE
        else:
            asks = action == sqlite3.SQLITE_PRAGMA and name == "table_info"
            allowed = asks or action not in forbidden
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    own = sqlite3.connect(":memory:", check_same_thread=False)
    for name, before in _CLOCKS.items():
        connection.create_function(name, -1, _clock(own, name, before), deterministic=True)
    for (name, count), function in FUNCTIONS.items():
        connection.create_function(name, count, function, deterministic=True)
    connection.create_collation("mysql", collate)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_CHARACTERS)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _PATTERN)
    connection.set_authorizer(authorize)


def _clock(own: sqlite3.Connection, name: str, before: int) -> Callable[..., Any]:
    """Return one of SQLite's functions, run on a connection of its own, for which it is `NOW`."""

    def call(*arguments: Any) -> Any:
        given = [NOW if str(one).lower() == "now" else one for one in arguments]
        if len(given) == before:
            given.append(NOW)
        places = ", ".join("?" * len(given))
        return own.execute(f"SELECT {name}({places})", given).fetchone()[0]

    return call


def _execute(
    connection: sqlite3.Connection, statement: str, database: str, tables: dict[str, Table]
) -> Result:
    end = time.monotonic() + TIME_LIMIT
    connection.set_progress_handler(lambda: time.monotonic() > end, _CHECK)
    # RAND() is the same wherever the statement runs.
    numbers = random.Random(statement)
    connection.create_function("mysql_rand", -1, lambda *_: numbers.random())
    try:
        shown = answer(connection, statement, database, tables)
        if shown is not None:
            return shown
        translated = translate(statement, database)
        if isinstance(translated, Result):
            return translated
        cursor = connection.execute(translated)
        if cursor.description is None:
            return Result()
        result, _ = to_result(cursor)
        cursor.close()
        return result
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
        if vars(error).get("sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            raise
        slow = str(error) == "interrupted"
        return Result(error=TOO_SLOW if slow else message(str(error), database))
    except (MemoryError, RecursionError):
        return Result(error="The statement needs more memory than there is for it")


def _build(folder: Path, questions: QuestionSet) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        part = Path(temporary) / "databases"
        part.mkdir()
        for name, statements in questions.databases.items():
            _build_database(part / f"{name}.sqlite", statements)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise


def _build_database(path: Path, statements: tuple[str, ...]) -> None:
    tables = []
    connection = sqlite3.connect(path)
    connection.create_collation("mysql", collate)
    with connection:
        for statement in statements:
            try:
                if statement[:6].upper() == "CREATE":
                    tables.append(read_table(statement))
                    connection.execute(tables[-1].sqlite)
                    continue
                rows = [[_value(one) for one in row] for row in rows_of(statement)]
                places = ", ".join("?" * len(rows[0]))
                insert = f"INSERT INTO {_target(statement)} VALUES ({places})"
                connection.executemany(insert, rows)
            except (sqlite3.Error, OverflowError) as error:
                raise DataError(
                    f"The dump has a statement that SQLite cannot do ({error}): {statement[:80]!r}."
                ) from error
    connection.close()
    path.with_suffix(".json").write_text(
        json.dumps([asdict(table) for table in tables]), encoding="utf-8"
    )


def _target(insert: str) -> str:
    """Return table and columns of an INSERT statement."""
    match = re.match(r"INSERT\s+INTO\s+(.*?)\s*VALUES", insert, re.IGNORECASE | re.DOTALL)
    assert match is not None
    return match[1].replace("`", '"')


def _value(text: str) -> str | int | float | None:
    quote = text[0]
    if quote in "'\"":

        def unescaped(match: re.Match[str]) -> str:
            return quote if match[1] is None else _ESCAPES.get(match[1], match[1])

        return re.sub(rf"\\(.)|{quote}{quote}", unescaped, text[1:-1], flags=re.DOTALL)
    if text.upper() in _WORDS:
        return _WORDS[text.upper()]
    try:
        return float(text) if re.search(r"[.eE]", text) else int(text)
    except ValueError:
        raise DataError(
            f"The dump has the value {text[:80]!r}, which cannot be read: write a number, a text "
            "in quotes or NULL."
        ) from None
