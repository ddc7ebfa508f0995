"""A generated shop: products and instructions in the benchmark's own JSON schema, from a seed.

Products come in families: a base product and near-duplicates that differ from it in one attribute,
in the values of one option, or in price, so that what a search shows first is rarely the one.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from hpl_gym.cache import cache_folder
from hpl_gym.core import HPLGymError
from hpl_gym.webshop.catalog import FORMAT, build_catalog
from hpl_gym.webshop.goals import read_instructions
from hpl_gym.webshop.product import read_product

VERSION = 2  # of the generator: another one, other shops
LEAST_PRODUCTS = 600
_SYLLABLES = [first + second for first in "BCDFGHJKLMNPQRSTVWXZ" for second in "AEIOU"]
_PARTS = [first + second for first in _SYLLABLES for second in _SYLLABLES][::9][:1100]
_ASKS = (
    "i'm looking for {what}",
    "i need {what}",
    "find me {what}",
    "can you find {what} for me",
    "i would like to buy {what}",
    "looking for {what}",
)


def generate_products(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield products in the schema of ``items_shuffle*.json``, in one fixed order.

    Each has two keys more: `attributes`, as ``items_ins_v2*.json`` has them under the product's id,
    and `human`, as ``items_human_ins.json`` has it.

    Args:
        count: How many.
        seed: Another seed, other products.
    """
    words = _vocabulary()
    made = 0
    while made < count:
        family = f"{seed} {made}"
        draw = random.Random(f"family {family}")
        category = draw.choice(sorted(words["categories"]))
        shelf = words["categories"][category]
        base = _base(draw, shelf, words)
        size = draw.choice((2, 3, 3, 4, 4, 5, 6))
        members = [base, *(_variant(draw, base, shelf, words) for _ in range(size - 1))]
        for member in members[: count - made]:
            yield _product(draw, member, category, shelf, made, seed)
            made += 1


def generated_catalog(count: int, seed: int) -> Path:
    """Return the folder of a generated catalogue, which is made at its first use.

    Args:
        count: How many products.
        seed: Seed of products, prices and price caps.

    Raises:
        HPLGymError: Too few products, a negative seed, or a cache that cannot be made.
    """
    numbers = isinstance(count, int) and isinstance(seed, int)
    if not numbers or count < LEAST_PRODUCTS or seed < 0:
        raise HPLGymError(
            f"A generated shop has at least {LEAST_PRODUCTS} products and a seed of 0 or more, not "
            f"{count!r} and {seed!r}."
        )
    folder = cache_folder("webshop") / f"generated-{VERSION}.{FORMAT}-{seed}-{count}"
    if not (folder / "manifest.json").is_file():
        with tempfile.TemporaryDirectory(dir=folder.parent) as part:
            write_generated(Path(part) / "shop", count, seed)
            try:
                (Path(part) / "shop").rename(folder)
            except OSError:
                if not (folder / "manifest.json").is_file():  # else another process was faster
                    raise
    return folder


def write_generated(
    folder: Path, count: int, seed: int = 0, advance: Callable[[], None] = lambda: None
) -> None:
    """Build the catalogue of a generated shop in `folder`; `advance` is called each product."""

    def entries() -> Iterator[Any]:
        for raw in generate_products(count, seed):
            advance()
            product = read_product(raw, raw["attributes"], {})
            assert product is not None
            yield product, read_instructions(raw["attributes"], raw["human"])

    build_catalog(folder, entries(), seed)


def _base(draw: random.Random, shelf: dict[str, Any], words: dict[str, Any]) -> dict[str, Any]:
    query, name, place, low, high, groups = draw.choice(shelf["types"])
    return {
        "type": (query, name, place),
        "brand": draw.choice(words["brands"]),
        "attributes": draw.sample(shelf["attributes"], draw.randint(3, 5)),
        "options": {group: _values(draw, words["options"][group]) for group in groups},
        "price": round(draw.uniform(low, high), 2),
    }


def _values(draw: random.Random, values: list[str]) -> list[str]:
    chosen = set(draw.sample(values, draw.randint(2, min(6, len(values)))))
    return [value for value in values if value in chosen]


def _variant(
    draw: random.Random, base: dict[str, Any], shelf: dict[str, Any], words: dict[str, Any]
) -> dict[str, Any]:
    """Return a near-duplicate that differs in one thing, and maybe in its brand."""
    variant = base | {"options": dict(base["options"])}
    if draw.random() < 0.6:
        variant["brand"] = draw.choice(words["brands"])
    change = draw.choice(("attribute", "attribute", "option", "option", "price"))
    if change == "attribute":
        kept = list(base["attributes"])
        unused = [one for one in shelf["attributes"] if one not in kept]
        kept[draw.randrange(len(kept))] = draw.choice(unused)
        variant["attributes"] = kept
    elif change == "option":
        group = draw.choice(sorted(base["options"]))
        variant["options"][group] = _values(draw, words["options"][group])
    else:
        variant["price"] = round(base["price"] * draw.choice((0.5, 0.6, 1.6, 2.0, 2.5)), 2)
    return variant


def _product(
    draw: random.Random,
    member: dict[str, Any],
    category: str,
    shelf: dict[str, Any],
    number: int,
    seed: int,
) -> dict[str, Any]:
    query, name, place = member["type"]
    attributes = member["attributes"]
    asin = _asin(number, seed)
    # Titles name one or two attributes; the rest is for those who open the product and read.
    named = draw.sample(attributes, draw.choice((1, 1, 2)))
    title = " ".join((member["brand"], *(word.title() for word in named), name))
    told = [one for one in attributes if one not in named]
    draw.shuffle(told)
    cut = draw.randint(1, len(told))
    price = member["price"]
    if draw.random() < 0.15:
        tag = f"${price} - ${round(price * draw.uniform(1.1, 1.6), 2)}"
    else:
        tag = "" if draw.random() < 0.01 else f"${price}"
    known = sorted(attributes)
    wanted = sorted(draw.sample(attributes, draw.choice((1, 2, 2, 3))))
    asked = {group: draw.choice(values) for group, values in member["options"].items()}
    if draw.random() < 0.3:
        del asked[draw.choice(sorted(asked))]
    return {
        "asin": asin,
        "name": title,
        "full_description": _description(draw, member["brand"], name, told[cut:]),
        "small_description": [_bullet(draw, one) for one in told[:cut]],
        "pricing": tag,
        "images": [""],
        "product_category": f"{shelf['root']} › {place} › {name}",
        "customization_options": {
            group.title(): [{"value": value, "image": None} for value in values]
            for group, values in member["options"].items()
        },
        "category": category,
        "query": query,
        "attributes": {
            "attributes": known,
            "instruction": f"Find me {', '.join(wanted)} {query}",
            "instruction_attributes": wanted,
        },
        "human": [
            {
                "asin": asin,
                "instruction": _ask(draw, name.lower(), wanted, asked),
                "attributes": known,
                "options": [f"{group}: {value}" for group, value in asked.items()],
                "instruction_attributes": wanted,
                "instruction_options": list(asked.values()),
            }
        ],
    }


def _asin(number: int, seed: int) -> str:
    """Return an id that looks drawn and is unique in a shop: an affine map of the number.

    It is made of two of 1,100 syllable pairs, each of which a small model's tokenizer keeps whole.
    """
    size = len(_PARTS) ** 2
    first, second = divmod((number * 154_508_971 + (seed + 1) * 98_245_165) % size, len(_PARTS))
    return f"B0{_PARTS[first]}{_PARTS[second]}"


def _description(draw: random.Random, brand: str, name: str, attributes: list[str]) -> str:
    opening = draw.choice(
        (
            f"This {name.lower()} by {brand} is made for every day.",
            f"{brand} has made {name.lower()} for people who look closely.",
            f"A {name.lower()} you will want to keep.",
        )
    )
    rest = f" Good to know: {', '.join(attributes)}." if attributes else ""
    return opening + rest


def _bullet(draw: random.Random, attribute: str) -> str:
    return draw.choice(
        (
            f"{attribute.upper()}: tested by people who use it daily.",
            f"What sets it apart is that it is {attribute}.",
            f"{attribute.capitalize()}, as our customers have asked for.",
            f"With {attribute} in mind from the start.",
        )
    )


def _ask(draw: random.Random, name: str, attributes: list[str], options: dict[str, str]) -> str:
    what = name
    if len(attributes) > 1 and draw.random() < 0.5:
        what = f"{attributes[0]} {name} that should be {' and '.join(attributes[1:])}"
    else:
        what = f"{name} with {' and '.join(attributes)}"
    text = draw.choice(_ASKS).format(what=what)
    if options:
        phrases = [
            draw.choice((f"{group} {value}", f"in {value}", f"the {group} should be {value}"))
            for group, value in options.items()
        ]
        text += ", " + ", and ".join(phrases)
    return text + "."


@lru_cache(maxsize=1)
def _vocabulary() -> dict[str, Any]:
    text = files("hpl_gym.webshop").joinpath("vocabulary.yaml").read_text(encoding="utf-8")
    words: dict[str, Any] = yaml.safe_load(text)
    return words
