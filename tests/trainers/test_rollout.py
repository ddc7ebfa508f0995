import asyncio
import gc

import pytest

from hpl_gym.agents.agent import Reply
from hpl_gym.trainers.experts import Slipping
from hpl_gym.trainers.rollout import Simulator, rollout, rollouts
from hpl_gym.trainers.trajectory import TrajectoryError, replay, retrace, to_conversation, to_record
from hpl_gym.trainers.value import Values
from hpl_gym.trainers.work import in_order
from tests.language import conversation
from tests.toy import ToyEnv

HARD = ["go attic", "take gold", "go kitchen", "take silver", "go hall", "drop gold", "drop silver"]


class Reciter:
    """Plays a list of actions by the number of the turn."""

    def __init__(self, actions):
        self.actions = actions
        self.asked = []

    async def act(self, talk, seed=0):
        self.asked.append((talk.digest, seed))
        await asyncio.sleep(0)
        return Reply(f"Thought: on.\nAction: {self.actions[len(talk.turns)]}")


class Chancer(Reciter):
    """Like Reciter, but gives up on some seeds."""

    async def act(self, talk, seed=0):
        reply = await super().act(talk, seed)
        return reply if seed % 2 else Reply("Action: give up")


def play(actions, limit=12):
    simulator = Simulator(ToyEnv(), limit)
    start = simulator.start("train/hard")
    return simulator, asyncio.run(rollout(simulator, Reciter(actions), start))


def test_a_rollout_ends_with_the_episode_or_the_limit():
    assert play(HARD)[1][-1].success
    simulator, states = play(HARD, limit=5)
    assert (states[-1].truncated, states[-1].over, states[-1].reward) == (True, True, 0.0)
    assert simulator.steps == 5


class RefusedError(Exception):
    pass


class Refusing:
    """Fails where it is asked."""

    async def act(self, talk, seed=0):
        raise RefusedError


def test_an_agents_error_is_raised_and_not_printed_as_well(caplog):
    simulator, states = play(HARD)
    with pytest.raises(RefusedError):
        asyncio.run(rollouts(simulator, Refusing(), states[:-1], seed=0))
    gc.collect()
    assert not caplog.records


def test_a_lower_turn_limit_than_the_records_is_named():
    _, states = play(HARD)
    with pytest.raises(TrajectoryError, match=r"raise env\.max_turns"):
        replay(Simulator(ToyEnv(), 3), to_record(states))


def test_rollouts_of_one_environment_do_not_disturb_each_other():
    simulator, states = play(HARD)

    async def many():
        agent = Reciter(HARD)
        return await asyncio.gather(*(rollout(simulator, agent, state) for state in states))

    for ended in asyncio.run(many()):
        assert ended[-1].conversation == states[-1].conversation
        assert ended[-1].snapshot == states[-1].snapshot


def test_a_record_replays_and_a_changed_one_is_refused():
    simulator, states = play(HARD)
    record = to_record(states, key="k")
    assert to_conversation(record, "HPL/Toy-v0") == states[-1].conversation
    assert replay(simulator, record)[-1].snapshot == states[-1].snapshot
    record["turns"][2]["observation"] = "You are somewhere."
    with pytest.raises(TrajectoryError, match="Turn 3"):
        replay(simulator, record)


def test_what_a_policy_saw_stands_where_a_server_never_says_it_twice():
    simulator, states = play(HARD)
    record = to_record(states, key="k")
    record["turns"][2]["observation"] = "It is nine o'clock."
    again = retrace(simulator, states[0], record["turns"], exact=False)
    assert [one.snapshot for one in again] == [one.snapshot for one in states]
    assert to_conversation(record, "HPL/Toy-v0") == again[-1].conversation
    assert again[2].conversation == states[2].conversation


def test_a_simulator_closes_its_environment(monkeypatch):
    closed = []
    monkeypatch.setattr(ToyEnv, "close", lambda env: closed.append(env))
    with Simulator(ToyEnv(), 3) as simulator:
        assert not closed
    assert closed == [simulator.env]


def test_values_are_means_and_each_history_is_rolled_out_once():
    simulator, states = play(HARD)
    agent = Chancer(HARD)
    values = Values(simulator, agent, "policy", rollouts=8, seed=3)
    asyncio.run(values.estimate((*states, *states)))
    found = [values.value(state) for state in states]
    assert found[-1] == 1.0  # the end has its outcome, without rollouts
    records = list(values.records.values())
    assert len(records) == len(states) - 1
    for record, value in zip(records, found, strict=False):
        assert record["value"] == value == sum(record["rewards"]) / 8
    assert len({*agent.asked}) == len(agent.asked)
    assert 0 < found[0] < 1
    other = Values(simulator, agent, "other policy", rollouts=8, seed=3)
    asyncio.run(other.estimate(states))
    assert not other.records.keys() & values.records.keys()


def test_values_do_not_depend_on_what_else_is_asked():
    simulator, states = play(HARD)
    alone = Values(simulator, Chancer(HARD), "policy", 8, 3)
    together = Values(simulator, Chancer(HARD), "policy", 8, 3)
    asyncio.run(alone.estimate([states[2]]))
    asyncio.run(together.estimate(reversed(states)))
    (key,) = alone.records
    assert alone.records[key]["rewards"] == together.records[key]["rewards"]


def test_a_rollout_that_comes_to_a_valued_state_is_not_played_again():
    simulator, states = play(HARD)
    agent = Chancer(HARD)
    values = Values(simulator, agent, "policy", 8, 3)
    asyncio.run(values.estimate(states))
    assert len(agent.asked) == 8 * (len(states) - 1)  # one turn each, then the next one's rollout
    assert sum(one["env_steps"] for one in values.records.values()) == len(agent.asked)
    for state in states[:-1]:
        alone = Values(simulator, Chancer(HARD), "policy", 8, 3)
        asyncio.run(alone.estimate([state]))
        assert alone.value(state) == values.value(state)


def test_slips_are_wrong_and_noted():
    talk = conversation()
    talk = type(talk)("e", "t", "k", "i", "You see a mug 1, a mug 12, and a desk 3.")
    right = "Thought: I take mug 1 from desk 3.\nAction: take mug 1 from desk 3"
    other = "Thought: I look.\nAction: look"

    class Fixed:
        async def act(self, talk, seed=0):
            return Reply(right)

    always, never = Slipping(Fixed(), 1.0, [right, other]), Slipping(Fixed(), 0.0, [right, other])
    assert asyncio.run(never.act(talk)).text == right
    assert never.slips == []
    seen = [asyncio.run(always.act(talk, seed)).text for seed in range(200)]
    assert seen == [asyncio.run(always.act(talk, seed)).text for seed in range(200)]
    assert len(always.slips) == 2 * sum(text != right for text in seen)
    assert {other, right.replace("mug 1", "mug 12"), right.replace("desk 3", "mug 1")} <= {*seen}
    assert seen.count(right) < 50  # a name can be drawn in its own place


def test_rollouts_are_handed_over_before_the_last_begin_though_the_agent_never_waits():
    begun, seen = [], []

    class Hasty(Reciter):
        async def act(self, talk, seed=0):
            begun.append(seed)
            return Reply(f"Action: {self.actions[len(talk.turns)]}")

    async def work(item):
        simulator = Simulator(ToyEnv(), 12)
        return await rollout(simulator, Hasty(HARD), simulator.start("train/hard"), seed=item)

    asyncio.run(in_order(range(20), work, lambda *_: seen.append(len(set(begun))), 4))
    assert seen[0] <= 8
    assert len(set(begun)) == 20
