import pytest

from hpl_gym.webshop.pages import START, Page, clickables, follow, parse_action, render


def go(catalog, *actions, page=START):
    for action in actions:
        page = follow(page, action, catalog)
        assert page is not None, action
    return page


def text(page, catalog):
    return render(page, "buy cookies", catalog)


def test_the_search_page(catalog):
    assert text(START, catalog) == "WebShop [SEP] Instruction: [SEP] buy cookies [SEP] Search"
    assert list(clickables(START, catalog)) == []


def test_results(catalog):
    page = go(catalog, "search[Oat Cookies]")
    assert text(page, catalog) == (
        "Instruction: [SEP] buy cookies [SEP] Back to Search [SEP] Page 1 (Total results: 2) [SEP] "
        "B000000002 [SEP] Bolt Oat Cookies [SEP] $3.0 to $9.0 [SEP] "
        "B000000001 [SEP] Acme Gluten Free Oat Cookies [SEP] $4.5"
    )
    assert list(clickables(page, catalog)) == ["Back to Search", "b000000002", "b000000001"]


def test_an_item_and_its_details(catalog):
    page = go(catalog, "search[oat cookies]", "click[B000000001]")
    start = "Instruction: [SEP] buy cookies [SEP] Back to Search [SEP] < Prev [SEP] "
    assert text(page, catalog) == (
        start + "flavor [SEP] chocolate chip [SEP] lemon | lime [SEP] size [SEP] 8 ounce [SEP] "
        "16 ounce [SEP] Acme Gluten Free Oat Cookies [SEP] Price: $4.5 [SEP] Rating: N.A. [SEP] "
        "Description [SEP] Features [SEP] Reviews [SEP] Buy Now"
    )
    chosen = go(
        catalog, "click[Lemon | Lime]", "click[8 OUNCE]", "click[chocolate chip]", page=page
    )
    assert chosen.options == (("flavor", "chocolate chip"), ("size", "8 ounce"))
    features = go(catalog, "click[features]", page=chosen)
    assert text(features, catalog) == start + "Baked with honey [SEP] No artificial colors"
    assert go(catalog, "click[< prev]", page=features) == chosen
    assert text(go(catalog, "click[description]", page=chosen), catalog) == (
        start + "Crisp cookies, dairy free."
    )
    assert text(go(catalog, "click[reviews]", page=chosen), catalog) == start + "No reviews found"
    back = go(catalog, "click[< prev]", page=chosen)
    assert back == Page("results", "oat cookies", 1)
    assert go(catalog, "click[back to search]", page=features) == START
    assert go(catalog, "click[buy now]", page=chosen).kind == "done"


def test_a_new_search_forgets_the_product(catalog):
    page = go(
        catalog, "search[oat cookies]", "click[b000000001]", "click[8 ounce]", "search[shirt]"
    )
    assert page == Page("results", "shirt")


@pytest.mark.parametrize(
    "action",
    [
        "",
        "buy now",
        "click",
        "click[]",
        "click[buy now]",
        "click[next >]",
        "click[< prev]",
        "click[search]",
        "click[b000000003]",
        "look[around]",
        "search[]",
        "\x00",
    ],
)
def test_what_cannot_be_done(catalog, action):
    page = go(catalog, "search[oat cookies]")
    assert follow(page, action, catalog) is None


def test_nothing_found(catalog):
    page = go(catalog, "search[xylophone]")
    assert text(page, catalog).endswith("Back to Search [SEP] Page 1 (Total results: 0)")
    assert go(catalog, "click[back to search]", page=page) == START


@pytest.mark.parametrize(
    ("action", "parsed"),
    [
        ("search[Red Shoes]", ("search", "red shoes")),
        (" Click[Buy Now] ", ("click", "buy now")),
        ("click[a [b] c]", ("click", "a [b] c")),
        ("click[", None),
        ("I click[x]", None),
    ],
)
def test_actions(action, parsed):
    assert parse_action(action) == parsed
