import asyncio

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hpl_gym  # noqa: F401
from hpl_gym.agents.scripted import expert
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.rollout import Simulator, rollout
from hpl_gym.trainers.segment import cut, entropy_threshold, fixed_k, fixed_n, uncertainty
from hpl_gym.trainers.subtasks import subtasks
from hpl_gym.trainers.trajectory import to_record
from hpl_gym.trainers.work import choose
from hpl_gym.wrappers.react import parse_reply
from tests.hpl_gym.webshop.conftest import cache  # noqa: F401

ALFWORLD, WEBSHOP, SQL = "HPL/ALFWorld-v0", "HPL/WebShop-v0", "HPL/InterCodeSQL-v0"
HOUSEWORK = ("take", "put", "move", "heat", "cool", "clean", "slice", "use")
ITEM = "Instruction: [SEP] a mug [SEP] Back to Search [SEP] < Prev [SEP] red [SEP] Buy Now"
RESULTS = "Instruction: [SEP] a mug [SEP] Back to Search [SEP] Page 1 (Total results: 50) [SEP] B1"
DETAILS = "Instruction: [SEP] a mug [SEP] Back to Search [SEP] < Prev [SEP] No Description"
SEARCH = "WebShop [SEP] Instruction: [SEP] a mug [SEP] Search"
DONE = "Thank you for shopping with us! [SEP] Your score (min 0.0, max 1.0) [SEP] 1.0"
FAILED = "Error executing query: Unknown column 'x' in 'field list'"

ACTIONS = (
    "take mug 1 from desk 1|look|put mug 1 in/on desk 1|search[x]|click[red]|click[< Prev]|"
    "click[B1]|click[]||submit;|SHOW TABLES|DESC t|SELECT * FROM t LIMIT 3|SELECT a FROM t|"
    "```sql\nSELECT 1\n```"
).split("|")


def record(*exchanges):
    turns = [
        {"reply": f"Thought: so.\nAction: {action}", "observation": shown}
        for action, shown in exchanges
    ]
    return {"instruction": "a mug", "turns": turns}


def is_cover(spans, turns):
    return [turn for start, stop in spans for turn in range(start, stop)] == [
        *range(turns)
    ] and all(start < stop for start, stop in spans)


entropies = st.lists(st.floats(0, 5), max_size=40)
exchanges = st.lists(
    st.tuples(
        st.sampled_from(ACTIONS) | st.text(max_size=20),
        st.sampled_from([ITEM, RESULTS, DETAILS, SEARCH, DONE, FAILED, "Nothing happens.", "[]"])
        | st.text(max_size=20),
    ),
    max_size=30,
)


@given(entropies=entropies, threshold=st.floats(0, 5), size=st.integers(1, 12))
def test_segmenters_by_numbers_cover_the_trajectory(entropies, threshold, size):
    turns = len(entropies)
    spans = uncertainty(entropies, threshold)
    for found in (spans, fixed_n(turns, size), fixed_k(turns, size)):
        assert is_cover(found, turns)
    unsure = {turn for turn, entropy in enumerate(entropies) if entropy > threshold}
    assert {start for start, _ in spans} == unsure | ({0} if turns else set())


@given(exchanges=exchanges, env_id=st.sampled_from([ALFWORLD, WEBSHOP, SQL]))
def test_sub_tasks_cover_any_trajectory(exchanges, env_id):
    assert is_cover(subtasks(record(*exchanges), env_id), len(exchanges))


def test_cut_by_hand():
    assert cut([]) == []
    assert cut([False, False, True, True, False]) == [(0, 2), (2, 3), (3, 5)]


def test_the_threshold_is_numpys_linear_percentile():
    # The 80th percentile of 1..6 is at place 0.8 * 5 = 4: the fifth value; of 1..4 at 2.4.
    assert entropy_threshold([6, 1, 5, 2, 4, 3]) == 5.0
    assert entropy_threshold(iter([1.0, 2.0, 3.0, 4.0])) == pytest.approx(3.4)
    assert entropy_threshold([1.0, 3.0], 50) == 2.0


@given(entropies=st.lists(st.floats(0, 9), min_size=1, max_size=60), percentile=st.floats(0, 100))
def test_no_more_than_the_rest_is_above_the_threshold(entropies, percentile):
    threshold = entropy_threshold(entropies, percentile)
    assert min(entropies) <= threshold <= max(entropies)
    above = np.mean(np.array(entropies) > threshold)
    assert above <= 1 - percentile / 100 + 1 / len(entropies)


@pytest.mark.parametrize(("entropies", "percentile"), [([], 80), ([1.0], 101), ([1.0], -1)])
def test_a_threshold_that_does_not_exist(entropies, percentile):
    with pytest.raises(HPLGymError, match="percentile"):
        entropy_threshold(entropies, percentile)


def test_there_are_rules_for_three_benchmarks():
    with pytest.raises(HPLGymError, match="no sub-task rules for HPL/Toy-v0"):
        subtasks(record(("look", "a room")), "HPL/Toy-v0")


def test_housework_by_hand():
    found = subtasks(
        record(
            ("go to desk 1", "You arrive."),
            ("take mug 1 from desk 1", "Nothing happens."),
            ("look", "You are here."),
            ("take mug 1 from desk 1", "You pick up the mug 1 from the desk 1."),
            ("use desklamp 1", "You turn on the desklamp 1."),
            ("go to shelf 1", "You arrive."),
            ("put mug 1 in/on shelf 1", "You put the mug 1 in/on the shelf 1."),
            ("inventory", "You are not carrying anything."),
        ),
        ALFWORLD,
    )
    assert found == [(0, 4), (4, 5), (5, 7), (7, 8)]


def test_shopping_by_hand():
    found = subtasks(
        record(
            ("search[mug]", RESULTS),
            ("click[Next >]", RESULTS),
            ("click[B1]", ITEM),
            ("click[Description]", DETAILS),
            ("click[< Prev]", ITEM),
            ("click[< Prev]", RESULTS),
            ("click[B2]", ITEM),
            ("click[Back to Search]", SEARCH),
            ("search[red mug]", RESULTS),
            ("click[B1]", ITEM),
            ("click[green]", ITEM),  # no such option
            ("click[red]", ITEM),
            ("dance", ITEM),
            ("click[Description]", DETAILS),
            ("click[< Prev]", ITEM),
            ("click[< Prev]", RESULTS),
            ("click[Next >]", RESULTS),
            ("click[B3]", ITEM),
            ("search[mug]", RESULTS),  # from any page
            ("click[B1]", ITEM),
            ("click[Buy Now]", DONE),
        ),
        WEBSHOP,
    )
    starts = [start for start, _ in found]
    assert starts == [0, 2, 6, 7, 9, 11, 13, 16, 17, 18, 19, 20]


def test_querying_by_hand():
    found = subtasks(
        record(
            ("```sql\nSHOW TABLES\n```", "[('t',)]"),
            ("select * from t limit 3;", "[(1,)]"),
            ("```sql\nSELECT x FROM t\n```", FAILED),
            ("DESC t", "[('a', 'int')]"),  # to mend the query
            ("", FAILED),
            ("DESCRIBE u", "[('a', 'int')]"),
            ("SELECT a FROM t", "[(1,)]"),
            ("SELECT * FROM t ORDER BY a LIMIT 1", "[(1,)]"),
            ("DESC u", "[('b', 'int')]"),  # nothing to mend any more
            ("SELECT b FROM u", "[(2,)]"),
            ("submit", "[(2,)]"),
        ),
        SQL,
    )
    assert found == [(0, 2), (2, 8), (8, 9), (9, 10), (10, 11)]


def played(env, mode, limit, count):
    """The scripted expert's trajectories, each with its actions."""
    for task in choose(env.tasks("train"), count):
        simulator = Simulator(env, limit)
        start = simulator.start(task)
        talk = to_record(asyncio.run(rollout(simulator, expert(env, mode), start)))
        yield talk, [parse_reply(turn["reply"]).action for turn in talk["turns"]]


@pytest.mark.parametrize("dialect", ["move", "put"])
def test_an_alfworld_sub_task_ends_in_its_deed(dialect):
    env = gymnasium.make(ALFWORLD, games="generated", dialect=dialect).unwrapped
    for talk, actions in played(env, "search", 30, 15):
        spans = subtasks(talk, ALFWORLD)
        assert is_cover(spans, len(actions))
        *ended, last = spans
        for start, stop in ended:
            verbs = [action.split()[0] for action in actions[start:stop]]
            assert verbs[-1] in HOUSEWORK
            assert not set(verbs[:-1]).intersection(HOUSEWORK)
        if talk["success"]:
            assert len(spans) >= 2
            assert actions[last[1] - 1].split()[0] in HOUSEWORK


def test_a_webshop_episode_is_searching_inspecting_choosing_buying():
    env = gymnasium.make(WEBSHOP, data="generated", products=600).unwrapped
    chosen = 0
    for talk, actions in played(env, "search", 10, 40):
        spans = subtasks(talk, WEBSHOP)
        parts = [actions[start:stop] for start, stop in spans]
        assert is_cover(spans, len(actions))
        assert parts[0][0].startswith("search[")
        assert parts[-1] == ["click[Buy Now]"]
        for part in parts[1:-1]:
            opened = part[0].startswith("click[B0")
            detailed = any(action in ("click[Features]", "click[Description]") for action in part)
            assert opened or not detailed
            assert all(not action.startswith("click[B0") for action in part[1:])
            chosen += not opened
    assert chosen > 20


def test_a_sql_episode_is_looking_querying_submitting():
    env = gymnasium.make(SQL, data="generated", databases=12, server="sqlite").unwrapped
    repaired = 0
    for talk, actions in played(env, "informed", 10, 40):
        (look, seen), (query, queried), (submit, end) = subtasks(talk, SQL)
        assert (look, seen, queried, end) == (0, query, submit, len(actions))
        assert all("SHOW" in action or "DESC" in action for action in actions[:seen])
        assert all("SELECT" in action for action in actions[query:queried])
        assert actions[submit:] == ["submit"]
        repaired += queried - query > 1
    assert repaired > 2
