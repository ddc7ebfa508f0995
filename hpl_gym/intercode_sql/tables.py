"""Tables of a MySQL dump: what `DESC` shows of them, and the same tables for SQLite."""

from __future__ import annotations

import logging
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hpl_gym.core import DataError, MissingExtraError

_SHORT = 200  # characters of a text whose order is remembered
# A row of DESC: name, type, whether it may be NULL, key, default, extra.
Column = tuple[str, str, str, str, str | None, str]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Its name, as the dump writes it.
        create: Its CREATE TABLE statement.
        columns: The rows that DESC shows.
    """

    name: str
    create: str
    columns: tuple[Column, ...]

    @property
    def sqlite(self) -> str:
        """The statement that makes it in SQLite, with `collate` as the order of text."""
        parts = [f'"{row[0]}" {_affinity(row[1])}{_null(row)}' for row in self.columns]
        key = ", ".join(f'"{row[0]}"' for row in self.columns if row[3] == "PRI")
        if key:
            parts.append(f"PRIMARY KEY ({key})")
        return f'CREATE TABLE "{self.name}" ({", ".join(parts)})'


def read_table(create: str) -> Table:
    """Return the table that a CREATE TABLE statement makes.

    Raises:
        DataError: The statement cannot be read.
    """
    exp = sqlglot().exp
    try:
        made = sqlglot().parse_one(create, read="mysql").this
    except sqlglot().errors.SqlglotError as error:
        raise DataError(
            f"The dump has a CREATE TABLE statement that cannot be read: {create[:80]!r}."
        ) from error
    primary: list[str] = []
    unique: set[str] = set()
    indexed: set[str] = set()
    for part in made.expressions:
        inner = part.expressions[0] if isinstance(part, exp.Constraint) else part
        names = [one.name for one in inner.expressions]
        if isinstance(inner, exp.PrimaryKey):
            primary = names
        elif isinstance(inner, exp.UniqueColumnConstraint):
            names = [one.name for one in inner.this.expressions]
            (unique if len(names) == 1 else indexed).add(names[0])
        elif isinstance(inner, exp.ForeignKey | exp.IndexColumnConstraint):
            indexed.add(names[0])
    columns = []
    for part in made.expressions:
        if not isinstance(part, exp.ColumnDef):
            continue
        kinds = {type(one.kind): one.kind for one in part.constraints}
        if exp.PrimaryKeyColumnConstraint in kinds:
            primary.append(part.name)
        key = "PRI" if part.name in primary else "UNI" if part.name in unique else ""
        columns.append(
            (
                part.name,
                part.kind.sql("mysql").lower().replace(", ", ","),
                "NO" if exp.NotNullColumnConstraint in kinds or key == "PRI" else "YES",
                key or ("MUL" if part.name in indexed else ""),
                *(
                    (None, "auto_increment")
                    if exp.AutoIncrementColumnConstraint in kinds
                    else _default(kinds.get(exp.DefaultColumnConstraint))
                ),
            )
        )
    return Table(made.this.name, create, tuple(columns))


def _default(constraint: Any) -> tuple[str | None, str]:
    """Return a column's default and what else DESC says of it."""
    exp = sqlglot().exp
    if constraint is None or isinstance(constraint.this, exp.Null):
        return None, ""
    if isinstance(constraint.this, exp.CurrentTimestamp):
        return "CURRENT_TIMESTAMP", "DEFAULT_GENERATED"
    return constraint.this.name, ""


def _affinity(kind: str) -> str:
    if re.match(r"(tiny|small|medium|big)?int|bool", kind):
        return "INTEGER"
    if kind.startswith(("decimal", "double", "float", "real", "numeric")):
        return "REAL"
    return "TEXT COLLATE mysql"


def _null(row: Column) -> str:
    return " NOT NULL" if row[2] == "NO" and row[5] != "auto_increment" else ""


def collate(one: str, other: str) -> int:
    """Compare as MySQL's `utf8mb4_general_ci`: case, accents and spaces at the end do not count."""
    first, second = _bare(one), _bare(other)
    return (first > second) - (first < second)


def _bare(text: str) -> str:
    return _bare_short(text) if len(text) < _SHORT else _bare_short.__wrapped__(text)


@lru_cache(maxsize=65_536)
def _bare_short(text: str) -> str:
    if text.isascii():
        return text.rstrip(" ").upper()
    apart = unicodedata.normalize("NFD", text)
    return "".join(one for one in apart if not unicodedata.combining(one)).rstrip(" ").upper()


def as_name(table: str) -> str:
    """Return a table's name as a statement names it, in backticks where it is a word of MySQL's."""
    words = sqlglot().dialects.MySQL.Generator.RESERVED_KEYWORDS
    return f"`{table}`" if table.lower() in words else table


def sqlglot() -> Any:
    """Return the module that translates SQL.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import sqlglot as module
    except ImportError as error:
        raise MissingExtraError(
            "InterCode-SQL needs the sql extra: pip install 'hpl-gym[sql]'."
        ) from error
    # It warns of what agents write, in the middle of a training.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    return module
