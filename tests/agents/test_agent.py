import asyncio

from hpl_gym.agents import Reply, play
from tests.toy import make
from tests.trainers.test_rollout import HARD, Reciter


def test_play_runs_an_episode_to_its_end():
    talk, info = play(make(), Reciter(HARD), task="train/hard")
    assert info["success"]
    assert [turn.reply.split(": ")[-1] for turn in talk.turns] == HARD


def test_play_stops_at_the_turn_limit_and_draws_the_task_by_seed():
    talks = [play(make(), Reciter(["dance"] * 12), seed=seed)[0] for seed in range(8)]
    assert all(len(talk.turns) == 12 for talk in talks)
    assert {talk.task_type for talk in talks} == {"easy", "hard"}
    assert play(make(), Reciter(["dance"] * 12), seed=3)[0] == talks[3]


def test_play_works_where_an_event_loop_runs_already():
    async def notebook():
        return play(make(), Reciter(HARD), task="train/hard")

    assert asyncio.run(notebook())[1]["success"]


def test_a_reply_comes_apart():
    reply = Reply("Thought: I look around.\nAction: look")
    assert (reply.thought, reply.action) == ("I look around.", "look")
