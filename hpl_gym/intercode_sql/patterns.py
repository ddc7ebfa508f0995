"""What generated questions ask, by difficulty: a sentence and the query that answers it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

LEVELS = ("easy", "medium", "hard", "extra")


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: Its name.
        english: What questions call it.
        kind: ``key``, ``link``, ``name``, ``word``, ``number``, ``money`` or ``date``.
        argument: What its values are drawn from.
        empty: Whether it may be NULL.
    """

    name: str
    english: str
    kind: str
    argument: Any
    empty: bool = False


@dataclass(frozen=True)
class Table:
    """A table: its key first, the link to its parent last.

    Attributes:
        name: Its name.
        base: Its name without style.
        one: What questions call a row.
        many: What they call rows.
        columns: Its columns.
        parent: The table that it refers to, or None.
    """

    name: str
    base: str
    one: str
    many: str
    columns: tuple[Column, ...]
    parent: Table | None

    def of(self, *kinds: str) -> list[Column]:
        """Return the columns of some kinds."""
        return [column for column in self.columns if column.kind in kinds]

    @property
    def key(self) -> str:
        """The name of the key."""
        return self.columns[0].name

    @property
    def link(self) -> str:
        """The name of the link to the parent."""
        return self.columns[-1].name


Tables = Sequence[Table]
Rows = Sequence[Sequence[tuple[Any, ...]]]
# A sentence, its query, and a query of which the first two rows must differ; or None.
Asked = tuple[str, str, str] | None
Pattern = Callable[[random.Random, Tables, Rows], Asked]


def _pick(draw: random.Random, table: Table, *kinds: str) -> Column | None:
    columns = table.of(*kinds)
    return draw.choice(columns) if columns else None


def _value(draw: random.Random, tables: Tables, rows: Rows, table: Table, column: Column) -> Any:
    """Return a value that the column has."""
    place = table.columns.index(column)
    return draw.choice([row[place] for row in rows[tables.index(table)] if row[place] is not None])


def _middle(draw: random.Random, tables: Tables, rows: Rows, table: Table, column: Column) -> Any:
    """Return a value of the column that some rows are above and some below."""
    place = table.columns.index(column)
    values = sorted(row[place] for row in rows[tables.index(table)])
    return values[draw.randrange(len(values) // 4, max(len(values) // 4 + 1, len(values) * 3 // 4))]


def _quoted(value: Any) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _count(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    table = draw.choice(tables)
    text = draw.choice(("How many {} are there?", "Count the {}.", "What is the number of {}?"))
    return text.format(table.many), f"SELECT COUNT(*) FROM {table.name}", ""


def _list(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    table = draw.choice(tables[:2])
    name, other = table.of("name")[0], _pick(draw, table, "word", "number", "money")
    assert other is not None
    text = draw.choice(
        (
            "List the {} and the {} of all {}, sorted by {}.",
            "What are the {} and the {} of each of the {}? Sort them by {}.",
        )
    ).format(name.english, other.english, table.many, name.english)
    return text, f"SELECT {name.name}, {other.name} FROM {table.name} ORDER BY {name.name}", ""


def _distinct(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    table = draw.choice(tables)
    word = _pick(draw, table, "word")
    if word is None or word.empty:
        return None
    text = draw.choice(
        (
            "What are the different values of {} of the {}, in alphabetical order?",
            "List every {} that {} have, each once, in alphabetical order.",
        )
    ).format(word.english, table.many)
    return text, f"SELECT DISTINCT {word.name} FROM {table.name} ORDER BY {word.name}", ""


def _above(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    table = draw.choice(tables[:2])
    name, number = table.of("name")[0], _pick(draw, table, "number", "money")
    assert number is not None
    bound = _middle(draw, tables, rows, table, number)
    above = draw.random() < 0.5
    text = draw.choice(
        (
            "Which {many} have a {number} {side} {bound}? Show the {name}, in alphabetical order.",
            "Show the {name} of all {many} with a {number} {side} {bound}, in alphabetical order.",
        )
    ).format(
        many=table.many,
        number=number.english,
        side="above" if above else "below",
        bound=bound,
        name=name.english,
    )
    query = (
        f"SELECT {name.name} FROM {table.name} WHERE {number.name} {'>' if above else '<'} {bound}"
    )
    return text, f"{query} ORDER BY {name.name}", ""


def _is(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    table = draw.choice(tables)
    word = _pick(draw, table, "word")
    if word is None:
        return None
    value = _value(draw, tables, rows, table, word)
    text = draw.choice(("How many {} have the {} '{}'?", "Count the {} whose {} is '{}'.")).format(
        table.many, word.english, value
    )
    return text, f"SELECT COUNT(*) FROM {table.name} WHERE {word.name} = {_quoted(value)}", ""


def _figure(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    table = draw.choice(tables)
    number = _pick(draw, table, "number", "money")
    if number is None:
        return None
    english, function = draw.choice((("largest", "MAX"), ("smallest", "MIN"), ("total", "SUM")))
    text = draw.choice(("What is the {} {} of all {}?", "Find the {} {} among the {}.")).format(
        english, number.english, table.many
    )
    return text, f"SELECT {function}({number.name}) FROM {table.name}", ""


def _latest(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    table = tables[2]
    date = table.of("date")[0] if table.of("date") else None
    if date is None:
        return None
    english, function = draw.choice((("latest", "MAX"), ("earliest", "MIN")))
    text = f"What is the {english} {date.english} of all {table.many}?"
    return text, f"SELECT {function}({date.name}) FROM {table.name}", ""


def _each(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    table = draw.choice(tables)
    word = _pick(draw, table, "word")
    if word is None or word.empty:
        return None
    text = draw.choice(
        (
            "How many {many} are there for each {word}? Show the {word} and the number, sorted by "
            "{word}.",
            "For each {word}, show it and the number of {many}, sorted by {word}.",
        )
    ).format(many=table.many, word=word.english)
    query = f"SELECT {word.name}, COUNT(*) FROM {table.name} GROUP BY {word.name}"
    return text, f"{query} ORDER BY {word.name}", ""


def _with_parent(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    parent, table = tables[0], tables[1]
    name, other = table.of("name")[0], parent.of("name")[0]
    word = _pick(draw, table, "word")
    if word is None:
        return None
    value = _value(draw, tables, rows, table, word)
    text = draw.choice(
        (
            "Show the {name} of each of the {many} whose {word} is '{value}' together with the "
            "{other} of its {one}, sorted by the {name} of the {many}.",
            "For all {many} with the {word} '{value}', list their {name} and the {other} of the "
            "{one}, sorted by the {name} of the {many}.",
        )
    ).format(
        name=name.english,
        many=table.many,
        word=word.english,
        value=value,
        other=other.english,
        one=parent.one,
    )
    query = (
        f"SELECT T1.{name.name}, T2.{other.name} FROM {table.name} AS T1 JOIN {parent.name} AS T2 "
        f"ON T1.{table.link} = T2.{parent.key} WHERE T1.{word.name} = {_quoted(value)} "
        f"ORDER BY T1.{name.name}"
    )
    return text, query, ""


def _most(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    table = draw.choice(tables[:2])
    name, number = table.of("name")[0], _pick(draw, table, "number", "money")
    assert number is not None
    largest = draw.random() < 0.5
    text = draw.choice(
        (
            "Which {one} has the {end} {number}? Show its {name}.",
            "Show the {name} of the {one} with the {end} {number}.",
        )
    ).format(
        one=table.one,
        end="largest" if largest else "smallest",
        number=number.english,
        name=name.english,
    )
    order = f"ORDER BY {number.name}{' DESC' if largest else ''}"
    query = f"SELECT {name.name} FROM {table.name} {order} LIMIT 1"
    return text, query, f"SELECT {number.name} FROM {table.name} {order} LIMIT 2"


def _two(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    table = tables[1]
    name, word = table.of("name")[0], _pick(draw, table, "word")
    number = _pick(draw, table, "number", "money")
    if word is None or number is None:
        return None
    value = _value(draw, tables, rows, table, word)
    bound = _middle(draw, tables, rows, table, number)
    text = draw.choice(
        (
            "Show the {name} of the {many} that have the {word} '{value}' and a {number} of at "
            "least {bound}, in alphabetical order.",
            "Which {many} with the {word} '{value}' have a {number} of {bound} or more? List the "
            "{name} in alphabetical order.",
        )
    ).format(
        name=name.english,
        many=table.many,
        word=word.english,
        value=value,
        number=number.english,
        bound=bound,
    )
    query = (
        f"SELECT {name.name} FROM {table.name} WHERE {word.name} = {_quoted(value)} "
        f"AND {number.name} >= {bound} ORDER BY {name.name}"
    )
    return text, query, ""


def _letter(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    table = draw.choice(tables[:2])
    name = table.of("name")[0]
    letter = str(_value(draw, tables, rows, table, name))[0]
    text = draw.choice(
        (
            "Which {many} have a {name} that starts with {letter}? Show the {name}, sorted.",
            "List the {name} of all {many} whose {name} begins with {letter}, sorted.",
        )
    ).format(many=table.many, name=name.english, letter=letter)
    query = f"SELECT {name.name} FROM {table.name} WHERE {name.name} LIKE '{letter}%'"
    return text, f"{query} ORDER BY {name.name}", ""


def _range(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    table = tables[2]
    number, date = _pick(draw, table, "number", "money"), table.of("date")
    if number is None or not date:
        return None
    year = str(_value(draw, tables, rows, table, date[0]))[:4]
    text = draw.choice(
        (
            "What is the total {} of the {} with a {} in {}?",
            "Add up the {} of all {} whose {} is in the year {}.",
        )
    ).format(number.english, table.many, date[0].english, year)
    query = (
        f"SELECT SUM({number.name}) FROM {table.name} WHERE {date[0].name} "
        f"BETWEEN '{year}-01-01' AND '{year}-12-31'"
    )
    return text, query, ""


def _at_least(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    place = draw.choice((1, 2))
    parent, table = tables[place - 1], tables[place]
    name, count = parent.of("name")[0], draw.randint(2, 4)
    text = draw.choice(
        (
            "Which {parents} have at least {count} {many}? Show the {name} and the number of "
            "{many}, sorted by {name}.",
            "List the {name} of every {parent} with {count} or more {many}, together with how many "
            "it has, sorted by {name}.",
        )
    ).format(
        parents=parent.many, parent=parent.one, count=count, many=table.many, name=name.english
    )
    query = (
        f"SELECT T1.{name.name}, COUNT(*) FROM {parent.name} AS T1 JOIN {table.name} AS T2 "
        f"ON T1.{parent.key} = T2.{table.link} GROUP BY T1.{parent.key}, T1.{name.name} "
        f"HAVING COUNT(*) >= {count} ORDER BY T1.{name.name}"
    )
    return text, query, ""


def _without(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    place = draw.choice((1, 2))
    parent, table = tables[place - 1], tables[place]
    name, word = parent.of("name")[0], _pick(draw, table, "word")
    condition, extra = "", ""
    if word is not None and not word.empty and draw.random() < 0.7:
        value = _value(draw, tables, rows, table, word)
        condition = f" WHERE {word.name} = {_quoted(value)}"
        extra = f" whose {word.english} is '{value}'"
    text = draw.choice(
        (
            "Which {parents} have no {many}{extra}? Show the {name}, in alphabetical order.",
            "Show the {name} of the {parents} without any {many}{extra}, in alphabetical order.",
        )
    ).format(parents=parent.many, many=table.many, extra=extra, name=name.english)
    query = (
        f"SELECT {name.name} FROM {parent.name} WHERE {parent.key} NOT IN "
        f"(SELECT {table.link} FROM {table.name}{condition}) ORDER BY {name.name}"
    )
    return text, query, ""


def _through(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    top, middle, last = tables
    name, word = top.of("name")[0], _pick(draw, last, "word")
    if word is None:
        return None
    value = _value(draw, tables, rows, last, word)
    text = draw.choice(
        (
            "Which {tops} have {many} with {lasts} whose {word} is '{value}'? Show each {name} "
            "once, in alphabetical order.",
            "List, each once and in alphabetical order, the {name} of {tops} one of whose {many} "
            "has {lasts} with the {word} '{value}'.",
        )
    ).format(
        tops=top.many,
        many=middle.many,
        lasts=last.many,
        word=word.english,
        value=value,
        name=name.english,
    )
    query = (
        f"SELECT DISTINCT T1.{name.name} FROM {top.name} AS T1 JOIN {middle.name} AS T2 "
        f"ON T1.{top.key} = T2.{middle.link} JOIN {last.name} AS T3 "
        f"ON T2.{middle.key} = T3.{last.link} WHERE T3.{word.name} = {_quoted(value)} "
        f"ORDER BY T1.{name.name}"
    )
    return text, query, ""


def _over_average(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    table = draw.choice(tables[:2])
    name, number = table.of("name")[0], _pick(draw, table, "number", "money")
    assert number is not None
    above = draw.random() < 0.5
    text = draw.choice(
        (
            "Which {many} have a {number} {side} the average? Show the {name}, sorted.",
            "Show, sorted, the {name} of {many} with a {number} {side} the average of all {many}.",
        )
    ).format(
        many=table.many,
        number=number.english,
        side="above" if above else "below",
        name=name.english,
    )
    query = (
        f"SELECT {name.name} FROM {table.name} WHERE {number.name} {'>' if above else '<'} "
        f"(SELECT AVG({number.name}) FROM {table.name}) ORDER BY {name.name}"
    )
    return text, query, ""


def _since(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    middle, last = tables[1], tables[2]
    if not last.of("date"):
        return None
    name, date = middle.of("name")[0], last.of("date")[0]
    day = _value(draw, tables, rows, last, date)
    text = draw.choice(
        (
            "Which {many} have {lasts} with a {date} after {day}? Show the {name}, sorted.",
            "Show, sorted, the {name} of the {many} that have {lasts} whose {date} is later than "
            "{day}.",
        )
    ).format(many=middle.many, lasts=last.many, date=date.english, day=day, name=name.english)
    query = (
        f"SELECT {name.name} FROM {middle.name} WHERE {middle.key} IN "
        f"(SELECT {last.link} FROM {last.name} WHERE {date.name} > '{day}') ORDER BY {name.name}"
    )
    return text, query, ""


def _busiest(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    place = draw.choice((1, 2))
    parent, table = tables[place - 1], tables[place]
    name = parent.of("name")[0]
    condition, extra = "", ""
    number = _pick(draw, table, "number", "money")
    if number is not None and draw.random() < 0.7:
        bound = _middle(draw, tables, rows, table, number)
        condition = f"WHERE T2.{number.name} > {bound} "
        extra = f" with a {number.english} above {bound}"
    text = draw.choice(
        (
            "Which {parent} has the most {many}{extra}? Show its {name} and how many it has.",
            "Find the {parent} with the largest number of {many}{extra}; show the {name} and that "
            "number.",
        )
    ).format(parent=parent.one, many=table.many, extra=extra, name=name.english)
    body = (
        f"FROM {parent.name} AS T1 JOIN {table.name} AS T2 ON T1.{parent.key} = T2.{table.link} "
        f"{condition}GROUP BY T1.{parent.key}, T1.{name.name} ORDER BY COUNT(*) DESC"
    )
    query = f"SELECT T1.{name.name}, COUNT(*) {body} LIMIT 1"
    return text, query, f"SELECT COUNT(*) {body} LIMIT 2"


def _totals(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    top, middle, last = tables
    name, number = top.of("name")[0], _pick(draw, last, "number", "money")
    if number is None:
        return None
    least = draw.choice((1, 2, 3))
    text = draw.choice(
        (
            "For each of the {tops} whose {many} have at least {least} {lasts} together, show the "
            "{name} and the total {number} of these {lasts}, sorted by {name}.",
            "What is the total {number} of the {lasts} of each {top}, over all its {many}? Show "
            "{name} and total for those with {least} or more {lasts}, sorted by {name}.",
        )
    ).format(
        tops=top.many,
        top=top.one,
        many=middle.many,
        least=least,
        lasts=last.many,
        number=number.english,
        name=name.english,
    )
    query = (
        f"SELECT T1.{name.name}, SUM(T3.{number.name}) FROM {top.name} AS T1 JOIN {middle.name} "
        f"AS T2 ON T1.{top.key} = T2.{middle.link} JOIN {last.name} AS T3 "
        f"ON T2.{middle.key} = T3.{last.link} GROUP BY T1.{top.key}, T1.{name.name} "
        f"HAVING COUNT(*) >= {least} ORDER BY T1.{name.name}"
    )
    return text, query, ""


def _best_of_each(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    parent, table = tables[0], tables[1]
    name, other = table.of("name")[0], parent.of("name")[0]
    number = _pick(draw, table, "number", "money")
    assert number is not None
    largest = draw.random() < 0.5
    text = draw.choice(
        (
            "For every {parent}, show its {other} and the {name} of those of its {many} that have "
            "the {end} {number} there, sorted by the {name} of the {many}.",
            "Which of the {many} have the {end} {number} of their {parent}? Show the {other} of "
            "the {parent} and the {name}, sorted by the {name} of the {many}.",
        )
    ).format(
        parent=parent.one,
        other=other.english,
        name=name.english,
        many=table.many,
        end="largest" if largest else "smallest",
        number=number.english,
    )
    query = (
        f"SELECT T2.{other.name}, T1.{name.name} FROM {table.name} AS T1 JOIN {parent.name} AS T2 "
        f"ON T1.{table.link} = T2.{parent.key} WHERE T1.{number.name} = "
        f"(SELECT {'MAX' if largest else 'MIN'}(T3.{number.name}) FROM {table.name} AS T3 "
        f"WHERE T3.{table.link} = T1.{table.link}) ORDER BY T1.{name.name}"
    )
    return text, query, ""


def _some_but_not(draw: random.Random, tables: Tables, rows: Rows) -> Asked:
    middle, last = tables[1], tables[2]
    name, number = middle.of("name")[0], _pick(draw, last, "number", "money")
    if number is None:
        return None
    bound = _middle(draw, tables, rows, last, number)
    text = draw.choice(
        (
            "Which {many} have {lasts}, but none with a {number} above {bound}? Show the {name}, "
            "sorted.",
            "Show, sorted, the {name} of all {many} that have {lasts} and whose {lasts} all have a "
            "{number} of at most {bound}.",
        )
    ).format(
        many=middle.many, lasts=last.many, number=number.english, bound=bound, name=name.english
    )
    query = (
        f"SELECT {name.name} FROM {middle.name} WHERE {middle.key} IN (SELECT {last.link} FROM "
        f"{last.name}) AND {middle.key} NOT IN (SELECT {last.link} FROM {last.name} "
        f"WHERE {number.name} > {bound}) ORDER BY {name.name}"
    )
    return text, query, ""


PATTERNS: dict[str, tuple[Pattern, ...]] = {
    "easy": (_count, _list, _distinct, _above, _is, _figure, _latest),
    "medium": (_each, _with_parent, _most, _two, _letter, _range),
    "hard": (_at_least, _without, _through, _over_average, _since),
    "extra": (_busiest, _totals, _best_of_each, _some_but_not),
}
