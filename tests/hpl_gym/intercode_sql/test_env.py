import json
import os
import pickle
import subprocess
import sys
import uuid
from pathlib import Path

import gymnasium
import pytest
import sqlglot
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import hpl_gym  # noqa: F401
from hpl_gym.core import DataError, HPLGymError, SnapshotVersionError, Task, UnknownTaskError
from hpl_gym.intercode_sql.env import _servers, read_action
from hpl_gym.intercode_sql.questions import QuestionSet
from hpl_gym.intercode_sql.sqlite import SQLiteServer
from tests.hpl_gym.intercode_sql.library import QUESTIONS, write

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["sqlite", "private"])
def make(request, data):
    """Makes the environment on each of the two kinds of server."""
    if request.param == "private":
        request.getfixturevalue("mysql")
    made = []

    def make(**kwargs):
        kwargs = {"data": data, "server": request.param} | kwargs
        made.append(gymnasium.make("HPL/InterCodeSQL-v0", **kwargs))
        return made[-1]

    yield make
    for env in made:
        env.close()


def start(env, number):
    return env.reset(options={"task": f"{env.unwrapped.questions.name}/{number}"})


def test_an_episode(make):
    env = make()
    observation, info = start(env, 1)
    assert observation == info["instruction"]
    assert "cheapest" in observation
    assert info["backend"].startswith(("sqlite ", "mariadb ", "mysql "))
    observation, reward, over, _, info = env.step("```sql\nSHOW TABLES\n```")
    assert (observation, reward, over) == ("[('author',), ('book',)]", 0.0, False)
    observation, reward, _, _, info = env.step("SELECT zoo FROM book")
    assert not info["valid"]
    env.step("```\nSELECT title FROM book ORDER BY price;\n```")
    observation, reward, over, truncated, info = env.step("submit")
    assert observation == "[('Gamma',), ('Alpha',), ('Beta',)]"
    assert (reward, over, truncated, info["success"]) == (1.0, True, False, True)


@pytest.mark.parametrize(
    ("statements", "reward"),
    [
        ([], 0.0),
        (["SELECT title FROM book ORDER BY price", "SELECT zoo FROM book"], 0.0),
        (["DELETE FROM book", "SELECT title FROM book ORDER BY price"], 0.0),
        # Beta, Alpha, Gamma for Gamma, Alpha, Beta: of three pairs of places two agree
        (["SELECT title FROM book ORDER BY price DESC"], 1 / 3),
        (["SELECT title FROM book WHERE price < 11 ORDER BY price"], 2 / 3),
    ],
)
def test_rewards(make, statements, reward):
    env = make()
    start(env, 1)
    for statement in statements:
        env.step(statement)
    assert env.step("submit")[1] == pytest.approx(reward)


def test_a_closed_environment_goes_on_and_an_unknown_task_closes_nothing(make):
    env = make().unwrapped
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.gold()
    start(env, 1)
    env.step("DELETE FROM book WHERE title = 'Beta'")
    saved = env.snapshot()
    env.close()
    assert env.step("SELECT count(*) FROM book")[0] == "[(2,)]"
    env.restore(saved)
    with pytest.raises(UnknownTaskError):
        env.reset(options={"task": Task("else/1", "test", "easy")})
    assert env.step("SELECT count(*) FROM book")[0] == "[(2,)]"


def test_ten_turns(make):
    env = make()
    start(env, 0)
    ends = [env.step("SELECT count(*) FROM book")[1:4] for _ in range(10)]
    assert ends[-1] == (0.0, False, True)
    assert not any(truncated for _, _, truncated in ends[:-1])


def test_long_observations_are_cut(make):
    env = make(shown=40)
    start(env, 0)
    observation = env.step("SELECT * FROM book ORDER BY book_id")[0]
    assert len(observation) == 40
    assert observation.endswith("... (cut)")


def test_gymnasiums_own_check(make):
    check_env(make(split="train").unwrapped, skip_render_check=True)


STATEMENTS = (
    "SHOW TABLES",
    "SELECT * FROM author ORDER BY author_id",
    "INSERT INTO author (name, born) VALUES ('Di', 1999)",
    "UPDATE author SET born = born + 1",
    "DELETE FROM book WHERE book_id = 1",
    "CREATE TABLE shelf (a int)",
    "INSERT INTO shelf VALUES (1)",
    "DROP TABLE shelf",
    "SELECT zoo",
)
walks = st.lists(st.sampled_from(STATEMENTS), max_size=4)
LOOK = "SELECT name, born FROM author ORDER BY author_id"


@settings(max_examples=25, deadline=None, database=None)
@given(before=walks, between=walks, after=walks)
def test_restored_episodes_go_on_as_the_original(data, before, between, after):
    env = gymnasium.make("HPL/InterCodeSQL-v0", data=data, server="sqlite").unwrapped
    start(env, 0)
    for statement in before:
        env.step(statement)
    saved = pickle.loads(pickle.dumps(env.snapshot()))
    assert hash(saved) == hash(env.snapshot())

    def go_on():
        return [env.step(statement)[:4] for statement in (*after, LOOK)]

    ahead = go_on()
    env.restore(saved)
    for statement in between:
        env.step(statement)
    observation, info = env.restore(saved)
    assert observation == saved.observation
    assert info["steps"] == len(before)
    assert go_on() == ahead


def test_restore_after_writes(make):
    env = make().unwrapped
    start(env, 0)
    env.step("UPDATE author SET born = 1 WHERE author_id = 1")
    saved = env.snapshot()
    env.step("DELETE FROM book")
    env.restore(saved)
    assert env.step("SELECT born FROM author WHERE author_id = 1")[0] == "[(1,)]"
    assert env.step("SELECT count(*) FROM book")[0] == "[(3,)]"
    assert env.step("submit")[1] == 1.0


CODE = """
import pickle, sys, gymnasium, hpl_gym
env = gymnasium.make("HPL/InterCodeSQL-v0", data=sys.argv[1], server="sqlite").unwrapped
saved = pickle.loads(bytes.fromhex(sys.argv[2]))
env.reset(options={"task": saved.task_id})
env.restore(saved)
print(saved.digest, env.step("SELECT born FROM author ORDER BY author_id")[0])
"""


def test_a_snapshot_is_good_in_another_process(data):
    env = gymnasium.make("HPL/InterCodeSQL-v0", data=data, server="sqlite").unwrapped
    start(env, 0)
    env.step("UPDATE author SET born = 1 WHERE author_id = 1")
    saved = env.snapshot()
    shown = subprocess.run(
        [sys.executable, "-c", CODE, str(data), pickle.dumps(saved).hex()],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "5"},
    ).stdout
    assert shown == f"{saved.digest} [(1,), (None,), (1950,)]\n"


def test_a_snapshot_of_another_backend_is_refused(data, mysql):
    one = gymnasium.make("HPL/InterCodeSQL-v0", data=data, server="sqlite").unwrapped
    other = gymnasium.make("HPL/InterCodeSQL-v0", data=data, server="private").unwrapped
    start(one, 0)
    start(other, 0)
    with pytest.raises(SnapshotVersionError):
        other.restore(one.snapshot())


def test_a_snapshot_belongs_to_the_question_and_to_what_is_shown(make, tmp_path):
    envs = [make(), make(), make(shown=40)]
    for change in ({"query": "How many?"}, {"gold": "SELECT 3"}):
        folder = write(tmp_path / min(change), questions=[QUESTIONS[0] | change, *QUESTIONS[1:]])
        envs.append(make(data=folder))
    versions = []
    for env in envs:
        start(env, 0)
        versions.append(env.unwrapped.snapshot().version)
    assert versions[0] == versions[1]
    assert len(set(versions)) == 4


def test_a_snapshot_belongs_to_the_translator(data, monkeypatch):
    env = gymnasium.make("HPL/InterCodeSQL-v0", data=data, server="sqlite").unwrapped
    start(env, 0)
    saved = env.snapshot()
    monkeypatch.setattr(env.server, "version", "sqlite 3-sqlglot 1")
    start(env, 0)
    with pytest.raises(SnapshotVersionError):
        env.restore(saved)
    assert f"sqlglot {sqlglot.__version__}" in saved.version


def test_generated_questions():
    env = gymnasium.make("HPL/InterCodeSQL-v0", data="generated", databases=10).unwrapped
    for split in ("train", "valid", "test"):
        tasks = env.tasks(split)
        assert {task.task_type for task in tasks} == {"easy", "medium", "hard", "extra"}
        assert env.find_task(tasks[-1].task_id) == tasks[-1]
        env.reset(options={"task": tasks[0]})
        env.step(env.question().gold)
        assert env.step("submit")[1] == 1.0


def test_bad_arguments(data, tmp_path):
    for arguments, message in (
        ({"data": tmp_path}, "There is no file"),
        ({"data": data, "server": "oracle"}, "mysql://"),
        ({"data": data, "server": "mysql://root:x@127.0.0.1:1"}, "cannot be used"),
        ({"data": data, "indices": {"test": tmp_path / "x"}}, "There is no file"),
        ({"data": data, "indices": {"dev": tmp_path / "x"}}, "no split 'dev'"),
        ({"data": "generated", "indices": {"test": tmp_path / "x"}}, "these are generated"),
        ({"generator_seed": -1}, "generator_seed must be a whole number of 0 or more, not -1"),
        ({"databases": 0}, "databases must be a whole number of 1 or more, not 0"),
        ({"databases": [3]}, "databases must be a whole number"),
        ({"data": data, "shown": "abc"}, "shown must be a whole number of 10 or more, not 'abc'"),
        ({"data": data, "shown": -5}, "shown must be"),
        ({"data": data, "server": 3}, "'3' is not the address of a MySQL server, nor sqlite"),
    ):
        with pytest.raises(HPLGymError, match=message):
            gymnasium.make("HPL/InterCodeSQL-v0", **arguments)
    env = gymnasium.make("HPL/InterCodeSQL-v0", data=data).unwrapped
    with pytest.raises(DataError, match="no split 'valid_seen'"):
        env.tasks("valid_seen")
    huge = f"{env.questions.name}/{'9' * 5000}"
    for task in ("x", huge, f"{env.questions.name}/99", "generated-0-24/0"):
        with pytest.raises(UnknownTaskError, match="no task"):
            env.reset(options={"task": task})


def test_a_dump_that_no_server_understands(tmp_path, server):
    dump = "CREATE DATABASE `hpl_test_bad`; USE `hpl_test_bad`; CREATE TABLE `t` (`a` int,,,, (;"
    questions = QuestionSet(f"bad {server.name}", dump, ())
    arguments = () if isinstance(server, SQLiteServer) else (server.address,)
    with pytest.raises(DataError, match="dump"):
        type(server)(*arguments, questions)


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        ("(1, 'x')", [(1, "x")]),
        ("(1,'x'),\n  (2 , \"it''s\"), ( 3,'it''s' )", [(1, "x"), (2, "it''s"), (3, "it's")]),
    ],
)
def test_a_dump_that_people_wrote(tmp_path, server, rows, shown):
    name = f"hpl_test_{uuid.uuid4().hex}"
    dump = f"CREATE DATABASE {name};\nUSE {name};\nCREATE TABLE t (a int, b varchar(9));"
    questions = [{"db": name, "query": "How many?", "gold": "SELECT COUNT(*) FROM t"}]
    folder = write(tmp_path, f"{dump}\nINSERT INTO t VALUES {rows};", questions)
    where = "sqlite" if isinstance(server, SQLiteServer) else "private"
    for _ in range(2):
        _servers.clear()  # the second time is another process that finds the database there
        env = gymnasium.make("HPL/InterCodeSQL-v0", data=folder, server=where).unwrapped
        env.reset(options={"task": 0})
        assert env.step("SELECT * FROM t")[0] == str(shown)
        assert env.step("SELECT COUNT(*) FROM t")[0] == f"[({len(shown)},)]"
        env.close()


@pytest.mark.parametrize("value", ["0x41", "DEFAULT", "1x"])
def test_a_value_that_cannot_be_read_is_named(tmp_path, value):
    dump = f"CREATE DATABASE d; USE d; CREATE TABLE t (a int); INSERT INTO t VALUES ({value});"
    folder = write(tmp_path, dump, [{"db": "d", "query": "?", "gold": "SELECT 1"}])
    with pytest.raises(DataError, match=rf"value '{value}'"):
        gymnasium.make("HPL/InterCodeSQL-v0", data=folder, server="sqlite")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t VALUES (1), (2, 3)",
        "INSERT INTO t VALUES (18446744073709551615)",
        "CREATE TABLE t (a int)",
    ],
)
def test_what_sqlite_cannot_do_is_named(tmp_path, statement):
    dump = f"CREATE DATABASE d; USE d; CREATE TABLE t (a int); {statement};"
    folder = write(tmp_path, dump, [{"db": "d", "query": "?", "gold": "SELECT 1"}])
    with pytest.raises(DataError, match="a statement that SQLite cannot do"):
        gymnasium.make("HPL/InterCodeSQL-v0", data=folder, server="sqlite")


def test_data_is_found(monkeypatch, tmp_path):
    write(tmp_path / "intercode_sql")
    monkeypatch.setenv("HPL_DATA", str(tmp_path))
    for data in ("auto", "real"):
        env = gymnasium.make("HPL/InterCodeSQL-v0", data=data).unwrapped
        assert len(env.questions.questions) == 4
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HPL_DATA", str(tmp_path / "elsewhere"))
    assert gymnasium.make("HPL/InterCodeSQL-v0").unwrapped.questions.name == "generated-0-24"
    with pytest.raises(DataError, match="set INTERCODE_DATA"):
        gymnasium.make("HPL/InterCodeSQL-v0", data="real")
    monkeypatch.setenv("HPL_DATA", str(tmp_path / "typo"))
    for data in ("auto", "real"):
        with pytest.raises(HPLGymError, match=r"HPL_DATA is set to .*/typo, which is no folder"):
            gymnasium.make("HPL/InterCodeSQL-v0", data=data)


def test_files_that_were_written_anew_are_read_anew(tmp_path):
    folder = write(tmp_path)
    index = tmp_path / "train.json"

    def tasks():
        index_files = {"train": index}
        env = gymnasium.make("HPL/InterCodeSQL-v0", data=folder, indices=index_files).unwrapped
        return [task.task_id.rpartition("/")[2] for task in env.tasks("train")]

    for numbers in ([0, 1], [2]):
        index.write_text(json.dumps(numbers))
        assert tasks() == list(map(str, numbers))


def test_a_table_named_like_a_word_can_be_looked_at(tmp_path, server):
    name = f"hpl_test_{uuid.uuid4().hex}"
    dump = f"CREATE DATABASE {name};\nUSE {name};\nCREATE TABLE `show` (a int);\n"
    questions = [{"db": name, "query": "?", "gold": "SELECT 1"}]
    folder = write(tmp_path, f"{dump}INSERT INTO `show` VALUES (1);", questions)
    where = "sqlite" if isinstance(server, SQLiteServer) else "private"
    env = gymnasium.make("HPL/InterCodeSQL-v0", data=folder, server=where)
    info = start(env, 0)[1]
    assert "SELECT * FROM `show`" in info["admissible_actions"]
    for action in info["admissible_actions"][:-1]:
        assert env.step(action)[4]["valid"], action
    env.close()


@pytest.mark.parametrize(
    ("action", "statement"),
    [
        ("SELECT 1", "SELECT 1"),
        ("```sql\nSELECT 1\n```", "SELECT 1"),
        ("```SQL\nSELECT 1;\nSELECT 2\n```", "SELECT 1;\nSELECT 2"),
        ("```\nSELECT 1", "SELECT 1"),
        ("```sql SELECT 1```", "SELECT 1"),
        ("```sql\nSELECT 1\n``` and ```sql\nSELECT 2\n```", "SELECT 1"),
        (" submit ", "submit"),
    ],
)
def test_read_action(action, statement):
    assert read_action(action) == statement
