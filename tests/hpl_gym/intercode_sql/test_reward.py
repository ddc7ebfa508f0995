"""The reward against values worked out by hand from InterCode's definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpl_gym.intercode_sql.reward import score

ROWS = ("(1,)", "(2,)", "(3,)", "(4,)")


@pytest.mark.parametrize(
    ("rows", "gold", "reward"),
    [
        (ROWS, ROWS, 1.0),
        ((), (), 1.0),
        ((), ROWS, 0.0),
        (None, (), 0.0),
        # two of four
        (ROWS[:2], ROWS, 0.5),
        # one row twice: two in common of three
        (("(1,)", "(1,)"), ("(1,)", "(1,)", "(2,)"), 2 / 3),
        (("(1,)", "(1,)", "(1,)"), ("(1,)",), 1 / 3),
        # one pair of six in the wrong order: (5 - 1) / 6
        (("(2,)", "(1,)", "(3,)", "(4,)"), ROWS, 2 / 3),
        # the other way round: -1, which counts 0
        (ROWS[::-1], ROWS, 0.0),
        # the order of what is not in common does not count
        (("(9,)", "(1,)", "(8,)", "(2,)"), ("(1,)", "(2,)"), 0.5),
        # one row in common has no order
        (("(9,)", "(1,)"), ("(1,)",), 0.5),
        # all in common are the same
        (("(1,)", "(1,)"), ("(1,)", "(1,)", "(7,)"), 2 / 3),
    ],
)
def test_score(rows, gold, reward):
    assert score(rows, gold) == pytest.approx(reward)


rows = st.lists(st.sampled_from(ROWS), max_size=6)


@given(rows, rows)
def test_properties(one, other):
    value = score(one, other)
    assert 0.0 <= value <= 1.0
    assert value == pytest.approx(score(other, one))
    assert score(one, one) == 1.0
