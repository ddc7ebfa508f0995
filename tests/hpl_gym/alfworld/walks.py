"""Walks through games that compare the two engines, biased towards what is rare."""

import random
import re
from collections import defaultdict

from hpl_gym.alfworld.engine import NativeEngine
from hpl_gym.alfworld.games import Game
from hpl_gym.alfworld.layout import State
from hpl_gym.alfworld.textworld import TextWorldEngine
from hpl_gym.core import Outcome

TREATMENTS = {
    "clean": ("clean", "sinkbasin"),
    "hot": ("heat", "microwave"),
    "cool": ("cool", "fridge"),
}
ODD = (
    *("", "   ", "\n", "look", "LOOK", "  look\t", "look around", "inventory ", "help", "help me"),
    *("go", "go to", "go to ", "go to the bed 1", "go to unicorn 7", "go  to desk 1", "go to desk"),
    *("take", "take mug 1", "take mug 1 from", "take  from ", "open", "open safe", "close"),
    *(
        "put",
        "put in/on",
        "put mug 1 in/on",
        "put mug 1 in desk 1",
        "move",
        "move  to ",
        "move mug",
    ),
    *(
        "heat mug 1",
        "slice",
        "slice bread 1 with",
        "use",
        "use desklamp",
        "examine",
        "examine loc 1",
    ),
    *("тарелка 1", "go to ☃ 1", "take “mug 1” from desk 1", "go to desk 1\x00", "x" * 5000, "None"),
)


def walk(game: Game, dialect: str, seed: int, steps: int) -> int:
    """Play one random walk on both engines and compare everything; return the turns taken."""
    rng = random.Random(seed)
    native, reference = NativeEngine(game, dialect), TextWorldEngine(game, dialect)
    assert native.instruction == reference.instruction
    ours, theirs = native.start(), reference.start()
    goal_share = rng.choice((0.0, 0.15, 0.3))
    trail: list[str] = []
    for turn in range(steps):
        commands = native.admissible(ours.state)
        assert commands == reference.admissible(theirs.state), trail
        assert native.locations(ours.state) == reference.locations(theirs.state), trail
        assert seen(ours) == seen(theirs), trail
        if ours.terminated:
            return turn
        if rng.random() < goal_share:
            command = toward_goal(native, game, ours.state)
        else:
            command = chosen(rng, commands, native)
        trail.append(command)
        ours, theirs = native.step(ours.state, command), reference.step(theirs.state, command)
    assert seen(ours) == seen(theirs), trail
    return steps


def seen(outcome: Outcome) -> tuple[object, ...]:
    """What an agent is told of an outcome."""
    return (
        outcome.observation,
        outcome.valid,
        outcome.terminated,
        outcome.reward,
        outcome.success,
    )


def chosen(rng: random.Random, commands: tuple[str, ...], native: NativeEngine) -> str:
    """Draw a command: an admissible one of a random kind, one that is not possible, or nonsense."""
    kinds = defaultdict(list)
    for command in commands:
        kinds[command.split()[0]].append(command)
    if rng.random() < 0.65:
        command = rng.choice(kinds[rng.choice(sorted(kinds))])
        if rng.random() < 0.1:
            command = rng.choice((f" {command} ", f"{command}.", command.upper(), command[:-1]))
        if rng.random() < 0.3:
            command = other_dialect(command)
        return command
    if rng.random() < 0.4:
        return rng.choice(ODD)
    item, receptacle = rng.choice(native._house.objects), rng.choice(native._house.receptacles)
    return rng.choice(
        (
            *(f"go to {receptacle}", f"open {receptacle}", f"close {receptacle}", f"use {item}"),
            *(f"take {item} from {receptacle}", f"examine {rng.choice((item, receptacle))}"),
            *(f"put {item} in/on {receptacle}", f"move {item} to {receptacle}"),
            *(f"{verb} {item} with {receptacle}" for verb in ("heat", "clean", "cool", "slice")),
            f"slice {item} with {rng.choice(native._house.objects)}",
        )
    )


def other_dialect(command: str) -> str:
    """Say a put command the other way."""
    if command.startswith("put"):
        return re.sub(r"put (.+) in/on (.+)", r"move \1 to \2", command)
    return re.sub(r"^move (.+) to (.+)", r"put \1 in/on \2", command)


def toward_goal(engine: NativeEngine, game: Game, state: State) -> str:
    """Return the next command of a straight way to the goal, for one who knows the house."""
    goal = game.problem[game.problem.index("(:goal") :].lower()
    kinds = re.findall(r"objecttype \?\w+ (\w+)type", goal)
    targets = re.findall(r"receptacletype \?\w+ (\w+)type", goal)
    if not kinds:
        return ""
    treatment = next((word for word in TREATMENTS if f"is{word} " in goal), "")
    commands, where = engine.admissible(state), engine.locations(state)

    def find(*starts: str, at: str = "") -> str:
        return next(
            (c for start in starts for c in commands if c.startswith(start) and at in c), ""
        )

    held = next((item for item, place in where.items() if not place), "")
    if not held:
        wanted = ((i, p) for i, p in where.items() if i.split()[0] == kinds[-1])
        item, place = next(((i, p) for i, p in wanted if p.split()[0] not in targets), ("", ""))
        return find(f"take {item} from {place}", f"open {place}", f"go to {place}")
    if held.split()[0] != kinds[-1]:
        return find("put ", "move ", "go to ")
    if not targets:
        lamp = next(item for item in where if item.split()[0] == kinds[0])
        return find(f"use {lamp}", f"go to {where[lamp]}")
    if treatment and not getattr(state, treatment) >> engine._house.object[held] & 1:
        verb, tool = TREATMENTS[treatment]
        return find(f"{verb} {held}", f"go to {tool} ")
    target = f" {targets[0]} "
    return find("put ", "move ", at=target) or find("open ", "go to ", at=target)
