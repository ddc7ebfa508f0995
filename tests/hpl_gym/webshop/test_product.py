import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpl_gym.webshop.goals import NO_CAP, make_goal, price_cap, read_instructions
from hpl_gym.webshop.product import NO_ATTRIBUTES, read_prices, read_product
from hpl_gym.webshop.reward import score
from tests.hpl_gym.webshop.shop import ATTRIBUTES, HUMAN, goal, product


def test_a_product_is_read_as_the_benchmark_does():
    one = product(1)
    assert one.options == (
        ("flavor", ("chocolate chip", "lemon | lime")),
        ("size", ("8 ounce", "16 ounce")),
    )
    assert one.bullets == ("Baked with honey", "No artificial colors")
    assert one.query == "cookies"
    assert one.price_tag == "$4.5"
    assert one.contents() == (
        "acme gluten free oat cookies crisp cookies, dairy free. baked with honey "
        "flavor: chocolate chip, lemon | lime, and size: 8 ounce, 16 ounce"
    )


def test_missing_fields_are_empty_and_have_the_benchmarks_defaults():
    one = product(4)
    assert (one.attributes, one.options, one.bullets) == (NO_ATTRIBUTES, (), ("",))
    assert (one.price_tag, one.price(0), one.rating) == ("$100.0", 100.0, "N.A.")


@pytest.mark.parametrize("asin", ["nan", "", None, "B0000000001"])
def test_entries_without_a_proper_id_are_passed_over(asin):
    assert read_product({"asin": asin, "name": "x"}, {}, {}) is None


@pytest.mark.parametrize(
    ("text", "prices"),
    [
        ("$5", (5.0,)),
        ("$1,299.00", (1299.0,)),
        ("$11.99 - $14.99", (11.99, 14.99)),
        ("$1$2$3", (1.0, 2.0)),
        ("", ()),
        ("$", ()),
        ("$ now", ()),
        ("12.99", ()),
        ("$1.2.3", ()),
    ],
)
def test_prices(text, prices):
    assert read_prices(text) == prices


def test_a_price_in_a_range_follows_from_seed_and_product():
    one = product(2)
    assert 3.0 <= one.price(0) <= 9.0
    assert one.price(0) == product(2).price(0) != one.price(1)
    assert one.price_tag == "$3.0 to $9.0"


def test_price_caps_are_the_larger_of_two_of_the_next_four_tens():
    caps = {price_cap(product(1), seed) for seed in range(60)}
    assert caps == {20.0, 30.0, 40.0}
    assert price_cap(product(3), 0) == NO_CAP


def test_human_goals():
    instructions = read_instructions(ATTRIBUTES["B000000001"], HUMAN["B000000001"])
    assert [one.kind for one in instructions] == ["human", "synthetic"]
    made = make_goal(product(1), instructions[0], 0, 0)
    cap = price_cap(product(1), 0)
    assert made.instruction == (
        f"i want lemon cookies that are gluten free, and price lower than {cap:.2f} dollars"
    )
    assert made.options == ("lemon | lime",)


def test_synthetic_goals_are_all_combinations_of_the_options():
    instruction = read_instructions(ATTRIBUTES["B000000001"], [])[0]
    assert instruction.count(product(1)) == 4
    made = [make_goal(product(1), instruction, number, 0) for number in range(4)]
    assert [tuple(value for _, value in one.options) for one in made] == [
        ("chocolate chip", "8 ounce"),
        ("chocolate chip", "16 ounce"),
        ("lemon | lime", "8 ounce"),
        ("lemon | lime", "16 ounce"),
    ]
    assert made[1].instruction.startswith(
        "Find me gluten free cookies with flavor: chocolate chip, and size: 16 ounce, and price"
    )


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = (
    "name full_description small_description pricing customization_options category query "
    "product_category"
).split()


@settings(deadline=None)  # the first call loads the part-of-speech model
@given(st.fixed_dictionaries({name: odd | st.text() for name in FIELDS}), odd, st.integers(0, 9))
def test_whatever_the_fields_hold_a_product_loads_and_scores(raw, attributes, seed):
    known = attributes if isinstance(attributes, dict) else {"attributes": attributes}
    one = read_product(raw | {"asin": "B1"}, known, {"reviews": attributes})
    json.dumps(one.contents()).encode()
    price_cap(one, seed)
    chosen = {name: values[0] for name, values in one.options if values}
    parts = score(one, chosen, one.price(seed), goal(1))
    assert parts.reward >= 0


def test_thousands_of_options():
    values = [{"value": f"color {number}"} for number in range(5000)]
    raw = {"asin": "B1", "name": "paint", "customization_options": {"a": values, "b": values}}
    one = read_product(raw, ATTRIBUTES["B000000001"], {})
    instruction = read_instructions(ATTRIBUTES["B000000001"], [])[0]
    assert instruction.count(one) == 10_000
    assert make_goal(one, instruction, 9_999, 0).options == (("a", "color 1"), ("b", "color 4999"))
