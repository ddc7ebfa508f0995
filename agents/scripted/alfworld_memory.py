"""What an ALFWorld conversation tells about the house: the task, and where everything is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hpl_gym.wrappers.react import parse_reply
from hpl_gym.wrappers.transcript import Conversation

_TASK = re.compile(
    r"put (?P<count>an?|some|two)(?: (?P<state>clean|hot|cool))? (?P<thing>\w+) (?:in|on) (?P<place>\w+)"
    r"|(?P<verb>clean|heat|cool) some (?P<verb_thing>\w+) and put it in (?P<verb_place>\w+)"
    r"|find two (?P<two_thing>\w+) and put them in (?P<two_place>\w+)"
    r"|(?:examine the|look at) (?P<lit_thing>\w+) (?:with|under) the (?P<lamp>\w+)"
)
_SEEN = re.compile(
    r"The (?P<closed>\w+ \d+) is closed\."
    r"|The (?P<opened>\w+ \d+) is open\. In it, you see (?P<inside>[^.]*)\."
    r"|On the (?P<surface>\w+ \d+), you see (?P<above>[^.]*)\."
)
_NAME = re.compile(r"\ban? (\w+ \d+)")
_ARRIVED = re.compile(r"You arrive at (\w+ \d+)\.")
_FACING = re.compile(r"You are facing the (.*?)\. Next to it")
_TAKEN = re.compile(r"You pick up the (\w+ \d+) from the (\w+ \d+)\.")
_PUT = re.compile(r"You (put|move) the (\w+ \d+) (?:in/on|to) the (\w+ \d+)\.")
_TREATED = re.compile(r"You (clean|heat|cool) the (\w+ \d+) using the (\w+ \d+)\.")
_CLOSED = re.compile(r"You close the (\w+ \d+)\.")
_CARRYING = re.compile(r"You are carrying: an? (\w+ \d+)\.|You are not carrying anything\.")
_COMMAND = re.compile(
    r"(?P<verb>go to|open|examine|use) (?P<a>\w+ \d+)"
    r"|(?P<verb2>take|put|move|clean|heat|cool) (?P<b>\w+ \d+) (?:from|in/on|to|with) (?P<c>\w+ \d+)"
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
    found = _TASK.search(instruction)
    if found is None:
        return None
    if found["lit_thing"]:
        return Goal(found["lit_thing"], lamp=found["lamp"])
    if found["two_thing"]:
        return Goal(found["two_thing"], found["two_place"], count=2)
    if found["verb"]:
        return Goal(found["verb_thing"], found["verb_place"], state=STATE_AFTER[found["verb"]])
    count = 2 if found["count"] == "two" else 1
    return Goal(found["thing"], found["place"], count, found["state"])


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
        put_verb: ``put`` or ``move``, the command that this game understands.
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
            self.put_verb = put[1]
            self.contents.setdefault(put[3], []).append(put[2])
        if treated := _TREATED.search(observation):
            states = self.states.setdefault(treated[2], set())
            states -= {"hot", "cool"} if treated[1] != "clean" else set()
            states.add(STATE_AFTER[treated[1]])
        if closed := _CLOSED.search(observation):
            self.doors[closed[1]] = "closed"
        if carrying := _CARRYING.search(observation):
            self.held = carrying[1]
        for seen in _SEEN.finditer(observation):
            name = seen["closed"] or seen["opened"] or seen["surface"]
            self.seen[name] = turn
            if seen["closed"] or seen["opened"]:
                self.doors[name] = "closed" if seen["closed"] else "open"
            if not seen["closed"]:
                self.contents[name] = _NAME.findall(seen["inside"] or seen["above"])

    def _arrive(self, where: str, observation: str) -> None:
        """Note the new spot, which games name ``loc 7`` or by the receptacle (since 0.4)."""
        seen = _SEEN.search(observation)
        name = where if seen is None else seen["closed"] or seen["opened"] or seen["surface"]
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
        verb, thing = command["verb"] or command["verb2"], command["a"] or command["b"]
        receptacle = command["c"] or thing
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
