"""The scripted InterCode-SQL agent: looks at tables, tries queries, repairs them, submits."""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass, field

from hpl_gym.agents.agent import Reply
from hpl_gym.agents.scripted.intercode_sql_guess import Table, guess, stems
from hpl_gym.intercode_sql.env import read_action
from hpl_gym.intercode_sql.result import ERROR
from hpl_gym.intercode_sql.tables import sqlglot
from hpl_gym.wrappers.react import ThoughtAction, parse_reply
from hpl_gym.wrappers.transcript import Conversation

_MOST_TABLES = 3
_LOOK = re.compile(r"DESC(?:RIBE)?\s+`?([\w$]+)`?$", re.IGNORECASE)
_NAME = re.compile(r"\('((?:\w|\$)+)'")


@dataclass
class _Memory:
    """What the conversation tells.

    Attributes:
        names: The tables, once they were listed.
        tables: The tables that were looked at.
        tried: Queries and what they gave.
        last: The query of the last turn; empty if it was a look at the tables.
    """

    names: list[str] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    tried: list[tuple[str, str]] = field(default_factory=list)
    last: str = ""


@dataclass(frozen=True)
class ScriptedInterCodeSQL:
    """Answers questions by SQL and says why it does what it does.

    Each reply is a function of the conversation alone, so that the agent can take over at any turn.

    Attributes:
        gold: The query that answers the question, for demonstrations: the agent looks at the tables
            that it needs, now and then gets a name wrong first, and comes to this query. None: it
            guesses a query from the question's words and the columns' names.
    """

    gold: str | None = None

    async def act(self, conversation: Conversation, seed: int = 0) -> Reply:
        """Return the next thought and action."""
        return Reply(str(self._next_step(conversation)))

    def _next_step(self, conversation: Conversation) -> ThoughtAction:
        question, memory = conversation.instruction, _read(conversation)
        if not memory.names:
            return _run("I do not know this database yet, so I list its tables.", "SHOW TABLES")
        wanted = self._wanted(question, memory)
        for name in wanted:
            if name not in memory.tables:
                thought = f"The question needs `{name}`, so I look at its columns."
                return _run(thought, f"DESC {name}")
        if self.gold is not None:
            return _demonstrate(" ".join(self.gold.split()), memory, wanted, conversation)
        tables = [memory.tables[name] for name in wanted]
        queries = guess(question, tables)
        tried = {query for query, _ in memory.tried}
        if memory.tried and not memory.tried[-1][1].startswith(ERROR):
            if memory.last:
                return ThoughtAction("This answers the question, so I submit it.", "submit")
            return _run("I know the query that answers the question.", memory.tried[-1][0])
        for query in queries:
            if query not in tried:
                thought = (
                    "That failed, so I try a simpler query." if tried else "I now know the columns."
                )
                return _run(thought, query)
        return ThoughtAction("I have no better query, so I submit.", "submit")

    def _wanted(self, question: str, memory: _Memory) -> list[str]:
        if self.gold is not None:
            used = [name for name in _tables(self.gold) if name in memory.names]
            return list(dict.fromkeys(used))[:_MOST_TABLES]
        words = set(stems(question))
        scores = {name: len(words & set(stems(name.replace("_", " ")))) for name in memory.names}
        return sorted(memory.names, key=lambda name: -scores[name])[:_MOST_TABLES]


def _demonstrate(
    gold: str, memory: _Memory, wanted: list[str], conversation: Conversation
) -> ThoughtAction:
    """Return the next step towards a query that is known."""
    tried = [query for query, _ in memory.tried]
    if memory.last == _bare(gold):
        return ThoughtAction("This answers the question, so I submit it.", "submit")
    if memory.tried and memory.tried[-1][1].startswith(ERROR):
        return _run(f"There is no such column, so I use the right one. {_plan(gold)}", gold)
    slip = _slip(gold, wanted, memory)
    seed = hashlib.sha256(conversation.task_id.encode()).digest()[0]
    if not tried and slip and seed < 52:  # one in five
        return _run(_plan(gold), slip)
    return _run(_plan(gold), gold)


def _slip(gold: str, wanted: list[str], memory: _Memory) -> str | None:
    """Return the query with one column's name wrong, if its tables were looked at."""
    for name in wanted:
        for column in memory.tables[name].columns:
            wrong = re.sub(rf"\b{re.escape(column)}\b", f"{column}_name", gold, count=1, flags=re.I)
            if wrong != gold:
                return wrong
    return None


def _plan(gold: str) -> str:
    """Say in words what a query does."""
    module = sqlglot()
    try:
        tree = module.parse_one(gold, read="mysql")
    except module.errors.SqlglotError:
        return "I write the query."
    exp, parts = module.exp, []
    names = list(dict.fromkeys(table.name for table in tree.find_all(exp.Table)))
    parts.append(f"read {' and '.join(names)}" if len(names) < 2 else f"join {' and '.join(names)}")
    if tree.find(exp.Where):
        parts.append("keep the rows that are asked for")
    if tree.find(exp.Group):
        parts.append("group them")
    if tree.find(exp.Having):
        parts.append("keep some of the groups")
    if tree.find(exp.Count):
        parts.append("count")
    if tree.find(exp.Avg) or tree.find(exp.Sum) or tree.find(exp.Max) or tree.find(exp.Min):
        parts.append("compute the figure")
    if tree.find(exp.Order):
        parts.append("sort")
    if tree.find(exp.Limit):
        parts.append("take the first")
    return f"I {', '.join(parts)}."


def _tables(query: str) -> list[str]:
    module = sqlglot()
    try:
        found = module.parse_one(query, read="mysql").find_all(module.exp.Table)
    except module.errors.SqlglotError:
        return [name.lower() for name in re.findall(r"(?:from|join)\s+(\w+)", query, re.I)]
    return [table.name.lower() for table in found]


def _run(thought: str, statement: str) -> ThoughtAction:
    return ThoughtAction(thought, f"```sql\n{statement}\n```")


def _read(conversation: Conversation) -> _Memory:
    memory = _Memory()
    for turn in conversation.turns:
        statement = _bare(read_action(parse_reply(turn.reply).action))
        shown, memory.last = turn.observation, ""
        if look := _LOOK.match(statement):
            memory.tables[look[1].lower()] = _table(look[1], shown)
        elif statement.upper() == "SHOW TABLES":
            memory.names = [name.lower() for name in _NAME.findall(shown)]
        elif not statement.upper().startswith("SHOW"):
            memory.tried.append((statement, shown))
            memory.last = statement
    return memory


def _bare(statement: str) -> str:
    return statement.strip().rstrip("; ")


def _table(name: str, shown: str) -> Table:
    """Return a table as DESC shows it; of what was cut, the whole rows."""
    columns = {}
    for row in re.findall(r"\('[^)]*?(?:\([^)]*\)[^)]*)?\)(?=, \(|\])", shown):
        try:
            values = ast.literal_eval(row)
        except (ValueError, SyntaxError):
            continue
        columns[str(values[0])] = str(values[1])
    return Table(name, columns)
