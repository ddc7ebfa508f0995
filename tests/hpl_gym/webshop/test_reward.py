"""The reward against values worked out by hand from the benchmark's definition."""

import json
from pathlib import Path

import pytest

from hpl_gym.webshop.goals import Goal
from hpl_gym.webshop.reward import normalize_color, score, title_score
from tests.hpl_gym.webshop.shop import goal, product

COOKIES, SHIRT = product(1), product(3)
GLUTEN = ("gluten free",)


@pytest.mark.parametrize(
    ("chosen", "price", "wanted", "reward"),
    [
        # attribute, option and price: (1 + 1 + 1) / (1 + 1 + 1)
        (
            {"flavor": "lemon | lime"},
            4.5,
            {"attributes": GLUTEN, "options": ("lemon | lime",)},
            1.0,
        ),
        # the other flavor: (1 + 0 + 1) / 3
        (
            {"flavor": "chocolate chip"},
            4.5,
            {"attributes": GLUTEN, "options": ("lemon | lime",)},
            2 / 3,
        ),
        # no flavor chosen
        ({}, 4.5, {"attributes": GLUTEN, "options": ("lemon | lime",)}, 2 / 3),
        # over the cap: (1 + 1 + 0) / 3
        (
            {"flavor": "lemon | lime"},
            60.0,
            {"attributes": GLUTEN, "options": ("lemon | lime",)},
            2 / 3,
        ),
        # exactly at the cap is under it
        ({}, 50.0, {"attributes": GLUTEN}, 1.0),
        # one attribute of two: (1 + 1) / 3; in no text either
        ({}, 4.5, {"attributes": ("gluten free", "vegan")}, 2 / 3),
        # an attribute that only the description, or only a bullet, has
        ({}, 4.5, {"attributes": ("crisp cookies",)}, 1.0),
        ({}, 4.5, {"attributes": ("baked with honey",)}, 1.0),
        # a fuzzy attribute: the words of one are all in the other
        ({}, 4.5, {"attributes": ("certified gluten free",)}, 1.0),
        # an option is matched fuzzily too, and one that nobody asked for counts nothing
        ({"size": "8 ounce"}, 4.5, {"attributes": GLUTEN, "options": ("8 ounce bag",)}, 1.0),
        ({"flavor": "honey"}, 4.5, {"attributes": GLUTEN}, 1.0),
        # two chosen options that match one that is asked for count once: (1 + 1 + 1) / 3
        (
            {"flavor": "lime", "size": "lime 8 ounce"},
            4.5,
            {"attributes": GLUTEN, "options": ("lime",)},
            1.0,
        ),
        # the words of a value are a part of another's: it counts in a human goal, and does not in
        # a synthetic one, where name and value are compared
        ({"size": "xx-large"}, 4.5, {"attributes": GLUTEN, "options": ("large",)}, 1.0),
        ({"size": "xx-large"}, 4.5, {"attributes": GLUTEN, "options": (("size", "large"),)}, 2 / 3),
        ({"size": "large"}, 4.5, {"attributes": GLUTEN, "options": (("size", "xx-large"),)}, 1.0),
    ],
)
def test_cookies(chosen, price, wanted, reward):
    assert score(COOKIES, chosen, price, goal(1, **wanted)).reward == pytest.approx(reward)


def test_colors_are_compared_by_their_first_known_name():
    wanted = goal(3, attributes=("machine wash",), options=("jet black",))
    assert score(SHIRT, {"color": "midnight black"}, 10, wanted).reward == 1.0
    assert [normalize_color(text) for text in ("violet lavender", "123alabaster", "shop", "")] == [
        "lavender",
        "alabaster",
        "shop",
        "",
    ]


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({}, 1.0),
        # no noun of the goal's title in "Acme Gluten Free Oat Cookies"
        ({"title": "Leather Sofa"}, 0.0),
        # one of eleven nouns, though found by the same query
        ({"title": "Oat chair table lamp sofa bed desk shelf door wall floor"}, 0.1),
        # one of six, and neither query nor category
        (
            {"title": "Oat chair table lamp sofa bed", "query": "x", "product_category": "a › b"},
            0.5,
        ),
        # two levels of the category in any order, or the query, make up for that
        (
            {
                "title": "Oat chair table lamp sofa bed",
                "query": "x",
                "product_category": "Cookies › z › Snacks",
            },
            1.0,
        ),
        ({"title": "Oat chair table lamp sofa bed", "product_category": "a"}, 1.0),
        # a level that is there twice counts once
        (
            {
                "title": "Oat chair table lamp sofa bed",
                "query": "x",
                "product_category": "Snacks › Snacks",
            },
            0.5,
        ),
    ],
)
def test_the_type_factor(changes, factor):
    parts = score(COOKIES, {}, 1.0, goal(1, attributes=GLUTEN, **changes))
    assert parts.type == factor
    assert parts.reward == factor


def test_colors_in_pairs_are_whole_values():
    assert normalize_color(("color", "red")) == "red"
    assert normalize_color(("color", "dark red")) == "('color', 'dark red')"


def test_random_cases_of_the_thousand_products(thousand):
    """Against figures of an independent implementation of the benchmark's published code."""
    cases = json.loads((Path(__file__).parent / "reward_cases.json").read_text("utf-8"))
    for case in cases:
        asked = thousand.product(case["goal_asin"])
        wanted = Goal(
            "",
            asked.asin,
            asked.title,
            asked.category,
            asked.query,
            asked.product_category,
            tuple(case["attributes"]),
            tuple(one if isinstance(one, str) else tuple(one) for one in case["options"]),
            case["price_cap"],
        )
        found = score(thousand.product(case["asin"]), case["chosen"], case["price"], wanted)
        parts = {name: getattr(found, name) for name in case["score"]}
        assert parts == pytest.approx(case["score"], abs=1e-6), case


def test_title_score_counts_nouns():
    assert title_score("Cotton Shirt", "Cotton Shirt") == 1.0
    assert title_score("Cotton Shirt", "of the") == 0.2
    # figures of the benchmark's own tests for its large model
    cord = (
        "BRST AC Power Cord Outlet Socket Cable Plug Lead for Panasonic SC-HT830V DVD/VCR Combo "
        "Home Theater System"
    )
    wanted = (
        "Saireed UL Listed 2 Prong Power Cord for JBL Bar 3.1 Bar 2.1 Channel 4K Ultra HD Soundbar"
    )
    assert title_score(cord, wanted) == pytest.approx(0.17, abs=0.01)
    assert title_score(cord, f"{wanted} Home Theater System Subwoofer") == pytest.approx(
        0.31, abs=0.01
    )
    knob = "Rusticware 921ORB Kitchen and Bath Cabinet Knob"
    assert title_score("2pcs Stainless Steel Eyebrow Tweezers (Silver)", knob) < 0.05
