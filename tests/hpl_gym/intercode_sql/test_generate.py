import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hpl_gym.intercode_sql.generate import generate_databases
from hpl_gym.intercode_sql.patterns import LEVELS
from hpl_gym.intercode_sql.questions import generated_questions, split_dump

ROOT = Path(__file__).parents[3]
COUNT = 26


@pytest.fixture(scope="module")
def made():
    return generate_databases(COUNT, 0)


def test_the_same_seed_gives_the_same_bytes_whatever_the_hash_seed(made):
    code = (
        "import hashlib; from hpl_gym.intercode_sql.generate import generate_databases;"
        f"print(hashlib.sha256(repr(generate_databases({COUNT}, 0)).encode()).hexdigest())"
    )
    shown = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(shown) == 1
    assert generate_databases(COUNT, 0) == made
    assert generate_databases(COUNT, 1)[0] != made[0]


def test_a_database_does_not_depend_on_how_many_there_are(made):
    few, questions = generate_databases(3, 0)
    assert made[0].startswith(few)
    assert made[1][: len(questions)] == questions


def test_names_are_unique_over_seeds_and_rounds(made):
    names = set(split_dump(made[0]))
    assert len(names) == COUNT
    assert all(re.fullmatch(r"[a-z]\w{2,50}", name) for name in names)
    assert not names & set(split_dump(generate_databases(COUNT, 1)[0]))


def test_every_level_is_asked_in_every_database(made):
    counts = Counter((one["db"], one["hardness"]) for one in made[1])
    assert set(counts.values()) == {12}
    assert {level for _, level in counts} == set(LEVELS)
    asked = Counter((one["db"], one["query"]) for one in made[1])
    assert set(asked.values()) == {1}


def test_rows_fit_the_tables_and_foreign_keys_hold(made):
    for statements in split_dump(made[0]).values():
        database = sqlite3.connect(":memory:")
        database.execute("PRAGMA foreign_keys = 1")
        for statement in statements:
            statement = re.sub(r"\) ENGINE=.*", ")", statement)
            statement = re.sub(r"(?m)^  KEY .*\n", "", statement).replace("\\'", "''")
            database.execute(statement)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        database.close()


def test_gold_queries_answer(server):
    """On both kinds of server: the fixture stands for its class."""
    asked = generated_questions(3, 5)
    made = type(server)(asked) if "sqlite" in server.name else type(server)(server.address, asked)
    for one in asked.questions:
        result = made.session(one.database).run((), one.gold)[1]
        assert result.rows, (one.gold, result.error)
        assert 1 <= len(result.rows) <= 60
