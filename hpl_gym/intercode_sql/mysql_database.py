"""A database on a MySQL or MariaDB server: the shared one, and private copies of it."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from hpl_gym.core import EnvironmentFaultError
from hpl_gym.intercode_sql.mysql_load import close, connector, drop, load, reader, run
from hpl_gym.intercode_sql.questions import table_of
from hpl_gym.intercode_sql.result import Result
from hpl_gym.intercode_sql.session import StatementLostError, asks, first_word, leaves

if TYPE_CHECKING:
    from hpl_gym.intercode_sql.mysql import MySQLServer

_DENIED = frozenset((1142, 1143, 1370))
_OTHER_DATABASE = frozenset((1044, 1049, 1142, 1143, 1146, 1370))
_TEXT = r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\""


class SharedDatabase:
    """One of the databases, which is only read.

    Args:
        server: The server.
        name: The database's name.
    """

    def __init__(self, server: MySQLServer, name: str) -> None:
        self.server = server
        self.name = name

    def read(self, statement: str) -> Result | None:
        """Run a statement on an account that can only read; None if it would have to write.

        Raises:
            EnvironmentFaultError: The server is out of reach.
        """
        for attempt in (1, 2):
            if asks(statement):
                connection = self.server.open(reader(self.name), self.name)
            else:
                connection = self.server.borrow(self.name, new=attempt == 2)
            try:
                result, code, good = self.server.execute(connection, statement)
            except StatementLostError:
                close(connection)
                continue
            if good and not leaves(statement):
                self.server.give_back(self.name, connection)
            else:
                close(connection)
            writes = code in _DENIED and not re.match("(SELECT|SHOW)", result.error)
            return None if writes else result
        raise EnvironmentFaultError(
            f"The MySQL server at {self.server.address} closed the connection twice while a "
            "statement ran: look at its log, start it again."
        )

    def copy(self) -> PrivateCopy:
        """Return a new private copy.

        Raises:
            EnvironmentFaultError: The server is out of reach.
        """
        return PrivateCopy(self.server, self.name)


class PrivateCopy:
    """A copy of a database for one episode, with an account that reaches nothing else.

    Args:
        server: The server.
        original: The database that is copied.

    Raises:
        EnvironmentFaultError: The server is out of reach.
    """

    def __init__(self, server: MySQLServer, original: str) -> None:
        self.server = server
        self.original = original
        self.name = f"hpl_{int(time.time()):x}_{secrets.token_hex(6)}"
        with self._admin() as admin:
            load(admin, self.name, server.dump[original])
            server.make_account(admin, self.name, self.name, "ALL PRIVILEGES")
        self.broken = False
        self._draws = False  # whether a view or routine of the episode's may call RAND()
        self._qualified = _qualified(original, server.dump[original])
        self._shown = _shown(original)
        try:
            self._connection = server.open(self.name, self.name)
        except EnvironmentFaultError:
            self._remove()
            raise

    def run(self, statement: str) -> Result:
        """Run a statement; the database's own name means the copy.

        Raises:
            StatementLostError: The connection broke.
            EnvironmentFaultError: The server is out of reach.
        """
        if self.broken:
            self._reopen()
        self._draws = self._draws or "rand" in statement.lower()
        result, code, good = self.server.execute(self._connection, statement, draws=self._draws)
        if code in _OTHER_DATABASE:
            here = self._here(statement)
            if here != statement:
                result, code, good = self.server.execute(self._connection, here, draws=self._draws)
        self.broken = not good
        rows = result.rows and tuple(map(self._as_original, result.rows))
        return Result(rows, result.error.replace(self.name, self.original))

    def _here(self, statement: str) -> str:
        """Return a statement with the copy's name where it names the database."""
        if first_word(statement) == "SHOW":
            statement = self._shown.sub(rf"\1`{self.name}`", statement)
        return self._qualified.sub(
            lambda match: f"`{self.name}`." if match["database"] else match[0], statement
        )

    def _as_original(self, row: str) -> str:
        row = row.replace(self.name, self.original)
        return row.replace(self.name.replace("_", r"\\_"), self.original)

    def drop(self) -> None:
        """Remove the copy and its account; what is left if that fails is removed later."""
        if os.getpid() != self.server.process:  # it is the other process's
            return
        close(self._connection)
        self._remove()

    def _reopen(self) -> None:
        close(self._connection)
        with self._admin() as admin:
            # An agent can drop the database and change the password.
            run(admin, f"CREATE DATABASE IF NOT EXISTS `{self.name}`")
            self.server.set_password(admin, self.name)
        self._connection = self.server.open(self.name, self.name)
        self.broken = False

    @contextmanager
    def _admin(self) -> Iterator[Any]:
        try:
            with self.server.admin() as admin:
                yield admin
        except connector().Error as error:
            raise EnvironmentFaultError(
                f"The MySQL server at {self.server.address} cannot copy a database ({error.msg}): "
                "look at its log, start it again."
            ) from error

    def _remove(self) -> None:
        with suppress(connector().Error), self.server.admin() as admin:
            drop(admin, self.name)


def _shown(database: str) -> re.Pattern[str]:
    """Return what finds the database that a SHOW statement is about."""
    name = re.escape(database)
    before = r"(\b(?:FROM|IN|DATABASE|SCHEMA)\s+)"
    return re.compile(rf"{before}(?:`{name}`|{name})(?=\s*(?:;|\Z|LIKE\b|WHERE\b))", re.IGNORECASE)


def _qualified(database: str, statements: tuple[str, ...]) -> re.Pattern[str]:
    """Return what finds a database's name before a table's, and texts, which are left alone."""
    tables = {table_of(statement) for statement in statements}
    name = re.escape(database)
    # Where a table has the database's name, what follows it is nearly always a column.
    behind = rf"(?=\s*`?(?:{'|'.join(sorted(map(re.escape, tables)))})\b)"
    behind = behind if database.lower() in {one.lower() for one in tables} else ""
    return re.compile(
        rf"{_TEXT}|(?<![\w.`])(?P<database>(?:`{name}`|{name})\s*\.){behind}", re.IGNORECASE
    )
