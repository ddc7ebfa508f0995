"""Databases on a MySQL or MariaDB server, through mysql-connector-python."""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hpl_gym.core import EnvironmentFaultError, HPLGymError
from hpl_gym.intercode_sql.address import Address
from hpl_gym.intercode_sql.mysql_database import SharedDatabase
from hpl_gym.intercode_sql.mysql_load import (
    close,
    connector,
    drop_stale,
    load_missing,
    reader,
    run,
)
from hpl_gym.intercode_sql.mysql_result import as_mysql, clean, reproducible, skip_results
from hpl_gym.intercode_sql.questions import QuestionSet
from hpl_gym.intercode_sql.result import MOST_ROWS, TIME_LIMIT, TOO_SLOW, Result, to_result
from hpl_gym.intercode_sql.session import Session, StatementLostError, first_word
from hpl_gym.intercode_sql.watch import Watch

# The codes of: no connection, connection gone or killed, server shut down, idle for too long.
_GONE = frozenset(
    (1053, 1077, 1079, 1158, 1159, 1160, 1161, 1927, 2002, 2003, 2006, 2013, 2055, 4031)
)
_INTERRUPTED = frozenset((1317, 1969, 3024))
_SHOWS = frozenset(("SHOW", "DESC", "DESCRIBE", "EXPLAIN"))
_RESTART_LIMIT = 10.0  # seconds in which a server of ours that ended is there again
_KEPT = 8  # idle connections of a database
_NOW = 1_704_067_200  # what NOW() is in every episode: 2024-01-01 00:00 UTC


class MySQLServer:
    """The databases of a question set on a server; those that it lacks are loaded.

    Args:
        address: Where it is, and an account that may create databases and accounts.
        questions: The databases.
        restart: Starts the server again and returns its address, where that is in our hands.

    Raises:
        HPLGymError: It cannot be reached, the account may not do that, or the server has other
            databases of the same names.

    Attributes:
        name: What the server is, such as ``mariadb 10.11.14``.
        process: The process that its connections are of.
    """

    def __init__(
        self,
        address: Address,
        questions: QuestionSet,
        restart: Callable[[], Address] | None = None,
    ) -> None:
        self.address = address
        self._restart = restart
        self.dump = questions.databases
        self.process = os.getpid()
        self._idle: dict[str, list[Any]] = defaultdict(list)
        self._watch = Watch(TIME_LIMIT + 1, self._kill)
        try:
            with self.admin() as admin:
                version = str(run(admin, "SELECT VERSION()")[0][0])
                self.maria = "mariadb" in version.lower()
                self.name = f"{'mariadb' if self.maria else 'mysql'} {version.split('-')[0]}"
                # An agent may take locks too: this one's name it cannot know.
                run(admin, f"SELECT GET_LOCK('{self._password('lock')}', 300)")
                with self.admin() as other:
                    drop_stale(other)
                load_missing(admin, questions)
                for name in self.dump:
                    self.make_account(admin, reader(name), name, "SELECT, SHOW VIEW")
                    self.set_password(admin, reader(name))
        except connector().Error as error:
            raise HPLGymError(
                f"The MySQL server at {address} cannot be used ({error.msg}): check the address, "
                "and that the account may create databases and accounts."
            ) from error

    @property
    def version(self) -> str:
        """The name, which has the server's version."""
        return self.name

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
            close(connection)

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
            # MariaDB's tables in memory give rows of one rank in another order in each connection.
            ties = "tmp_memory_table_size = 0, " if self.maria else ""
            run(
                connection,
                f"SET SESSION {limit}, {ties}sql_select_limit = {MOST_ROWS}, "
                f"lock_wait_timeout = 5, timestamp = {_NOW}, "
                f"sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION{strict}'",
            )
            run(connection, "SELECT 1")  # settles FOUND_ROWS()
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
            close(connection)
        return self.open(reader(database), database)

    def give_back(self, database: str, connection: Any) -> None:
        """Keep a connection for the next statement."""
        if len(self._idle[database]) < _KEPT:
            self._idle[database].append(connection)
        else:
            close(connection)

    def execute(
        self, connection: Any, statement: str, *, draws: bool = False
    ) -> tuple[Result, int, bool]:
        """Run a statement.

        Args:
            connection: Where.
            statement: What.
            draws: Whether it may call RAND() without naming it.

        Returns:
            The result, the error's code (0: none), and whether the connection may go on.

        Raises:
            StatementLostError: The connection broke.
            HPLGymError: This process was forked from the one that the server's connections are of.
        """
        if os.getpid() != self.process:
            raise HPLGymError(
                "This environment's connections are those of another process: make the environment "
                "in the process that plays it, after the fork."
            )
        try:
            cursor = connection.cursor()
        except connector().Error as error:
            raise StatementLostError from error
        try:
            if draws or "rand" in statement.lower():
                one, other = _seeds(statement)
                cursor.execute(f"SET rand_seed1 = {one}, rand_seed2 = {other}")
            with self._watch.over(connection):
                cursor.execute(statement)
                result, whole = Result(), True
                if cursor.with_rows:
                    result, whole = to_result(iter(cursor.fetchone, None))
                if whole:
                    skip_results(cursor)
            if whole:
                cursor.close()
            verb = first_word(statement)
            if self.maria and verb in _SHOWS and result.rows:
                result = Result(tuple(map(as_mysql, result.rows)))
            if verb == "SHOW" and result.rows:
                result = Result(tuple(map(reproducible, result.rows)))
            return result, 0, whole
        except connector().Error as error:
            if self._watch.has_killed(connection):
                return Result(error=TOO_SLOW), error.errno, False
            if error.errno in _GONE:
                raise StatementLostError from error
            text = TOO_SLOW if error.errno in _INTERRUPTED else str(error.msg)
            return Result(error=clean(text)), error.errno, True
        except (ValueError, TypeError, UnicodeError, OverflowError, ArithmeticError) as error:
            # A value that Python has no type for, such as the year 0.
            return Result(error=f"The result cannot be shown: {error}"), -1, False

    def make_account(self, admin: Any, user: str, database: str, privileges: str) -> None:
        """Make an account with privileges on one database and on nothing else."""
        password, pattern = self._password(user), database.replace("_", r"\_")
        run(admin, f"CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{password}'")
        run(admin, f"GRANT {privileges} ON `{pattern}`.* TO '{user}'@'%'")

    def set_password(self, admin: Any, user: str) -> None:
        """Give an account its password, whatever it had."""
        run(admin, f"ALTER USER '{user}'@'%' IDENTIFIED BY '{self._password(user)}'")

    def _connect(self, user: str, password: str, database: str | None = None) -> Any:
        from mysql.connector.constants import ClientFlag

        settings = {
            "user": user,
            "password": password,
            "database": database,
            "charset": "utf8mb4",
            "collation": "utf8mb4_general_ci",
            "autocommit": True,
            "allow_local_infile": False,
            "client_flags": [-ClientFlag.MULTI_STATEMENTS],
            "connection_timeout": 10,
        }
        end = time.monotonic() + _RESTART_LIMIT
        while True:
            try:
                return connector().connect(**self._place(), **settings)
            except connector().Error as error:
                late = time.monotonic() > end
                if error.errno not in _GONE or self._restart is None or late:
                    raise
            time.sleep(0.2)
            self.address = self._restart()

    def _place(self) -> dict[str, Any]:
        if self.address.unix_socket:
            return {"unix_socket": self.address.unix_socket}
        return {"host": self.address.host, "port": self.address.port}

    def _kill(self, numbers: list[int]) -> None:
        with suppress(connector().Error, HPLGymError), self.admin() as admin:
            for number in numbers:
                with suppress(connector().Error):  # it has ended by itself
                    run(admin, f"KILL {number}")

    def _password(self, user: str) -> str:
        return hashlib.sha256(f"{self.address.password} {user}".encode()).hexdigest()[:32]


def _seeds(statement: str) -> tuple[int, int]:
    """Return the seeds of RAND() in a statement, so that it is the same wherever it runs."""
    digest = hashlib.sha256(statement.encode()).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")
