"""The embedded default: the databases in SQLite, MySQL's statements translated for it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpl_gym.intercode_sql.dialect import answer, message, translate
from hpl_gym.intercode_sql.questions import QuestionSet, rows_of
from hpl_gym.intercode_sql.result import MOST_ROWS, TIME_LIMIT, TOO_SLOW, Result, to_result
from hpl_gym.intercode_sql.session import Session
from hpl_gym.intercode_sql.tables import Table, collate, read_table

FORMAT = 1
_ESCAPE = re.compile(r"\\(.)|''", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "Z": "\x1a"}
_FORBIDDEN = frozenset((sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA))
_FUNCTIONS: dict[tuple[str, int], Callable[..., Any]] = {
    ("year", 1): lambda day: None if day is None else int(str(day)[:4]),
    ("month", 1): lambda day: None if day is None else int(str(day)[5:7]),
    ("day", 1): lambda day: None if day is None else int(str(day)[8:10]),
    ("left", 2): lambda text, count: None if text is None else str(text)[:count],
    ("right", 2): lambda text, count: None if text is None else str(text)[-count:],
}


class SQLiteServer:
    """The databases of a question set as SQLite files, which are made at their first use.

    Args:
        questions: The databases.

    Attributes:
        name: What the server is, such as ``sqlite 3.45.1``.
    """

    def __init__(self, questions: QuestionSet) -> None:
        self.name = f"sqlite {sqlite3.sqlite_version}"
        cache = Path(os.environ.get("HPL_CACHE") or "~/.cache/hpl-gym").expanduser()
        self._folder = cache / "sql" / f"{FORMAT}-{questions.digest}"
        if not self._folder.is_dir():
            _build(self._folder, questions)
        self._databases: dict[str, SharedDatabase] = {}

    def session(self, database: str) -> Session:
        """Return a new episode's view of a database."""
        if database not in self._databases:
            self._databases[database] = SharedDatabase(self._folder / f"{database}.sqlite")
        return Session(self._databases[database])


class SharedDatabase:
    """One of the databases, which is only read.

    Args:
        path: Its file.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        self._connection = sqlite3.connect(
            uri, uri=True, check_same_thread=False, isolation_level=None
        )
        _prepare(self._connection)
        self._lock = threading.Lock()
        tables = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        self.tables = {
            one["name"].lower(): Table(
                one["name"], one["create"], tuple(map(tuple, one["columns"]))
            )
            for one in tables
        }

    def read(self, statement: str) -> Result | None:
        """Run a statement; None if it would have to write."""
        with self._lock:
            result = _execute(self._connection, statement, self.name, self.tables)
        return None if "readonly database" in result.error else result

    def copy(self) -> PrivateCopy:
        """Return a new private copy, in memory."""
        return PrivateCopy(self)

    def copy_into(self, connection: sqlite3.Connection) -> None:
        """Write the whole database into another."""
        with self._lock:
            self._connection.backup(connection)


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
        original.copy_into(self._connection)
        _prepare(self._connection)

    def run(self, statement: str) -> Result:
        """Run a statement."""
        return _execute(self._connection, statement, self._original.name, self._original.tables)

    def drop(self) -> None:
        """Forget the copy."""
        self._connection.close()


def _prepare(connection: sqlite3.Connection) -> None:
    def authorize(action: int, name: str | None, *_: Any) -> int:
        allowed = action not in _FORBIDDEN or name == "table_info"
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    for (name, count), function in _FUNCTIONS.items():
        connection.create_function(name, count, function, deterministic=True)
    connection.create_collation("mysql", collate)
    connection.set_authorizer(authorize)


def _execute(
    connection: sqlite3.Connection, statement: str, database: str, tables: dict[str, Table]
) -> Result:
    end = time.monotonic() + TIME_LIMIT
    connection.set_progress_handler(lambda: time.monotonic() > end, 10_000)
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
        return to_result(cursor.fetchmany(MOST_ROWS))
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
        slow = str(error) == "interrupted"
        return Result(error=TOO_SLOW if slow else message(str(error), database))


def _build(folder: Path, questions: QuestionSet) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
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
            if statement[:6].upper() == "CREATE":
                tables.append(read_table(statement))
                connection.execute(tables[-1].sqlite)
                continue
            for row in rows_of(statement):
                places = ", ".join("?" * len(row))
                connection.execute(
                    f"INSERT INTO {_target(statement)} VALUES ({places})",
                    [_value(one) for one in row],
                )
    connection.close()
    path.with_suffix(".json").write_text(
        json.dumps([asdict(table) for table in tables]), encoding="utf-8"
    )


def _target(insert: str) -> str:
    """Return table and columns of an INSERT statement."""
    match = re.match(r"INSERT INTO\s+(.*?)\s*VALUES", insert, re.IGNORECASE | re.DOTALL)
    assert match is not None
    return match[1].replace("`", '"')


def _value(text: str) -> str | int | float | None:
    text = text.strip()
    if text.startswith("'"):
        return _ESCAPE.sub(
            lambda match: "'" if match[1] is None else _ESCAPES.get(match[1], match[1]), text[1:-1]
        )
    if text.upper() == "NULL":
        return None
    return float(text) if re.search(r"[.eE]", text) else int(text)
