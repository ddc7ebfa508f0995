import gymnasium
import pytest

import hpl_gym  # noqa: F401
from hpl_gym.agents.agent import play
from hpl_gym.agents.scripted import expert
from hpl_gym.agents.scripted.webshop import ScriptedWebShop
from hpl_gym.core import HPLGymError
from hpl_gym.wrappers.react import parse_reply
from tests.hpl_gym.webshop.conftest import cache, folder  # noqa: F401


@pytest.fixture(scope="module")
def env():
    return gymnasium.make("HPL/WebShop-v0", products=600, split="test")


def test_it_shops_well(env):
    rewards = []
    for task in range(60):
        conversation, info = play(env, expert(env), task=task)
        rewards.append(info["score"])
        assert len(conversation.turns) <= 10
        for turn in conversation.turns:
            assert turn.reply.startswith("Thought: ")
    assert sum(rewards) / len(rewards) > 0.85


def test_every_action_can_be_done(env):
    for task in range(20):
        conversation, _ = play(env, expert(env), task=task)
        env.reset(options={"task": task})
        for turn in conversation.turns:
            assert env.step(parse_reply(turn.reply).action)[-1]["valid"]


def test_it_chooses_the_options_and_reads_what_it_has_not_seen(folder):  # noqa: F811
    env = gymnasium.make("HPL/WebShop-v0", data=str(folder)).unwrapped
    task = next(one for one in env.tasks("train") if one.task_type == "fashion")
    conversation, info = play(env, ScriptedWebShop(), task=task)
    actions = [parse_reply(turn.reply).action for turn in conversation.turns]
    assert actions[0] == "search[black shirt machine wash]"
    assert "click[Features]" in actions
    assert info["score"] >= 2 / 3


def test_it_knows_no_more_than_it_sees(env):
    with pytest.raises(HPLGymError, match="'informed'"):
        expert(env, "informed")
