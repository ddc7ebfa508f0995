"""An episode's view of one database: shared and read-only until its first write."""

from __future__ import annotations

import re
from typing import Protocol

from hpl_gym.core import EnvironmentFaultError
from hpl_gym.intercode_sql.result import LOST, MOST_STATEMENT, TOO_LONG, Result

_COMMENT = re.compile(r"\s+|--(?=\s)[^\n]*|#[^\n]*|/\*(?!M?!).*?\*/", re.DOTALL)
_READS = frozenset("SELECT SHOW DESC DESCRIBE EXPLAIN WITH TABLE VALUES HELP".split())
_PLAIN = frozenset("SELECT SHOW DESC DESCRIBE EXPLAIN".split())
# What is in all statements that read and leave something behind: variables, locks, numbers drawn.
_LEFT = ("@", ":=", "/*", "_lock", "into", "last_insert_id", "found_rows", "next", "setval")
# What is in all statements that tell of those before, even of those that changed nothing.
_ASKED = ("found_rows", "row_count", "warning_count", "error_count", "last_insert_id")
_SHOWN = ("warnings", "errors", "count", "profile", "status")
_RUN_BY_MYSQL = re.compile(r"/\*M?!\d*(.*?)(?:\*/|\Z)", re.DOTALL | re.IGNORECASE)
_XA = re.compile(r"\bxa\s+(?:start|begin|end|prepare|commit|rollback|recover)\b", re.IGNORECASE)
# Locks by name are the server's: other episodes would see them.
_LOCKS = re.compile(
    r"\b(?:get_lock|is_free_lock|is_used_lock|release_lock|release_all_locks)\s*\(", re.IGNORECASE
)
_RUNS_TEXTS = frozenset("PREPARE EXECUTE SET BEGIN CREATE".split())
_NO_QUOTES = str.maketrans("'\"`", "   ")
# Texts and names in quotes, and comments that are none of MySQL's own. What is not closed goes on
# to the end, so that a statement is looked through once.
_QUOTED = re.compile(
    r"""('(?:[^'\\]|\\.|'')*+(?:'|\Z)|"(?:[^"\\]|\\.|"")*+(?:"|\Z)|`[^`]*(?:`|\Z))"""
    r"""|--(?=\s)[^\n]*|\#[^\n]*|/\*(?!M?!).*?(?:\*/|\Z)""",
    re.DOTALL,
)
# Statements that run others, or after which a SELECT can.
_ROUTINES = re.compile(r"function|execute|prepare|/\*m?!", re.IGNORECASE)


class StatementLostError(Exception):
    """The connection broke while a statement ran."""


class Copy(Protocol):
    """A private copy of a database, in which an episode may write."""

    broken: bool

    def run(self, statement: str) -> Result:
        """Run one statement, whatever it is; sets `broken` where its connection ended with it.

        The next statement then runs in a new connection.

        Raises:
            StatementLostError: The connection broke.
        """

    def drop(self) -> None:
        """Remove the copy."""


class Database(Protocol):
    """A shared database, which nobody may change."""

    name: str

    def read(self, statement: str) -> Result | None:
        """Run one statement on an account that can only read; None if it would have to write."""

    def copy(self) -> Copy:
        """Return a new private copy."""


class Session:
    """Runs an episode's statements: in the shared database, or in a copy once it has written.

    What an episode has changed is the log of its writing statements: another log is another state,
    which is made by running the log in a new copy.

    Args:
        database: The shared database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._copy: Copy | None = None
        self._log: tuple[str, ...] = ()
        self._unlogged = False

    def run(self, log: tuple[str, ...], statement: str) -> tuple[tuple[str, ...], Result]:
        """Run one statement after the writes in `log`.

        Returns:
            The log after it, and the result.

        Raises:
            EnvironmentFaultError: The server is out of reach, or failed twice.
        """
        statement = statement.encode("utf-8", "replace").decode()
        if len(statement) > MOST_STATEMENT:
            return log, Result(error=TOO_LONG)
        if not statement.strip():
            return log, Result(error="Query was empty")
        verb = first_word(statement)
        if verb == "USE":
            return log, self._use(statement)
        plain = _RUN_BY_MYSQL.sub(r" \1 ", uncommented(statement, texts=False))
        if verb in _RUNS_TEXTS:
            plain += uncommented(statement.translate(_NO_QUOTES))
        if first_word(plain) not in _READS and _XA.search(plain):
            return log, Result(error="XA transactions are not available here")
        if _LOCKS.search(plain):
            return log, Result(error="Locks by name are not available here")
        if not log and verb in _READS:
            result = self._database.read(statement)
            if result is not None:
                return log, result
        after = log if log and _changes_nothing(log, statement) else (*log, statement)
        for attempt in (1, 2):
            try:
                copy = self._at(log, fresh=asks(statement))
            except StatementLostError as error:
                self.close()
                if attempt == 2:
                    raise EnvironmentFaultError(
                        "The server closed the connection of a private copy twice: look at its log."
                    ) from error
                continue
            try:
                result = copy.run(statement)
            except StatementLostError:
                # Everything is still in the log: nothing is lost by running it once more.
                self.close()
                if attempt == 2:
                    return log, Result(error=LOST)
                continue
            if _was_not_run(after, result):
                after = log
            self._log, self._unlogged = after, self._unlogged or after == log
            if copy.broken and after == log:  # what the connection held is made again by the log
                self.close()
            return after, result
        raise AssertionError

    def _use(self, statement: str) -> Result:
        name = _bare(statement).lstrip(" \r\n\t\f\v(")[len("use") :].strip(" \r\n\t\f\v;`")
        if name.lower() == self._database.name.lower():
            return Result()
        return Result(error=f"Access denied for user 'agent'@'localhost' to database '{name}'")

    def close(self) -> None:
        """Drop the private copy, if there is one."""
        if self._copy is not None:
            self._copy.drop()
        self._copy, self._log, self._unlogged = None, (), False

    def _at(self, log: tuple[str, ...], *, fresh: bool) -> Copy:
        """Return a copy in which `log` was run; if `fresh`, and nothing else."""
        if self._copy is None or self._log != log or (fresh and self._unlogged):
            self.close()
            self._copy = self._database.copy()
            for statement in log:
                self._copy.run(statement)
            self._log = log
        return self._copy


def _changes_nothing(log: tuple[str, ...], statement: str) -> bool:
    plain = first_word(statement) in _PLAIN and not leaves(statement)
    return plain and not any(map(_ROUTINES.search, log))


def leaves(statement: str) -> bool:
    """Whether a statement that reads can leave something in its connection."""
    text = statement.lower()
    return any(part in text for part in _LEFT)


def asks(statement: str) -> bool:
    """Whether a statement tells of those that ran before it in its connection."""
    text = statement.lower()
    parts = (*_ASKED, *_SHOWN) if first_word(statement) == "SHOW" else _ASKED
    return any(part in text for part in parts)


def _was_not_run(log: tuple[str, ...], result: Result) -> bool:
    bad = result.error.startswith("You have an error in your SQL syntax")
    return bad and not any(map(_ROUTINES.search, log))


def first_word(statement: str) -> str:
    """Return a statement's first word in upper case, behind space, comments and brackets."""
    word = re.match(r"[\s(]*([A-Za-z]+)", _bare(statement))
    return word[1].upper() if word else ""


def uncommented(statement: str, *, texts: bool = True) -> str:
    """Return a statement without comments; unless `texts`, without what is in quotes either."""
    return _QUOTED.sub(lambda match: (match[1] if texts else "''") if match[1] else " ", statement)


def _bare(statement: str) -> str:
    """Return a statement without the space and comments before it."""
    place = 0
    while match := _COMMENT.match(statement, place):
        place = match.end()
    return statement[place:]
