import asyncio

import pytest

from hpl_gym.agents.human import HumanAgent
from hpl_gym.agents.random import RandomAgent
from hpl_gym.core import HPLGymError, LazyActions
from hpl_gym.wrappers.transcript import Conversation

START = Conversation(
    "HPL/ALFWorld-v0", "a/task", "a_type", "put a mug in desk.", "You see a desk 1."
)
ACTIONS = ("go to desk 1", "inventory", "look")


def act(conversation: Conversation, seed: int = 0) -> str:
    return asyncio.run(RandomAgent().act(conversation, seed)).action


def test_draw_depends_on_conversation_and_seed_only():
    offered = START.add("Action: look", "A room.", admissible=LazyActions(lambda: ACTIONS))
    again = START.add("Action: look", "A room.", admissible=ACTIONS)
    assert [act(offered, seed) for seed in range(20)] == [act(again, seed) for seed in range(20)]
    later = offered.add("Action: look", "A room.", admissible=ACTIONS)
    assert [act(later, seed) for seed in range(20)] != [act(offered, seed) for seed in range(20)]


def test_draw_is_uniform():
    offered = START.add("Action: look", "A room.", admissible=ACTIONS)
    counts = dict.fromkeys(ACTIONS, 0)
    for seed in range(900):
        counts[act(offered, seed)] += 1
    assert all(240 < count < 360 for count in counts.values()), counts


def test_same_draw_on_every_machine():
    offered = START.add("Action: look", "A room.", admissible=ACTIONS)
    assert [act(offered, seed) for seed in range(6)] == [
        "go to desk 1",
        "go to desk 1",
        "inventory",
        "look",
        "go to desk 1",
        "inventory",
    ]


def test_admissible_actions_are_no_part_of_the_history():
    offered = START.add("Action: look", "A room.", admissible=ACTIONS)
    plain = START.add("Action: look", "A room.")
    assert offered == plain
    assert offered.digest == plain.digest
    assert offered.prefix(1).admissible is None


def test_without_admissible_actions_it_says_so():
    with pytest.raises(HPLGymError, match="needs admissible commands"):
        act(START)


def test_human_sees_the_game_and_types():
    lines, shown = iter(["?", " go to desk 1 "]), []
    agent = HumanAgent(read=lambda _: next(lines), write=shown.append)
    offered = START.add("Action: look", "A room.", admissible=ACTIONS)
    reply = asyncio.run(agent.act(offered))
    assert reply.action == "go to desk 1"
    assert shown == ["A room.", "go to desk 1\ninventory\nlook"]


def test_human_input_may_end():
    def ended(prompt: str) -> str:
        raise EOFError

    agent = HumanAgent(read=ended, write=lambda text: None)
    with pytest.raises(HPLGymError, match="input ended"):
        asyncio.run(agent.act(START))
