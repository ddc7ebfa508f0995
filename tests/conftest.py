"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

from hpl_gym.alfworld.games import locate_or_unpack
from hpl_gym.core import DataError


@pytest.fixture(scope="session")
def alfworld_data() -> Path:
    """The folder of ALFWorld's real games; without them, the tests that ask for it are skipped."""
    try:
        return locate_or_unpack()
    except DataError as error:
        pytest.skip(str(error))
