"""The native engine: ALFWorld's household in plain Python, byte-equal to TextWorld's.

It plays the ALFRED domain only: the rules are written out here. Texts that differ between versions
of the benchmark come from the game's own files, and a game whose rules or texts are none of the
known versions is refused rather than played differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from hpl_gym.alfworld.games import Game
from hpl_gym.alfworld.goals import Fluent, GoalCompiler, bits
from hpl_gym.alfworld.grammar import in_dialect
from hpl_gym.alfworld.pddl import Problem
from hpl_gym.alfworld.versions import read_version
from hpl_gym.core import DataError, Outcome

NOTHING_HAPPENS = "Nothing happens."
_WELCOME = "-= Welcome to TextWorld, ALFRED! =-"
_MIDDLE = "You are in the middle of a room. Looking quickly around you, you see {}."


class House(NamedTuple):
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


Effect = tuple[House, str] | None
"""The new state and the text shown, or None: nothing happens."""


class NativeEngine:
    """Plays one game. It keeps no state between calls, so one engine serves any number of episodes.

    Args:
        game: The game.
        dialect: ``game``, ``move`` or ``put``: how texts and admissible commands speak. Both
            ``move X to Y`` and ``put X in/on Y`` are always understood.

    Attributes:
        instruction: What is to be done, e.g. ``put some mug on desk.``.

    Raises:
        DataError: The game is broken, or of a version that this engine does not know.
        HPLGymError: There is no such dialect.
    """

    def __init__(self, game: Game, dialect: str = "game") -> None:
        game = in_dialect(game, dialect)
        self._version = version = read_version(game)
        self.instruction = version.task.removeprefix("Your task is to: ")

        problem = Problem.read(game.problem)
        names, facts = problem.names, problem.facts
        index = {
            kind: [entity for entity in problem.of_type(kind) if entity in names]
            for kind in ("agent", "location", "receptacle", "object", "rtype", "otype")
        }
        self._place = {entity: i for ids in index.values() for i, entity in enumerate(ids)}
        self._receptacles = [names[entity] for entity in index["receptacle"]]
        self._objects = [names[entity] for entity in index["object"]]
        self._receptacle = {name: i for i, name in enumerate(self._receptacles)}
        self._object = {name: i for i, name in enumerate(self._objects)}
        locations = [names[entity] for entity in index["location"]]

        start = facts.get("atlocation", ())
        homes = dict(facts.get("receptacleatlocation", ()))
        if len(start) != 1 or len(homes) != len(facts.get("receptacleatlocation", ())):
            raise DataError("The game is unusual: the agent or a receptacle is not in one place.")
        if facts.get("holds") or facts.get("holdsany"):
            raise DataError("The game is unusual: the agent starts with an object in hand.")
        self._home = [self._place.get(homes.get(entity, ""), -1) for entity in index["receptacle"]]
        self._here: list[list[int]] = [[] for _ in index["location"]]
        for receptacle, home in enumerate(self._home):
            if home >= 0:
                self._here[home].append(receptacle)
        self._arrive = [
            version.arrive.replace("{r.name}", name).replace(
                "{lend.name}", names[homes[entity]] if entity in homes else ""
            )
            for entity, name in zip(index["receptacle"], self._receptacles, strict=True)
        ]

        def every(predicate: str) -> int:
            return self._mask(row[0] for row in facts.get(predicate, ()))

        def grouped(predicate: str, kind: str) -> list[int]:
            rows = facts.get(predicate, ())
            return [self._mask(what for what, by in rows if by == entity) for entity in index[kind]]

        self._openable = every("openable")
        self._portable = every("pickupable")
        self._switchable = every("toggleable")
        self._sliceable = every("sliceable")
        self._vessels = every("isreceptacleobject")
        self._inside = grouped("inreceptacleobject", "object")
        receptacles_of = dict(zip(index["rtype"], grouped("receptacletype", "rtype"), strict=True))
        objects_of = dict(zip(index["otype"], grouped("objecttype", "otype"), strict=True))
        self._knives = objects_of.get("knifetype", 0) | objects_of.get("butterknifetype", 0)
        # Verb: the objects it works on, and the receptacles it works with.
        self._treatments = {
            "heat": (every("heatable"), receptacles_of.get("microwavetype", 0)),
            "clean": (
                every("cleanable"),
                sum(receptacles_of.get(sink, 0) for sink in version.sinks),
            ),
            "cool": (every("coolable"), receptacles_of.get("fridgetype", 0)),
        }
        self._accepts = [0] * len(self._receptacles)
        for rtype, otype in facts.get("cancontain", ()):
            for receptacle in bits(receptacles_of.get(rtype, 0)):
                self._accepts[receptacle] |= objects_of.get(otype, 0)
        self._first = House(
            at=self._place[start[0][1]],
            held=-1,
            opened=every("opened"),
            contents=tuple(grouped("inreceptacle", "receptacle")),
            taken=(0,) * len(self._receptacles),
            present=tuple(grouped("objectatlocation", "location")),
            clean=every("isclean"),
            hot=every("ishot"),
            cool=every("iscool"),
            toggled=every("istoggled"),
            sliced=every("issliced"),
        )
        statics = {predicate: facts.get(predicate, ()) for predicate in _STATICS}
        self._goal = GoalCompiler(index, statics, _FLUENTS).compile(problem.goal)
        self._solved_at_start = self._goal(self._first)
        self._actions: dict[str, Callable[[House, str], Effect]] = {
            "go": self._go,
            "open": self._open,
            "close": self._close,
            "take": self._take,
            "put": partial(self._put, " in/on "),
            "move": partial(self._put, " to "),
            "examine": self._examine,
            "use": self._use,
            "slice": self._slice,
            **{verb: partial(self._treat, verb) for verb in self._treatments},
            "look": self._look,
            "inventory": self._inventory,
        }
        if version.help:
            self._actions["help"] = self._help

    def start(self) -> Outcome:
        """Return the first state and the introduction."""
        state = self._first
        looks = self._looks(state)
        if not self._here[state.at]:
            around = [
                f"a {name}"
                for name, home in zip(self._receptacles, self._home, strict=True)
                if home >= 0
            ]
            looks = _MIDDLE.format(_listed(around))
        return Outcome(state, f"{_WELCOME}\n\n{looks}\n\n{self._version.task}", valid=True)

    def step(self, state: House, command: str) -> Outcome:
        """Return what `command` does in `state`."""
        command = command.strip()
        verb, _, rest = command.partition(" ")
        action = self._actions.get(verb)
        effect = action(state, rest) if action else None
        new, text = effect or (state, NOTHING_HAPPENS)
        # A state that did not change solves the game only if the first one already does.
        won = (new is not state or self._solved_at_start) and self._goal(new)
        return Outcome(new, text, effect is not None, won, float(won), won)

    def admissible(self, state: House) -> tuple[str, ...]:
        """Return the commands that do something in `state`, sorted."""
        held, here = state.held, self._here[state.at]
        commands = ["inventory", "look"]
        if "help" in self._actions:
            commands.append("help")
        for name, home in zip(self._receptacles, self._home, strict=True):
            if home >= 0 and home != state.at:
                commands.append(f"go to {name}")
        for receptacle in here:
            name = self._receptacles[receptacle]
            commands.append(f"examine {name}")
            if self._openable >> receptacle & 1:
                opened = state.opened >> receptacle & 1
                commands.append(f"close {name}" if opened else f"open {name}")
            contents = state.contents[receptacle]
            for item in bits(contents & self._switchable):
                commands.append(f"use {self._objects[item]}")
            if held >= 0:
                for verb, (items, receptacles) in self._treatments.items():
                    if items >> held & 1 and receptacles >> receptacle & 1:
                        commands.append(f"{verb} {self._objects[held]} with {name}")
            if not self._accessible(state) >> receptacle & 1:
                continue
            if held < 0:
                for item in bits(contents & self._portable):
                    commands.append(f"take {self._objects[item]} from {name}")
            elif self._accepts[receptacle] >> held & 1:
                put = self._version.put_command.replace("{o}", self._objects[held])
                commands.append(put.replace("{r}", name))
        if held >= 0:
            commands.append(f"examine {self._objects[held]}")
            if self._knives >> held & 1:
                for item in bits(state.present[state.at] & self._sliceable):
                    commands.append(f"slice {self._objects[item]} with {self._objects[held]}")
        return tuple(sorted(set(commands)))

    def locations(self, state: House) -> dict[str, str]:
        """Return the receptacle that each object one can take or use is in; "" for the held one."""
        found = {}
        for name, contents in zip(self._receptacles, state.contents, strict=True):
            for item in bits(contents & (self._portable | self._switchable)):
                found.setdefault(self._objects[item], name)
        if state.held >= 0:
            found[self._objects[state.held]] = ""
        return found

    def _mask(self, entities: Iterable[str]) -> int:
        mask = 0
        for entity in entities:
            mask |= 1 << self._place[entity]
        return mask

    def _accessible(self, state: House) -> int:
        """The receptacles that do not need to be opened first."""
        return ~self._openable | state.opened

    def _near(self, state: House, name: str) -> int:
        """The receptacle of this name if the agent is at it, else -1."""
        receptacle = self._receptacle.get(name, -1)
        return receptacle if receptacle >= 0 and self._home[receptacle] == state.at else -1

    def _go(self, state: House, rest: str) -> Effect:
        receptacle = self._receptacle.get(rest[3:], -1) if rest.startswith("to ") else -1
        if receptacle < 0 or self._home[receptacle] in (-1, state.at):
            return None
        new = state._replace(at=self._home[receptacle])
        return new, f"{self._arrive[receptacle]} {self._contents(new, receptacle)}"

    def _open(self, state: House, rest: str) -> Effect:
        receptacle = self._near(state, rest)
        if receptacle < 0 or not (self._openable & ~state.opened) >> receptacle & 1:
            return None
        new = state._replace(opened=state.opened | 1 << receptacle)
        return new, f"You open the {rest}. {self._contents(new, receptacle)}"

    def _close(self, state: House, rest: str) -> Effect:
        receptacle = self._near(state, rest)
        if receptacle < 0 or not (self._openable & state.opened) >> receptacle & 1:
            return None
        return state._replace(opened=state.opened ^ 1 << receptacle), f"You close the {rest}."

    def _take(self, state: House, rest: str) -> Effect:
        what, _, where = rest.partition(" from ")
        item, receptacle = self._object.get(what, -1), self._near(state, where)
        if (
            item < 0
            or receptacle < 0
            or state.held >= 0
            or not (state.contents[receptacle] & self._portable) >> item & 1
            or not self._accessible(state) >> receptacle & 1
        ):
            return None
        new = state._replace(
            held=item,
            contents=_with(state.contents, receptacle, state.contents[receptacle] & ~(1 << item)),
            taken=_with(state.taken, receptacle, state.taken[receptacle] | 1 << item),
            present=_with(state.present, state.at, state.present[state.at] & ~(1 << item)),
        )
        return new, f"You pick up the {what} from the {where}."

    def _put(self, joint: str, state: House, rest: str) -> Effect:
        what, _, where = rest.partition(joint)
        item, receptacle = self._object.get(what, -1), self._near(state, where)
        if (
            item < 0
            or receptacle < 0
            or state.held != item
            or not self._accepts[receptacle] >> item & 1
            or not self._accessible(state) >> receptacle & 1
        ):
            return None
        new = state._replace(
            held=-1,
            contents=_with(state.contents, receptacle, state.contents[receptacle] | 1 << item),
            taken=_with(state.taken, receptacle, state.taken[receptacle] & ~(1 << item)),
            present=_with(state.present, state.at, state.present[state.at] | 1 << item),
        )
        return new, self._version.put.replace("{o.name}", what).replace("{r.name}", where)

    def _treat(self, verb: str, state: House, rest: str) -> Effect:
        what, _, where = rest.partition(" with ")
        item, receptacle = self._object.get(what, -1), self._near(state, where)
        items, receptacles = self._treatments[verb]
        if (
            item < 0
            or receptacle < 0
            or state.held != item
            or not items >> item & 1
            or not receptacles >> receptacle & 1
        ):
            return None
        bit = 1 << item
        if verb == "clean":
            new = state._replace(clean=state.clean | bit)
        elif verb == "heat":
            new = state._replace(hot=state.hot | bit, cool=state.cool & ~bit)
        else:
            new = state._replace(cool=state.cool | bit, hot=state.hot & ~bit)
        return new, f"You {verb} the {what} using the {where}."

    def _use(self, state: House, rest: str) -> Effect:
        item = self._object.get(rest, -1)
        if item < 0 or not self._switchable >> item & 1:
            return None
        if not any(state.contents[receptacle] >> item & 1 for receptacle in self._here[state.at]):
            return None
        # The benchmark's texts call a lamp on once it was switched, however often.
        return state._replace(toggled=state.toggled | 1 << item), f"You turn on the {rest}."

    def _slice(self, state: House, rest: str) -> Effect:
        what, _, tool = rest.partition(" with ")
        item, knife = self._object.get(what, -1), self._object.get(tool, -1)
        if item < 0 or knife < 0 or state.held != knife or not self._knives >> knife & 1:
            return None
        if not (self._sliceable & state.present[state.at]) >> item & 1:
            return None
        new = state._replace(sliced=state.sliced | 1 << item)
        return new, f"You sliced the {what} with the {tool}."

    def _examine(self, state: House, rest: str) -> Effect:
        receptacle = self._near(state, rest)
        if receptacle >= 0:
            return state, self._contents(state, receptacle)
        # The domain has a slip of the pen ("location," for a type) by which what lies in a
        # receptacle cannot be examined, only what is in hand.
        item = self._object.get(rest, -1)
        if item < 0 or item != state.held:
            return None
        return state, self._describe(state, item)

    def _look(self, state: House, rest: str) -> Effect:
        return None if rest else (state, self._looks(state))

    def _inventory(self, state: House, rest: str) -> Effect:
        if rest:
            return None
        if state.held < 0:
            return state, "You are not carrying anything."
        return state, f"You are carrying: a {self._objects[state.held]}."

    def _help(self, state: House, rest: str) -> Effect:
        return None if rest else (state, self._version.help)

    def _contents(self, state: House, receptacle: int) -> str:
        name = self._receptacles[receptacle]
        opening = f"On the {name}, you see"
        if self._openable >> receptacle & 1:
            if not state.opened >> receptacle & 1:
                return f"The {name} is closed."
            opening = f"The {name} is open. In it, you see"
        return f"{opening} {self._list_objects(state.contents[receptacle])}."

    def _looks(self, state: House) -> str:
        here = self._here[state.at]
        if not here:
            return _MIDDLE.format("nothing")
        facing = _listed([self._receptacles[receptacle] for receptacle in here])
        # The reference lists as lying beside a receptacle what was moved out of it to another
        # receptacle at the same location.
        beside = [
            f"a {self._objects[item]}"
            for item in bits(state.present[state.at])
            for receptacle in here
            if state.taken[receptacle] >> item & 1
        ]
        return f"You are facing the {facing}. Next to it, you see {_listed(beside)}."

    def _describe(self, state: House, item: int) -> str:
        name = self._objects[item]
        if self._vessels >> item & 1:
            return (
                f"This is a normal {name}. In it, you see {self._list_objects(self._inside[item])}."
            )
        clean, sliced = state.clean >> item & 1, state.sliced >> item & 1
        heat = "hot" if state.hot >> item & 1 else "cool" if state.cool >> item & 1 else ""
        if clean or heat:
            adjectives = " and ".join(filter(None, (heat, "clean" if clean else "")))
            if sliced:
                adjectives += " sliced"
            return f"This is a {'cold' if adjectives == 'cool' else adjectives} {name}."
        if self._switchable & state.toggled & 1 << item:
            return f"This {name} is on."
        if sliced:
            return f"This is a sliced {name}."
        return f"There's nothing special about {name}."

    def _list_objects(self, mask: int) -> str:
        return _listed([f"a {self._objects[item]}" for item in bits(mask)])


def _listed(items: list[str]) -> str:
    if len(items) < 2:
        return items[0] if items else "nothing"
    return f"{', '.join(items[:-1])}, and {items[-1]}"


def _with(items: tuple[int, ...], place: int, value: int) -> tuple[int, ...]:
    return (*items[:place], value, *items[place + 1 :])


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
