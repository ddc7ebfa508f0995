"""The floor plans, rules and texts that the `alfworld` package ships, for generating games.

Nothing of that package is imported but two files of constants, and these from where they lie:
importing the package itself changes the environment and pulls in much.
"""

from __future__ import annotations

import importlib.util
import json
import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from hpl_gym.core import MissingExtraError

ROOMS = {"Kitchen": 1, "LivingRoom": 201, "Bedroom": 301, "Bathroom": 401}
"""Kind of room to the number of its first floor plan; each kind has 30."""

HELD_OUT = frozenset({9, 10, 29, 215, 219, 226, 308, 315, 325, 404, 424, 425})
"""Floor plans of valid_unseen: those that the benchmark, too, keeps out of its training games."""

# The layouts tell where one can stand to use a receptacle, which leaves out these; how many there
# are was counted in the benchmark's games.
_UNLISTED = {
    "StoveBurner": (4,),
    "HandTowelHolder": (1, 1, 2),
    "TowelHolder": (1, 1, 2),
}
# Some cabinets and drawers of the benchmark cannot be opened: one sees what is in them.
_STUCK = {"Kitchen": (0, 0, 1, 2, 5)}
_STUCK_ELSEWHERE = (0, 0, 0, 1, 2)


@dataclass(frozen=True)
class Rules:
    """What goes where, and what can be done to it. Kinds are named as in ``SideTable``.

    Attributes:
        accepts: Kind of receptacle to the kinds of object that may be put there.
        actions: ``Cleanable``, ``Heatable``, ``Coolable``, ``Toggleable`` and ``Sliceable`` to
            the kinds of object they hold for.
        vessels: Kinds of object that hold others.
        openable: Kinds of receptacle that open and close.
        objects: All kinds of object, sorted.
        portable: Kinds of object that can be taken.
        homes: Kind of object to where one may be at the start: kind of receptacle to weight. It is
            where the benchmark's training games have it, as far as the rules allow it; of a kind
            that the rules know no place for (lamps, rolls of paper) the games alone tell.
        goals: Task type to its ``pddl`` and ``templates``.
        domain: The PDDL domain.
        grammar: The TextWorld grammar, with ``UNKNOWN GOAL`` for the task.
    """

    accepts: dict[str, frozenset[str]]
    actions: dict[str, frozenset[str]]
    vessels: frozenset[str]
    openable: frozenset[str]
    objects: tuple[str, ...]
    portable: frozenset[str]
    homes: dict[str, dict[str, int]]
    goals: dict[str, dict[str, Any]]
    domain: str
    grammar: str


@dataclass(frozen=True)
class Receptacle:
    """A receptacle: ``Cabinet|-01.55|+00.50|+00.38``, say.

    Attributes:
        id: Kind and coordinates.
        kind: The kind.
        location: Where one stands to use it, e.g. ``loc|-4|2|3|30``. Several may share one.
        openable: Whether it opens and closes (and is closed at the start).
    """

    id: str
    kind: str
    location: str
    openable: bool


@dataclass(frozen=True)
class FloorPlan:
    """An unfurnished room.

    Attributes:
        number: The benchmark's number.
        room: Kind of room, a key of `ROOMS`.
        receptacles: The receptacles, sorted by id.
        kinds: Kinds of object that belong here and are put anew for each game, sorted.
        fixtures: What stands or lies on the floor in every game: (id, kind, location).
        spots: Locations at which no receptacle can be used.
    """

    number: int
    room: str
    receptacles: tuple[Receptacle, ...]
    kinds: tuple[str, ...]
    fixtures: tuple[tuple[str, str, str], ...]
    spots: tuple[str, ...]


def numbers(room: str, unseen: bool) -> list[int]:
    """Return the floor plans of one kind of room: the held-out ones or all others."""
    first = ROOMS[room]
    return [n for n in range(first, first + 30) if (n in HELD_OUT) == unseen]


def object_id(kind: str, x: float, y: float, z: float) -> str:
    """Return an id as the benchmark writes it, e.g. ``Sink|-01.90|+00.97|-01.50|SinkBasin``."""
    place = f"|{x:+06.2f}|{y:+06.2f}|{z:+06.2f}"
    whole = kind.removesuffix("Basin")
    return f"{kind}{place}" if whole == kind else f"{whole}{place}|{kind}"


@lru_cache(maxsize=1)
def rules() -> Rules:
    """Read the rules.

    Raises:
        MissingExtraError: The `alfworld` package is not installed.
    """
    constants = _module("constants")
    vessels = frozenset(constants.MOVABLE_RECEPTACLES)
    accepts = {
        kind: frozenset(item for item in items if not item.endswith("Sliced"))
        for kind, items in constants.VAL_RECEPTACLE_OBJECTS.items()
        if kind not in vessels
    }
    measured = json.loads(Path(__file__).with_name("placements.json").read_text(encoding="utf-8"))
    # A lamp that merely stands beside a sink is counted there.
    del measured["FloorLamp"]
    homes = {}
    for kind, seen in (measured | _FURNITURE).items():
        allowed = {place: n for place, n in seen.items() if kind in accepts.get(place, ())}
        homes[kind] = allowed or seen
    lamps = frozenset(constants.VAL_ACTION_OBJECTS["Toggleable"])
    return Rules(
        accepts=accepts,
        actions={kind: frozenset(items) for kind, items in constants.VAL_ACTION_OBJECTS.items()},
        vessels=vessels,
        openable=frozenset(constants.OPENABLE_CLASS_LIST) - vessels,
        objects=tuple(sorted(set(constants.OBJECTS) - set(accepts))),
        portable=frozenset().union(measured, *accepts.values()) - lamps,
        homes=homes,
        goals=_module("goal_library").gdict,
        domain=_text("data/alfred.pddl"),
        grammar=_text("data/alfred.twl2"),
    )


# Objects one sees but cannot take: where the benchmark's training games have them.
_FURNITURE = {
    "HousePlant": {
        "CounterTop": 550,
        "SideTable": 200,
        "DiningTable": 181,
        "Shelf": 91,
        "CoffeeTable": 84,
        "Desk": 67,
        "Dresser": 55,
    },
    "Television": {"Dresser": 175, "TVStand": 157, "CoffeeTable": 32, "SideTable": 10},
}


@lru_cache(maxsize=120)
def floor_plan(number: int) -> FloorPlan:
    """Read a floor plan, and complete it with what its layout leaves out.

    Raises:
        MissingExtraError: The `alfworld` package is not installed.
    """
    known = rules()
    room = next(kind for kind, first in reversed(ROOMS.items()) if number >= first)
    # What is made up here belongs to the floor plan: it is the same in all games.
    rng = random.Random(f"FloorPlan{number}")
    listed = json.loads(_text(f"gen/layouts/FloorPlan{number}-openable.json"))
    contents = sorted(json.loads(_text(f"gen/layouts/FloorPlan{number}-objects.json")))
    points = np.load(_file(f"gen/layouts/FloorPlan{number}-layout.npy"))
    low, high = points.min(axis=0), points.max(axis=0)

    receptacles = []
    for name, (x, z, rotation, horizon) in sorted(listed.items()):
        parts = name.split("|")
        kind = parts[4] if len(parts) == 5 else parts[0]
        spot = _location(x, z, rotation // 90, horizon)
        receptacles.append(Receptacle(name, kind, spot, kind in known.openable))

    taken = {receptacle.location for receptacle in receptacles}
    spots = [
        spot
        for x, z in points
        for rotation in range(4)
        if (spot := _location(x, z, rotation, 45)) not in taken
    ]
    rng.shuffle(spots)

    def made_up(kind: str) -> str:
        x, z = rng.uniform(low[0], high[0]), rng.uniform(low[1], high[1])
        return object_id(kind, x, rng.uniform(0.1, 1.8), z)

    there = {receptacle.kind for receptacle in receptacles}
    for kind in contents:
        missing = 0
        if kind in ("Cabinet", "Drawer"):
            missing = rng.choice(_STUCK.get(room, _STUCK_ELSEWHERE))
        if kind in known.accepts and kind not in there:
            missing = max(missing, rng.choice(_UNLISTED.get(kind, (1,))))
        for _ in range(missing):
            receptacles.append(Receptacle(made_up(kind), kind, spots.pop(), False))
    there |= {kind for kind in contents if kind in known.accepts}
    movable = [
        kind
        for kind in contents
        if kind in known.objects and there & set(known.homes.get(kind, ()))
    ]
    fixtures = [
        (made_up(kind), kind, spots.pop())
        for kind in contents
        if kind in known.objects and kind not in movable
        for _ in range(4 if kind == "StoveKnob" else 1)
    ]
    return FloorPlan(
        number,
        room,
        tuple(sorted(receptacles, key=lambda receptacle: receptacle.id)),
        tuple(movable),
        tuple(fixtures),
        tuple(spots),
    )


def _location(x: float, z: float, rotation: int, horizon: int) -> str:
    return f"loc|{round(x / 0.25)}|{round(z / 0.25)}|{rotation}|{horizon}"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, _file(f"gen/{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _text(path: str) -> str:
    return _file(path).read_text(encoding="utf-8")


def _file(path: str) -> Path:
    spec = importlib.util.find_spec("alfworld")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (file := Path(folder, path)).is_file():
            return file
    raise MissingExtraError(
        "Generated games are made of what the alfworld package ships, and it is not installed "
        f"(or lacks {path}): pip install 'hpl-gym[alfworld]'."
    )
