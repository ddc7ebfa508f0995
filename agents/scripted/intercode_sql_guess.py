"""Guessing a query from a question's words and the names of columns."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FIGURES = {
    "average": "AVG",
    "mean": "AVG",
    "maximum": "MAX",
    "highest": "MAX",
    "largest": "MAX",
    "minimum": "MIN",
    "lowest": "MIN",
    "smallest": "MIN",
    "total": "SUM",
    "sum": "SUM",
}
_MORE = re.compile(
    r"(more than|greater than|over|above|older than|longer than|after|at least|less than|"
    r"fewer than|under|below|younger than|shorter than|before|at most)\s+(\d+(?:\.\d+)?)"
)
_LESS = ("less", "fewer", "under", "below", "younger", "shorter", "before")


@dataclass(frozen=True)
class Table:
    """A table that was looked at.

    Attributes:
        name: Its name.
        columns: The type of each column.
    """

    name: str
    columns: dict[str, str]


def guess(question: str, tables: list[Table]) -> list[str]:
    """Return queries that may answer a question, the best first.

    Args:
        question: The question.
        tables: The tables that it seems to be about, the likeliest first.
    """
    asked = question.lower()
    table = max(tables, key=lambda one: _fit(asked, one))
    named = _named(asked, table)
    where = _condition(question, table)
    queries = []
    if re.search(r"\bhow many\b|\bnumber of\b", asked):
        group = re.search(r"\b(?:for each|of each|per|by each|in each|each)\b", asked)
        if group and named:
            column = named[-1]
            queries.append(f"SELECT {column}, COUNT(*) FROM {table.name}{where} GROUP BY {column}")
        queries.append(f"SELECT COUNT(*) FROM {table.name}{where}")
    figures = [_FIGURES[word] for word in re.findall(r"[a-z]+", asked) if word in _FIGURES]
    numbers = [name for name in named if _is_number(table, name)]
    if figures and numbers:
        shown = ", ".join(f"{figure}({numbers[0]})" for figure in dict.fromkeys(figures))
        queries.append(f"SELECT {shown} FROM {table.name}{where}")
    if named:
        some = ", ".join(named)
        distinct = "DISTINCT " if re.search(r"\b(different|distinct|unique)\b", asked) else ""
        queries.append(f"SELECT {distinct}{some} FROM {table.name}{where}{_order(asked, table)}")
    queries.append(f"SELECT * FROM {table.name}{where}")
    queries.append(f"SELECT * FROM {table.name}")
    return list(dict.fromkeys(queries))


def stems(text: str) -> list[str]:
    """Return the words of a text in the singular."""
    words = re.findall(r"[a-z]+", text.lower())
    return [re.sub(r"ies$", "y", word).rstrip("s") for word in words]


def _fit(asked: str, table: Table) -> float:
    """Return how well a table fits a question: the columns it names, and the table itself."""
    words = set(stems(asked))
    own = _words(table.name)
    return len(_named(asked, table)) + 2.0 * sum(word in words for word in own) / max(1, len(own))


def _words(name: str) -> list[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ")
    return stems(apart)


def _named(asked: str, table: Table) -> list[str]:
    """Return the columns that a question names, in its order."""
    words = stems(asked)
    own = set(_words(table.name))
    places = {}
    for column in table.columns:
        parts = [word for word in _words(column) if word not in own] or _words(column)
        if parts and all(word in words for word in parts):
            places[column] = words.index(parts[0])
    return sorted(places, key=lambda column: places[column])


def _is_number(table: Table, column: str) -> bool:
    return re.match(r"\w*int|float|double|decimal", table.columns[column]) is not None


def _condition(question: str, table: Table) -> str:
    quoted = re.findall(r"['\"]([^'\"]+)['\"]", question)
    texts = [name for name in table.columns if not _is_number(table, name)]
    if quoted and texts:
        named = [name for name in _named(question.lower(), table) if name in texts]
        return f" WHERE {(named or texts)[-1]} = '{quoted[0]}'"
    match = _MORE.search(question.lower())
    numbers = [name for name in _named(question.lower(), table) if _is_number(table, name)]
    if match and numbers:
        sign = "<" if match[1].startswith(_LESS) else ">"
        equal = "=" if match[1].startswith("at ") else ""
        if match[1] == "at most":
            sign = "<"
        return f" WHERE {numbers[-1]} {sign}{equal} {match[2]}"
    return ""


def _order(asked: str, table: Table) -> str:
    if not re.search(r"\b(sorted|ordered|order|ascending|descending)\b", asked):
        return ""
    named = _named(asked[re.search(r"\b(sort|order|ascend|descend)", asked).start() :], table)  # type: ignore[union-attr]
    if not named:
        return ""
    return f" ORDER BY {named[-1]}{' DESC' if 'descend' in asked else ''}"
