"""Databases on a MySQL or MariaDB server, through mysql-connector-python."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hpl_gym.core import EnvironmentFaultError, HPLGymError
from hpl_gym.intercode_sql.address import Address
from hpl_gym.intercode_sql.mysql_load import connector, drop, drop_stale, load, load_missing, run
from hpl_gym.intercode_sql.questions import QuestionSet
from hpl_gym.intercode_sql.result import (
    LOST,
    MOST_CHARACTERS,
    MOST_ROWS,
    TIME_LIMIT,
    TOO_SLOW,
    Result,
    to_result,
)
from hpl_gym.intercode_sql.session import Session, StatementLostError, first_word

# The codes of: no connection, connection gone or killed, server shut down, idle for too long.
_GONE = frozenset(
    (1053, 1077, 1079, 1158, 1159, 1160, 1161, 1927, 2002, 2003, 2006, 2013, 2055, 4031)
)
_INTERRUPTED = frozenset((1317, 1969, 3024))
_DENIED = frozenset((1142, 1143, 1370))
# MariaDB's names of a statement's parts, and MySQL's.
_PARTS = {
    "SELECT": "field list",
    "WHERE": "where clause",
    "ON": "on clause",
    "GROUP BY": "group statement",
    "HAVING": "having clause",
    "ORDER BY": "order clause",
}
_PART = re.compile(rf" in ('?)({'|'.join(_PARTS)})\1(?=$| is ambiguous$)")
# What leaves something in a connection: variables, locks, counters.
_LEAVES = re.compile(r"@|:=|_lock\s*\(|\binto\b|last_insert_id|found_rows", re.IGNORECASE)
_ACCOUNT = re.compile(r"'\w*'@'[^']*'")
_WIDTH = re.compile(r"\b(tinyint(?!\(1\))|smallint|mediumint|int|bigint)\(\d+\)")
_SHOWS = frozenset(("SHOW", "DESC", "DESCRIBE", "EXPLAIN"))
_KEPT = 8  # idle connections of a database


class MySQLServer:
    """The databases of a question set on a server; those that it lacks are loaded.

    Args:
        address: Where it is, and an account that may create databases and accounts.
        questions: The databases.

    Raises:
        HPLGymError: It cannot be reached, the account may not do that, or the server has other
            databases of the same names.

    Attributes:
        name: What the server is, such as ``mariadb 10.11.14``.
    """

    def __init__(self, address: Address, questions: QuestionSet) -> None:
        self.address = address
        self.dump = questions.databases
        self._idle: dict[str, list[Any]] = defaultdict(list)
        self._watch = _Watch(self)
        try:
            with self.admin() as admin:
                version = str(run(admin, "SELECT VERSION()")[0][0])
                self.maria = "mariadb" in version.lower()
                self.name = f"{'mariadb' if self.maria else 'mysql'} {version.split('-')[0]}"
                run(admin, "SELECT GET_LOCK('hpl_gym', 300)")
                drop_stale(admin)
                load_missing(admin, questions)
                for name in self.dump:
                    self.make_account(admin, reader(name), name, "SELECT, SHOW VIEW")
        except connector().Error as error:
            raise HPLGymError(
                f"The MySQL server at {address} cannot be used ({error.msg}): check the address, "
                "and that the account may create databases and accounts."
            ) from error

    def session(self, database: str) -> Session:
        """Return a new episode's view of a database."""
        return Session(SharedDatabase(self, database))

    @contextmanager
    def admin(self) -> Iterator[Any]:
        """Open a connection of the account that may do everything."""
        connection = self._connect(self.address.user, self.address.password)
        try:
            yield connection
        finally:
            _close(connection)

    def open(self, user: str, database: str) -> Any:
        """Open a connection of one of our accounts to its database, with its limits set.

        Raises:
            EnvironmentFaultError: The server cannot be reached.
        """
        limit = (
            f"max_statement_time = {TIME_LIMIT}"
            if self.maria
            else f"max_execution_time = {int(TIME_LIMIT * 1000)}"
        )
        # MariaDB does not see that a primary key settles the other columns, as MySQL does.
        strict = "" if self.maria else ",ONLY_FULL_GROUP_BY"
        try:
            connection = self._connect(user, self._password(user), database)
            run(
                connection,
                f"SET SESSION {limit}, sql_select_limit = {MOST_ROWS}, lock_wait_timeout = 5, "
                f"sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION{strict}'",
            )
        except connector().Error as error:
            raise EnvironmentFaultError(
                f"The MySQL server at {self.address} is out of reach ({error.msg}): start it again."
            ) from error
        return connection

    def borrow(self, database: str, *, new: bool = False) -> Any:
        """Return a connection that can only read one database; `new` where an old one failed."""
        idle = self._idle[database]
        while idle:
            connection = idle.pop()
            if not new:
                return connection
            _close(connection)
        return self.open(reader(database), database)

    def give_back(self, database: str, connection: Any) -> None:
        """Keep a connection for the next statement."""
        if len(self._idle[database]) < _KEPT:
            self._idle[database].append(connection)
        else:
            _close(connection)

    def execute(self, connection: Any, statement: str) -> tuple[Result, int, bool]:
        """Run a statement.

        Returns:
            The result, the error's code (0: none), and whether the connection may go on.

        Raises:
            StatementLostError: The connection broke.
        """
        try:
            cursor = connection.cursor()
        except connector().Error as error:
            raise StatementLostError from error
        try:
            with self._watch.over(connection):
                cursor.execute(statement)
                if not cursor.with_rows:
                    return Result(), 0, True
                rows, whole = _fetch(cursor)
            if whole:
                cursor.close()
            result = to_result(rows)
            if self.maria and first_word(statement) in _SHOWS and result.rows:
                result = Result(tuple(map(_as_mysql, result.rows)))
            return result, 0, whole
        except connector().Error as error:
            if self._watch.has_killed(connection):
                return Result(error=TOO_SLOW), error.errno, False
            if error.errno in _GONE:
                raise StatementLostError from error
            text = TOO_SLOW if error.errno in _INTERRUPTED else str(error.msg)
            return Result(error=_clean(text)), error.errno, error.errno not in _INTERRUPTED
        except (ValueError, TypeError, UnicodeError, OverflowError, ArithmeticError) as error:
            # A value that Python has no type for, such as the year 0.
            return Result(error=f"The result cannot be shown: {error}"), -1, False

    def make_account(self, admin: Any, user: str, database: str, privileges: str) -> None:
        """Make an account with privileges on one database and on nothing else."""
        password, pattern = self._password(user), database.replace("_", r"\_")
        run(admin, f"CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{password}'")
        run(admin, f"GRANT {privileges} ON `{pattern}`.* TO '{user}'@'%'")

    def _connect(self, user: str, password: str, database: str | None = None) -> Any:
        from mysql.connector.constants import ClientFlag

        place: dict[str, Any] = {"host": self.address.host, "port": self.address.port}
        if self.address.unix_socket:
            place = {"unix_socket": self.address.unix_socket}
        return connector().connect(
            **place,
            user=user,
            password=password,
            database=database,
            charset="utf8mb4",
            collation="utf8mb4_general_ci",
            autocommit=True,
            allow_local_infile=False,
            client_flags=[-ClientFlag.MULTI_STATEMENTS],
            connection_timeout=10,
        )

    def _password(self, user: str) -> str:
        return hashlib.sha256(f"{self.address.password} {user}".encode()).hexdigest()[:32]


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
            connection = self.server.borrow(self.name, new=attempt == 2)
            try:
                result, code, good = self.server.execute(connection, statement)
            except StatementLostError:
                _close(connection)
                continue
            if good and not _LEAVES.search(statement):
                self.server.give_back(self.name, connection)
            else:
                _close(connection)
            writes = code in _DENIED and not re.match("(SELECT|SHOW)", result.error)
            return None if writes else result
        return Result(error=LOST)

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
        try:
            with server.admin() as admin:
                load(admin, self.name, server.dump[original])
                server.make_account(admin, self.name, self.name, "ALL PRIVILEGES")
        except connector().Error as error:
            raise EnvironmentFaultError(
                f"The MySQL server at {server.address} cannot copy a database ({error.msg}): look "
                "at its log, start it again."
            ) from error
        self._connection = server.open(self.name, self.name)
        self._qualified = re.compile(rf"(?<![\w'\"])`?{re.escape(original)}`?\s*\.", re.IGNORECASE)

    def run(self, statement: str) -> Result:
        """Run a statement; the database's own name means the copy.

        Raises:
            StatementLostError: The connection broke, or had to be.
        """
        here = self._qualified.sub(f"`{self.name}`.", statement)
        result, _, good = self.server.execute(self._connection, here)
        if not good:
            # Too many rows or too slow; what the connection held is in the log.
            _close(self._connection)
            self._connection = self.server.open(self.name, self.name)
        rows = result.rows and tuple(row.replace(self.name, self.original) for row in result.rows)
        return Result(rows, result.error.replace(self.name, self.original))

    def drop(self) -> None:
        """Remove the copy and its account; what is left if that fails is removed later."""
        _close(self._connection)
        with suppress(connector().Error), self.server.admin() as admin:
            drop(admin, self.name)


class _Watch:
    """Kills statements that the server's own time limit does not end.

    An agent can lift that limit, since it is a session variable.
    """

    def __init__(self, server: MySQLServer) -> None:
        self._server = server
        self._running: dict[int, float] = {}
        self._killed: set[int] = set()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, connection: Any) -> Iterator[None]:
        """Watch over a connection while it runs a statement."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        number = connection.connection_id
        self._running[number] = time.monotonic() + TIME_LIMIT + 1
        try:
            yield
        finally:
            del self._running[number]

    def has_killed(self, connection: Any) -> bool:
        """Whether the connection was killed for being late."""
        return connection.connection_id in self._killed

    def _watch(self) -> None:
        while True:
            time.sleep(0.5)
            now = time.monotonic()
            late = [number for number, end in list(self._running.items()) if now > end]
            if late:
                with suppress(connector().Error), self._server.admin() as admin:
                    for number in late:
                        self._killed.add(number)
                        run(admin, f"KILL {number}")


def _fetch(cursor: Any) -> tuple[list[tuple[Any, ...]], bool]:
    """Return the rows up to the limits, and whether these are all."""
    rows: list[tuple[Any, ...]] = []
    room = MOST_CHARACTERS
    while room > 0 and len(rows) < MOST_ROWS:
        some = cursor.fetchmany(500)
        if not some:
            return rows, True
        rows += some
        room -= sum(len(str(row)) for row in some) if len(rows) > 500 else 0
    return rows, False


def _as_mysql(row: str) -> str:
    """Return a row of DESC or SHOW from MariaDB as MySQL writes it."""
    row = row.replace("'current_timestamp()', ''", "'CURRENT_TIMESTAMP', 'DEFAULT_GENERATED'")
    return _WIDTH.sub(r"\1", row)


def _clean(text: str) -> str:
    """Return a server's message as MySQL words it, for whichever account."""
    text = text.replace("MariaDB server", "MySQL server")
    text = _PART.sub(lambda match: f" in {match[1]}{_PARTS[match[2]]}{match[1]}", text)
    return _ACCOUNT.sub("'agent'@'localhost'", text)


def reader(database: str) -> str:
    """Return the name of the account that can read a database and do nothing else."""
    return f"hpl_r_{hashlib.sha256(database.encode()).hexdigest()[:16]}"


def _close(connection: Any) -> None:
    with suppress(Exception):
        connection.close()
