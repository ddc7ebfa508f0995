"""Generated databases and questions, in the formats of the benchmark's files, from a seed."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from hpl_gym.intercode_sql.patterns import LEVELS, PATTERNS, Column, Table

EACH = 12  # questions of each level in a database
_MOST_ROWS = 60
_STYLES = ("snake", "capital", "camel")


@dataclass(frozen=True)
class _Made:
    """A generated database: its tables, each with its rows."""

    name: str
    tables: tuple[Table, ...]
    rows: tuple[tuple[tuple[Any, ...], ...], ...]


def generate_databases(count: int, seed: int = 0) -> tuple[str, list[dict[str, Any]]]:
    """Return a MySQL dump of `count` databases and the questions on them.

    Database `n` is the same whatever `count` is. Questions name what to show and in which order;
    their answers have between 1 and 60 rows, and no tie decides them.

    Args:
        count: How many databases, 48 questions each.
        seed: Another seed, other databases.

    Returns:
        The dump, and the questions as in ``ic_spider_dev.json``.
    """
    made = [_database(number, seed) for number in range(count)]
    questions = [question for one in made for question in _questions(one, seed)]
    return "\n".join(map(_dump, made)), questions


def _database(number: int, seed: int) -> _Made:
    words = _words()
    schemas = words["schemas"]
    schema, round_ = schemas[number % len(schemas)], number // len(schemas)
    draw = random.Random(f"sql {seed} {number}")
    style = schema["style"] if not round_ else draw.choice(_STYLES)
    ending = "".join(f"_{part}" for part in (round_, seed and f"s{seed}") if part)
    tables: list[Table] = []
    rows: list[tuple[tuple[Any, ...], ...]] = []
    for level, (name, one, many, columns) in enumerate(schema["tables"]):
        # Later rounds of a schema lack a column, so that no two databases are alike.
        kept = columns if not round_ or level == 0 else _without(draw, columns)
        key = Column(_styled(f"{name}_id", style), "id", "key", ())
        parent = tables[-1] if tables else None
        link = (Column(_styled(f"{parent.base}_id", style), "", "link", ()),) if parent else ()
        told = tuple(
            Column(_styled(base, style), english, kind.rstrip("?"), argument, kind.endswith("?"))
            for base, english, kind, argument in kept
        )
        table = Table(_styled(name, style), name, one, many, (key, *told, *link), parent)
        tables.append(table)
        size = (draw.randint(5, 9), draw.randint(14, 26), draw.randint(24, 48))[level]
        rows.append(_rows(draw, table, size, len(rows[-1]) if rows else 0))
    return _Made(f"{schema['database']}{ending}", tuple(tables), tuple(rows))


def _without(draw: random.Random, columns: list[Any]) -> list[Any]:
    """Leave one column out, never the first nor one of the last two kinds that questions need."""
    if len(columns) < 4:
        return columns
    gone = draw.choice(columns[2:])
    return [column for column in columns if column is not gone]


def _styled(name: str, style: str) -> str:
    parts = name.split("_")
    if style == "capital":
        return "_".join(part.capitalize() for part in parts)
    if style == "camel":
        return parts[0] + "".join(part.capitalize() for part in parts[1:])
    return name


def _rows(
    draw: random.Random, table: Table, size: int, parents: int
) -> tuple[tuple[Any, ...], ...]:
    names = {column.name: _names(draw, column.argument, size) for column in table.of("name")}
    # Not every parent has a child, so that questions for those without have an answer.
    linked = draw.sample(range(1, parents + 1), max(2, parents * 3 // 4)) if parents else []
    rows = []
    for place in range(size):
        row: list[Any] = []
        for column in table.columns:
            if column.kind == "key":
                row.append(place + 1)
            elif column.kind == "link":
                row.append(draw.choice(linked))
            elif column.kind == "name":
                row.append(names[column.name][place])
            elif column.empty and draw.random() < 0.12:
                row.append(None)
            else:
                row.append(_value(draw, column))
        rows.append(tuple(row))
    return tuple(rows)


def _value(draw: random.Random, column: Column) -> Any:
    if column.kind == "word":
        return draw.choice(column.argument)
    low, high = column.argument
    if column.kind == "number":
        return draw.randint(low, high)
    if column.kind == "money":
        return round(draw.uniform(low, high) * 4) / 4
    return f"{draw.randint(low, high)}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"


def _names(draw: random.Random, kind: Any, count: int) -> list[str]:
    words = _words()
    firsts, seconds = {
        "person": (words["people"], words["surnames"]),
        "place": (words["places"], words["endings"]),
        "title": (words["firsts"], words["seconds"]),
    }[kind]
    pairs = [f"{first} {second}" for first in firsts for second in seconds]
    return draw.sample(pairs, count)


def _questions(made: _Made, seed: int) -> list[dict[str, Any]]:
    database = sqlite3.connect(":memory:")
    for table, rows in zip(made.tables, made.rows, strict=True):
        columns = ", ".join(f"`{column.name}` {_sqlite(column)}" for column in table.columns)
        database.execute(f"CREATE TABLE `{table.name}` ({columns})")
        places = ", ".join("?" * len(table.columns))
        database.executemany(f"INSERT INTO `{table.name}` VALUES ({places})", rows)
    names = {table.name: [column.name for column in table.columns] for table in made.tables}
    draw = random.Random(f"questions {seed} {made.name}")
    questions: dict[str, dict[str, Any]] = {}
    for level in LEVELS:
        found: dict[str, dict[str, Any]] = {}
        # The patterns take turns, so that all of them are asked in every database.
        for attempt in range(2000):
            if len(found) == EACH:
                break
            patterns = PATTERNS[level]
            asked = patterns[attempt % len(patterns)](draw, made.tables, made.rows)
            if asked is None or asked[0] in questions or asked[0] in found:
                continue
            text, gold, check = asked
            if any(one["gold"] == gold for one in (*questions.values(), *found.values())):
                continue
            answer = database.execute(gold).fetchall()
            if not 1 <= len(answer) <= _MOST_ROWS or answer in ([(None,)], [(0,)]):
                continue
            # A query whose first rows a tie decides is not asked.
            if check and len(set(database.execute(check).fetchmany(2))) < 2:
                continue
            found[text] = {
                "db": made.name,
                "gold": gold,
                "query": text,
                "hardness": level,
                "db_tables": names,
            }
        assert len(found) == EACH, f"too few {level} questions for {made.name}"
        questions |= found
    database.close()
    return list(questions.values())


def _sqlite(column: Column) -> str:
    if column.kind in ("key", "link", "number"):
        return "INTEGER"
    return "REAL" if column.kind == "money" else "TEXT COLLATE NOCASE"


def _mysql(column: Column) -> str:
    null = "" if column.empty else " NOT NULL"
    if column.kind in ("key", "link", "number"):
        return f"int{null}"
    if column.kind == "money":
        return f"decimal(10,2){null}"
    return f"date{null}" if column.kind == "date" else f"varchar(60){null}"


def _dump(made: _Made) -> str:
    lines = [f"CREATE DATABASE IF NOT EXISTS `{made.name}`;", f"USE `{made.name}`;"]
    for table, rows in zip(made.tables, made.rows, strict=True):
        parts = [f"  `{column.name}` {_mysql(column)}" for column in table.columns]
        parts.append(f"  PRIMARY KEY (`{table.columns[0].name}`)")
        if table.parent is not None:
            link, parent = table.columns[-1].name, table.parent
            parts.append(f"  KEY `{link}` (`{link}`)")
            parts.append(
                f"  CONSTRAINT `{made.name}_{table.base}` FOREIGN KEY (`{link}`) "
                f"REFERENCES `{parent.name}` (`{parent.columns[0].name}`)"
            )
        body = ",\n".join(parts)
        lines.append(f"DROP TABLE IF EXISTS `{table.name}`;")
        lines.append(
            f"CREATE TABLE `{table.name}` (\n{body}\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;"
        )
        values = ",".join(f"({','.join(map(_literal, row))})" for row in rows)
        lines.append(f"INSERT INTO `{table.name}` VALUES {values};")
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "\\'") + "'" if isinstance(value, str) else str(value)


@lru_cache(maxsize=1)
def _words() -> dict[str, Any]:
    text = files("hpl_gym.intercode_sql").joinpath("schemas.yaml").read_text(encoding="utf-8")
    words: dict[str, Any] = yaml.safe_load(text)
    return words
