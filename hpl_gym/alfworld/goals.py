"""Turns a goal formula into a quick test of a state.

Sets of entities of one type are integers with a bit for each entity, so that "the mugs that are
clean and on this desk" is one `and` of three integers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hpl_gym.alfworld.pddl import Formula, typed
from hpl_gym.core import DataError

Binding = dict[str, int]
Test = Callable[[Any, Binding], bool]
Mask = Callable[[Any, Binding], int]
Fluent = Callable[[Any, int], int]
"""(state, the other argument or -1) to the entities that make the fact true at one position."""

# Objects last: by then a receptacle is known, and yields what it holds as one mask.
_ORDER = ("agent", "location", "otype", "rtype", "receptacle", "object")


def bits(mask: int) -> Iterator[int]:
    """Yield the positions of the bits that are set, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class GoalCompiler:
    """Compiles formulas over the entities of one problem.

    Args:
        index: Type to its entity ids; an entity's position is its bit.
        statics: Facts that never change, by predicate, of one or two arguments.
        fluents: For a predicate that changes and a position in it, how to ask a state.
    """

    def __init__(
        self,
        index: Mapping[str, Sequence[str]],
        statics: Mapping[str, Sequence[tuple[str, ...]]],
        fluents: Mapping[tuple[str, int], Fluent],
    ) -> None:
        self._everything = {kind: (1 << len(ids)) - 1 for kind, ids in index.items()}
        self._position = {entity: i for ids in index.values() for i, entity in enumerate(ids)}
        self._statics = statics
        self._fluents = fluents

    def compile(self, goal: Formula) -> Callable[[Any], bool]:
        """Return the test of a state for `goal`.

        Raises:
            DataError: The goal uses what this engine does not know.
        """
        test = self._test(goal, {})
        return lambda state: test(state, {})

    def _test(self, formula: Formula, scope: dict[str, str]) -> Test:
        match formula:
            case ["and", *parts]:
                return _all([self._test(part, scope) for part in parts])
            case ["or", *parts]:
                return self._test(["not", ["and", *(["not", part] for part in parts)]], scope)
            case ["imply", given, then]:
                return self._test(["not", ["and", given, ["not", then]]], scope)
            case ["not", part]:
                test = self._test(part, scope)
                return lambda state, binding: not test(state, binding)
            case ["forall", variables, part]:
                return self._test(["not", ["exists", variables, ["not", part]]], scope)
            case ["exists", [*_], [*_]]:
                return self._exists(formula, scope)
            case [str(), str(), *_] if len(formula) <= 3:
                mask = self._mask(formula, 0, scope)
                if (name := scope.get(formula[1])) is not None:
                    return lambda state, binding: bool(mask(state, binding) >> binding[name] & 1)
                place = self._constant(formula[1])
                return lambda state, binding: bool(mask(state, binding) >> place & 1)
        raise DataError(f"The game's goal is unusual: {formula} is not understood.")

    def _exists(self, formula: Formula, scope: dict[str, str]) -> Test:
        """Bind the variables one by one, each to the entities that pass all its conditions."""
        # Nested "exists" and "and" are flattened into one list of conditions; a variable gets a
        # number so that an inner one may repeat the name of an outer one.
        scope = dict(scope)
        rank = dict.fromkeys(scope.values(), -1)
        variables: list[tuple[str, str]] = []
        conditions: list[tuple[Formula, dict[str, str]]] = []
        todo = [(formula, scope)]
        for part, names in todo:
            if part[0] == "exists":
                new = [
                    (f"{name} {len(rank) + i}", name, kind)
                    for i, (name, kind) in enumerate(typed(part[1]))
                ]
                rank |= {unique: 0 for unique, _, _ in new}
                variables += [(unique, kind) for unique, _, kind in new]
                todo.append((part[2], names | {name: unique for unique, name, _ in new}))
            elif part[0] == "and":
                todo += [(each, names) for each in part[1:]]
            else:
                conditions.append((part, names))
        variables.sort(key=lambda variable: _ORDER.index(variable[1]))
        rank |= {name: i for i, (name, _) in enumerate(variables)}

        filters: defaultdict[str, list[Mask]] = defaultdict(list)
        tests: list[Test] = []
        for part, names in conditions:
            negated = part[0] == "not"
            atom = part[1] if negated else part
            used = [names.get(word, "") for word in atom[1:] if isinstance(word, str)]
            last = max(used, key=lambda name: rank.get(name, -1), default="")
            if len(used) == len(atom) - 1 and used.count(last) == 1 and rank.get(last, -1) >= 0:
                mask = self._mask(atom, used.index(last), names)
                filters[last].append(_complement(mask) if negated else mask)
            else:
                tests.append(self._test(part, names))
        search = _all(tests)
        for name, kind in reversed(variables):
            search = _level(name, self._everything[kind], filters[name], search)
        return search

    def _mask(self, atom: Formula, place: int, scope: dict[str, str]) -> Mask:
        """Return the entities that make `atom` true at `place`, given its other argument."""
        predicate, *arguments = atom
        others = [word for i, word in enumerate(arguments) if i != place]
        if predicate == "=":
            ask: Fluent = lambda state, other: 1 << other  # noqa: E731
        elif (predicate, place) in self._fluents:
            ask = self._fluents[predicate, place]
        else:
            table: defaultdict[int, int] = defaultdict(int)
            if predicate not in self._statics:
                raise DataError(f"The game's goal is unusual: {predicate!r} is not understood.")
            for row in self._statics[predicate]:
                key = [self._position[word] for i, word in enumerate(row) if i != place]
                table[key[0] if key else -1] |= 1 << self._position[row[place]]
            ask = lambda state, other: table.get(other, 0)  # noqa: E731
        if others and others[0] in scope:
            name = scope[others[0]]
            return lambda state, binding: ask(state, binding[name])
        other = self._constant(others[0]) if others else -1
        return lambda state, binding: ask(state, other)

    def _constant(self, word: str) -> int:
        if word not in self._position:
            raise DataError(f"The game's goal mentions {word!r}, which occurs in no fact.")
        return self._position[word]


def _all(tests: list[Test]) -> Test:
    if not tests:
        return lambda state, binding: True
    return lambda state, binding: all(test(state, binding) for test in tests)


def _complement(mask: Mask) -> Mask:
    return lambda state, binding: ~mask(state, binding)


def _level(name: str, everything: int, filters: list[Mask], search: Test) -> Test:
    def test(state: Any, binding: Binding) -> bool:
        candidates = everything
        for mask in filters:
            candidates &= mask(state, binding)
            if not candidates:
                return False
        for entity in bits(candidates):
            binding[name] = entity
            if search(state, binding):
                return True
        return False

    return test
