"""Goals: what to buy, as the benchmark makes them from human and synthetic instructions."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hpl_gym.webshop.product import Product, clean_text

Kind = Literal["human", "synthetic"]
KINDS: tuple[Kind, ...] = ("human", "synthetic")
# What a goal asks for: a value, or name and value of an option group.
Option = str | tuple[str, str]
# Without a cap the benchmark compares with a million.
NO_CAP = 1_000_000.0
# The goals of a product are all combinations of its options; no real product has that many.
MOST_COMBINATIONS = 10_000
_CAPS = tuple(10.0 * step for step in range(1, 100))
SHUFFLE_SEED = 233  # the benchmark's


@dataclass(frozen=True, slots=True)
class Instruction:
    """A sentence that asks for a product, before options and price are added.

    Attributes:
        kind: Written by a person, or made from attributes.
        text: The sentence.
        attributes: The attributes it asks for; at least one.
        options: The option values a person asked for; synthetic goals take them from the product.
    """

    kind: Kind
    text: str
    attributes: tuple[str, ...]
    options: tuple[str, ...] = ()

    def count(self, product: Product) -> int:
        """Return how many goals the instruction makes for `product`."""
        if self.kind == "human":
            return 1
        return min(MOST_COMBINATIONS, math.prod(len(values) for _, values in product.options))


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be bought.

    Attributes:
        instruction: What the agent is told.
        asin: The product that the goal was made from.
        title: Its title.
        category: Its category.
        query: Its query.
        product_category: Its path in the tree of categories.
        attributes: Attributes asked for; at least one.
        options: Options asked for: by their values in human goals, by name and value in synthetic
            ones, where the benchmark's code compares both.
        price_cap: What it may cost at most, in dollars.
    """

    instruction: str
    asin: str
    title: str
    category: str
    query: str
    product_category: str
    attributes: tuple[str, ...]
    options: tuple[Option, ...]
    price_cap: float


def make_goal(product: Product, instruction: Instruction, number: int, seed: int) -> Goal:
    """Return goal `number` of an instruction.

    Args:
        product: The product that the instruction belongs to.
        instruction: The sentence.
        number: Which combination of the product's options: the last group, in alphabetical order,
            changes fastest. 0 for human instructions.
        seed: Seed of prices and price caps.
    """
    options: tuple[Option, ...]
    if instruction.kind == "human":
        options, text = instruction.options, instruction.text.strip(".")
    else:
        groups = sorted(product.options)
        chosen = []
        for name, values in reversed(groups):
            number, place = divmod(number, len(values))
            chosen.append((name, values[place]))
        chosen.reverse()
        options = tuple(chosen)
        text = instruction.text
        if chosen:
            text += " with " + ", and ".join(f"{name}: {value}" for name, value in chosen)
    cap = price_cap(product, seed)
    if cap < NO_CAP:
        text += f", and price lower than {cap:.2f} dollars"
    return Goal(
        text,
        product.asin,
        product.title,
        product.category,
        product.query,
        product.product_category,
        instruction.attributes,
        options,
        cap,
    )


def price_cap(product: Product, seed: int) -> float:
    """Return the most a goal's product may cost, in dollars.

    The larger of two of the next four multiples of 10 above the price, or `NO_CAP` where fewer
    than two are below 1,000. The benchmark draws the two with numbers nobody seeded; here they
    follow from `seed` and the product alone.
    """
    price = product.price(seed)
    above = [cap for cap in _CAPS if cap > price][:4]
    if len(above) < 2:
        return NO_CAP
    return max(random.Random(f"cap {seed} {product.asin}").sample(above, 2))


def read_instructions(
    synthetic: Mapping[str, Any], human: list[Mapping[str, Any]]
) -> list[Instruction]:
    """Return a product's instructions, the human ones first, from the benchmark's entries.

    Instructions without a text or without an attribute are passed over.

    Args:
        synthetic: The product's entry in ``items_ins_v2*.json``, maybe empty.
        human: Its entry in ``items_human_ins.json``, maybe empty.
    """
    found = [("human", one, _strings(one.get("instruction_options"))) for one in human]
    found.append(("synthetic", synthetic, ()))
    return [
        Instruction(kind, clean_text(one["instruction"]), attributes, options)  # type: ignore[arg-type]
        for kind, one, options in found
        if one.get("instruction") and (attributes := _strings(one.get("instruction_attributes")))
    ]


def _strings(values: Any) -> tuple[str, ...]:
    if isinstance(values, Mapping):
        values = list(values.values())
    return tuple(map(clean_text, values)) if isinstance(values, list) else ()
