"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

from hpl_gym.alfworld.games import locate_or_unpack
from hpl_gym.core import DataError
from hpl_gym.trainers.kernels import round_alike

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for torch, which comes later: two workers run
round_alike()  # as the commands do, some of which tests start as processes


@pytest.fixture(scope="session")
def alfworld_data() -> Path:
    """The folder of ALFWorld's real games; without them, the tests that ask for it are skipped."""
    try:
        return locate_or_unpack()
    except DataError as error:
        pytest.skip(str(error))
