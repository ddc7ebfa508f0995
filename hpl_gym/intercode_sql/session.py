"""An episode's view of one database: shared and read-only until its first write."""

from __future__ import annotations

import re
from typing import Protocol

from hpl_gym.intercode_sql.result import LOST, MOST_STATEMENT, TOO_LONG, Result

_COMMENT = re.compile(r"\s+|--[ \t][^\n]*|--\n|#[^\n]*|/\*(?!!).*?\*/", re.DOTALL)
_READS = frozenset("SELECT SHOW DESC DESCRIBE EXPLAIN WITH TABLE VALUES HELP".split())
_WRITES = frozenset(
    (
        "INSERT UPDATE DELETE REPLACE CREATE ALTER DROP TRUNCATE RENAME SET BEGIN START COMMIT "
        "ROLLBACK SAVEPOINT RELEASE LOCK UNLOCK PREPARE EXECUTE DEALLOCATE CALL DO HANDLER LOAD "
        "KILL ANALYZE OPTIMIZE REPAIR FLUSH XA"
    ).split()
)


class StatementLostError(Exception):
    """The connection broke while a statement ran."""


class Copy(Protocol):
    """A private copy of a database, in which an episode may write."""

    def run(self, statement: str) -> Result:
        """Run one statement, whatever it is.

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

    def run(self, log: tuple[str, ...], statement: str) -> tuple[tuple[str, ...], Result]:
        """Run one statement after the writes in `log`.

        Returns:
            The log after it, and the result.

        Raises:
            EnvironmentFaultError: The server failed twice.
        """
        statement = statement.encode("utf-8", "replace").decode()
        if len(statement) > MOST_STATEMENT:
            return log, Result(error=TOO_LONG)
        if not statement.strip():
            return log, Result(error="Query was empty")
        verb = first_word(statement)
        if verb == "USE":
            return log, self._use(statement)
        if not log and verb not in _WRITES:
            result = self._database.read(statement)
            if result is not None:
                return log, result
        # Comments aside, what begins with a reading word changes nothing that lasts.
        after = log if log and verb in _READS else (*log, statement)
        for attempt in (1, 2):
            copy = self._at(log)
            try:
                result = copy.run(statement)
            except StatementLostError:
                # Everything is still in the log: nothing is lost by running it once more.
                self.close()
                if attempt == 2:
                    return log, Result(error=LOST)
            else:
                self._log = after
                return after, result
        raise AssertionError

    def _use(self, statement: str) -> Result:
        name = re.sub(r"(?is).*\buse\b\s*", "", statement).strip(" \n\t;`")
        if name.lower() == self._database.name.lower():
            return Result()
        return Result(error=f"Access denied for user 'agent'@'localhost' to database '{name}'")

    def close(self) -> None:
        """Drop the private copy, if there is one."""
        if self._copy is not None:
            self._copy.drop()
        self._copy, self._log = None, ()

    def _at(self, log: tuple[str, ...]) -> Copy:
        if self._copy is None or self._log != log:
            self.close()
            self._copy = self._database.copy()
            for statement in log:
                self._copy.run(statement)
            self._log = log
        return self._copy


def first_word(statement: str) -> str:
    """Return a statement's first word in upper case, behind space, comments and brackets."""
    place = 0
    while match := _COMMENT.match(statement, place):
        place = match.end()
    word = re.match(r"[\s(]*([A-Za-z]+)", statement[place:])
    return word[1].upper() if word else ""
