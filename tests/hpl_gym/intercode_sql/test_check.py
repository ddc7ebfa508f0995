import gymnasium

import hpl_gym  # noqa: F401
from hpl_gym.intercode_sql.check import check_gold, compare_gold
from tests.hpl_gym.intercode_sql.library import LIBRARY, QUESTIONS, write


def test_failing_and_empty_gold_queries_are_found(tmp_path):
    more = [
        {"db": LIBRARY, "query": "?", "gold": "SELECT zoo FROM book"},
        {"db": LIBRARY, "query": "?", "gold": "SELECT * FROM book WHERE price > 99"},
    ]
    folder = write(tmp_path, questions=[*QUESTIONS, *more])
    env = gymnasium.make("HPL/InterCodeSQL-v0", data=folder, server="sqlite").unwrapped
    found = check_gold(env)
    assert found["backend"] == env.backend
    assert found["failing"] == {4: "Unknown column 'zoo' in 'field list'"}
    assert found["empty"] == {LIBRARY: [5]}
    assert sum(one["questions"] for one in found["splits"].values()) == 6
    assert sum(one["fail"] for one in found["splits"].values()) == 1


def test_servers_are_compared(data, mysql):
    one, other = (
        gymnasium.make("HPL/InterCodeSQL-v0", data=data, server=server).unwrapped
        for server in ("sqlite", "private")
    )
    assert compare_gold(one, other) == {"equal": [0, 1, 2, 3]}
