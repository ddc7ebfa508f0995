"""MySQL's functions for SQLite, as plain functions of values."""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

NOW = "2024-01-01 00:00:00"  # as on MySQL
# A date as 2024-01-31, 24-1-31, 2024/1/31 or 20240131, and perhaps a time.
_DATES = (
    re.compile(
        r"\s*(\d{4}|\d\d)[-/.](\d{1,2})[-/.](\d{1,2})"
        r"(?:[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2})(\.\d+)?)?)?"
    ),
    re.compile(r"\s*(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)(\.\d+)?)?(?!\d)"),
)
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


def _number(value: Any) -> float:
    """Return the number that MySQL takes a value for: of a text, the whole one it begins with."""
    if isinstance(value, int | float):
        return value
    match = re.match(r"\s*[-+]?\d+", str(value))
    return float(match[0]) if match else 0.0


def _whole(value: Any) -> int:
    """Return a number as MySQL rounds it, halves away from zero."""
    number = _number(value)
    return int(math.copysign(math.floor(min(abs(number), 2**53) + 0.5), number))


def _text(value: Any) -> str | bytes:
    return value if isinstance(value, bytes) else str(value)


def left(text: Any, count: Any) -> str | bytes | None:
    """Return the first characters of a text."""
    if text is None or count is None:
        return None
    return _text(text)[: max(_whole(count), 0)]


def right(text: Any, count: Any) -> str | bytes | None:
    """Return the last characters of a text."""
    if text is None or count is None:
        return None
    whole = _text(text)
    return whole[max(len(whole) - max(_whole(count), 0), 0) :]


def substring(text: Any, start: Any, *length: Any) -> str | bytes | None:
    """Return a part of a text; places count from 1, or from the end, and there is no place 0."""
    if text is None or start is None or None in length:
        return None
    place, whole = _whole(start), _text(text)
    if place < 0:
        place += len(whole) + 1
    if place <= 0:
        return whole[:0]
    rest = whole[place - 1 :]
    return rest[: max(_whole(length[0]), 0)] if length else rest


def length(value: Any) -> int | None:
    """Return the number of bytes of a value."""
    if value is None:
        return None
    return len(value if isinstance(value, bytes) else str(value).encode())


def _moment(value: Any) -> tuple[datetime, bool] | None:
    """Return the time that a value begins with and whether it is more than a date; None if none."""
    match = next(filter(None, (one.match(str(value)) for one in _DATES)), None)
    if match is None:
        return None
    *date, fraction = match.groups(default="0")
    year, month, day, hour, minute, second = map(int, date)
    if len(date[0]) == 2:
        year += 2000 if year < 70 else 1900
    micros = int(f"{fraction[1:]:0<6}"[:6])
    try:
        return datetime(year, month, day, hour, minute, second, micros), match[4] is not None
    except ValueError:
        return None


def days_between(one: Any, other: Any) -> int | None:
    """Return the days from the second date to the first; hours do not count."""
    first, second = _moment(one), _moment(other)
    return (first[0].date() - second[0].date()).days if first and second else None


def add_time(value: Any, amount: Any, unit: str, sign: int) -> str | None:
    """Return a date or time with an interval added.

    Args:
        value: A text; of a date, the result is a date unless the unit is shorter than a day.
        amount: How many units; of seconds, fractions count.
        unit: One of `UNITS`.
        sign: -1 to take away.
    """
    found = _moment(value)
    if found is None or amount is None:
        return None
    moment, has_time = found
    try:
        exact = float(amount)  # a number that is written comes as a text
    except ValueError:
        exact = _number(amount)
    try:
        count = sign * _whole(exact)
        if unit in _MONTHS:
            month = moment.year * 12 + moment.month - 1 + count * _MONTHS[unit]
            year, month = month // 12, month % 12 + 1
            last = calendar.monthrange(year, month)[1]  # of the 31st, 30 or fewer may be left
            moment = moment.replace(year=year, month=month, day=min(moment.day, last))
        else:
            moment += _SPANS[unit] * (sign * exact if unit == "SECOND" else count)
    except (OverflowError, ValueError):
        return None
    if not has_time and (unit in _MONTHS or _SPANS[unit] >= _SPANS["DAY"]):
        return str(moment.date())
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
    ("mid", 3): substring,
    ("current_timestamp", 0): lambda: NOW,
    ("current_date", 0): lambda: NOW[:10],
    ("current_time", 0): lambda: NOW[11:],
    ("now", 0): lambda: NOW,
    ("sysdate", 0): lambda: NOW,
    ("curtime", 0): lambda: NOW[11:],
    ("unix_timestamp", 0): lambda: 1_704_067_200,
}
"""By name and number of arguments."""
