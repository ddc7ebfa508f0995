"""MySQL's statements for SQLite, and SQLite's answers and messages as MySQL words them."""

from __future__ import annotations

import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any

from hpl_gym.intercode_sql.functions import UNITS
from hpl_gym.intercode_sql.result import Result
from hpl_gym.intercode_sql.session import first_word, uncommented
from hpl_gym.intercode_sql.tables import Column, Table, sqlglot

_NAME = r"`?(\w+)`?"
_TABLES = re.compile(
    rf"SHOW\s+(FULL\s+)?TABLES(?:\s+(?:FROM|IN)\s+{_NAME})?(?:\s+LIKE\s+['\"]([^'\"]*)['\"])?",
    re.IGNORECASE,
)
_COLUMNS = re.compile(
    rf"(?:DESC|DESCRIBE|EXPLAIN|SHOW\s+(?:COLUMNS|FIELDS)\s+(?:FROM|IN))\s+"
    rf"(?:{_NAME}\s*\.\s*)?{_NAME}",
    re.IGNORECASE,
)
_CREATE = re.compile(rf"SHOW\s+CREATE\s+TABLE\s+(?:{_NAME}\s*\.\s*)?{_NAME}", re.IGNORECASE)
_DATABASES = re.compile(r"SHOW\s+(?:DATABASES|SCHEMAS)", re.IGNORECASE)
_EXPLAIN = re.compile(r"(?:DESC|DESCRIBE|EXPLAIN)\s+(?=SELECT|WITH|\()", re.IGNORECASE)
# What SQLite of any version formats of a time, as sqlglot writes MySQL's letters.
_FORMATS = frozenset("dHjmMSwY%")
_MOST_STEPS = 200_000  # of the parser; a statement of 10,000 values takes 20,000
_SYNTAX = (
    "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server "
    "version for the right syntax to use near '{near}' at line {line}"
)
_MESSAGES = (
    (r"no such table: (?:\w+\.)?(.*)", r"Table '{database}.\1' doesn't exist"),
    (r"no such column: (.*)", r"Unknown column '\1' in 'field list'"),
    (r"table (.*) has no column named (.*)", r"Unknown column '\2' in 'field list'"),
    (r"ambiguous column name: (.*)", r"Column '\1' in field list is ambiguous"),
    (
        r"(?:no such|not authorized to use) function: (.*)",
        r"FUNCTION {database}.\1 does not exist",
    ),
    (r"table \"?(.*?)\"? already exists", r"Table '\1' already exists"),
    (r"UNIQUE constraint failed: (.*)", r"Duplicate entry for key '\1'"),
    (r"NOT NULL constraint failed: \w+\.(.*)", r"Column '\1' cannot be null"),
    (r"misuse of aggregate.*", "Invalid use of group function"),
    (
        r"SELECTs to the left and right.*",
        "The used SELECT statements have a different number of columns",
    ),
    (r"near \"(.*)\": syntax error", _SYNTAX.format(near=r"\1", line=1)),
    (r"incomplete input", _SYNTAX.format(near="", line=1)),
)


_TOO_COMPLICATED = Result(
    error="The statement is too complicated: its meaning was not found in time"
)


class _TooLongError(Exception):
    """The parser took too many steps."""


@lru_cache(maxsize=4096)
def translate(statement: str, database: str) -> str | Result:
    """Return a statement as SQLite writes it, or why it cannot be done."""
    try:
        return _translate(statement, database)
    except RecursionError:  # how deep a statement may be nested must not depend on the caller
        with ThreadPoolExecutor(1) as fresh:
            try:
                return fresh.submit(_translate, statement, database).result()
            except RecursionError:
                return _TOO_COMPLICATED


def _translate(statement: str, database: str) -> str | Result:
    module = sqlglot()
    try:
        dialect = module.Dialect.get_or_raise("mysql")
        parser = _parser()(dialect=dialect)
        parsed = [one for one in parser.parse(dialect.tokenize(statement), statement) if one]
    except _TooLongError:
        return _TOO_COMPLICATED
    except RecursionError:
        raise
    except Exception as error:  # sqlglot stumbles over some malformed statements
        near = getattr(error, "errors", None) or [{}]
        place = statement[_offset(statement, near[0]) :][:80]
        return Result(error=_SYNTAX.format(near=place, line=near[0].get("line") or 1))
    exp = module.exp
    if len(parsed) != 1:
        near = statement.partition(";")[2].strip()[:80]
        return Result(error=_SYNTAX.format(near=near, line=1))
    tree = parsed[0]
    for table in tree.find_all(exp.Table):
        if table.db and table.db.lower() != database.lower():
            return _denied_table(table.name)
        table.set("db", None)
    for column in tree.find_all(exp.Column):
        if column.db and column.db.lower() != database.lower():
            return _denied_table(column.table)
        column.set("db", None)
    if isinstance(tree, exp.Command | exp.Set | exp.Kill | exp.Show) or (
        isinstance(tree, exp.Drop | exp.Create)
        and str(tree.args.get("kind")).upper() in ("DATABASE", "SCHEMA")
    ):
        return _refusal(statement)
    for time in tree.find_all(exp.TimeToStr):
        form = time.args["format"]
        known = isinstance(form, exp.Literal) and {*re.findall("%(.)", form.name)} <= _FORMATS
        if not known:
            return Result(error="Names and other parts of a time cannot be formatted here")
    if any(join.side == "FULL" for join in tree.find_all(exp.Join)):
        near = re.sub(r"(?is)^.*?(?=\bFULL\b)", "", statement)[:80]
        return Result(error=_SYNTAX.format(near=near, line=1))
    for like in [*tree.find_all(exp.Like)]:
        if not isinstance(like.parent, exp.Escape):
            _escape(like)
    for call in [*tree.find_all(exp.DateAdd, exp.DateSub, exp.Add, exp.Sub, exp.Anonymous)]:
        added = _added(call)
        if added is None:
            continue
        time, amount, unit, sign = added
        if unit not in UNITS:
            return Result(error=f"INTERVAL in {unit} is not available here")
        parts = [time, amount, exp.Literal.string(unit), exp.Literal.number(sign)]
        call.replace(exp.Anonymous(this="mysql_date_add", expressions=parts))
    for call in [*tree.find_all(exp.CurrentSchema)]:
        call.replace(exp.Literal.string(database))
    if tree.find(exp.Trunc):
        return Result(error="TRUNCATE() is not available here")
    own = (exp.Left, exp.Right, exp.Rand, exp.Length, exp.Substring, exp.DateDiff)
    for call in [*tree.find_all(*own)]:
        if isinstance(call, exp.Length) and not call.args.get("binary"):
            continue  # CHAR_LENGTH
        if isinstance(call, exp.Substring) and _from_the_front(call):
            continue  # SQLite's own, which is faster, does the same
        name = f"mysql_{type(call).__name__.lower()}"
        given = (call.args.get(part) for part in ("this", "expression", "start", "length"))
        call.replace(exp.Anonymous(this=name, expressions=[one for one in given if one]))
    if isinstance(tree, exp.TruncateTable):
        tree = exp.Delete(this=tree.expressions[0])
    try:
        return str(tree.sql(_sqlite()))
    except RecursionError:
        raise
    except Exception:
        return _refusal(statement)


def _escape(like: Any) -> None:
    """Let a backslash be the escape of a LIKE, as on MySQL; at the end it means itself."""
    exp = sqlglot().exp
    pattern = like.expression
    if isinstance(pattern, exp.Literal) and re.search(r"(?<!\\)(\\\\)*\\\Z", pattern.name):
        pattern.replace(exp.Literal.string(pattern.name + "\\"))
    escape = exp.Escape(expression=exp.Literal.string("\\"))
    like.replace(escape)
    escape.set("this", like)


def _added(call: Any) -> tuple[Any, Any, str, int] | None:
    """Return the time, amount, unit and sign of an interval that is added; None without one."""
    exp = sqlglot().exp
    sign = -1 if isinstance(call, exp.DateSub | exp.Sub) else 1
    if isinstance(call, exp.DateAdd | exp.DateSub):
        return call.this, call.expression, str(call.args.get("unit")).upper(), sign
    if isinstance(call, exp.Anonymous):
        name = call.name.upper()
        if name not in ("ADDDATE", "SUBDATE") or len(call.expressions) != 2:
            return None
        time, amount = call.expressions
        sign = 1 if name == "ADDDATE" else -1
        if not isinstance(amount, exp.Interval):
            return time, amount, "DAY", sign
    else:
        time, amount = call.this, call.expression
    if not isinstance(amount, exp.Interval):
        return None
    return time, amount.this, str(amount.args.get("unit")).upper(), sign


def _from_the_front(call: Any) -> bool:
    """Whether a SUBSTRING begins at a place that is written and counted from the front."""
    given = [one for one in (call.args.get("start"), call.args.get("length")) if one]
    written = all(isinstance(one, sqlglot().exp.Literal) and one.is_int for one in given)
    return bool(given) and written and int(given[0].name) > 0


@cache
def _sqlite() -> Any:
    """Return SQLite's dialect, with names in backticks.

    In double quotes, a name that is no column's would be a text.
    """

    class BacktickedSQLite(sqlglot().dialects.SQLite):  # type: ignore[misc]
        class Tokenizer(sqlglot().dialects.SQLite.Tokenizer):  # type: ignore[misc]
            IDENTIFIERS = ("`",)

    return BacktickedSQLite


@cache
def _parser() -> Any:
    """Return sqlglot's parser with a limit.

    It tries one meaning after another, which takes twice the time for every JOIN without ON, or
    call in a call that is named like a type.
    """

    class Parser(sqlglot().dialects.MySQL.Parser):  # type: ignore[misc]
        left = _MOST_STEPS

        def _advance(self, times: int = 1) -> None:
            self.left -= 1
            if self.left < 0:
                raise _TooLongError
            super()._advance(times)

    return Parser


def answer(
    connection: sqlite3.Connection, statement: str, database: str, tables: dict[str, Table]
) -> Result | None:
    """Answer SHOW, DESC and EXPLAIN in MySQL's format; None if it is another statement."""
    if first_word(statement) not in ("SHOW", "DESC", "DESCRIBE", "EXPLAIN"):
        return None
    text = uncommented(statement).strip().rstrip(";").strip()
    if match := _EXPLAIN.match(text):
        return _explain(connection, text[match.end() :], database)
    if _DATABASES.fullmatch(text):
        return Result(tuple(str((name,)) for name in sorted((database, "information_schema"))))
    if match := _TABLES.fullmatch(text):
        if match[2] and match[2].lower() != database.lower():
            return _denied(match[2])
        query = (
            "SELECT lower(name), iif(type = 'view', 'VIEW', 'BASE TABLE') FROM sqlite_master "
            "WHERE type IN ('table', 'view') AND name LIKE ? AND name NOT LIKE 'sqlite!_%' "
            "ESCAPE '!' ORDER BY lower(name)"
        )
        found = connection.execute(query, (match[3] or "%",))
        return Result(tuple(str(row if match[1] else row[:1]) for row in found))
    if match := _CREATE.fullmatch(text):
        if match[1] and match[1].lower() != database.lower():
            return _denied(match[1])
        columns = _columns(connection, match[2], tables)
        if not columns:
            return Result(error=f"Table '{database}.{match[2]}' doesn't exist")
        known = _known(connection, match[2], tables)
        create = known.create if known else _made(match[2], columns)
        return Result((str((match[2], create)),))
    if match := _COLUMNS.fullmatch(text):
        if match[1] and match[1].lower() != database.lower():
            return _denied(match[1])
        columns = _columns(connection, match[2], tables)
        if not columns:
            return Result(error=f"Table '{database}.{match[2]}' doesn't exist")
        return Result(tuple(map(str, columns)))
    return _refusal(statement)


def message(text: str, database: str) -> str:
    """Return SQLite's error message as MySQL words it, where MySQL has one like it."""
    text = text.replace("MYSQL_", "")  # our own name of a function of MySQL's
    for pattern, wording in _MESSAGES:
        match = re.fullmatch(pattern, text)
        if match:
            return match.expand(wording).replace("{database}", database)
    return text


def _columns(
    connection: sqlite3.Connection, name: str, tables: dict[str, Table]
) -> tuple[Column, ...]:
    if known := _known(connection, name, tables):
        return known.columns
    there = connection.execute("SELECT * FROM pragma_table_info(?)", (name,)).fetchall()
    return tuple(
        (
            row[1],
            row[2].lower().replace("integer", "int"),
            "NO" if row[3] else "YES",
            "PRI" if row[5] else "",
            row[4],
            "",
        )
        for row in there
    )


def _known(connection: sqlite3.Connection, name: str, tables: dict[str, Table]) -> Table | None:
    """Return a table of the dump, as long as it is as the dump made it."""
    query = (
        "SELECT sql FROM (SELECT 1 AS place, * FROM sqlite_temp_master "
        "UNION ALL SELECT 2, * FROM sqlite_master) "
        "WHERE lower(name) = lower(?) AND type IN ('table', 'view') ORDER BY place"
    )
    made = connection.execute(query, (name,)).fetchone()
    known = tables.get(name.lower())
    return known if known and made == (known.sqlite,) else None


def _made(name: str, columns: tuple[Column, ...]) -> str:
    body = ",\n".join(f"  `{row[0]}` {row[1]}" for row in columns)
    return f"CREATE TABLE `{name}` (\n{body}\n)"


def _explain(connection: sqlite3.Connection, query: str, database: str) -> Result:
    translated = translate(query, database)
    if isinstance(translated, Result):
        return translated
    rows = []
    for _, _, _, detail in connection.execute(f"EXPLAIN QUERY PLAN {translated}"):
        match = re.match(r"(SCAN|SEARCH) (\w+)(?: USING (?:\w+ )*?INDEX (\w+))?", detail)
        if match:
            kind = "ALL" if match[1] == "SCAN" else "ref"
            rows.append(
                (
                    1,
                    "SIMPLE",
                    match[2],
                    None,
                    kind,
                    match[3],
                    match[3],
                    None,
                    None,
                    None,
                    None,
                    None,
                )
            )
    return Result(tuple(map(str, rows)))


def _offset(statement: str, error: dict[str, object]) -> int:
    highlight = str(error.get("highlight") or "")
    found = statement.find(highlight) if highlight else len(statement)
    return max(found, 0)


def _denied(database: str) -> Result:
    return Result(error=f"Access denied for user 'agent'@'localhost' to database '{database}'")


def _denied_table(table: str) -> Result:
    return Result(error=f"SELECT command denied to user 'agent'@'localhost' for table '{table}'")


def _refusal(statement: str) -> Result:
    return Result(error=f"{first_word(statement)} is not available here")
