"""Reads TextWorld grammars: the texts and command templates of a game, and its put dialect."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any

from hpl_gym.alfworld.games import Game
from hpl_gym.core import DataError, HPLGymError

DIALECTS = ("game", "move", "put")
_SPEECH = {
    "move": (
        '"move {o} to {r}"',
        '"You move the {o.name} to the {r.name}."',
        "move (object) to (receptacle):",
    ),
    "put": (
        '"put {o} in/on {r}"',
        '"You put the {o.name} in/on the {r.name}."',
        "put (object) in/on (receptacle):",
    ),
}
_TOKEN = re.compile(
    r'"""(?P<block>.*?)"""|action\s+(?P<action>[\w/-]+)\s*\{|'
    r'template\s*::\s*"(?P<template>[^"]*)"|feedback\s*::\s*"(?P<feedback>[^"]*)"',
    re.DOTALL,
)


@dataclass(frozen=True)
class Grammar:
    """What a grammar says.

    Attributes:
        templates: Action name (lower case) to its command template.
        feedback: Action name (lower case) to the start symbol of its feedback.
        rules: Symbol to its alternatives, each with ``rhs`` and maybe ``condition``.
    """

    templates: dict[str, str]
    feedback: dict[str, str]
    rules: dict[str, list[dict[str, Any]]]

    @classmethod
    def read(cls, text: str) -> Grammar:
        """Parse a grammar.

        Raises:
            DataError: A block of the grammar is not valid.
        """
        grammar = cls({}, {}, {})
        action = ""
        for token in _TOKEN.finditer(text):
            if token["action"]:
                action = token["action"].lower()
            elif token["template"] is not None:
                grammar.templates[action] = token["template"]
            elif token["feedback"] is not None:
                grammar.feedback[action] = token["feedback"]
            else:
                lines = token["block"].split("\n")
                code = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
                try:
                    grammar.rules.update(json.loads(code))
                except ValueError as error:
                    raise DataError(f"The game's grammar is broken ({error}).") from None
        return grammar

    def take(self, symbol: str) -> str:
        """Remove the rule of `symbol` and return its text, or "" if it has no such rule.

        Raises:
            DataError: The rule has a condition or several alternatives.
        """
        match self.rules.pop(symbol, [{"rhs": ""}]):
            case [{"rhs": str(text), **rest}] if not rest:
                return text.lstrip()  # as TextWorld's parser does
        raise DataError(f"The game's grammar is unusual: {symbol} is not one plain text.")


def check_dialect(dialect: str) -> None:
    """Raise HPLGymError if there is no such dialect."""
    if dialect not in DIALECTS:
        raise HPLGymError(f"There is no dialect {dialect!r}: choose one of {', '.join(DIALECTS)}.")


def in_dialect(game: Game, dialect: str) -> Game:
    """Return `game` with texts and command templates in another dialect.

    Args:
        game: The game.
        dialect: ``move`` ("move X to Y", game files since alfworld 0.4), ``put`` ("put X in/on
            Y", before), or ``game`` (as the game file has it).

    Raises:
        HPLGymError: There is no such dialect.
    """
    check_dialect(dialect)
    if dialect == "game":
        return game
    grammar = game.grammar
    for other in _SPEECH.values():
        for said, wanted in zip(other, _SPEECH[dialect], strict=True):
            grammar = grammar.replace(said, wanted)
    return game if grammar == game.grammar else dataclasses.replace(game, grammar=grammar)
