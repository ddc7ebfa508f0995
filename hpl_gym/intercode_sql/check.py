"""Checks of the gold queries: which fail, which give nothing, and where two servers differ."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import Any

from hpl_gym.intercode_sql.env import InterCodeSQLEnv
from hpl_gym.intercode_sql.questions import SPLITS
from hpl_gym.intercode_sql.result import Result

_DECIMAL = re.compile(r"Decimal\('([^']*)'\)")
_DATE = re.compile(r"datetime\.(?:datetime|date)\(([\d, ]*)\)")
_NUMBER = re.compile(r"(?<![\w'-])-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w'])")


def check_gold(env: InterCodeSQLEnv) -> dict[str, Any]:
    """Run every gold query.

    Returns:
        ``{"backend", "splits": {split: {"databases", "questions", "fail", "no rows"}}, "failing":
        {number: error}, "empty": {database: [numbers]}}``.
    """
    failing: dict[int, str] = {}
    empty: dict[str, list[int]] = defaultdict(list)
    splits = {}
    for split in SPLITS:
        questions = env.questions.split(split)
        for one in questions:
            result = env.server.session(one.database).run((), one.gold)[1]
            if result.error:
                failing[one.number] = result.error
            elif not result.rows:
                empty[one.database].append(one.number)
        splits[split] = {
            "databases": len({one.database for one in questions}),
            "questions": len(questions),
            "fail": sum(one.number in failing for one in questions),
            "no rows": sum(one.number in empty.get(one.database, ()) for one in questions),
        }
    return {"backend": env.backend, "splits": splits, "failing": failing, "empty": dict(empty)}


def compare_gold(env: InterCodeSQLEnv, other: InterCodeSQLEnv) -> dict[str, list[int]]:
    """Compare the answers of the gold queries on two servers.

    Returns:
        The numbers of the questions by the kind of the difference.
    """
    kinds: dict[str, list[int]] = defaultdict(list)
    for one in env.questions.questions:
        mine, theirs = (
            each.server.session(one.database).run((), one.gold)[1] for each in (env, other)
        )
        kinds[_difference(mine, theirs, (env.backend, other.backend))].append(one.number)
    return dict(kinds)


def _difference(one: Result, other: Result, names: tuple[str, str]) -> str:
    if one.error and other.error:
        return "equal: both fail"
    if one.error or other.error:
        return f"fails on {names[0] if one.error else names[1]} only"
    assert one.rows is not None
    assert other.rows is not None
    if one.rows == other.rows:
        return "equal"
    mine, theirs = [_plain(row) for row in one.rows], [_plain(row) for row in other.rows]
    if mine == theirs:
        return "equal but for the types of numbers and dates"
    if Counter(mine) == Counter(theirs):
        return "equal but for the order of rows"
    return "other rows"


def _plain(row: str) -> str:
    """Return a row without the types of its numbers and dates, and in one case."""

    def date(match: re.Match[str]) -> str:
        year, month, day, *time = (int(part) for part in match[1].split(","))
        clock = f" {':'.join(f'{part:02}' for part in (*time, 0, 0, 0)[:3])}" if time else ""
        return f"'{year}-{month:02}-{day:02}{clock}'"

    row = _DATE.sub(date, _DECIMAL.sub(r"\1", row))
    return _NUMBER.sub(lambda match: f"{float(match[0]):.4g}", row).lower()
