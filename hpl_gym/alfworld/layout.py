"""A house as an engine needs it: what is where, what can be done with it, and the goal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from hpl_gym.alfworld.goals import Fluent, GoalCompiler, bits
from hpl_gym.alfworld.pddl import Problem
from hpl_gym.alfworld.versions import Version
from hpl_gym.core import DataError


class State(NamedTuple):
    """The state of a game. Sets of objects and of receptacles are integers, one bit for each.

    Attributes:
        at: The agent's location.
        held: The object in hand, or -1.
        opened: The open receptacles.
        contents: For each receptacle the objects in it.
        taken: For each receptacle the objects taken out of it and not put back.
        present: For each location the objects at it.
        clean: The clean objects.
        hot: The hot objects.
        cool: The cool objects.
        toggled: The objects that were ever switched.
        sliced: The sliced objects.
    """

    at: int
    held: int
    opened: int
    contents: tuple[int, ...]
    taken: tuple[int, ...]
    present: tuple[int, ...]
    clean: int
    hot: int
    cool: int
    toggled: int
    sliced: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What never changes in a house, and how it looks at first.

    Objects, receptacles and locations are numbers; a set of them is an integer, one bit for each.

    Attributes:
        objects: Names of the objects, in the order in which they are listed.
        receptacles: Names of the receptacles, in the order in which they are listed.
        object: Name to object.
        receptacle: Name to receptacle.
        home: For each receptacle its location, or -1.
        here: For each location the receptacles there.
        arrive: For each receptacle what `go to` says first.
        openable: The receptacles that can be opened.
        portable: The objects that can be taken.
        switchable: The objects that can be used.
        sliceable: The objects that can be sliced.
        knives: The objects that slice.
        vessels: The objects that are receptacles themselves, such as mugs.
        inside: For each object the objects inside it.
        treatments: For `heat`, `clean` and `cool` the objects and the receptacles they work on.
        accepts: For each receptacle the objects that may be put there.
        first: The state at first.
        goal: Whether a state solves the task.
    """

    objects: list[str]
    receptacles: list[str]
    object: dict[str, int]
    receptacle: dict[str, int]
    home: list[int]
    here: list[list[int]]
    arrive: list[str]
    openable: int
    portable: int
    switchable: int
    sliceable: int
    knives: int
    vessels: int
    inside: list[int]
    treatments: dict[str, tuple[int, int]]
    accepts: list[int]
    first: State
    goal: Callable[[State], bool]


def read_layout(problem: Problem, version: Version) -> Layout:
    """Return the house of a problem.

    Raises:
        DataError: It is no house that this engine can play.
    """
    names, facts = problem.names, problem.facts
    index = {
        kind: [entity for entity in problem.of_type(kind) if entity in names]
        for kind in ("agent", "location", "receptacle", "object", "rtype", "otype")
    }
    place = {entity: i for ids in index.values() for i, entity in enumerate(ids)}

    def mask(entities: Iterable[str]) -> int:
        return sum(1 << place[entity] for entity in set(entities))

    def every(predicate: str) -> int:
        return mask(row[0] for row in facts.get(predicate, ()))

    def grouped(predicate: str, kind: str) -> list[int]:
        rows = facts.get(predicate, ())
        return [mask(what for what, by in rows if by == entity) for entity in index[kind]]

    start = facts.get("atlocation", ())
    standing = facts.get("receptacleatlocation", ())
    homes = {row[0]: row[1] for row in standing}
    if len(start) != 1 or len(homes) != len(standing):
        raise DataError("The game is unusual: the agent or a receptacle is not in one place.")
    if facts.get("holds") or facts.get("holdsany"):
        raise DataError("The game is unusual: the agent starts with an object in hand.")
    home = [place.get(homes.get(entity, ""), -1) for entity in index["receptacle"]]

    receptacles_of = dict(zip(index["rtype"], grouped("receptacletype", "rtype"), strict=True))
    objects_of = dict(zip(index["otype"], grouped("objecttype", "otype"), strict=True))
    accepts = [0] * len(home)
    for rtype, otype in facts.get("cancontain", ()):
        for receptacle in bits(receptacles_of.get(rtype, 0)):
            accepts[receptacle] |= objects_of.get(otype, 0)
    sinks = {row[0] for row in facts.get("receptacletype", ()) if row[1] in version.sinks}
    objects = [names[entity] for entity in index["object"]]
    receptacles = [names[entity] for entity in index["receptacle"]]
    statics = {predicate: facts.get(predicate, ()) for predicate in _STATICS}
    return Layout(
        objects=objects,
        receptacles=receptacles,
        object={name: i for i, name in enumerate(objects)},
        receptacle={name: i for i, name in enumerate(receptacles)},
        home=home,
        here=[[r for r, its in enumerate(home) if its == i] for i in range(len(index["location"]))],
        arrive=[
            version.arrive.replace("{r.name}", names[entity]).replace(
                "{lend.name}", names.get(homes.get(entity, ""), "")
            )
            for entity in index["receptacle"]
        ],
        openable=every("openable"),
        portable=every("pickupable"),
        switchable=every("toggleable"),
        sliceable=every("sliceable"),
        knives=objects_of.get("knifetype", 0) | objects_of.get("butterknifetype", 0),
        vessels=every("isreceptacleobject"),
        inside=grouped("inreceptacleobject", "object"),
        treatments={
            "heat": (every("heatable"), receptacles_of.get("microwavetype", 0)),
            "clean": (every("cleanable"), mask(sinks)),
            "cool": (every("coolable"), receptacles_of.get("fridgetype", 0)),
        },
        accepts=accepts,
        first=State(
            at=place[start[0][1]],
            held=-1,
            opened=every("opened"),
            contents=tuple(grouped("inreceptacle", "receptacle")),
            taken=(0,) * len(home),
            present=tuple(grouped("objectatlocation", "location")),
            clean=every("isclean"),
            hot=every("ishot"),
            cool=every("iscool"),
            toggled=every("istoggled"),
            sliced=every("issliced"),
        ),
        goal=GoalCompiler(index, statics, _FLUENTS).compile(problem.goal),
    )


def _holders(rows: tuple[int, ...], item: int) -> int:
    return sum(1 << place for place, row in enumerate(rows) if row >> item & 1)


_STATICS = (
    *("receptacleatlocation", "openable", "receptacletype", "cancontain", "objecttype"),
    *("cleanable", "heatable", "coolable", "pickupable", "moveable", "toggleable", "sliceable"),
    *("isreceptacleobject", "inreceptacleobject"),
)
_FLUENTS: dict[tuple[str, int], Fluent] = {
    ("atlocation", 0): lambda state, location: int(state.at == location),
    ("atlocation", 1): lambda state, agent: 1 << state.at,
    ("holds", 0): lambda state, item: int(state.held == item),
    ("holds", 1): lambda state, agent: 1 << state.held if state.held >= 0 else 0,
    ("holdsany", 0): lambda state, _: int(state.held >= 0),
    ("opened", 0): lambda state, _: state.opened,
    ("inreceptacle", 0): lambda state, receptacle: state.contents[receptacle],
    ("inreceptacle", 1): lambda state, item: _holders(state.contents, item),
    ("objectatlocation", 0): lambda state, location: state.present[location],
    ("objectatlocation", 1): lambda state, item: _holders(state.present, item),
    ("isclean", 0): lambda state, _: state.clean,
    ("ishot", 0): lambda state, _: state.hot,
    ("iscool", 0): lambda state, _: state.cool,
    ("istoggled", 0): lambda state, _: state.toggled,
    ("issliced", 0): lambda state, _: state.sliced,
}
