"""What a server answers, read within the limits and worded as MySQL words it."""

from __future__ import annotations

import re
from typing import Any

# MariaDB's names of a statement's parts, and MySQL's.
_PARTS = {
    "SELECT": "field list",
    "WHERE": "where clause",
    "ON": "on clause",
    "GROUP BY": "group statement",
    "HAVING": "having clause",
    "ORDER BY": "order clause",
}
_PART = re.compile(rf" in ('?)({'|'.join(_PARTS)})\1(?=$| is ambiguous$)")
_ACCOUNT = re.compile(r"'\w*'@'[^']*'")
_STAMP = re.compile(r"datetime\.datetime\([\d, ]+\)")
_PASSWORD = re.compile(r" IDENTIFIED BY PASSWORD \\?'[^'\\]*\\?'")
_WIDTH = re.compile(r"\b(tinyint(?!\(1\))|smallint|mediumint|int|bigint)\(\d+\)")


def skip_results(cursor: Any) -> None:
    """Read and drop the further results that a procedure gives."""
    while cursor.nextset():
        while cursor.with_rows and cursor.fetchone() is not None:
            pass


def as_mysql(row: str) -> str:
    """Return a row of DESC or SHOW from MariaDB as MySQL writes it."""
    row = row.replace("'current_timestamp()', ''", "'CURRENT_TIMESTAMP', 'DEFAULT_GENERATED'")
    return _WIDTH.sub(r"\1", row)


def reproducible(row: str) -> str:
    """Return a row of SHOW without a password's hash, and with the time of every episode in it."""
    return _STAMP.sub("datetime.datetime(2024, 1, 1, 0, 0)", _PASSWORD.sub("", row))


def clean(text: str) -> str:
    """Return a server's message as MySQL words it, for whichever account."""
    text = text.replace("MariaDB server", "MySQL server")
    text = _PART.sub(lambda match: f" in {match[1]}{_PARTS[match[2]]}{match[1]}", text)
    return _ACCOUNT.sub("'agent'@'localhost'", text)
