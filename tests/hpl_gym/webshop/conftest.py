import os
from pathlib import Path

import pytest

from hpl_gym.webshop.catalog import Catalog, build_catalog
from hpl_gym.webshop.files import prepare
from tests.hpl_gym.webshop.shop import entries


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A catalogue of the products made by hand."""
    path = tmp_path_factory.mktemp("shop") / "catalog"
    build_catalog(path, entries())
    return path


@pytest.fixture(scope="session")
def catalog(folder):
    return Catalog(folder)


@pytest.fixture(scope="session")
def thousand(tmp_path_factory):
    """The benchmark's 1,000 products; without them, the tests that ask for them are skipped."""
    data = Path(os.environ.get("HPL_DATA", "/nonexistent")) / "webshop"
    if not data.is_dir():
        pytest.skip("HPL_DATA has no folder webshop")
    path = tmp_path_factory.mktemp("thousand") / "shop"
    prepare([data], path)
    return Catalog(path)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Generated shops of these tests go to a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("WEBSHOP_DATA", raising=False)
        yield
