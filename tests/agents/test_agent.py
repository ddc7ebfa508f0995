import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from hpl_gym.agents import Reply, play
from tests.toy import make
from tests.trainers.test_rollout import HARD, Reciter

ROOT = Path(__file__).parents[2]


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


def test_play_hands_on_the_tokens_that_were_sampled():
    class Sampler(Reciter):
        async def act(self, talk, seed=0):
            reply = await super().act(talk, seed)
            return Reply(reply.text, (7, len(talk.turns)))

    talk, _ = play(make(), Sampler(HARD), task="train/hard")
    assert [turn.token_ids for turn in talk.turns] == [(7, place) for place in range(len(HARD))]


def test_play_can_be_interrupted():
    code = (
        "import asyncio, signal, tests.toy\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it\n"
        "from hpl_gym.agents import play\n"
        "class Slow:\n"
        "    async def act(self, talk, seed=0):\n"
        "        print('asked', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "play(tests.toy.make(), Slow())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    ) as process:
        assert process.stdout.readline() == b"asked\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) != 0


def test_a_reply_comes_apart():
    reply = Reply("Thought: I look around.\nAction: look")
    assert (reply.thought, reply.action) == ("I look around.", "look")
