"""What a statement gave: rows, nothing, or an error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST_ROWS = 10_000
MOST_CHARACTERS = 1_000_000
MOST_STATEMENT = 65_536
TIME_LIMIT = 5.0
ERROR = "Error executing query: "
TOO_LONG = f"The statement is longer than {MOST_STATEMENT} characters"
LOST = "Lost connection to MySQL server during query"
TOO_SLOW = "Query execution was interrupted, maximum statement execution time exceeded"


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement gave.

    Attributes:
        rows: Each row as Python writes a tuple, at most `MOST_ROWS` of `MOST_CHARACTERS` together
            (of a first row that is longer, the beginning); None where the statement has no rows to
            give, or failed.
        error: The server's message; "" if the statement was done.
    """

    rows: tuple[str, ...] | None = None
    error: str = ""

    @property
    def text(self) -> str:
        """The result as it is shown: a list of tuples, ``None``, or the error."""
        if self.error:
            return ERROR + self.error
        return "None" if self.rows is None else f"[{', '.join(self.rows)}]"


def to_result(rows: Iterable[tuple[object, ...]]) -> tuple[Result, bool]:
    """Return rows as a result, up to the limits, and whether these are all of them."""
    texts: list[str] = []
    room = MOST_CHARACTERS
    for row in rows:
        text = str(tuple(sorted(one) if isinstance(one, set) else one for one in row))
        room -= len(text)
        if room < 0 or len(texts) == MOST_ROWS:
            return Result(tuple(texts) or (text[:MOST_CHARACTERS],)), False
        texts.append(text)
    return Result(tuple(texts)), True
