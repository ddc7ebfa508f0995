import json
import shutil
import subprocess
import sys

import pytest

from hpl_gym.core import DataError
from hpl_gym.webshop.catalog import Catalog, GoalPlace, build_catalog
from hpl_gym.webshop.files import prepare
from tests.hpl_gym.webshop.shop import ATTRIBUTES, HUMAN, RAW, entries, product


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    return folder


def test_what_was_written_is_read(catalog):
    assert catalog.products == 4
    assert catalog.goals == {"human": 2, "synthetic": 4}
    for one, _ in entries():
        assert catalog.product(one.asin) == one
    places = [catalog.place("synthetic", number) for number in range(4)]
    assert {place.combination for place in places} == {0, 1, 2, 3}
    assert [catalog.number(place) for place in places] == [0, 1, 2, 3]
    assert catalog.goal(places[0]).asin == "B000000001"
    assert not catalog.has(GoalPlace("synthetic", 0, 4))
    assert not catalog.has(GoalPlace("human", 2, 0))


def test_the_same_input_gives_the_same_catalogue_whatever_the_hash_seed(folder, tmp_path):
    code = (
        "import sys; from pathlib import Path; from hpl_gym.webshop.catalog import *;"
        "from tests.hpl_gym.webshop.shop import entries;"
        "build_catalog(Path(sys.argv[1]), entries()); "
        "c = Catalog(Path(sys.argv[1])); print(c.digest, c.search('oat cookies'))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "other")]
    env = {"PYTHONHASHSEED": "77", "PATH": "", "PYTHONPATH": "."}
    shown = subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout
    mine = Catalog(folder)
    assert shown == f"{mine.digest} {mine.search('oat cookies')}\n"


def test_another_seed_is_another_catalogue(folder, tmp_path):
    build_catalog(tmp_path / "other", entries(), seed=1)
    assert Catalog(tmp_path / "other").digest != Catalog(folder).digest


def test_products_that_come_twice_count_once(tmp_path):
    build_catalog(tmp_path / "twice", [*entries(), *entries()])
    assert Catalog(tmp_path / "twice").products == 4


def test_a_build_that_fails_leaves_what_was_there(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "shop")

    def broken():
        yield product(1), []
        raise DataError("broken")

    with pytest.raises(DataError, match="broken"):
        build_catalog(tmp_path / "shop", broken())
    assert Catalog(tmp_path / "shop").products == 4
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda shop: (shop / "manifest.json").unlink(), "not finished"),
        (lambda shop: (shop / "manifest.json").write_text("{"), "manifest.*broken"),
        (lambda shop: (shop / "manifest.json").write_text('{"format": 0}'), "format 0"),
        (lambda shop: (shop / "manifest.json").write_text('{"format": 1}'), "broken"),
        (lambda shop: (shop / "index" / "ranks.npy").unlink(), "broken"),
        (lambda shop: (shop / "products.sqlite").write_text("x" * 5000), "broken"),
        (lambda shop: shutil.rmtree(shop / "index"), "broken"),
    ],
)
def test_damaged_folders_are_refused(folder, tmp_path, damage, message):
    shop = tmp_path / "shop"
    shutil.copytree(folder, shop)
    damage(shop)
    with pytest.raises(DataError, match=message):
        Catalog(shop)


@pytest.mark.parametrize("part", ["manifest.json", "index/ranks.npy", "products.sqlite"])
def test_what_cannot_be_read_is_not_called_broken(folder, tmp_path, part):
    shop = tmp_path / "shop"
    shutil.copytree(folder, shop)
    (shop / part).unlink()
    (shop / part).mkdir()
    with pytest.raises(DataError, match=r"shop cannot be read: Is a directory\.$"):
        Catalog(shop)


@pytest.mark.parametrize("part", ["index", "products.sqlite"])
def test_parts_of_another_catalogue_are_refused(folder, tmp_path, part):
    shop, other = tmp_path / "shop", tmp_path / "other"
    shutil.copytree(folder, shop)
    build_catalog(other, list(entries())[:2])
    if part == "index":
        shutil.rmtree(shop / part)
        shutil.copytree(other / part, shop / part)
    else:
        shutil.copy(other / part, shop / part)
    with pytest.raises(DataError, match="another catalogue"):
        Catalog(shop)


def test_the_benchmarks_files_are_told_apart_by_their_content(tmp_path):
    folder = write(tmp_path / "data", items_a=RAW, items_b=ATTRIBUTES, items_c=HUMAN)
    prepare([folder], tmp_path / "shop")
    assert Catalog(tmp_path / "shop").goals == {"human": 2, "synthetic": 4}
    files = sorted(folder.iterdir(), reverse=True)
    prepare(files, tmp_path / "again", limit=2)
    assert Catalog(tmp_path / "again").products == 2


def test_entries_that_are_not_as_they_should_be_are_left_out(tmp_path):
    human = {"x": 3, "y": []} | HUMAN
    reviews = [{"asin": "B000000001", "reviews": []}, {"x": 1}, 7]
    files = {"items_a": RAW, "items_b": {"x": {}} | ATTRIBUTES, "items_c": human}
    folder = write(tmp_path / "data", **files, reviews_d=reviews)
    prepare([folder], tmp_path / "shop")
    assert Catalog(tmp_path / "shop").goals == {"human": 2, "synthetic": 4}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"items_a": "[{"}, "items_a.json is broken"),
        ({"items_a": '{"x": '}, "items_a.json is broken"),
        ({"items_a": RAW, "items_b": "hello"}, "items_b.json is none of"),
        ({"items_a": RAW, "items_b": ["text"]}, "items_b.json is none of"),
        ({"items_a": RAW, "items_b": {"x": 1}}, "items_b.json is none of"),
        ({"items_a": RAW, "items_b": RAW}, "both lists of products"),
        ({"items_a": ATTRIBUTES}, "None of the files has a list of products"),
        ({"items_a": [*RAW, 3]}, "Entry 5 of .* is no product"),
        ({"other": RAW}, "has none of"),
        ({"items_a": [RAW[-1]]}, "no product"),
        ({"items_a": RAW, "items_b": {"B9": ATTRIBUTES["B000000001"]}}, "different catalogues"),
    ],
)
def test_bad_files(tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        prepare([write(tmp_path / "data", **files)], tmp_path / "shop")
    assert not (tmp_path / "shop").exists()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        prepare([tmp_path / "items.json"], tmp_path / "shop")


def test_no_other_folder_is_ever_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="no WebShop catalogue"):
        build_catalog(tmp_path, entries())
    with pytest.raises(DataError, match="no WebShop catalogue"):
        build_catalog(tmp_path / "thesis.txt", entries())
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
