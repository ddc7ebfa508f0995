"""Questions and databases: the benchmark's files, or generated ones of the same formats."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from hpl_gym.core import DataError

SPLITS = ("train", "valid", "test")
# Of the benchmark's twenty databases, by size and subject; 737, 100 and 197 questions.
TEST_DATABASES = frozenset(("flight_2", "concert_singer", "pets_1", "course_teach"))
VALID_DATABASES = frozenset(("tvshow", "employee_hire_evaluation"))


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        number: Its place in the file.
        database: The database it is about.
        text: The question.
        gold: The query that answers it.
        hardness: ``easy``, ``medium``, ``hard`` or ``extra``.
    """

    number: int
    database: str
    text: str
    gold: str
    hardness: str

    @property
    def digest(self) -> str:
        """SHA-256 (16 hex digits) over the text and the query."""
        return hashlib.sha256(repr((self.text, self.gold)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class QuestionSet:
    """Databases and the questions about them.

    Attributes:
        name: What its tasks' ids begin with.
        dump: The databases as a MySQL dump.
        questions: The questions, in the file's order.
        indices: The numbers of the questions in each split; None splits by database.
    """

    name: str
    dump: str
    questions: tuple[Question, ...]
    indices: Mapping[str, Sequence[int]] | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 (16 hex digits) over the databases."""
        return hashlib.sha256(self.dump.encode()).hexdigest()[:16]

    @cached_property
    def databases(self) -> dict[str, tuple[str, ...]]:
        """The statements that make each database."""
        return split_dump(self.dump)

    def split(self, split: str) -> list[Question]:
        """Return a split's questions.

        No database is in two splits: of the benchmark's twenty, those named above; of others, every
        fifth is for tests and every tenth for validation. Index lists may say otherwise.
        """
        if self.indices is not None:
            return [self.questions[number] for number in self.indices.get(split, ())]
        return [one for one in self.questions if self._split_of[one.database] == split]

    def split_of(self, question: Question) -> str:
        """Return the split that a question is in."""
        if self.indices is None:
            return self._split_of[question.database]
        found = (name for name in SPLITS if question.number in self.indices.get(name, ()))
        return next(found, "none")

    @cached_property
    def _split_of(self) -> dict[str, str]:
        names = list(dict.fromkeys(one.database for one in self.questions))
        if set(names) >= TEST_DATABASES | VALID_DATABASES:
            test, valid = TEST_DATABASES, VALID_DATABASES
        else:
            test, valid = frozenset(names[4::5]), frozenset(names[3::10])
        return {
            name: "test" if name in test else "valid" if name in valid else "train"
            for name in names
        }


def read_questions(
    dump: Path, questions: Path, indices: Mapping[str, Path] | None = None
) -> QuestionSet:
    """Read the benchmark's files.

    Args:
        dump: The MySQL dump.
        questions: The questions, such as ``ic_spider_dev.json``.
        indices: A JSON list of question numbers for each split that has one.

    Raises:
        DataError: A file is missing or not what it should be.
    """
    text = _read(dump)
    asked = parse_questions(_load(questions), str(questions))
    known = split_dump(text)
    unknown = sorted({one.database for one in asked} - set(known))
    if not known:
        raise DataError(f"{dump} is no MySQL dump of databases: it has no CREATE DATABASE.")
    if unknown:
        raise DataError(
            f"{questions} asks about databases that {dump} does not have ({', '.join(unknown)}): "
            "name the dump that belongs to it."
        )
    for statement in chain.from_iterable(known.values()):
        count_rows(statement)  # those that cannot be read are told before any server has them
    lists = None
    if indices:
        lists = {split: _numbers(path, len(asked)) for split, path in indices.items()}
        twice = [one for one, times in Counter(chain(*lists.values())).items() if times > 1]
        if twice:
            raise DataError(
                f"The index files name question {twice[0]} twice: a question is in one split, once."
            )
    digest = hashlib.sha256(f"{text}{asked}".encode()).hexdigest()[:12]
    return QuestionSet(digest, text, asked, lists)


def generated_questions(databases: int, seed: int) -> QuestionSet:
    """Return generated databases and questions.

    Args:
        databases: How many databases.
        seed: Another seed, other databases; 0 or more.
    """
    from hpl_gym.intercode_sql.generate import generate_databases

    dump, raw = generate_databases(databases, seed)
    name = f"generated-{seed}-{databases}"
    return QuestionSet(name, dump, parse_questions(raw, name))


def parse_questions(raw: object, source: str) -> tuple[Question, ...]:
    """Return the questions in the content of a question file.

    Raises:
        DataError: It is no list of questions.
    """
    if not isinstance(raw, list) or not raw:
        raise DataError(f"{source} is no list of questions: name a file like ic_spider_dev.json.")
    asked = []
    for number, one in enumerate(raw):
        entry: dict[str, Any] = {"hardness": "all"} | (one if isinstance(one, dict) else {})
        texts = [entry.get(name) for name in ("db", "query", "gold", "hardness")]
        if not all(isinstance(text, str) for text in texts):
            raise DataError(
                f"Entry {number} of {source} is no question: it needs the texts db, query and gold."
            )
        asked.append(Question(number, *map(str, texts)))
    return tuple(asked)


def split_dump(dump: str) -> dict[str, tuple[str, ...]]:
    """Return the statements of each database in a MySQL dump: tables and rows, nothing else.

    Accounts, views, routines and settings are left out.
    """
    databases: dict[str, list[str]] = {}
    current: list[str] | None = None
    for statement in statements(dump):
        if match := re.match(r"USE\s+`?(\w+)`?", statement, re.IGNORECASE):
            current = databases.setdefault(match[1], [])
        elif current is not None and re.match(
            r"(CREATE\s+TABLE|INSERT|REPLACE)\b", statement, re.IGNORECASE
        ):
            current.append(statement)
    return {name: tuple(found) for name, found in databases.items()}


_TOKEN = re.compile(
    r"""(?:--[ \t][^\n]*|--\n|\#[^\n]*|/\*.*?\*/)   # comments, also those that MySQL would run
    |('(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`[^`]*`|[^'"`;\-\#/]+|.)""",
    re.VERBOSE | re.DOTALL,
)


def statements(dump: str) -> list[str]:
    """Return the statements of a dump, without comments and semicolons."""
    found: list[str] = []
    parts: list[str] = []
    for match in _TOKEN.finditer(dump):
        if match[1] == ";":
            found.append("".join(parts).strip())
            parts = []
        elif match[1]:
            parts.append(match[1])
    found.append("".join(parts).strip())
    return [one for one in found if one]


_VALUE = r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|[^'"(),\s]+"""
_ROW = re.compile(rf"\(\s*(?:{_VALUE})(?:\s*,\s*(?:{_VALUE}))*\s*\)", re.DOTALL)
_COMMA = re.compile(r"\s*,\s*")
_INSERT = re.compile(r"INSERT\s+INTO\s+[^\s(]+\s*(?:\([^)]*\))?\s*VALUES\s*", re.IGNORECASE)


def rows_of(insert: str) -> list[list[str]]:
    """Return the rows of an INSERT statement, each value as SQL writes it.

    Raises:
        DataError: It has something else than rows of plain values.
    """
    begin = _INSERT.match(insert)
    place = begin.end() if begin else 0
    rows = []
    while match := _ROW.match(insert, place):
        rows.append(re.findall(_VALUE, match[0], re.DOTALL))
        place = match.end()
        comma = _COMMA.match(insert, place)
        if comma is None:
            break
        place = comma.end()
    if begin is None or not rows or insert[place:].strip():
        raise DataError(
            "The dump has rows that cannot be read, only INSERT INTO table VALUES (...), (...) "
            f"with plain values: {insert[place:][:80]!r}."
        )
    return rows


def table_of(statement: str) -> str:
    """Return the table that a statement of a dump makes or fills, in lower case."""
    pattern = r"\w+\s+\w+\s+(?:IF\s+NOT\s+EXISTS\s+)?`?(\w+)`?"
    match = re.match(pattern, statement, re.IGNORECASE)
    assert match is not None
    return match[1].lower()


def count_rows(statement: str) -> int:
    """Return how many rows a statement of a dump adds.

    Raises:
        DataError: They cannot be read.
    """
    return 0 if statement[:6].upper() == "CREATE" else len(rows_of(statement))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(
            f"There is no file {path}: name InterCode's ic_spider_dbs.sql and ic_spider_dev.json."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None


def _load(path: Path) -> object:
    try:
        content: object = json.loads(_read(path))
    except ValueError as error:
        raise DataError(f"{path} is broken: it is not valid JSON ({error}).") from None
    return content


def _numbers(path: Path, count: int) -> tuple[int, ...]:
    numbers = _load(path)
    if not isinstance(numbers, list) or not all(
        isinstance(one, int) and 0 <= one < count for one in numbers
    ):
        raise DataError(
            f"{path} is no list of question numbers below {count}: name the index file that "
            "belongs to the questions."
        )
    return tuple(numbers)
