"""Which pairs are kept."""

import pytest

from hpl_gym.trainers import preferences

GO, OTHER, TAKE = "Thought: A.\nAction: go", "Thought: B.\nAction: go", "Action: take"


@pytest.mark.parametrize(
    ("level", "loser", "gap", "reason"),
    [
        ("step", [GO, GO], 1.0, "same"),  # the next step's pair once more
        ("step", [OTHER, GO], 1.0, ""),
        ("step", [TAKE], 1.0, ""),
        ("trajectory", [GO, GO], 1.0, ""),
        ("group", [GO, GO], 0.4, ""),
        ("group", [GO, TAKE], 0.4, "same"),
        ("group", [OTHER, TAKE], 0.01, "tie"),
        ("group", [OTHER, TAKE], -0.01, "tie"),
        ("group", [OTHER, TAKE], -0.02, "worse"),
    ],
)
def test_a_pair_is_dropped_for_a_reason(level, loser, gap, reason):
    expert = {"turns": [{"reply": one} for one in (TAKE, GO, TAKE)]}
    turns = [{"reply": one} for one in loser]
    pair = {"level": level, "start": 1, "stop": 3, "loser": turns, "gap": gap}
    assert preferences._reason(expert, pair, 0.01) == reason
