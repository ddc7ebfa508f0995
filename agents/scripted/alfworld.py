"""The scripted expert for ALFWorld: it searches where things usually are and remembers."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources

from hpl_gym.agents.agent import Reply
from hpl_gym.agents.scripted.alfworld_memory import Goal, House, kind, parse_goal, read_house
from hpl_gym.wrappers.react import ThoughtAction
from hpl_gym.wrappers.transcript import Conversation

_DOORS = frozenset({"cabinet", "drawer", "fridge", "microwave", "safe"})
_APPLIANCES = {"clean": "sinkbasin", "hot": "microwave", "cool": "fridge"}
_VERBS = {"clean": "clean", "hot": "heat", "cool": "cool"}


@lru_cache
def usual_places() -> dict[str, dict[str, int]]:
    """Return object type -> receptacle type -> count over the benchmark's training games."""
    text = resources.files("hpl_gym.alfworld").joinpath("placements.json").read_text("utf-8")
    return {
        thing.lower(): {place.lower(): count for place, count in places.items()}
        for thing, places in json.loads(text).items()
    }


@dataclass(frozen=True)
class ScriptedALFWorld:
    """Solves ALFWorld tasks and says why it does what it does.

    Each reply is a function of the conversation alone (and, with `locations`, of the task and the
    seed), so that the agent can take over an episode at any turn, whoever played until then.

    Attributes:
        locations: The receptacle that holds each object at the start of the episode, by the names
            the game shows (``{"mug 1": "cabinet 3"}``). With it the agent looks in up to two
            likely but wrong places, then goes to the right one; without, it searches on.
    """

    locations: Mapping[str, str] = field(default_factory=dict)

    async def act(self, conversation: Conversation, seed: int = 0) -> Reply:
        """Return the next thought and command.

        Args:
            conversation: The episode so far.
            seed: Decides, with the task, how many wrong places it looks in if it has `locations`.
        """
        goal = parse_goal(conversation.instruction)
        if goal is None:
            return Reply(str(ThoughtAction("I do not understand this task, so I look.", "look")))
        detours = random.Random(f"{conversation.task_id} {seed}").randrange(3)
        planner = _Planner(goal, read_house(conversation), self.locations, detours)
        return Reply(str(planner.next_step()))


@dataclass(frozen=True)
class _Planner:
    """Chooses the next step from what is known.

    Every method that returns a step or None proposes only commands that all that is known allows,
    and none that was refused before: so each turn either changes the house, shows a place that was
    not seen for longest, or rules a command out for good, and no loop is possible.
    """

    goal: Goal
    house: House
    locations: Mapping[str, str]
    detours: int

    def next_step(self) -> ThoughtAction:
        return self._task_step() or self._say("I do not know what to do, so I look.", "look")

    def _task_step(self) -> ThoughtAction | None:
        goal, held = self.goal, self.house.held
        if held is not None and kind(held) == goal.thing:
            step = self._light(held) if goal.lamp else self._treat(held) or self._deliver(held)
            return step or self._drop(held)
        if held is not None:
            return self._drop(held)
        return self._fetch() or self._search([goal.thing, *([goal.lamp] if goal.lamp else [])])

    def _fetch(self) -> ThoughtAction | None:
        """Go for an object of the wanted type in a known place, and take it."""
        house, goal = self.house, self.goal
        placed = self._placed(self._target())
        things = [
            (thing, receptacle)
            for thing, receptacle in house.places_of(goal.thing)
            if thing not in placed
            and f"take {thing} from {receptacle}" not in house.refused
            and self._reachable(receptacle)
            and self._is_useful(thing)
        ]
        if not things:
            return None
        thing, receptacle = min(
            things,
            key=lambda found: (
                goal.state not in house.states.get(found[0], ()),
                not house.is_at(found[1]),
                _by_number(found[0]),
                _by_number(found[1]),
            ),
        )
        if not house.is_at(receptacle):
            return self._go(f"I saw {thing} in {receptacle} and go there.", receptacle)
        if house.doors.get(receptacle) == "closed":
            return self._say(f"I saw {thing}, so I open {receptacle}.", f"open {receptacle}")
        return self._say(
            f"I see {thing} and take it from {receptacle}.", f"take {thing} from {receptacle}"
        )

    def _treat(self, held: str) -> ThoughtAction | None:
        """Clean, heat or cool the object in hand, if the task wants that and it is not done."""
        house, state = self.house, self.goal.state
        if state is None or state in house.states.get(held, ()):
            return None
        verb, appliances = _VERBS[state], self._appliances(held)
        if not appliances:
            return None
        appliance = min(appliances, key=lambda r: (not house.is_at(r), _by_number(r)))
        if not house.is_at(appliance):
            return self._go(f"I hold {held} and must {verb} it with {appliance}.", appliance)
        return self._say(
            f"I hold {held} and {verb} it with {appliance}.", f"{verb} {held} with {appliance}"
        )

    def _deliver(self, held: str) -> ThoughtAction | None:
        """Bring the object in hand to where the task wants it."""
        target = self._target(held)
        if target is None:
            return None
        what = f"{self.goal.state} {held}" if self.goal.state else held
        if not self.house.is_at(target):
            return self._go(f"I hold {what} and bring it to {target}.", target)
        return self._open_or_put(f"I hold {what}", held, target)

    def _light(self, held: str) -> ThoughtAction | None:
        """Use a lamp with the object in hand, or look for one."""
        house, lamp_type = self.house, self.goal.lamp
        assert lamp_type is not None
        lamps = [
            (lamp, r)
            for lamp, r in house.places_of(lamp_type)
            if f"use {lamp}" not in house.refused and self._reachable(r)
        ]
        if not lamps:
            return self._search([lamp_type])
        lamp, receptacle = min(
            lamps, key=lambda found: (not house.is_at(found[1]), _by_number(found[0]))
        )
        if not house.is_at(receptacle):
            return self._go(f"I hold {held} and saw {lamp} in {receptacle}.", receptacle)
        return self._say(f"I hold {held} and use {lamp}.", f"use {lamp}")

    def _drop(self, held: str) -> ThoughtAction | None:
        """Put down an object that is of no use, where such objects may lie."""
        house = self.house
        usual = usual_places().get(kind(held), {})
        places = [r for r in house.receptacles if self._accepts(r, held) and self._reachable(r)]
        if not places:
            return None
        place = min(
            places,
            key=lambda r: (
                kind(r) not in usual,
                not house.is_at(r),
                self._is_shut(r),
                -usual.get(kind(r), 0),
                _by_number(r),
            ),
        )
        if not house.is_at(place):
            return self._go(f"I drop {held}, so I go to {place}.", place)
        return self._open_or_put(f"I drop {held}", held, place)

    def _search(self, wanted: Sequence[str]) -> ThoughtAction | None:
        """Look where a wanted object is likely; when all was looked at, begin again."""
        house = self.house
        places = [r for r in house.receptacles if self._reachable(r)]
        fresh = [r for r in places if r not in house.contents]
        holders = {r for o, r in self.locations.items() if kind(o) == wanted[0]}
        if holders:
            straight = len(house.contents) >= self.detours
            fresh = [r for r in fresh if (r in holders) == straight] or fresh
        if fresh:
            likely = self._likelihood(wanted)
            places = sorted(
                fresh, key=lambda r: (-likely(r) / self._turns_to_see(r), _by_number(r))
            )
        else:
            places.sort(key=lambda r: (house.seen.get(r, -1), _by_number(r)))
        if not places:
            return None
        # Saying where to look afterwards keeps the plan in the conversation.
        place, may_be = places[0], " or ".join(places[:3])
        other = "other " if self._placed(self._target()) else ""
        if house.is_at(place):
            verb = "open" if self._is_shut(place) else "examine"
            thought = f"I see no {other}{wanted[0]}, so I {verb} {place}."
            return self._say(thought, f"{verb} {place}")
        if house.held:
            return self._go(f"I hold {house.held}. A {wanted[0]} may be in {may_be}.", place)
        none_here = f"No {other}{wanted[0]} here. " if house.spot and not house.failed else ""
        return self._go(f"{none_here}A {wanted[0]} may be in {may_be}.", place)

    def _is_useful(self, thing: str) -> bool:
        """Whether nothing that was refused rules out doing the task with `thing`."""
        goal = self.goal
        treated = goal.state is None or goal.state in self.house.states.get(thing, ())
        return (treated or bool(self._appliances(thing))) and (
            goal.place is None or self._target(thing) is not None
        )

    def _appliances(self, thing: str) -> list[str]:
        """Return the receptacles that may give `thing` the state which the task wants."""
        state = self.goal.state or ""
        return [
            r
            for r in self.house.receptacles
            if kind(r) == _APPLIANCES.get(state)
            and f"{_VERBS[state]} {thing} with {r}" not in self.house.refused
            and self._reachable(r)
        ]

    def _open_or_put(self, why: str, held: str, place: str) -> ThoughtAction:
        if self._is_shut(place):
            return self._say(f"{why}, so I open {place}.", f"open {place}")
        return self._say(f"{why} and put it in {place}.", self.house.put_command(held, place))

    def _target(self, held: str | None = None) -> str | None:
        """Return the receptacle in which to do the task: where most of it is done.

        Distance decides a tie only with the object in hand: else the target would change as the
        agent walks from one to the other.
        """
        house = self.house
        targets = [
            r
            for r in house.receptacles
            if kind(r) == self.goal.place
            and self._reachable(r)
            and (held is None or self._accepts(r, held))
        ]
        return min(
            targets,
            key=lambda r: (
                -len(self._placed(r)),
                held is not None and (not house.is_at(r)) + self._is_shut(r),
                _by_number(r),
            ),
            default=None,
        )

    def _placed(self, target: str | None) -> set[str]:
        """Return the objects in `target` that count for the task."""
        goal, house = self.goal, self.house
        return {
            thing
            for thing in house.contents.get(target or "", ())
            if kind(thing) == goal.thing
            and (goal.state is None or goal.state in house.states.get(thing, ()))
        }

    def _accepts(self, receptacle: str, held: str) -> bool:
        """Whether putting `held` there was not refused in both dialects."""
        return self.house.put_command(held, receptacle) not in self.house.refused

    def _reachable(self, receptacle: str) -> bool:
        house = self.house
        lost = {f"go to {receptacle}", f"examine {receptacle}"} & house.refused
        locked = house.doors.get(receptacle) == "closed" and f"open {receptacle}" in house.refused
        return not lost and not locked

    def _is_shut(self, receptacle: str) -> bool:
        """Whether it is closed, or has to be taken for closed until it is seen."""
        door = self.house.doors.get(receptacle)
        unseen = door is None and receptacle not in self.house.contents
        guess = kind(receptacle) in _DOORS and f"open {receptacle}" not in self.house.refused
        return door == "closed" or (unseen and guess)

    def _turns_to_see(self, receptacle: str) -> int:
        return max(1, (not self.house.is_at(receptacle)) + self._is_shut(receptacle))

    def _likelihood(self, wanted: Sequence[str]) -> Callable[[str], float]:
        """Return how likely a receptacle of this room holds a wanted object, up to a factor."""
        number = Counter(map(kind, self.house.receptacles))
        tables = [usual_places().get(thing, {}) for thing in wanted]

        def likely(receptacle: str) -> float:
            place = kind(receptacle)
            chances = [table.get(place, 0) / sum(table.values()) for table in tables if table]
            # What a task wants put somewhere is not there yet, unless it is to be cleaned first.
            there = place == self.goal.place and self.goal.state is None
            return (0.0 if there else sum(chances) / number[place]) + 1e-9

        return likely

    def _go(self, thought: str, receptacle: str) -> ThoughtAction:
        return self._say(thought, f"go to {receptacle}")

    def _say(self, thought: str, action: str) -> ThoughtAction:
        failed = "That failed. " if self.house.failed else ""
        return ThoughtAction(f"{self._need()} {failed}{thought}", action)

    def _need(self) -> str:
        goal = self.goal
        if goal.lamp:
            return f"I need a {goal.thing} under a {goal.lamp}."
        if goal.count == 2:
            target = self._target()
            if self._placed(target):
                return f"I need one more {goal.thing} in {target}."
            return f"I need two {goal.thing} in {goal.place}."
        state = f"{goal.state} " if goal.state else ""
        return f"I need a {state}{goal.thing} in {goal.place}."


def _by_number(name: str) -> tuple[str, int]:
    """Sort key: ``drawer 2`` before ``drawer 10``."""
    words = name.split(" ")
    return words[0], int(words[1])
