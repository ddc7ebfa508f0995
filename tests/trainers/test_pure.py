"""The pure functions: segmenters, curriculum, losses, statistics."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpl_gym.trainers.curriculum import CURRICULA, cell, spread
from hpl_gym.trainers.losses import bc_loss, dpo_loss, dpo_margins, hpl_loss, summed_logprobs
from hpl_gym.trainers.sections import EnvConfig
from hpl_gym.trainers.segment import fixed_k, fixed_n
from hpl_gym.trainers.statistics import rate, summarize


@given(turns=st.integers(0, 60), size=st.integers(1, 12))
def test_segments_cover_the_trajectory(turns, size):
    for spans in (fixed_n(turns, size), fixed_k(turns, size)):
        covered = [turn for start, stop in spans for turn in range(start, stop)]
        assert covered == list(range(turns))
        assert all(stop > start for start, stop in spans)
    lengths = [stop - start for start, stop in fixed_n(turns, size)]
    assert len(lengths) == min(size, turns)
    assert max(lengths, default=0) - min(lengths, default=0) <= 1
    assert all(stop - start == size for start, stop in fixed_k(turns, size)[:-1])


@pytest.mark.parametrize(
    ("length", "gap", "expected"),
    [
        (1, 1.0, (1, 1)),
        (3, 0.71, (1, 1)),
        (4, 0.7, (2, 2)),
        (6, 0.4, (2, 3)),
        (7, 0.01, (3, 3)),
        (30, 0.41, (3, 2)),
    ],
)
def test_cells(length, gap, expected):
    assert cell(length, gap, (0, 3, 6), (1, 0.7, 0.4)) == expected


def test_phases_grow():
    for name, phases in CURRICULA.items():
        assert len(phases) == (1 if name == "static" else 3)
        assert all(earlier < later for earlier, later in pairwise(phases))
        assert len(phases[-1]) == 9
    assert CURRICULA["length-only"][0] == {(1, 1), (1, 2), (1, 3)}
    assert CURRICULA["difficulty-only"][1] == {(a, b) for a in (1, 2, 3) for b in (1, 2)}


@given(items=st.integers(0, 50), steps=st.integers(1, 20))
def test_spread_shares_out_everything_evenly(items, steps):
    shares = spread(items, steps)
    assert [one for a, b in shares for one in range(a, b)] == list(range(items))
    sizes = [b - a for a, b in shares]
    assert max(sizes) - min(sizes) <= 1


def test_summed_logprobs_by_hand():
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 5, dtype=torch.float64)
    ids = torch.tensor([[1, 2, 3, 4], [0, 0, 1, 2]])
    counts = torch.tensor([[True, False, True, True], [False, True, False, False]])
    expected = []
    for row in range(2):
        total = 0.0
        for place in range(1, 4):
            if counts[row, place]:
                total += torch.log_softmax(logits[row, place - 1], 0)[ids[row, place]].item()
        expected.append(total)
    got = summed_logprobs(logits, ids, counts.double()).tolist()
    assert got == pytest.approx(expected, rel=1e-6)


def test_dpo_loss_by_hand_and_at_the_reference():
    winner, loser = torch.tensor([-3.0, -1.0]), torch.tensor([-2.0, -5.0])
    none = dpo_margins(winner, loser, winner, loser)
    assert dpo_loss(none, 0.3).tolist() == pytest.approx([math.log(2)] * 2)
    zero = torch.zeros(2)
    margins = [0.3 * -1.0, 0.3 * 4.0]
    expected = [math.log(1 + math.exp(-margin)) for margin in margins]
    got = dpo_loss(dpo_margins(winner, loser, zero, zero), 0.3)
    assert got.tolist() == pytest.approx(expected, rel=1e-6)


def test_the_composite_loss_is_the_weighted_sum_of_means():
    losses = {"bc": bc_loss(torch.tensor([-2.0, -4.0])), "group": torch.tensor([1.0, 2.0, 6.0])}
    assert hpl_loss(losses, {"bc": 1.0, "group": 0.5}).item() == pytest.approx(3.0 + 1.5)


def test_wilson_interval():
    # Wilson's interval for 8 of 10, computed by hand from the formula.
    z = 1.959963984540054
    middle = (0.8 + z * z / 20) / (1 + z * z / 10)
    half = z * math.sqrt(0.8 * 0.2 / 10 + z * z / 400) / (1 + z * z / 10)
    got = rate(8, 10)
    assert (got.low, got.high) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert rate(0, 5).low == 0.0
    assert rate(5, 5).high == 1.0
    assert str(rate(0, 0)) == "-"


def test_summary_groups_by_type():
    ends = [("b", True, 1.0), ("a", False, 0.5)]
    rows = [{"task_type": kind, "success": good, "reward": won} for kind, good, won in ends]
    found = summarize(rows)
    assert list(found) == ["all", "a", "b"]
    assert (found["all"]["rate"], found["b"]["successes"]) == (0.5, 1)
    assert (found["all"]["reward"], found["a"]["reward"]) == (0.75, 0.5)


def test_the_turn_limit_is_the_registered_one_or_the_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("HPL_CACHE", str(tmp_path))
    games = {"games": "generated"}
    assert EnvConfig(kwargs=games).make("train")[1] == 30
    assert EnvConfig(kwargs=games, max_turns=20).make("train")[1] == 20
    assert EnvConfig(id="HPL/InterCodeSQL-v0").make("train")[1] == 10
