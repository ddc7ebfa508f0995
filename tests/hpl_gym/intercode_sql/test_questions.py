import pytest

from hpl_gym.core import DataError
from hpl_gym.intercode_sql.questions import (
    SPLITS,
    generated_questions,
    read_questions,
    rows_of,
    split_dump,
    statements,
    table_of,
)
from tests.hpl_gym.intercode_sql.library import DUMP, LIBRARY, OTHER, QUESTIONS, write


def read(folder, **indices):
    return read_questions(folder / "ic_spider_dbs.sql", folder / "ic_spider_dev.json", indices)


def test_a_dump_is_cut_into_tables_and_rows():
    databases = split_dump(DUMP)
    assert list(databases) == [LIBRARY, OTHER]
    assert [one.split()[0] for one in databases[LIBRARY]] == ["CREATE", "INSERT"] * 2
    assert rows_of(databases[LIBRARY][1]) == [
        ["1", "'Ann O\\'Hara'", "1950"],
        ["2", "'Bo Lind '", "NULL"],
        ["3", "'Cy; (the third)'", "1950"],
    ]


@pytest.mark.parametrize("blank", ["", " ", "\n  "])
def test_rows_are_read_however_they_are_laid_out(blank):
    texts = ["1", "'it''s (2), '''", '"say ""no"", \'x\'"', "NULL", "-1.5e3"]
    row = f"({blank}{f'{blank},{blank}'.join(texts)}{blank})"
    insert = f"insert  into t (a, b, c, d, e) values{blank}{row}{blank},{blank}{row}{blank}"
    assert rows_of(insert) == [texts, texts]


@pytest.mark.parametrize(
    "insert",
    [
        "INSERT INTO t SELECT * FROM u",
        "INSERT IGNORE INTO t VALUES (1)",
        "REPLACE INTO t VALUES (1)",
        "INSERT INTO t VALUES (1), (NOW())",
        "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 2",
    ],
)
def test_no_row_is_left_out_in_silence(tmp_path, insert):
    dump = f"CREATE DATABASE d; USE d; CREATE TABLE IF NOT EXISTS t (a int); {insert};"
    table, rows = split_dump(dump)["d"]
    assert table_of(table) == "t"
    with pytest.raises(DataError, match="rows that cannot be read"):
        rows_of(rows)
    with pytest.raises(DataError, match="rows that cannot be read"):
        read(write(tmp_path, dump, [{"db": "d", "query": "?", "gold": "SELECT 1"}]))


def test_comments_and_semicolons_in_texts():
    text = "SELECT 'a;b' -- no; \n; # none;\nSELECT \"c;\" /* ; */ ; SELECT `d;e`"
    assert statements(text) == ["SELECT 'a;b'", 'SELECT "c;"', "SELECT `d;e`"]


def test_no_database_is_in_two_splits(tmp_path):
    for asked in (read(write(tmp_path)), generated_questions(10, 0)):
        found = {split: {one.database for one in asked.split(split)} for split in SPLITS}
        assert sum(map(len, found.values())) == len(set().union(*found.values()))
        for one in asked.questions:
            assert one in asked.split(asked.split_of(one))


def test_index_files_decide_the_splits(tmp_path):
    folder = write(tmp_path)
    (tmp_path / "test.json").write_text("[3, 0]")
    asked = read(folder, test=tmp_path / "test.json")
    assert [one.number for one in asked.split("test")] == [3, 0]
    assert asked.split("train") == []
    (tmp_path / "test.json").write_text("[4]")
    with pytest.raises(DataError, match="question numbers below 4"):
        read(folder, test=tmp_path / "test.json")
    (tmp_path / "test.json").write_text("[1]")
    for text in ("[0, 0]", "[0, 1]"):
        (tmp_path / "train.json").write_text(text)
        with pytest.raises(DataError, match="twice"):
            read(folder, test=tmp_path / "test.json", train=tmp_path / "train.json")


@pytest.mark.parametrize(
    ("dump", "questions", "message"),
    [
        ("SELECT 1", QUESTIONS, "no MySQL dump"),
        (DUMP, {}, "no list of questions"),
        (DUMP, [{"db": LIBRARY}], "Entry 0 of .* is no question"),
        (DUMP, [3], "Entry 0 of .* is no question"),
        (DUMP, [{"db": LIBRARY, "query": 1, "gold": "x"}], "Entry 0 of .* is no question"),
        (DUMP, [{"db": "zoo", "query": "?", "gold": "SELECT 1"}], r"does not have \(zoo\)"),
    ],
)
def test_bad_files(tmp_path, dump, questions, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, dump, questions))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        read(tmp_path)
    (write(tmp_path) / "ic_spider_dev.json").write_text("[{")
    with pytest.raises(DataError, match="not valid JSON"):
        read(tmp_path)
