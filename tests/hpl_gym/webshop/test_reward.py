"""The reward against values worked out by hand from the benchmark's definition."""

import pytest

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
        # sizes must be equal, others need not
        ({"size": "8 ounce"}, 4.5, {"attributes": GLUTEN, "options": ("8 ounce bag",)}, 2 / 3),
        ({"flavor": "8 ounce"}, 4.5, {"attributes": GLUTEN, "options": ("8 ounce bag",)}, 1.0),
        # an option that was not asked for counts if the texts name it: (1 + 1 + 1) / 2
        ({"flavor": "honey"}, 4.5, {"attributes": GLUTEN}, 1.5),
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
