"""Loading databases into a MySQL server, and dropping the copies made there."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from hpl_gym.core import DataError, HPLGymError, MissingExtraError
from hpl_gym.intercode_sql.questions import QuestionSet, count_rows, table_of

_STALE = 86_400  # seconds after which a copy that nobody dropped is dropped
_LOADED = "hpl_gym.loaded"  # what was loaded here, and whether to the end


def load(admin: Any, name: str, statements: tuple[str, ...]) -> None:
    """Make a database out of the statements of a dump; nothing is left of it if one fails."""
    run(admin, f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
    try:
        run(admin, f"USE `{name}`")
        run(
            admin,
            "SET foreign_key_checks = 0, unique_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
        )
        run(admin, "START TRANSACTION")
        for statement in statements:
            run(admin, statement)
        run(admin, "COMMIT")
        # Else the server counts by itself seconds later, and joins in another order from then on.
        tables = ", ".join(f"`{table}`" for (table,) in run(admin, "SHOW TABLES"))
        if tables:
            run(admin, f"ANALYZE TABLE {tables}")
    except BaseException:
        with suppress(connector().Error):
            run(admin, f"DROP DATABASE `{name}`")
        raise


def run(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    """Run one of our own statements and return its rows."""
    cursor = connection.cursor()
    cursor.execute(statement)
    rows = cursor.fetchall() if cursor.with_rows else []
    cursor.close()
    return list(rows)


def load_missing(admin: Any, questions: QuestionSet) -> None:
    """Load the databases that the server lacks.

    Raises:
        DataError: A statement of the dump is no valid MySQL.
        HPLGymError: It has another one of the same name.
    """
    run(admin, "CREATE DATABASE IF NOT EXISTS hpl_gym CHARACTER SET utf8mb4")
    run(
        admin,
        f"CREATE TABLE IF NOT EXISTS {_LOADED} "
        "(name VARCHAR(64) PRIMARY KEY, digest CHAR(64) NOT NULL, done BOOL NOT NULL)",
    )
    there = {str(row[0]).lower() for row in run(admin, "SHOW DATABASES")}
    known = {row[0]: row[1:] for row in run(admin, f"SELECT name, digest, done FROM {_LOADED}")}
    for name, statements in questions.databases.items():
        digest = hashlib.sha256(repr(statements).encode()).hexdigest()
        # What other ways have brought here, such as docker/mysql/load.sh, is not known.
        loaded, done = known.get(name.lower(), (digest, True))
        if name.lower() in there and not done and _is_part(admin, name, statements):
            run(admin, f"DROP DATABASE `{name}`")
            there.remove(name.lower())
        if name.lower() not in there:
            run(admin, f"REPLACE INTO {_LOADED} VALUES ('{name.lower()}', '{digest}', FALSE)")
            try:
                load(admin, name, statements)
            except connector().ProgrammingError as error:
                raise DataError(
                    f"Database {name!r} of the dump is no valid MySQL ({error.msg}): mend the dump."
                ) from error
            run(admin, f"UPDATE {_LOADED} SET done = TRUE WHERE name = '{name.lower()}'")
        elif loaded != digest or not _is_same(admin, name, statements):
            raise HPLGymError(
                f"The MySQL server has another database {name!r} already: use a server of its own "
                "for HPL-Gym, or drop that database."
            )


def _is_same(admin: Any, name: str, statements: tuple[str, ...]) -> bool:
    """Whether a database has the tables of a dump, and as many rows in each."""
    wanted = Counter({table_of(one): 0 for one in statements})
    for one in statements:
        wanted[table_of(one)] += count_rows(one)
    tables = [str(row[0]) for row in run(admin, f"SHOW TABLES FROM `{name}`")]
    counts = (run(admin, f"SELECT COUNT(*) FROM `{name}`.`{table}`")[0][0] for table in tables)
    return dict(wanted) == {
        table.lower(): count for table, count in zip(tables, counts, strict=True)
    }


def _is_part(admin: Any, name: str, statements: tuple[str, ...]) -> bool:
    """Whether a database has no other tables than those of a dump."""
    tables = {str(row[0]).lower() for row in run(admin, f"SHOW TABLES FROM `{name}`")}
    return tables <= {table_of(one) for one in statements}


def drop(admin: Any, name: str) -> None:
    """Drop a private copy and its account; the connection then waits 2 seconds for any lock."""
    run(admin, "SET SESSION lock_wait_timeout = 2, innodb_lock_wait_timeout = 2")
    run(admin, f"DROP DATABASE IF EXISTS `{name}`")
    run(admin, f"DROP USER IF EXISTS '{name}'@'%'")


def drop_stale(admin: Any) -> None:
    """Drop the copies that a process left behind a day ago or more."""
    for (name,) in run(admin, "SHOW DATABASES LIKE 'hpl\\_%'"):
        made = re.fullmatch(r"hpl_([0-9a-f]{8})_[0-9a-f]{12}", str(name))
        if made and int(made[1], 16) < time.time() - _STALE:
            with suppress(connector().Error):  # still in use: another time
                drop(admin, str(name))


def reader(database: str) -> str:
    """Return the name of the account that can read a database and do nothing else."""
    return f"hpl_r_{hashlib.sha256(database.encode()).hexdigest()[:16]}"


def close(connection: Any) -> None:
    """Close a connection, whatever state it is in."""
    with suppress(Exception):
        connection.close()


def connector() -> Any:
    """Return the module `mysql.connector`.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import mysql.connector
    except ImportError as error:
        raise MissingExtraError(
            "A MySQL server needs the sql extra: pip install 'hpl-gym[sql]'."
        ) from error
    return mysql.connector
