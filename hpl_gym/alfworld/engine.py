"""The native engine: ALFWorld's household in plain Python, byte-equal to TextWorld's.

It plays the ALFRED domain only: the rules are written out here. Texts that differ between versions
of the benchmark come from the game's own files, and a game whose rules or texts are none of the
known versions is refused rather than played differently.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hpl_gym.alfworld.games import Game
from hpl_gym.alfworld.goals import bits
from hpl_gym.alfworld.grammar import in_dialect
from hpl_gym.alfworld.layout import State, read_layout
from hpl_gym.alfworld.pddl import Problem
from hpl_gym.alfworld.versions import read_version
from hpl_gym.core import DataError, Outcome

NOTHING_HAPPENS = "Nothing happens."
_WELCOME = "-= Welcome to TextWorld, ALFRED! =-"
_MIDDLE = "You are in the middle of a room. Looking quickly around you, you see {}."

Effect = tuple[State, str] | None
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

        try:
            self._house = read_layout(Problem.read(game.problem, version.predicates), version)
        except (TypeError, ValueError, LookupError) as error:
            raise DataError(
                f"The game of task {game.task.task_id!r} is broken ({error!r}): choose another."
            ) from error
        self._actions: dict[str, Callable[[State, str], Effect]] = {
            "go": self._go,
            "open": self._open,
            "close": self._close,
            "take": self._take,
            "put": partial(self._put, " in/on "),
            "move": partial(self._put, " to "),
            "examine": self._examine,
            "use": self._use,
            "slice": self._slice,
            **{verb: partial(self._treat, verb) for verb in self._house.treatments},
            "look": self._look,
            "inventory": self._inventory,
        }
        if version.help:
            self._actions["help"] = self._help

    def start(self) -> Outcome:
        """Return the first state and the introduction."""
        state = self._house.first
        looks = self._looks(state)
        if not self._house.here[state.at]:
            around = [
                f"a {name}"
                for name, home in zip(self._house.receptacles, self._house.home, strict=True)
                if home >= 0
            ]
            looks = _MIDDLE.format(_listed(around))
        return Outcome(state, f"{_WELCOME}\n\n{looks}\n\n{self._version.task}", valid=True)

    def step(self, state: State, command: str) -> Outcome:
        """Return what `command` does in `state`."""
        command = command.strip()
        verb, _, rest = command.partition(" ")
        action = self._actions.get(verb)
        effect = action(state, rest) if action else None
        new, text = effect or (state, NOTHING_HAPPENS)
        won = self._house.goal(new)
        return Outcome(new, text, effect is not None, won, float(won), won)

    def admissible(self, state: State) -> tuple[str, ...]:
        """Return the commands that do something in `state`, sorted."""
        held, here = state.held, self._house.here[state.at]
        commands = ["inventory", "look"]
        if "help" in self._actions:
            commands.append("help")
        for name, home in zip(self._house.receptacles, self._house.home, strict=True):
            if home >= 0 and home != state.at:
                commands.append(f"go to {name}")
        for receptacle in here:
            name = self._house.receptacles[receptacle]
            commands.append(f"examine {name}")
            if self._house.openable >> receptacle & 1:
                opened = state.opened >> receptacle & 1
                commands.append(f"close {name}" if opened else f"open {name}")
            contents = state.contents[receptacle]
            for item in bits(contents & self._house.switchable):
                commands.append(f"use {self._house.objects[item]}")
            if held >= 0:
                for verb, (items, receptacles) in self._house.treatments.items():
                    if items >> held & 1 and receptacles >> receptacle & 1:
                        commands.append(f"{verb} {self._house.objects[held]} with {name}")
            if not self._accessible(state) >> receptacle & 1:
                continue
            if held < 0:
                for item in bits(contents & self._house.portable):
                    commands.append(f"take {self._house.objects[item]} from {name}")
            elif self._house.accepts[receptacle] >> held & 1:
                put = self._version.put_command.replace("{o}", self._house.objects[held])
                commands.append(put.replace("{r}", name))
        if held >= 0:
            commands.append(f"examine {self._house.objects[held]}")
            if self._house.knives >> held & 1:
                for item in bits(state.present[state.at] & self._house.sliceable):
                    commands.append(
                        f"slice {self._house.objects[item]} with {self._house.objects[held]}"
                    )
        return tuple(sorted(set(commands)))

    def locations(self, state: State) -> dict[str, str]:
        """Return the receptacle that each object one can take or use is in; "" for the held one."""
        found: dict[str, str] = {}
        for name, contents in zip(self._house.receptacles, state.contents, strict=True):
            for item in bits(contents & (self._house.portable | self._house.switchable)):
                found.setdefault(self._house.objects[item], name)
        if state.held >= 0:
            found[self._house.objects[state.held]] = ""
        return found

    def _accessible(self, state: State) -> int:
        """The receptacles that do not need to be opened first."""
        return ~self._house.openable | state.opened

    def _near(self, state: State, name: str) -> int:
        """The receptacle of this name if the agent is at it, else -1."""
        receptacle = self._house.receptacle.get(name, -1)
        return receptacle if receptacle >= 0 and self._house.home[receptacle] == state.at else -1

    def _go(self, state: State, rest: str) -> Effect:
        receptacle = self._house.receptacle.get(rest[3:], -1) if rest.startswith("to ") else -1
        if receptacle < 0 or self._house.home[receptacle] in (-1, state.at):
            return None
        new = state._replace(at=self._house.home[receptacle])
        return new, f"{self._house.arrive[receptacle]} {self._contents(new, receptacle)}"

    def _open(self, state: State, rest: str) -> Effect:
        receptacle = self._near(state, rest)
        if receptacle < 0 or not (self._house.openable & ~state.opened) >> receptacle & 1:
            return None
        new = state._replace(opened=state.opened | 1 << receptacle)
        return new, f"You open the {rest}. {self._contents(new, receptacle)}"

    def _close(self, state: State, rest: str) -> Effect:
        receptacle = self._near(state, rest)
        if receptacle < 0 or not (self._house.openable & state.opened) >> receptacle & 1:
            return None
        return state._replace(opened=state.opened ^ 1 << receptacle), f"You close the {rest}."

    def _take(self, state: State, rest: str) -> Effect:
        what, _, where = rest.partition(" from ")
        item, receptacle = self._house.object.get(what, -1), self._near(state, where)
        if (
            item < 0
            or receptacle < 0
            or state.held >= 0
            or not (state.contents[receptacle] & self._house.portable) >> item & 1
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

    def _put(self, joint: str, state: State, rest: str) -> Effect:
        what, _, where = rest.partition(joint)
        item, receptacle = self._house.object.get(what, -1), self._near(state, where)
        if (
            item < 0
            or receptacle < 0
            or state.held != item
            or not self._house.accepts[receptacle] >> item & 1
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

    def _treat(self, verb: str, state: State, rest: str) -> Effect:
        what, _, where = rest.partition(" with ")
        item, receptacle = self._house.object.get(what, -1), self._near(state, where)
        items, receptacles = self._house.treatments[verb]
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

    def _use(self, state: State, rest: str) -> Effect:
        item = self._house.object.get(rest, -1)
        if item < 0 or not self._house.switchable >> item & 1:
            return None
        if not any(
            state.contents[receptacle] >> item & 1 for receptacle in self._house.here[state.at]
        ):
            return None
        # The benchmark's texts call a lamp on once it was switched, however often.
        return state._replace(toggled=state.toggled | 1 << item), f"You turn on the {rest}."

    def _slice(self, state: State, rest: str) -> Effect:
        what, _, tool = rest.partition(" with ")
        item, knife = self._house.object.get(what, -1), self._house.object.get(tool, -1)
        if item < 0 or knife < 0 or state.held != knife or not self._house.knives >> knife & 1:
            return None
        if not (self._house.sliceable & state.present[state.at]) >> item & 1:
            return None
        new = state._replace(sliced=state.sliced | 1 << item)
        return new, f"You sliced the {what} with the {tool}."

    def _examine(self, state: State, rest: str) -> Effect:
        receptacle = self._near(state, rest)
        if receptacle >= 0:
            return state, self._contents(state, receptacle)
        # The domain has a slip of the pen ("location," for a type) by which what lies in a
        # receptacle cannot be examined, only what is in hand.
        item = self._house.object.get(rest, -1)
        if item < 0 or item != state.held:
            return None
        return state, self._describe(state, item)

    def _look(self, state: State, rest: str) -> Effect:
        return None if rest else (state, self._looks(state))

    def _inventory(self, state: State, rest: str) -> Effect:
        if rest:
            return None
        if state.held < 0:
            return state, "You are not carrying anything."
        return state, f"You are carrying: a {self._house.objects[state.held]}."

    def _help(self, state: State, rest: str) -> Effect:
        return None if rest else (state, self._version.help)

    def _contents(self, state: State, receptacle: int) -> str:
        name = self._house.receptacles[receptacle]
        opening = f"On the {name}, you see"
        if self._house.openable >> receptacle & 1:
            if not state.opened >> receptacle & 1:
                return f"The {name} is closed."
            opening = f"The {name} is open. In it, you see"
        return f"{opening} {self._list_objects(state.contents[receptacle])}."

    def _looks(self, state: State) -> str:
        here = self._house.here[state.at]
        if not here:
            return _MIDDLE.format("nothing")
        facing = _listed([self._house.receptacles[receptacle] for receptacle in here])
        # The reference lists as lying beside a receptacle what was moved out of it to another
        # receptacle at the same location.
        beside = [
            f"a {self._house.objects[item]}"
            for item in bits(state.present[state.at])
            for receptacle in here
            if state.taken[receptacle] >> item & 1
        ]
        return f"You are facing the {facing}. Next to it, you see {_listed(beside)}."

    def _describe(self, state: State, item: int) -> str:
        name = self._house.objects[item]
        if self._house.vessels >> item & 1:
            inside = self._list_objects(self._house.inside[item])
            return f"This is a normal {name}. In it, you see {inside}."
        clean, sliced = state.clean >> item & 1, state.sliced >> item & 1
        heat = "hot" if state.hot >> item & 1 else "cool" if state.cool >> item & 1 else ""
        if clean or heat:
            adjectives = " and ".join(filter(None, (heat, "clean" if clean else "")))
            if sliced:
                adjectives += " sliced"
            return f"This is a {'cold' if adjectives == 'cool' else adjectives} {name}."
        if self._house.switchable & state.toggled & 1 << item:
            return f"This {name} is on."
        if sliced:
            return f"This is a sliced {name}."
        return f"There's nothing special about {name}."

    def _list_objects(self, mask: int) -> str:
        return _listed([f"a {self._house.objects[item]}" for item in bits(mask)])


def _listed(items: list[str]) -> str:
    if len(items) < 2:
        return items[0] if items else "nothing"
    return f"{', '.join(items[:-1])}, and {items[-1]}"


def _with(items: tuple[int, ...], place: int, value: int) -> tuple[int, ...]:
    return (*items[:place], value, *items[place + 1 :])
