"""The reward for buying a product, as the benchmark defines it (WebShop, Yao et al. 2022, 3.1).

``r = r_type * (attributes + options + price) / (n_attributes + n_options + 1)``: the matched
attributes and options of the goal and whether the price is under the cap, counted, times how well
the type of product fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from thefuzz import fuzz

from hpl_gym.webshop.goals import Goal
from hpl_gym.webshop.nouns import nouns
from hpl_gym.webshop.product import Product

# A fuzzy match: thefuzz's token set ratio, 0 to 100, above this.
_FUZZY = 85
# In the benchmark's order: of the names that occur in a text, the first stands for it.
COLORS = tuple(
    (
        "alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux "
        "bronze brown burgundy camel camo caramel champagne charcoal cheetah chestnut "
        "chocolate christmas coffee cognac copper coral cranberry cream crystal dark "
        "denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray "
        "green grey heather indigo ivory ivy khaki lavender lemon leopard light lilac "
        "lime magenta maroon mauve merlot midnight mint mocha multicolor mushroom mustard "
        "natural navy nude olive orange peach pewter pink plum purple rainbow red rose "
        "royal rust sand sapphire seashell silver skull slate steel stone stonewash "
        "sunflower tan taupe teal tiger turquoise violet walnut wheat white wine yellow"
    ).split()
)


@dataclass(frozen=True, slots=True)
class Score:
    """The parts of a reward.

    Attributes:
        reward: The reward as defined. It exceeds 1 where more options match than are asked for;
            the environment then gives 1.
        type: The type factor: 1.0, 0.5, 0.1 or 0.0.
        title: Share of the goal title's nouns that the bought product's title has.
        query: Whether both products were found by the same query.
        category: Whether they share two levels of the category tree.
        attributes: Matched attributes.
        options: Matched options.
        price: Whether the price is under the cap.
    """

    reward: float
    type: float
    title: float
    query: bool
    category: bool
    attributes: int
    options: int
    price: bool


def score(product: Product, options: Mapping[str, str], price: float, goal: Goal) -> Score:
    """Return the reward for buying `product`, and its parts.

    Args:
        product: What is bought.
        options: The chosen value of each option group that has one.
        price: Its price in dollars.
        goal: What was asked for.
    """
    query = product.query == goal.query
    category = len(_levels(product.product_category) & _levels(goal.product_category)) >= 2
    title = title_score(product.title, goal.title)
    factor = 1.0 if query or category or title > 0.2 else 0.5
    if title < 0.1:
        factor = 0.1
    if title == 0.0:
        factor = 0.0
    attributes = sum(_has_attribute(product, wanted) for wanted in goal.attributes)
    matched = _matched_options(product, goal.options, options)
    cheap = price <= goal.price_cap
    total = (attributes + matched + cheap) / (len(goal.attributes) + len(goal.options) + 1)
    return Score(factor * total, factor, title, query, category, attributes, matched, cheap)


def title_score(title: str, wanted: str) -> float:
    """Return how much of the title `wanted` is in `title`.

    The number of different nouns in both, by the number of nouns in `wanted`, where one that is
    there twice counts twice; 0.2 if there are none.
    """
    known = nouns(wanted)
    return len(set(nouns(title)) & set(known)) / len(known) if known else 0.2


def normalize_color(text: str) -> str:
    """Return the first of `COLORS` that occurs in `text`, or `text` if none does."""
    return next((color for color in COLORS if color in text), text)


def _levels(category: str) -> set[str]:
    return {level.strip() for level in category.split("›")}


def _has_attribute(product: Product, wanted: str) -> bool:
    return any(fuzz.token_set_ratio(one, wanted) > _FUZZY for one in product.attributes) or (
        _is_mentioned(product, wanted)
    )


def _matched_options(product: Product, wanted: tuple[str, ...], chosen: Mapping[str, str]) -> int:
    colors = [normalize_color(value) for value in wanted]
    count = 0
    for name, raw in chosen.items():
        value = normalize_color(raw)
        if name.lower() == "size":
            matched = value in colors
        else:
            matched = any(fuzz.token_set_ratio(one, value) > _FUZZY for one in colors)
        count += matched or _is_mentioned(product, value)
    return count


def _is_mentioned(product: Product, text: str) -> bool:
    return (
        text in product.title.lower()
        or text in " ".join(product.bullets).lower()
        or text in product.description.lower()
    )
