"""The reward for buying a product, as the benchmark defines it (WebShop, Yao et al. 2022, 3.1).

``r = r_type * (attributes + options + price) / (n_attributes + n_options + 1)``: the matched
attributes and options of the goal and whether the price is under the cap, counted, times how well
the type of product fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpl_gym.core import MissingExtraError
from hpl_gym.webshop.goals import Goal, Option
from hpl_gym.webshop.nouns import nouns
from hpl_gym.webshop.product import Product

try:
    from thefuzz import fuzz
except ImportError as error:
    raise MissingExtraError(
        "WebShop's reward needs the webshop extra: pip install 'hpl-gym[webshop]'."
    ) from error

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
        reward: The reward, in [0, 1].
        type: The type factor: 1.0, 0.5, 0.1 or 0.0.
        title: Share of the goal title's nouns that the bought product's title has.
        query: Whether both products were found by the same query.
        category: Whether they share two levels of the category tree.
        attributes: Wanted attributes that the product has.
        options: Wanted options that a chosen one matches.
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
    matched = _matched_options(goal, options)
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


def normalize_color(option: Option) -> str:
    """Return the first of `COLORS` that occurs in `option`, or its text if none does.

    In a pair of name and value a color occurs only if it is all of one of them. As in the
    benchmark's code, the text of a pair is Python's.
    """
    return next((color for color in COLORS if color in option), str(option))


def _levels(category: str) -> set[str]:
    return {level.strip() for level in category.split("›")}


def _has_attribute(product: Product, wanted: str) -> bool:
    texts = (product.title, " ".join(product.bullets), product.description)
    return any(fuzz.token_set_ratio(one, wanted) > _FUZZY for one in product.attributes) or any(
        wanted in text.lower() for text in texts
    )


def _matched_options(goal: Goal, chosen: Mapping[str, str]) -> int:
    values = [normalize_color(value) for value in chosen.values()]
    wanted = [normalize_color(option) for option in goal.options]
    return sum(any(fuzz.token_set_ratio(one, it) > _FUZZY for one in values) for it in wanted)
