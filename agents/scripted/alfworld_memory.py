"""What an ALFWorld conversation tells about the house: the task, and where everything is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hpl_gym.wrappers.react import parse_reply
from hpl_gym.wrappers.transcript import Conversation

_TASKS = (
    r"put (?:an?|some) (?:(?P<state>clean|hot|cool) )?(?P<thing>\w+) (?:in|on) (?P<place>\w+)",
    r"(?P<verb>clean|heat|cool) (?:an?|some) (?P<thing>\w+) and put it (?:in|on) (?P<place>\w+)",
    r"(?:put|find) (?P<two>two) (?P<thing>\w+) (?:and put them )?(?:in|on) (?P<place>\w+)",
    r"(?:examine the|look at) (?P<thing>\w+) (?:with|under) the (?P<lamp>\w+)",
)
_SEEN = re.compile(
    r"(?:The|On the) (\w+ \d+)"
    r"(?: is (closed)\.| is (open)\. In it, you see ([^.]*)\.|, you see ([^.]*)\.)"
)
_NAME = re.compile(r"\ban? (\w+ \d+)")
_ARRIVED = re.compile(r"You arrive at (\w+ \d+)\.")
_FACING = re.compile(r"You are facing the (.*?)\. Next to it")
_TAKEN = re.compile(r"You pick up the (\w+ \d+) from the (\w+ \d+)\.")
_PUT = re.compile(r"You (?:put|move) the (\w+ \d+) (?:in/on|to) the (\w+ \d+)\.")
_TREATED = re.compile(r"You (clean|heat|cool) the (\w+ \d+) using the (\w+ \d+)\.")
_CLOSED = re.compile(r"You close the (\w+ \d+)\.")
_CARRYING = re.compile(r"You are carrying: an? (\w+ \d+)\.|You are not carrying anything\.")
_COMMAND = re.compile(
    r"(go to|open|examine|use|take|put|move|clean|heat|cool) (\w+ \d+)"
    r"(?: (?:from|in/on|to|with) (\w+ \d+))?"
)
STATE_AFTER = {"clean": "clean", "heat": "hot", "cool": "cool"}


@dataclass(frozen=True, slots=True)
class Goal:
    """What the task asks for.

    Attributes:
        thing: Type of the object, as the game writes it (``mug``).
        place: Type of the receptacle to put it in; None for "look at it under a lamp".
        count: How many of them (1 or 2).
        state: ``clean``, ``hot``, ``cool`` or None.
        lamp: Type of the lamp for "look at it under a lamp", else None.
    """

    thing: str
    place: str | None = None
    count: int = 1
    state: str | None = None
    lamp: str | None = None


def parse_goal(instruction: str) -> Goal | None:
    """Return what `instruction` asks for; None if it is no sentence of the benchmark."""
    for sentence in _TASKS:
        if found := re.search(sentence, instruction):
            part = found.groupdict()
            state = part.get("state") or STATE_AFTER.get(part.get("verb") or "")
            count = 2 if "two" in part else 1
            return Goal(part["thing"], part.get("place"), count, state, part.get("lamp"))
    return None


def kind(name: str) -> str:
    """Return the type in a name: ``kind("mug 2") == "mug"``."""
    return name.partition(" ")[0]


@dataclass
class House:
    """What is known, built by reading a conversation from its start.

    Attributes:
        receptacles: All receptacles, as the first observation lists them.
        spots: Where each receptacle stands, as far as known; several may share a spot.
        spot: Where the agent stands; None at the start, in the middle of the room.
        contents: What each receptacle held when last seen inside.
        doors: ``open`` or ``closed``, for what was seen to have a door.
        seen: Index of the turn that last showed a receptacle.
        held: The object in hand.
        states: States given to each object (``clean``, ``hot``, ``cool``).
        refused: Commands that had no effect though all that was known allowed them: there is no
            use in trying them again.
        put_verb: ``put`` or ``move``: the command that worked last, or that this game should know.
        failed: Whether the last command had no effect.
    """

    receptacles: tuple[str, ...]
    spots: dict[str, str] = field(default_factory=dict)
    spot: str | None = None
    contents: dict[str, list[str]] = field(default_factory=dict)
    doors: dict[str, str] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    held: str | None = None
    states: dict[str, set[str]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    put_verb: str = "put"
    failed: bool = False

    @property
    def here(self) -> list[str]:
        """The receptacles where the agent stands."""
        return [] if self.spot is None else [r for r in self.receptacles if self.is_at(r)]

    def is_at(self, receptacle: str) -> bool:
        """Whether the agent stands at `receptacle`, as far as known."""
        return self.spot is not None and self.spots.get(receptacle) == self.spot

    def places_of(self, wanted: str) -> list[tuple[str, str]]:
        """Return (object, receptacle) for every object of type `wanted` in a known place."""
        return [(o, r) for r in self.contents for o in self.contents[r] if kind(o) == wanted]

    def put_command(self, thing: str, receptacle: str) -> str:
        """Return the command that puts `thing` there, in the dialect of this game."""
        commands = {
            "put": f"put {thing} in/on {receptacle}",
            "move": f"move {thing} to {receptacle}",
        }
        if commands[self.put_verb] in self.refused:
            return commands["move" if self.put_verb == "put" else "put"]
        return commands[self.put_verb]

    def read(self, turn: int, action: str, observation: str) -> None:
        """Take in that `action`, the command of turn `turn`, was answered by `observation`."""
        self.failed = observation.startswith("Nothing happens")
        if self.failed:
            self._read_failure(action)
        if arrived := _ARRIVED.match(observation):
            self._arrive(arrived[1], observation)
        if facing := _FACING.search(observation):
            self._share_spot(re.findall(r"\w+ \d+", facing[1]))
        if taken := _TAKEN.search(observation):
            self.held = taken[1]
            if taken[1] in self.contents.get(taken[2], ()):
                self.contents[taken[2]].remove(taken[1])
        if put := _PUT.search(observation):
            self.held = None
            self.put_verb = "move" if action.startswith("move") else "put"
            self.contents.setdefault(put[2], []).append(put[1])
        if treated := _TREATED.search(observation):
            states = self.states.setdefault(treated[2], set())
            if treated[1] != "clean":
                states -= {"hot", "cool"}
            states.add(STATE_AFTER[treated[1]])
        if shut := _CLOSED.search(observation):
            self.doors[shut[1]] = "closed"
        if carrying := _CARRYING.search(observation):
            self.held = carrying[1]
        for name, closed, opened, inside, above in _SEEN.findall(observation):
            self.seen[name] = turn
            if closed or opened:
                self.doors[name] = closed or opened
            if not closed:
                self.contents[name] = _NAME.findall(inside or above)

    def _arrive(self, where: str, observation: str) -> None:
        """Note the new spot, which games name ``loc 7`` or by the receptacle (since 0.4)."""
        seen = _SEEN.search(observation)
        name = seen[1] if seen else where
        if where == name:
            self.put_verb = "move"
            where = self.spots.get(name, name)
        self.spot = self.spots[name] = where

    def _share_spot(self, receptacles: list[str]) -> None:
        known = [self.spots[r] for r in receptacles if r in self.spots]
        self.spot = self.spot or (known or receptacles)[0]
        for receptacle in receptacles:
            self.spots[receptacle] = self.spot

    def _read_failure(self, action: str) -> None:
        """Learn from a command that had no effect."""
        command = _COMMAND.fullmatch(action)
        if command is None:
            return
        verb, thing, receptacle = command[1], command[2], command[3] or command[2]
        if verb == "go to":
            # The game has no way to where one already is: the two receptacles share a spot.
            if self.spot is None or receptacle not in self.receptacles:
                self.refused.add(action)
            else:
                self.spots[receptacle] = self.spot
        elif verb == "use":
            if any(thing in self.contents.get(r, ()) for r in self.here):
                self.refused.add(action)
        elif self.is_at(receptacle):
            shut = self.doors.get(receptacle) == "closed"
            useful = {
                "open": shut or receptacle not in self.doors,
                "examine": True,
                "take": self.held is None and not shut,
            }
            holding = self.held == thing and not (shut and verb in ("put", "move"))
            if useful.get(verb, holding):
                self.refused.add(action)


def read_house(conversation: Conversation) -> House:
    """Return what `conversation` tells, from its first observation to its last."""
    opening = conversation.observation.partition("Your task is to")[0]
    house = House(tuple(_NAME.findall(opening)))
    for index, turn in enumerate(conversation.turns):
        house.read(index, parse_reply(turn.reply).action, turn.observation)
    return house
