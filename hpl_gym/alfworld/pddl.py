"""Reads PDDL problems: entities, initial facts and the goal, with the names players see."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hpl_gym.core import DataError

_TOKEN = re.compile(r";[^\n]*|([()]|[^\s();]+)")

Formula = list[Any]
"""A PDDL expression: nested lists of lower-case words."""


def words(text: str) -> list[str]:
    """Return the lower-case words and parentheses of a PDDL text, without its comments."""
    return [word for word in _TOKEN.findall(text.lower()) if word]


def parse(text: str) -> Formula:
    """Return a PDDL text as nested lists of lower-case words.

    Raises:
        DataError: The parentheses do not match.
    """
    stack: list[Formula] = [[]]
    for word in words(text):
        if word == "(":
            stack.append([])
        elif word == ")":
            if len(stack) == 1:
                raise DataError("The PDDL text is broken: a parenthesis closes nothing.")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    if len(stack) != 1 or len(stack[0]) != 1:
        raise DataError("The PDDL text is broken: it is not one closed expression.")
    expression: Formula = stack[0][0]
    return expression


def typed(declaration: Formula) -> list[tuple[str, str]]:
    """Return the (name, type) pairs of a declaration such as ``a b - object c - agent``."""
    pairs: list[tuple[str, str]] = []
    names: list[str] = []
    items = iter(declaration)
    for item in items:
        if item == "-":
            kind = next(items, "object")
            pairs += [(name, kind) for name in names]
            names = []
        else:
            names.append(item)
    return pairs + [(name, "object") for name in names]


@dataclass(frozen=True)
class Problem:
    """A PDDL problem.

    Attributes:
        types: Entity id to type, in the order of declaration.
        facts: Initial facts by predicate: argument tuples, without repetition, sorted.
        goal: The goal formula.
    """

    types: dict[str, str]
    facts: dict[str, tuple[tuple[str, ...], ...]]
    goal: Formula

    @classmethod
    def read(cls, text: str, predicates: Mapping[str, tuple[str, ...]]) -> Problem:
        """Parse a problem.

        Args:
            text: The problem.
            predicates: The domain's predicates and the types of their arguments.

        Raises:
            DataError: The text is no PDDL problem of the domain.
        """
        parts = {part[0]: part[1:] for part in parse(text) if isinstance(part, list) and part}
        if not {":objects", ":init", ":goal"} <= set(parts) or len(parts[":goal"]) != 1:
            raise DataError("The PDDL problem is broken: it lacks :objects, :init or :goal.")
        types = dict(typed(parts[":objects"]))
        facts: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
        for fact in parts[":init"]:
            match fact:
                case ["=", *_]:
                    continue  # distances and costs: no command or text depends on them
                case [str(name), *row] if all(isinstance(word, str) for word in row) and (
                    tuple(types.get(word) for word in row) == predicates.get(name)
                ):
                    facts[name].add(tuple(row))
                case _:
                    raise DataError(f"The PDDL problem is broken: {fact} is no fact of the domain.")
        ordered = {name: tuple(sorted(rows)) for name, rows in facts.items()}
        return cls(types, ordered, parts[":goal"][0])

    def of_type(self, kind: str) -> list[str]:
        """Return the ids of one type, sorted."""
        return sorted(name for name, its in self.types.items() if its == kind)

    @cached_property
    def names(self) -> dict[str, str]:
        """Entity id to the name players see, e.g. ``desk_bar_...`` to ``desk 1``.

        ALFWorld numbers the entities of one kind from the back of their sorted ids, and counts
        only those that occur in a fact.
        """
        ids = sorted({arg for rows in self.facts.values() for row in rows for arg in row})
        kinds = {}
        for entity in ids:
            kind, placed, _ = entity.partition("_bar_")
            if placed:
                kinds[entity] = kind + "basin" if "basin" in entity else kind
        left = Counter(kinds.values())
        names = {}
        for entity in ids:
            if entity in kinds:
                kind = kinds[entity]
                names[entity] = f"{_unmangled(kind)} {left[kind]}"
                left[kind] -= 1
            else:
                names[entity] = f"{_unmangled(entity)} "
        return names


def _unmangled(text: str) -> str:
    for word, sign in (("minus", "-"), ("plus", "+"), ("dot", "."), ("comma", ",")):
        text = text.replace(f"_{word}_", sign)
    return text
