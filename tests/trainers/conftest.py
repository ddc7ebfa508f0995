"""One very small run of the whole method, for all tests of its stages."""

import pytest

from tests.command_line import hpl

SMALL = [
    "env.kwargs={games: generated, rooms: small}",
    "env.max_turns=12",
    "max_new_tokens=16",
    "experts.count=24",
    "sft.epochs=1",
    "sft.tiny={epochs: 1, layers: 2, width: 32, heads: 2, kv_heads: 1, vocabulary: 600}",
    "explore.count=3",
    "explore.rollouts=2",
    "train.batch=2",
    "eval.count=4",
]


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert hpl("quickstart", "--run", folder, *SMALL) == 0
    return folder
