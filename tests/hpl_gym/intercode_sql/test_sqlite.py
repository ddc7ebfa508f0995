"""What only SQLite has: its own clock and chance."""

import sqlite3

import pytest
import sqlglot

from hpl_gym.core import DataError
from hpl_gym.intercode_sql.dialect import translate
from hpl_gym.intercode_sql.questions import read_questions
from hpl_gym.intercode_sql.sqlite import _FORBIDDEN, _LASTING, SQLiteServer, _prepare
from tests.hpl_gym.intercode_sql.library import LIBRARY, write


@pytest.mark.parametrize(
    ("look", "text"),
    [
        ("SELECT date('now')", "[('2024-01-01',)]"),
        ("SELECT DATETIME('NOW')", "[('2024-01-01 00:00:00',)]"),
        ("SELECT TIME('now'), time()", "[('00:00:00', '00:00:00')]"),
        ("SELECT strftime('%Y', 'now'), strftime('%d')", "[('2024', '01')]"),
        ("SELECT julianday('now'), julianday()", "[(2460310.5, 2460310.5)]"),
        ("SELECT unixepoch('now'), unixepoch()", "[(1704067200, 1704067200)]"),
        ("SELECT CAST('now' AS DATE)", "[('2024-01-01',)]"),
        ("SELECT strftime('%Y', LOWER('NOW'))", "[('2024',)]"),
        ("SELECT strftime('%m', '2020-05-06'), date('2020-05-06')", "[('05', '2020-05-06')]"),
        ("SELECT julianday('2020-05-06'), date(NULL)", "[(2458975.5, None)]"),
    ],
)
def test_it_is_always_the_same_time(sqlite, look, text):
    assert sqlite.session(LIBRARY).run((), look)[1].text == text


def test_calls_in_one_another_have_a_limit(sqlite):
    session = sqlite.session(LIBRARY)
    for name in ("DATE", "CHAR", "TIME"):
        few, many = (f"SELECT {f'{name}(' * count}NULL{')' * count}" for count in (3, 40))
        assert not session.run((), few)[1].error
        assert "too complicated" in session.run((), many)[1].error
    plain = f"SELECT {'ABS(' * 20}1{')' * 20}, {'(' * 20}DATE('2020-01-02'){')' * 20}"
    assert session.run((), plain)[1].text == "[(1, '2020-01-02')]"


def test_joins_without_on_have_a_limit(sqlite):
    session = sqlite.session(LIBRARY)
    few, many = (f"SELECT count(*) FROM book {'JOIN author ' * count}" for count in (1, 40))
    assert session.run((), few)[1].text == "[(9,)]"
    assert "too complicated" in session.run((), many)[1].error
    values = ", ".join(map(str, range(9000)))
    assert session.run((), f"SELECT 1 FROM book WHERE book_id IN ({values}) LIMIT 1")[1].rows


@pytest.mark.parametrize(
    ("look", "text"),
    [
        ("-- the tables\nSHOW TABLES; -- all", "[('author',), ('book',)]"),
        ("/* look */ SHOW FULL TABLES LIKE 'b%' # x", "[('book', 'BASE TABLE')]"),
        ("SHOW DATABASES", f"[('{LIBRARY}',), ('information_schema',)]"),
        ("SELECT DATABASE(), SCHEMA()", f"[('{LIBRARY}', '{LIBRARY}')]"),
        (
            "EXPLAIN SELECT '#1' FROM book WHERE 'a -- b' = title",
            f"[(1, 'SIMPLE', 'book', None, 'ALL'{', None' * 7})]",
        ),
        ("SHOW TABLES /* ** */ -- x\n;", "[('author',), ('book',)]"),
        ("SELECT LEFT('abc', NULL), RIGHT('abc', NULL)", "[(None, None)]"),
        ("SELECT LEFT('abc', '2'), RIGHT('abc', 1.6), LEFT('abc', 'x')", "[('ab', 'bc', '')]"),
        ("SELECT DATE_FORMAT('2020-01-02', '%d.%m.%Y')", "[('02.01.2020',)]"),
    ],
)
def test_what_is_asked_is_answered_as_by_mysql(sqlite, look, text):
    assert sqlite.session(LIBRARY).run((), look)[1].text == text


@pytest.mark.parametrize(
    ("look", "error"),
    [
        ("SELECT DATE_FORMAT('2020-01-02', '%M')", "cannot be formatted"),
        ("SELECT DATE_FORMAT('2020-01-02', '%f')", "cannot be formatted"),
        ("SELECT DATE_FORMAT('2020-01-02', title) FROM book", "cannot be formatted"),
        ("SELECT TRUNCATE(3.456, 1)", "not available"),
        ("SHOW FULL COLUMNS FROM book", "not available"),
        ("SELECT DATE_ADD('2010-01-31', INTERVAL '1:1' HOUR_MINUTE)", "not available"),
        ("SHOW CREATE TABLE hpl_test_other.secret", "Access denied"),
    ],
)
def test_what_sqlite_lacks_is_an_error(sqlite, look, error):
    assert error in sqlite.session(LIBRARY).run((), look)[1].error


def test_tables_that_were_made_are_shown(sqlite):
    session = sqlite.session(LIBRARY)
    log, _ = session.run((), "CREATE TABLE zoo (id INT PRIMARY KEY AUTO_INCREMENT, name TEXT)")
    log, _ = session.run(log, "CREATE VIEW seen AS SELECT 1")
    shown = session.run(log, "SHOW FULL TABLES")[1].text
    assert shown == (
        "[('author', 'BASE TABLE'), ('book', 'BASE TABLE'), ('seen', 'VIEW'), "
        "('zoo', 'BASE TABLE')]"
    )
    session.close()


def test_tables_are_listed_without_regard_to_case(tmp_path):
    dump = (
        "CREATE DATABASE `d`;\nUSE `d`;\n"
        + "".join(f"CREATE TABLE `{name}` (`a` int);\n" for name in ("Beta", "alpha", "Gamma"))
        + "INSERT INTO `alpha` VALUES (1);\n"
    )
    folder = write(tmp_path, dump, [{"db": "d", "query": "?", "gold": "SELECT 1"}])
    server = SQLiteServer(
        read_questions(folder / "ic_spider_dbs.sql", folder / "ic_spider_dev.json")
    )
    assert (
        server.session("d").run((), "SHOW TABLES")[1].text == "[('alpha',), ('beta',), ('gamma',)]"
    )


def test_a_table_that_was_made_anew_is_shown_as_it_is(sqlite):
    session = sqlite.session(LIBRARY)
    log, _ = session.run((), "DROP TABLE author")
    log, _ = session.run(log, "CREATE TABLE author (Author_ID TEXT, Name INT, Born TEXT)")
    assert session.run(log, "DESC author")[1].text.startswith("[('Author_ID', 'text', 'YES'")
    shown = session.run(log, "SHOW CREATE TABLE author")[1].text
    assert "CREATE TABLE `author` (" in shown
    assert "`Name` int" in shown
    session.close()


def test_what_is_too_deep_does_not_depend_on_the_callers_stack(sqlite):
    def first_refused(depth):
        if depth:
            return first_refused(depth - 1)
        translate.cache_clear()
        session = sqlite.session(LIBRARY)
        nested = (f"SELECT {'(' * count}1{')' * count}" for count in range(25, 60))
        return next(count for count, one in enumerate(nested) if session.run((), one)[1].error)

    assert first_refused(0) == first_refused(300)


@pytest.mark.parametrize("ending", ["sqlite", "json"])
def test_a_damaged_database_is_no_answer(questions, tmp_path, monkeypatch, ending):
    monkeypatch.setenv("HPL_CACHE", str(tmp_path))
    SQLiteServer(questions)
    (path,) = tmp_path.rglob(f"{LIBRARY}.{ending}")
    whole = path.read_bytes()
    for left in (whole[: len(whole) // 3], None):
        path.unlink()
        if left is not None:
            path.write_bytes(left)
        with pytest.raises(DataError, match="delete the folder"):
            SQLiteServer(questions).session(LIBRARY).run((), "SELECT * FROM book")
        path.write_bytes(whole)


def test_the_translators_own_dialect_is_left_alone(sqlite):
    sqlite.session(LIBRARY).run((), "SELECT `title` FROM book")
    assert sqlglot.transpile("SELECT `a`", read="mysql", write="sqlite") == ['SELECT "a"']


def test_no_name_of_ours_is_shown(sqlite):
    session = sqlite.session(LIBRARY)
    assert "MYSQL_" not in session.run((), "SELECT SUBSTRING('abc')")[1].error.upper()
    assert not session.run((), "SELECT RAND(5)")[1].error
    assert not session.run((), f"SELECT LEFT('abc', '{'9' * 5000}')")[1].error


def test_nothing_outside_is_reached(sqlite):
    for forbidden in (_FORBIDDEN, _FORBIDDEN | _LASTING):
        connection = sqlite3.connect(":memory:")
        _prepare(connection, forbidden)
        for statement in ("ATTACH ':memory:' AS table_info", "PRAGMA user_version = 3"):
            with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
                connection.execute(statement)
        assert connection.execute("SELECT * FROM pragma_table_info('x')").fetchall() == []
        connection.close()


def test_nothing_is_drawn(sqlite):
    session = sqlite.session(LIBRARY)
    for log in ((), ("DELETE FROM book",)):
        error = session.run(log, "SELECT hex(randomblob(4))")[1].error
        assert error == f"FUNCTION {LIBRARY}.RANDOMBLOB does not exist"
    session.close()
