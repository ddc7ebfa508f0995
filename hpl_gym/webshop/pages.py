"""The shop's pages: what each shows, what can be clicked there, and where a click leads.

All are pure functions of a `Page`, the whole state of a shopper.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hpl_gym.webshop.catalog import Catalog
from hpl_gym.webshop.product import Product

PAGE_SIZE = 10
BACK, NEXT, PREVIOUS, BUY = "Back to Search", "Next >", "< Prev", "Buy Now"
DETAILS = ("Description", "Features", "Reviews")
SEPARATOR = " [SEP] "
_ACTION = re.compile(r"(search|click)\[(.+)\]", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """Where a shopper is.

    Attributes:
        kind: ``search``, ``results``, ``item``, one of `DETAILS` in lower case, or ``done``.
        query: The last search; "" on the search page.
        number: Page of the results, from 1.
        asin: The product that is looked at; "" where none is.
        options: The chosen value of each option group, in the order of choice.
    """

    kind: str
    query: str = ""
    number: int = 1
    asin: str = ""
    options: tuple[tuple[str, str], ...] = ()


START = Page("search")


def parse_action(action: str) -> tuple[str, str] | None:
    """Return verb and argument of ``search[...]`` or ``click[...]`` in lower case, else None."""
    match = _ACTION.match(action.strip())
    return (match[1].lower(), match[2].lower()) if match else None


def follow(page: Page, action: str, catalog: Catalog) -> Page | None:
    """Return the page that an action leads to; None if it cannot be done."""
    parsed = parse_action(action)
    if parsed is None or page.kind == "done":
        return None
    verb, argument = parsed
    if verb == "search":
        # As in the benchmark's code, the search bar's address works from every page.
        return Page("results", argument)
    if argument not in {label.lower() for label in clickables(page, catalog)}:
        return None
    if argument == BUY.lower():
        return replace(page, kind="done")
    if argument == BACK.lower():
        return START
    if argument == NEXT.lower():
        return replace(page, number=page.number + 1)
    if argument == PREVIOUS.lower():
        if page.kind == "results":
            return replace(page, number=page.number - 1)
        if page.kind == "item":
            return Page("results", page.query, page.number)
        return replace(page, kind="item")
    if page.kind == "results":
        asins = (catalog.summary(row)[0] for row in _shown(page, catalog))
        return replace(
            page, kind="item", asin=next(one for one in asins if one.lower() == argument)
        )
    if argument in (detail.lower() for detail in DETAILS):
        return replace(page, kind=argument)
    # Where two groups have the value, the later one is meant, as in the benchmark.
    groups = reversed(catalog.product(page.asin).options)
    group = next(name for name, values in groups if argument in values)
    chosen = dict(page.options) | {group: argument}
    return replace(page, options=tuple(chosen.items()))


def clickables(page: Page, catalog: Catalog) -> Iterator[str]:
    """Yield what can be clicked on a page, each once, as the page shows it."""
    if page.kind in ("search", "done"):
        return
    yield BACK
    if page.kind == "results":
        if page.number > 1:
            yield PREVIOUS
        if page.number * PAGE_SIZE < len(catalog.search(page.query)):
            yield NEXT
        for row in _shown(page, catalog):
            yield catalog.summary(row)[0].lower()
        return
    yield PREVIOUS
    if page.kind == "item":
        values = (value for _, group in catalog.product(page.asin).options for value in group)
        yield from dict.fromkeys(value for value in values if value)
        yield from DETAILS
        yield BUY


def render(page: Page, instruction: str, catalog: Catalog) -> str:
    """Return a page's text, its parts joined by ``[SEP]``."""
    if page.kind == "search":
        return SEPARATOR.join(("WebShop", "Instruction:", instruction, "Search"))
    return SEPARATOR.join(("Instruction:", instruction, *_body(page, catalog)))


def _body(page: Page, catalog: Catalog) -> Iterator[str]:
    yield BACK
    if page.kind == "results":
        total = len(catalog.search(page.query))
        yield f"Page {page.number} (Total results: {total})"
        if page.number > 1:
            yield PREVIOUS
        if page.number * PAGE_SIZE < total:
            yield NEXT
        for row in _shown(page, catalog):
            yield from map(str.strip, catalog.summary(row))
        return
    yield PREVIOUS
    product = catalog.product(page.asin)
    if page.kind == "item":
        for name, values in product.options:
            yield name
            yield from values
        yield product.title.strip()
        yield f"Price: {product.price_tag}"
        yield f"Rating: {product.rating}"
        yield from DETAILS
        yield BUY
    else:
        yield from _details(page.kind, product)


def _details(kind: str, product: Product) -> Iterator[str]:
    if kind == "description":
        yield product.description.strip() or "No Description"
    elif kind == "features":
        bullets = [bullet.strip() for bullet in product.bullets if bullet.strip()]
        yield from bullets or ["No Features"]
    else:
        for title, score, text in product.reviews:
            yield from (f'"{title}"', score, text)
        if not product.reviews:
            yield "No reviews found"


def receipt(reward: float) -> str:
    """Return the last page."""
    parts = ("Thank you for shopping with us!", "Your score (min 0.0, max 1.0)", str(reward))
    return SEPARATOR.join(parts)


def _shown(page: Page, catalog: Catalog) -> tuple[int, ...]:
    return catalog.search(page.query)[(page.number - 1) * PAGE_SIZE : page.number * PAGE_SIZE]
