"""MySQL's functions for SQLite, as plain functions of values."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

NOW = "2024-01-01 00:00:00"  # as on MySQL
_SPANS = {
    "SECOND": timedelta(seconds=1),
    "MINUTE": timedelta(minutes=1),
    "HOUR": timedelta(hours=1),
    "DAY": timedelta(days=1),
    "WEEK": timedelta(weeks=1),
}
_MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}
UNITS = frozenset((*_SPANS, *_MONTHS))
"""What `add_time` can add."""


def _whole(value: Any) -> int:
    """Return a number of characters as MySQL takes it: rounded, and 0 where it is no number."""
    try:
        return round(float(value))
    except (ValueError, OverflowError):
        return 0


def left(text: Any, count: Any) -> str | None:
    """Return the first characters of a text."""
    if text is None or count is None:
        return None
    return str(text)[: max(_whole(count), 0)]


def right(text: Any, count: Any) -> str | None:
    """Return the last characters of a text."""
    if text is None or count is None:
        return None
    return str(text)[-_whole(count) :] if _whole(count) > 0 else ""


def substring(text: Any, start: Any, *length: Any) -> str | None:
    """Return a part of a text; places count from 1, or from the end, and there is no place 0."""
    if text is None or start is None or None in length:
        return None
    place, whole = _whole(start), str(text)
    if place < 0:
        place += len(whole) + 1
    if place <= 0:
        return ""
    rest = whole[place - 1 :]
    return rest[: max(_whole(length[0]), 0)] if length else rest


def length(value: Any) -> int | None:
    """Return the number of bytes of a value."""
    if value is None:
        return None
    return len(value if isinstance(value, bytes) else str(value).encode())


def _moment(value: Any) -> datetime | None:
    """Return the time that a text tells; None if it is none."""
    try:
        return datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None


def days_between(one: Any, other: Any) -> int | None:
    """Return the days from the second date to the first; hours do not count."""
    first, second = _moment(one), _moment(other)
    return (first.date() - second.date()).days if first and second else None


def add_time(value: Any, amount: Any, unit: str, sign: int) -> str | None:
    """Return a date or time with an interval added.

    Args:
        value: A text; of a date, the result is a date unless the unit is shorter than a day.
        amount: How many units.
        unit: One of `UNITS`.
        sign: -1 to take away.
    """
    moment = _moment(value)
    if moment is None or amount is None:
        return None
    count = sign * _whole(amount)
    try:
        if unit in _MONTHS:
            month = moment.year * 12 + moment.month - 1 + count * _MONTHS[unit]
            year, month = month // 12, month % 12 + 1
            last = calendar.monthrange(year, month)[1]  # of the 31st, 30 or fewer may be left
            moment = moment.replace(year=year, month=month, day=min(moment.day, last))
        else:
            moment += count * _SPANS[unit]
    except (OverflowError, ValueError):
        return None
    is_date = len(str(value).strip()) == len("2024-01-01")
    if is_date and (unit in _MONTHS or _SPANS[unit] >= _SPANS["DAY"]):
        return str(date(moment.year, moment.month, moment.day))
    return str(moment)


FUNCTIONS: dict[tuple[str, int], Callable[..., Any]] = {
    ("year", 1): lambda day: None if day is None else int(str(day)[:4]),
    ("month", 1): lambda day: None if day is None else int(str(day)[5:7]),
    ("day", 1): lambda day: None if day is None else int(str(day)[8:10]),
    ("mysql_left", 2): left,
    ("mysql_right", 2): right,
    ("mysql_substring", 2): substring,
    ("mysql_substring", 3): substring,
    ("mysql_length", 1): length,
    ("mysql_datediff", 2): days_between,
    ("mysql_date_add", 4): add_time,
    ("current_timestamp", 0): lambda: NOW,
    ("current_date", 0): lambda: NOW[:10],
    ("current_time", 0): lambda: NOW[11:],
    ("now", 0): lambda: NOW,
    ("sysdate", 0): lambda: NOW,
    ("curtime", 0): lambda: NOW[11:],
    ("unix_timestamp", 0): lambda: 1_704_067_200,
}
"""By name and number of arguments."""
