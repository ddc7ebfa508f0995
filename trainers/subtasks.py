"""Sub-tasks by rules: the semantic segmenter that needs no model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from hpl_gym.core import HPLGymError
from hpl_gym.intercode_sql.env import read_action
from hpl_gym.intercode_sql.result import ERROR
from hpl_gym.trainers.segment import Span, cut
from hpl_gym.webshop.pages import SEPARATOR, parse_action
from hpl_gym.wrappers.react import parse_reply

Turns = Iterable[tuple[str, str]]

_HOUSEWORK = frozenset(("take", "put", "move", "heat", "cool", "clean", "slice", "use"))
_RESULTS = re.compile(r"Page \d+ \(Total results: \d+\)")
_LOOK = re.compile(
    r"(?:show|desc|describe|explain)\b.*|select\s+\*\s+from\s+\S+\s+limit\s+[\s\d,]+",
    re.IGNORECASE | re.DOTALL,
)


def subtasks(record: dict[str, Any], env_id: str) -> list[Span]:
    """Cut a recorded trajectory into sub-tasks, by rules.

    What has no effect, or is no action, belongs to the sub-task in which it happens.

    * **ALFWorld**: a sub-task ends when something is taken, put or moved, heated, cooled, cleaned,
      sliced or (a lamp) used. Walking, opening, closing and looking belong to what they serve.
    * **WebShop**: searching and leafing through the results; each product that is opened, with its
      detail pages and the way back to the results; choosing options; buying.
    * **InterCode-SQL**: looking at the schema (SHOW, DESC, DESCRIBE, EXPLAIN, and ``SELECT * FROM
      table LIMIT n``); the query, with all that is tried, and after an error everything until a
      query works; submitting.

    Args:
        record: A trajectory as `trajectory.to_record` writes it.
        env_id: The environment it was played in.

    Returns:
        Spans in turns that cover the trajectory in order.

    Raises:
        HPLGymError: There are no rules for the environment.
    """
    if env_id not in _RULES:
        raise HPLGymError(
            f"There are no sub-task rules for {env_id}, only for {', '.join(_RULES)}: choose "
            "another segmenter."
        )
    turns = ((parse_reply(turn["reply"]).action, turn["observation"]) for turn in record["turns"])
    return cut(_RULES[env_id](turns))


def _housework(turns: Turns) -> Iterator[bool]:
    done = False
    for action, observation in turns:
        yield done
        verb = action.partition(" ")[0].lower()
        done = verb in _HOUSEWORK and not observation.startswith("Nothing happens")


def _shopping(turns: Turns) -> Iterator[bool]:
    page = doing = "search"
    for action, observation in turns:
        before, page = page, _page(observation)
        verb, value = parse_action(action) or ("", "")
        opens, was = (before, page) == ("results", "item"), doing
        if page == "done":
            doing = "buy"
        elif opens or page == "details":
            doing = "inspect"
        elif verb == "search" or page == "search" or before == page == "results":
            doing = "search"
        elif before == page and value in observation.lower().split(SEPARATOR.lower()):
            doing = "choose"
        yield opens or doing != was


def _page(observation: str) -> str:
    parts = observation.split(SEPARATOR)
    if parts[0] == "WebShop":
        return "search"
    if parts[0].startswith("Thank you"):
        return "done"
    if parts[-1] == "Buy Now":
        return "item"
    return "results" if any(map(_RESULTS.fullmatch, parts[3:4])) else "details"


def _querying(turns: Turns) -> Iterator[bool]:
    doing, failed = "look", False
    for action, observation in turns:
        statement, was = read_action(action).rstrip("; \n"), doing
        looks = _LOOK.fullmatch(statement)
        if statement.lower() == "submit":
            doing = "submit"
        elif statement and not looks:
            doing, failed = "query", observation.startswith(ERROR)
        elif looks and not failed:
            doing = "look"
        yield doing != was


_RULES = {
    "HPL/ALFWorld-v0": _housework,
    "HPL/WebShop-v0": _shopping,
    "HPL/InterCodeSQL-v0": _querying,
}
