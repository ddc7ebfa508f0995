"""Draws furnished rooms with something to do in them."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from hpl_gym.alfworld.floorplans import (
    FloorPlan,
    Receptacle,
    Rules,
    floor_plan,
    numbers,
    object_id,
    rules,
)

_T = TypeVar("_T")

LOOK, TWO = "look_at_obj_in_light", "pick_two_obj_and_place"
TREATMENTS = {
    "pick_clean_then_place_in_recep": ("clean", "Cleanable", "SinkBasin"),
    "pick_heat_then_place_in_recep": ("heat", "Heatable", "Microwave"),
    "pick_cool_then_place_in_recep": ("cool", "Coolable", "Fridge"),
}
"""Task type to the command, the kind of rule and the receptacle that do it."""

_LAMP = "DeskLamp"
# All numbers below were counted in the benchmark's training games.
_TASK_ROOMS = {
    "pick_and_place_simple": {"Kitchen": 83, "LivingRoom": 220, "Bedroom": 245, "Bathroom": 277},
    LOOK: {"LivingRoom": 53, "Bedroom": 268},
    "pick_clean_then_place_in_recep": {"Kitchen": 520, "Bathroom": 157},
    "pick_heat_then_place_in_recep": {"Kitchen": 1},
    "pick_cool_then_place_in_recep": {"Kitchen": 1},
    TWO: {"Kitchen": 128, "LivingRoom": 221, "Bedroom": 246, "Bathroom": 242},
}
_COPIES = {1: 40, 2: 33, 3: 27}
_TARGET_COPIES = {1: 36, 2: 28, 3: 21, 4: 15}
_TWO_COPIES = {2: 43, 3: 33, 4: 24}
_SINGLE = frozenset({"Box", "HandTowel", "Pan", "PaperTowelRoll", "TeddyBear", "Towel"})
_ON_THE_FLOOR = 0.035
_CAPACITY = {
    **dict.fromkeys(("CoffeeMachine", "StoveBurner", "Toaster", "ToiletPaperHanger"), 1),
    **dict.fromkeys(("HandTowelHolder", "TowelHolder"), 1),
    **dict.fromkeys(("Cabinet", "Drawer", "GarbageCan", "Safe"), 3),
    **dict.fromkeys(("ArmChair", "BathtubBasin", "Microwave"), 4),
}
_OPENABLE_SHARE = 0.45


class Goal(NamedTuple):
    """What is to be done.

    Attributes:
        task_type: The benchmark's category.
        kind: Kind of object that is asked for.
        target: Kind of receptacle it has to go to; "" to look at it under a lamp.
        lamp: Kind of lamp to look at it under, else "".
    """

    task_type: str
    kind: str
    target: str
    lamp: str


class Thing(NamedTuple):
    """An object of a room.

    Attributes:
        id: Kind and coordinates.
        kind: The kind.
        place: The receptacle it is in; None: it is out of reach.
        location: Where one sees it from.
        cool: Whether it is cold from the fridge.
    """

    id: str
    kind: str
    place: Receptacle | None
    location: str
    cool: bool = False


@dataclass(frozen=True)
class Room:
    """A furnished room with something to do.

    Attributes:
        plan: The floor plan.
        goal: What is to be done.
        receptacles: The receptacles, all closed that can be.
        things: The objects.
        start: Where the agent stands: at no receptacle.
    """

    plan: FloorPlan
    goal: Goal
    receptacles: tuple[Receptacle, ...]
    things: tuple[Thing, ...]
    start: str

    def content(self) -> str:
        """Return what makes the room a game of its own: goal, receptacles, and what is in them.

        Two rooms that differ only in numbering, in coordinates or in what is out of reach have
        the same content.
        """
        inside = defaultdict(list)
        for thing in self.things:
            if thing.place:
                inside[thing.place.id].append(thing.kind)
        holders = sorted((r.kind, r.openable, sorted(inside[r.id])) for r in self.receptacles)
        return repr((tuple(self.goal), holders))


def draw_room(rng: random.Random, task_type: str, unseen: bool, small: bool) -> Room | None:
    """Draw a floor plan, a goal and a room.

    Args:
        rng: Source of all choices.
        task_type: One of the six task types.
        unseen: Take a held-out floor plan instead of one of the others.
        small: Leave only 3 to 5 receptacles and 4 to 8 objects, few of a kind.

    Returns:
        The room, or None if the draw came to nothing and another one is due.
    """
    known = rules()
    plan = floor_plan(rng.choice(numbers(_pick(rng, _TASK_ROOMS[task_type]), unseen)))
    goal = _draw_goal(rng, task_type, plan)
    if goal is None:
        return None
    shut = _shut_out(goal)
    receptacles = _choose(rng, plan, goal, shut) if small else plan.receptacles
    filling = _Filling(rng, known, receptacles)

    copies = _pick(rng, _TWO_COPIES if task_type == TWO else _TARGET_COPIES)
    if small:
        copies = min(copies, 2)
    placed = [filling.put(goal.kind, shut) for _ in range(copies)]
    if sum(placed) < (2 if task_type == TWO else 1):
        return None
    if goal.lamp and not filling.put(goal.lamp):
        return None

    others = [kind for kind in plan.kinds if kind not in (goal.kind, goal.lamp)]
    if small:
        count = rng.randint(4, 8)
        kinds = [kind for kind in others if kind in known.portable]
        rng.shuffle(kinds)
        for kind in kinds:
            if len(filling.things) < count:
                filling.put(kind)
        if len(filling.things) < 4:
            return None
    else:
        for kind in others:
            one = kind in _SINGLE or kind not in known.portable
            for _ in range(1 if one else _pick(rng, _COPIES)):
                out_of_reach = kind in known.portable and rng.random() < _ON_THE_FLOOR
                if out_of_reach or not filling.put(kind):
                    filling.drop(kind, rng.choice(plan.spots))
        filling.things += [Thing(name, kind, None, at) for name, kind, at in plan.fixtures]
    # What the fridge holds of the kind that is asked for is cold, as in the benchmark.
    things = [
        thing._replace(cool=True)
        if thing.kind == goal.kind
        and thing.kind in known.actions["Coolable"]
        and thing.place
        and thing.place.kind == "Fridge"
        else thing
        for thing in filling.things
    ]
    return Room(plan, goal, receptacles, tuple(things), rng.choice(plan.spots))


def _draw_goal(rng: random.Random, task_type: str, plan: FloorPlan) -> Goal | None:
    """Draw one of the goals that the rules and the floor plan allow, or None if there is none."""
    known = rules()
    there = {receptacle.kind for receptacle in plan.receptacles}
    kinds = [kind for kind in plan.kinds if kind in known.portable]
    if task_type == LOOK:
        return Goal(task_type, rng.choice(kinds), "", _LAMP) if _LAMP in plan.kinds else None
    _, treatable, appliance = TREATMENTS.get(task_type, ("", "", ""))
    if treatable:
        kinds = [kind for kind in kinds if kind in known.actions[treatable]]
    goals = []
    for kind in kinds:
        targets = [
            Goal(task_type, kind, target, "")
            for target in sorted(there)
            if kind in known.accepts[target]
            and target != appliance
            and not (task_type == TWO and _CAPACITY.get(target) == 1)
        ]
        targets = [goal for goal in targets if there & set(known.homes[kind]) - _shut_out(goal)]
        if targets:
            goals.append(targets)
    return rng.choice(rng.choice(goals)) if goals else None


def _shut_out(goal: Goal) -> frozenset[str]:
    """Return where nothing of the kind that is asked for lies at the start.

    As in the benchmark: nothing is where it has to go, but for things to be treated, and these
    are not where they are treated, but for the sink.
    """
    if goal.task_type in TREATMENTS:
        return frozenset({TREATMENTS[goal.task_type][2]}) - {"SinkBasin"}
    return frozenset({goal.target})


def _choose(
    rng: random.Random, plan: FloorPlan, goal: Goal, shut: frozenset[str]
) -> tuple[Receptacle, ...]:
    """Choose the receptacles of a small room: those the goal needs, and others of all kinds."""
    known = rules()
    left = defaultdict(list)
    for receptacle in plan.receptacles:
        left[receptacle.kind].append(receptacle)
    chosen: list[Receptacle] = []

    def take(kind: str) -> None:
        chosen.append(left[kind].pop(rng.randrange(len(left[kind]))))
        if not left[kind]:
            del left[kind]

    for kind in (goal.target, TREATMENTS.get(goal.task_type, ("", "", ""))[2]):
        if kind:
            take(kind)
    for kind in filter(None, (goal.kind, goal.lamp)):
        homes = {
            home: weight
            for home, weight in known.homes[kind].items()
            if home in left and (kind == goal.lamp or home not in shut)
        }
        if homes:
            take(_pick(rng, homes))
    count = rng.randint(max(3, len(chosen)), 5)
    while len(chosen) < count and left:
        openable = rng.random() < _OPENABLE_SHARE
        kinds = [kind for kind in left if any(r.openable == openable for r in left[kind])]
        take(rng.choice(sorted(kinds or left)))
    return tuple(sorted(chosen, key=lambda receptacle: receptacle.id))


@dataclass
class _Filling:
    """Fills receptacles with objects."""

    rng: random.Random
    known: Rules
    receptacles: Sequence[Receptacle]
    things: list[Thing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._of_kind = defaultdict(list)
        for receptacle in self.receptacles:
            self._of_kind[receptacle.kind].append(receptacle)
        self._ids: set[str] = set()
        self._inside: Counter[str] = Counter()

    def put(self, kind: str, shut: frozenset[str] = frozenset()) -> bool:
        """Put an object where one of its kind may be; return whether there is a place for it."""
        weights, free = {}, {}
        for home, weight in self.known.homes[kind].items():
            if home in self._of_kind and home not in shut:
                capacity = _CAPACITY.get(home, math.inf)
                free[home] = [r for r in self._of_kind[home] if self._inside[r.id] < capacity]
                if free[home]:
                    weights[home] = weight
        if not weights:
            return False
        place = self.rng.choice(free[_pick(self.rng, weights)])
        self._inside[place.id] += 1
        x, y, z = map(float, place.id.split("|")[1:4])
        self.things.append(Thing(self._new_id(kind, x, y, z), kind, place, place.location))
        return True

    def drop(self, kind: str, location: str) -> None:
        """Let an object lie where it is out of reach."""
        x, z = (int(part) / 4 for part in location.split("|")[1:3])
        self.things.append(Thing(self._new_id(kind, x, 0.1, z), kind, None, location))

    def _new_id(self, kind: str, x: float, y: float, z: float) -> str:
        while True:
            spread = self.rng.uniform
            name = object_id(kind, x + spread(-0.4, 0.4), y + spread(0, 0.3), z + spread(-0.4, 0.4))
            if name not in self._ids:
                self._ids.add(name)
                return name


def _pick(rng: random.Random, weights: dict[_T, int]) -> _T:
    return rng.choices(list(weights), list(weights.values()))[0]
