import json

import gymnasium
import pytest

import hpl_gym  # noqa: F401
from hpl_gym.agents.agent import Reply, play
from hpl_gym.agents.scripted import expert
from hpl_gym.agents.scripted.webshop import ScriptedWebShop
from hpl_gym.core import HPLGymError
from hpl_gym.wrappers.react import parse_reply
from tests.command_line import hpl
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


def test_it_keeps_to_another_turn_limit(tmp_path, env):
    lengths = [len(play(env, expert(env, turns=6), task=task)[0].turns) for task in range(20)]
    assert max(lengths) <= 6
    small = ["env.kwargs={products: 600}", "env.max_turns=6", "experts.count=20"]
    assert hpl("experts", "--run", tmp_path, "--config", "webshop", *small) == 0
    lines = (tmp_path / "experts/trajectories.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["success"] for line in lines) > 12


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


@pytest.mark.parametrize("task", range(8))
def test_it_takes_over_from_another_agent(env, task):
    class Wanderer:
        """Looks further, then leaves the rest to the expert."""

        async def act(self, conversation, seed=0):
            turns = len(conversation.turns)
            if turns == 0:
                return Reply(f"Action: search[{conversation.instruction}]")
            if turns == 1:
                return Reply("Action: click[Next >]" if task % 2 else "Action: search[black shirt]")
            if turns == 2:
                product = next(one for one in conversation.admissible if one.startswith("click[b0"))
                return Reply(f"Action: {product} to see more")
            return await ScriptedWebShop().act(conversation)

    conversation, _ = play(env, Wanderer(), task=task)
    assert conversation.turns[-1].reply.endswith("click[Buy Now]")
    env.reset(options={"task": task})
    for turn in conversation.turns:
        assert env.step(parse_reply(turn.reply).action)[-1]["valid"]


def test_it_knows_no_more_than_it_sees(env):
    with pytest.raises(HPLGymError, match="'guess'"):
        expert(env, "guess")
    with pytest.raises(HPLGymError, match="CartPole"):
        expert(gymnasium.make("CartPole-v1"))
    with pytest.raises(HPLGymError, match="'informed'"):
        expert(env, "informed")
