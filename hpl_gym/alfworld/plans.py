"""Plans for drawn rooms: a straight way to the goal for one who knows the room."""

from __future__ import annotations

from collections.abc import Mapping

from hpl_gym.alfworld.floorplans import Receptacle
from hpl_gym.alfworld.rooms import TREATMENTS, TWO, Room, Thing


def plan_room(room: Room, names: Mapping[str, str]) -> tuple[str, ...]:
    """Return commands that reach the goal of `room`, in the `move O to R` dialect.

    Args:
        room: The room; what is asked for is within reach.
        names: Ids of things and receptacles to the names that players see.
    """
    goal, here = room.goal, room.start
    opened: set[str] = set()
    commands: list[str] = []

    def go(place: Receptacle) -> str:
        nonlocal here
        if here != place.location:
            commands.append(f"go to {names[place.id]}")
            here = place.location
        return names[place.id]

    def reach(place: Receptacle) -> str:
        name = go(place)
        if place.openable and place.id not in opened:
            commands.append(f"open {name}")
            opened.add(place.id)
        return name

    def nearest(kind: str) -> Receptacle:
        places = [place for place in room.receptacles if place.kind == kind]
        return min(places, key=lambda place: (place.location != here, place.openable))

    def take(thing: Thing) -> str:
        assert thing.place is not None
        place = reach(thing.place)
        commands.append(f"take {names[thing.id]} from {place}")
        return names[thing.id]

    def lying(kind: str) -> list[Thing]:
        """What is elsewhere than where it has to go comes first."""
        things = [thing for thing in room.things if thing.kind == kind and thing.place]
        return sorted(things, key=lambda t: t.place is not None and t.place.kind == goal.target)

    if goal.lamp:
        take(lying(goal.kind)[0])
        lamp = lying(goal.lamp)[0]
        assert lamp.place is not None
        go(lamp.place)
        commands.append(f"use {names[lamp.id]}")
        return tuple(commands)
    target = nearest(goal.target)
    for thing in lying(goal.kind)[: 2 if goal.task_type == TWO else 1]:
        item = take(thing)
        if goal.task_type in TREATMENTS:
            verb, _, appliance = TREATMENTS[goal.task_type]
            commands.append(f"{verb} {item} with {go(nearest(appliance))}")
        commands.append(f"move {item} to {reach(target)}")
    return tuple(commands)
