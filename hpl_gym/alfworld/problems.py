"""Writes drawn rooms as PDDL problems in the benchmark's form."""

from __future__ import annotations

from hpl_gym.alfworld.floorplans import rules
from hpl_gym.alfworld.pddl import Problem
from hpl_gym.alfworld.rooms import Goal, Room

Facts = dict[str, list[tuple[str, ...]]]
"""Predicate to the arguments for which it is true."""


def initial_facts(room: Room) -> Facts:
    """Return what is true at the start."""
    known = rules()
    facts: Facts = {"atLocation": [("agent1", _mangled(room.start))]}

    def add(predicate: str, *arguments: str) -> None:
        facts.setdefault(predicate, []).append(arguments)

    for receptacle in room.receptacles:
        name = _mangled(receptacle.id)
        add("receptacleType", name, f"{receptacle.kind}Type")
        add("receptacleAtLocation", name, _mangled(receptacle.location))
        if receptacle.openable:
            add("openable", name)
    for thing in room.things:
        name = _mangled(thing.id)
        add("objectType", name, f"{thing.kind}Type")
        add("objectAtLocation", name, _mangled(thing.location))
        if thing.place:
            add("inReceptacle", name, _mangled(thing.place.id))
        if thing.kind in known.portable:
            add("pickupable", name)
        if thing.kind in known.vessels:
            add("isReceptacleObject", name)
        if thing.cool:
            add("isCool", name)
        for action, kinds in known.actions.items():
            if thing.kind in kinds:
                add(action.lower(), name)
    there = {thing.kind for thing in room.things}
    for place in sorted({receptacle.kind for receptacle in room.receptacles}):
        for kind in sorted(known.accepts[place] & there):
            add("canContain", f"{place}Type", f"{kind}Type")
    return facts


def entity_names(room: Room, facts: Facts) -> dict[str, str]:
    """Return the ids of the things and receptacles of a room with the names players see."""
    lowered = {
        predicate: tuple(tuple(word.lower() for word in row) for row in rows)
        for predicate, rows in facts.items()
    }
    names = Problem({}, lowered, []).names
    ids = [thing.id for thing in room.things] + [receptacle.id for receptacle in room.receptacles]
    return {name: names[_mangled(name).lower()] for name in ids}


def problem_text(name: str, room: Room, facts: Facts) -> str:
    """Return the PDDL problem of a room.

    Args:
        name: A name for it: letters, digits and underscores.
        room: The room.
        facts: Its `initial_facts`.
    """
    known = rules()
    # The rules of the house name some types, so all are declared, as in the benchmark.
    declared = [
        "agent1 - agent",
        *(f"{kind}Type - otype" for kind in known.objects),
        *(f"{kind}Type - rtype" for kind in sorted(known.accepts)),
        *(f"{thing} - object" for thing, _ in facts["objectType"]),
        *(f"{holder} - receptacle" for holder, _ in facts["receptacleType"]),
    ]
    places = ("atLocation", "receptacleAtLocation", "objectAtLocation")
    locations = {row[1] for predicate in places for row in facts[predicate]}
    declared += [f"{place} - location" for place in sorted(locations)]
    init = [f"({predicate} {' '.join(row)})" for predicate, rows in facts.items() for row in rows]
    lines = "\n        "
    return (
        f"(define (problem plan_{name})\n(:domain alfred)\n"
        f"(:objects{lines}{lines.join(declared)}\n)\n"
        f"(:init{lines}{lines.join(init)}\n)\n{_goal_text(room.goal)}"
    )


def _goal_text(goal: Goal) -> str:
    text: str = rules().goals[goal.task_type]["pddl"]
    filled = text.format(obj=goal.kind, recep=goal.target, toggle=goal.lamp)
    return filled.replace("#", "-").strip() + "\n"


def _mangled(name: str) -> str:
    for sign, word in (("|", "_bar_"), ("-", "_minus_"), ("+", "_plus_"), (".", "_dot_")):
        name = name.replace(sign, word)
    return name
