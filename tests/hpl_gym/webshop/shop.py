"""A shop of five products, made by hand, for the WebShop tests."""

from hpl_gym.webshop.goals import Goal, read_instructions
from hpl_gym.webshop.product import read_product

RAW = [
    {
        "asin": "B000000001",
        "name": "Acme Gluten Free Oat Cookies",
        "full_description": "Crisp cookies, dairy free.",
        "small_description": ["Baked with honey", "No artificial colors"],
        "pricing": "$4.50",
        "customization_options": {
            "Flavor": [{"value": "Chocolate Chip"}, {"value": "Lemon/Lime"}],
            "Size": [{"value": "8 ounce"}, {"value": "16 Ounce"}],
        },
        "category": "grocery",
        "query": "Cookies ",
        "product_category": "Grocery › Snacks › Cookies",
    },
    {
        "asin": "B000000002",
        "name": "Bolt Oat Cookies",
        "full_description": "",
        "small_description": "Crunchy",
        "pricing": "$3.00 - $9.00",
        "customization_options": "",
        "category": "grocery",
        "query": "cookies",
        "product_category": "Grocery › Snacks › Cookies",
    },
    {
        "asin": "B000000003",
        "name": "Casual Cotton Shirt",
        "full_description": "A shirt for every day.",
        "small_description": ["machine wash"],
        "pricing": "$1,019.99",
        "customization_options": {"Color": [{"value": "Midnight Black"}, {"value": "Sky Blue"}]},
        "category": "fashion",
        "query": "shirts",
        "product_category": "Clothing › Men › Shirts",
    },
    {"asin": "B000000004", "name": "Plain Thing"},
    {"asin": "nan", "name": "Nothing"},
]
ATTRIBUTES = {
    "B000000001": {
        "attributes": ["gluten free", "dairy free"],
        "instruction": "Find me gluten free cookies",
        "instruction_attributes": ["gluten free"],
    },
    "B000000003": {"attributes": ["machine wash"]},
}
HUMAN = {
    "B000000001": [
        {
            "instruction": "i want lemon cookies that are gluten free.",
            "instruction_attributes": ["gluten free"],
            "instruction_options": ["lemon | lime"],
        },
        {"instruction": "nothing asked", "instruction_attributes": []},
    ],
    "B000000003": [
        {
            "instruction": "a black shirt i can machine wash",
            "instruction_attributes": ["machine wash"],
            "instruction_options": ["black"],
        }
    ],
}


def entries():
    for raw in RAW:
        asin = raw["asin"]
        product = read_product(raw, ATTRIBUTES.get(asin, {}), {})
        if product:
            yield product, read_instructions(ATTRIBUTES.get(asin, {}), HUMAN.get(asin, []))


def product(number):
    return next(one for one, _ in entries() if one.asin.endswith(str(number)))


def goal(number=1, **changes):
    """The goal that a product fulfils, with `changes`."""
    one = product(number)
    values = {
        "instruction": "buy it",
        "asin": one.asin,
        "title": one.title,
        "category": one.category,
        "query": one.query,
        "product_category": one.product_category,
        "attributes": one.attributes,
        "options": (),
        "price_cap": 50.0,
    }
    return Goal(**values | changes)
