import gymnasium
import pytest

import hpl_gym  # noqa: F401
from hpl_gym.agents.agent import Reply, play
from hpl_gym.agents.scripted import expert
from hpl_gym.agents.scripted.intercode_sql import _tables
from hpl_gym.agents.scripted.intercode_sql_guess import Table, guess
from hpl_gym.core import HPLGymError


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield gymnasium.make("HPL/InterCodeSQL-v0", data="generated", databases=12, server="sqlite")


def test_the_informed_expert_solves_every_question(env):
    bare = env.unwrapped
    slips = 0
    for task in bare.tasks("test"):
        bare.reset(options={"task": task})
        conversation, info = play(env, expert(env, "informed"), task=task)
        assert info["success"]
        slips += any("Error" in turn.observation for turn in conversation.turns)
        first, *_, last = conversation.turns
        assert "SHOW TABLES" in first.reply
        assert last.reply.endswith("Action: submit")
    assert slips > 3


def test_it_takes_over_after_looks_and_other_queries(env):
    bare = env.unwrapped
    task = bare.tasks("test")[0]
    with pytest.raises(HPLGymError, match="reset"):
        expert(gymnasium.make("HPL/InterCodeSQL-v0", data="generated"), "informed")
    bare.reset(options={"task": task})
    gold = bare.question().gold
    table = _tables(gold)[0]
    after = expert(env, "informed")

    class Guest:
        def __init__(self, *statements):
            self.statements = statements

        async def act(self, conversation, seed=0):
            if len(conversation.turns) < len(self.statements):
                return Reply(f"Action: ```sql\n{self.statements[len(conversation.turns)]}\n```")
            return await after.act(conversation)

    looks = Guest("SHOW TABLES;", f"DESCRIBE {table};")
    queries = Guest("SHOW TABLES", gold, f"SELECT * FROM {table}")
    for guest in (looks, queries):
        assert play(env, guest, task=task)[1]["success"]


def test_the_searching_agent_answers_from_what_it_sees(env):
    tasks = env.unwrapped.tasks("test")
    infos = [play(env, expert(env), task=task)[1] for task in tasks]
    assert sum(info["success"] for info in infos) > len(tasks) / 30
    assert all(info["steps"] < 10 for info in infos)


PEOPLE = Table("people", {"People_ID": "int", "Name": "text", "Age": "int", "homeTown": "text"})


@pytest.mark.parametrize(
    ("question", "query"),
    [
        ("How many people are there?", "SELECT COUNT(*) FROM people"),
        ("How many people are older than 40 by age?", "SELECT COUNT(*) FROM people WHERE Age > 40"),
        ("What is the average age of the people?", "SELECT AVG(Age) FROM people"),
        (
            "List name and age, ordered by age descending.",
            "SELECT Name, Age FROM people ORDER BY Age DESC",
        ),
        ("What are the different home towns?", "SELECT DISTINCT homeTown FROM people"),
        (
            "Show the name of people with the home town 'Rome'.",
            "SELECT Name, homeTown FROM people WHERE homeTown = 'Rome'",
        ),
        ("Anything?", "SELECT * FROM people"),
    ],
)
def test_guess(question, query):
    assert guess(question, [PEOPLE, Table("x", {"a": "int"})])[0] == query
