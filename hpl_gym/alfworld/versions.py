"""What differs between the released versions of ALFWorld's domain and grammar."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache

from hpl_gym.alfworld.games import Game
from hpl_gym.alfworld.grammar import Grammar
from hpl_gym.alfworld.pddl import parse, typed, words
from hpl_gym.core import DataError

# Digests of what all known versions have in common.
_DOMAIN = "b0b8259a4e11c9f4"
_GRAMMAR = "7884364ff88e0207"
_COMMON_TEXTS = (
    *("intro", "OpenObject.feedback", "CloseObject.feedback", "PickupObject.feedback"),
    *("inventory.feedback", "examineReceptacle.feedback", "examineObject.feedback"),
    *("toggleObject.feedback", "heatObject.feedback", "cleanObject.feedback"),
    *("coolObject.feedback", "sliceObject.feedback", "look.feedback", "look-variations"),
    *("list_objects_on_the_floor", "list_appliances", "overview(o)", "overview(r)"),
    *("list_empty", "list_separator", "list_last_separator"),
)
_COMMON_ACTIONS = (
    *("gotolocation", "openobject", "closeobject", "pickupobject", "inventory"),
    *("examinereceptacle", "examineobject", "toggleobject", "heatobject", "cleanobject"),
    *("coolobject", "sliceobject", "look"),
)
_CONTENTS = " #examineReceptacle.feedback#"


@dataclass(frozen=True, slots=True)
class Version:
    """The rules and texts in which a game may differ from others.

    Attributes:
        predicates: The domain's predicates (lower case) and the types of their arguments.
        sinks: Types of receptacle (lower case) in which objects are cleaned.
        task: The sentence that states the task.
        arrive: What `go to` says before it tells what is there.
        put: What is said when an object is put down.
        put_command: The command for it.
        help: The reply to `help`; "" if there is no such command.
    """

    predicates: dict[str, tuple[str, ...]]
    sinks: tuple[str, ...]
    task: str
    arrive: str
    put: str
    put_command: str
    help: str


def read_version(game: Game) -> Version:
    """Return the version of a game's domain and grammar.

    Raises:
        DataError: They are of no known version.
    """
    predicates, sinks, has_help = _read_domain(game.domain)
    grammar = Grammar.read(game.grammar)
    version = Version(
        predicates,
        sinks,
        task=grammar.take("task"),
        arrive=grammar.take("GotoLocation.feedback"),
        put=grammar.take("PutObject.feedback"),
        put_command=grammar.templates.get("putobject", ""),
        help=grammar.take("help.feedback") if has_help else "",
    )
    common = [
        [grammar.rules.get(symbol) for symbol in _COMMON_TEXTS],
        [(grammar.templates.get(name), grammar.feedback.get(name)) for name in _COMMON_ACTIONS],
    ]
    arrive = version.arrive.removesuffix(_CONTENTS)
    texts = (version.task, arrive, version.put, version.help)
    if (
        _digest(json.dumps(common, sort_keys=True)) != _GRAMMAR
        or version.put_command not in ("put {o} in/on {r}", "move {o} to {r}")
        or arrive == version.arrive
        or has_help != bool(version.help)
        or any(set('{}[]#|;<>"') & set(re.sub(r"\{(o|r|lend)\.name\}", "", text)) for text in texts)
    ):
        raise DataError(_unknown("grammar"))
    return dataclasses.replace(version, arrive=arrive)


@lru_cache(maxsize=8)
def _read_domain(domain: str) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...], bool]:
    """Return the predicates, the types of receptacle that clean, and if there is a help command."""
    text = " ".join(words(domain))
    common = re.sub(r"\( :action help .*?(?=\( :action|\)$)", "", text)
    if _digest(common.replace("( receptacletype ?r sinktype ) ", "")) != _DOMAIN:
        raise DataError(_unknown("domain"))
    parts = {part[0]: part[1:] for part in parse(text) if isinstance(part, list)}
    predicates = {
        name: tuple(kind for _, kind in typed(row)) for name, *row in parts[":predicates"]
    }
    clean = re.search(r":action cleanobject .*?:effect", text)
    assert clean is not None, "the digest vouches for it"
    sinks = tuple(re.findall(r"receptacletype \?r (\w+)", clean[0]))
    return predicates, sinks, ":action help " in text


def _unknown(part: str) -> str:
    return (
        f"The game's {part} is of a version that the native engine does not know: "
        "play it with engine='textworld'."
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
