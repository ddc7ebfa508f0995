"""Products, as the benchmark's loader makes them out of its JSON files."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# What the benchmark's loader puts where a product has no entry among the attributes.
NO_ATTRIBUTES = ("DUMMY_ATTR",)
NO_PRICE = 100.0
_ASIN_LENGTH = 10


@dataclass(frozen=True, slots=True)
class Product:
    """One product.

    Attributes:
        asin: Its id, at most ten characters.
        title: Its name.
        description: One text, maybe empty.
        bullets: The features, a text each.
        options: Option groups in their order: name and values, all in lower case.
        attributes: Its attributes, such as ``gluten free``, which no page shows.
        prices: None, one or two (lowest and highest), in dollars.
        category: One of five, such as ``beauty``.
        query: The search that it was found by, in lower case.
        product_category: Its path in the shop's tree of categories, joined by ``›``.
        rating: As shown, ``N.A.`` where unknown.
        reviews: Title, score and text of each.
    """

    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]
    attributes: tuple[str, ...]
    prices: tuple[float, ...]
    category: str
    query: str
    product_category: str
    rating: str = "N.A."
    reviews: tuple[tuple[str, str, str], ...] = ()

    @property
    def price_tag(self) -> str:
        """The price as the pages show it."""
        return " to ".join(f"${price}" for price in self.prices or (NO_PRICE,))

    def price(self, seed: int) -> float:
        """Return the price in dollars that the reward counts.

        Where the shop names a range, the benchmark draws from it with numbers nobody seeded; here
        the price follows from `seed` and the product alone.
        """
        if len(self.prices) < 2:
            return self.prices[0] if self.prices else NO_PRICE
        return random.Random(f"price {seed} {self.asin}").uniform(*self.prices)

    def contents(self) -> str:
        """Return the text that is searched, in lower case."""
        options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in self.options)
        first = self.bullets[0] if self.bullets else ""
        return " ".join((self.title, self.description, first, options)).lower()


def read_product(
    raw: Mapping[str, Any], attributes: Mapping[str, Any], human: Mapping[str, Any]
) -> Product | None:
    """Make a product out of an entry of ``items_shuffle*.json``.

    Missing or null fields count as empty, whatever a field holds is taken as text.

    Args:
        raw: The entry.
        attributes: Its entry in ``items_ins_v2*.json``, maybe empty.
        human: Its reviews, if any: ``{"reviews": [...], "average_rating": ...}``.

    Returns:
        None where the benchmark passes an entry over: its id is ``nan`` or longer than ten.
    """
    asin = clean_text(raw.get("asin"))
    if not asin or asin == "nan" or len(asin) > _ASIN_LENGTH:
        return None
    bullets = raw.get("small_description")
    known = attributes.get("attributes")
    return Product(
        asin=asin,
        title=clean_text(raw.get("name")),
        description=clean_text(raw.get("full_description")),
        bullets=tuple(map(clean_text, bullets if isinstance(bullets, list) else [bullets])),
        options=tuple(_options(raw.get("customization_options"))),
        attributes=tuple(map(clean_text, known)) if isinstance(known, list) else NO_ATTRIBUTES,
        prices=read_prices(clean_text(raw.get("pricing"))),
        category=clean_text(raw.get("category")),
        query=clean_text(raw.get("query")).lower().strip(),
        product_category=clean_text(raw.get("product_category")),
        rating=clean_text(human.get("average_rating")) or "N.A.",
        reviews=tuple(_reviews(human.get("reviews"))),
    )


def read_prices(text: str) -> tuple[float, ...]:
    """Return the dollar amounts in a price such as ``$12.99 - $1,014.50``: two at most."""
    amounts = (re.sub(r"[^\d.]", "", piece) for piece in text.split("$")[1:])
    return tuple(float(one) for one in amounts if re.fullmatch(r"\d+\.?\d*|\.\d+", one))[:2]


def _options(groups: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    if not isinstance(groups, Mapping):
        return
    merged: dict[str, tuple[str, ...]] = {}
    for name, contents in groups.items():
        if not isinstance(contents, list):
            continue
        values = (one.get("value") if isinstance(one, Mapping) else one for one in contents)
        merged[clean_text(name).lower()] = tuple(
            clean_text(value).strip().replace("/", " | ").lower() for value in values
        )
    yield from merged.items()


def _reviews(reviews: Any) -> Iterator[tuple[str, str, str]]:
    for review in reviews if isinstance(reviews, list) else ():
        if isinstance(review, Mapping):
            score = review.get("score", review.get("stars"))
            yield (
                clean_text(review.get("title")),
                clean_text(score),
                clean_text(review.get("review")),
            )


def clean_text(value: Any) -> str:
    """Return `value` as text that any file can hold: lone surrogates become question marks."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode("utf-8")
