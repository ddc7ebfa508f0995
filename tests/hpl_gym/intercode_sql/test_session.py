"""What both kinds of server must do."""

import threading
import time
from pathlib import Path

import pytest

from hpl_gym.intercode_sql.result import MOST_CHARACTERS, MOST_ROWS, TOO_LONG, TOO_SLOW
from hpl_gym.intercode_sql.session import first_word
from tests.hpl_gym.intercode_sql.library import LIBRARY, OTHER


def run(session, *statements):
    """Run statements one after the other; return the log and the last text."""
    log, text = (), ""
    for statement in statements:
        log, result = session.run(log, statement)
        text = result.text
    return log, text


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("SHOW TABLES", "[('author',), ('book',)]"),
        ("show tables from hpl_test_library;", "[('author',), ('book',)]"),
        ("SHOW TABLES LIKE 'b%'", "[('book',)]"),
        (
            "DESC Author",
            "[('Author_ID', 'int', 'NO', 'PRI', None, 'auto_increment'), "
            "('Name', 'varchar(40)', 'NO', '', None, ''), ('Born', 'int', 'YES', '', None, '')]",
        ),
        (
            "describe book",
            "[('Book_ID', 'int', 'NO', 'PRI', None, ''), ('Title', 'text', 'YES', '', None, ''), "
            "('Price', 'float(10,2)', 'NO', '', '0.00', ''), "
            "('Author_ID', 'int', 'YES', 'MUL', None, ''), "
            "('Isbn', 'varchar(10)', 'YES', 'UNI', None, '')]",
        ),
        ("SELECT Name FROM author WHERE Author_ID = 1", '[("Ann O\'Hara",)]'),
        ('SELECT born FROM `Author` WHERE name = "BO LIND"', "[(None,)]"),
        ("SELECT title, price FROM Book ORDER BY price LIMIT 1", "[('Gamma', 5.25)]"),
        ("SELECT count(*) FROM hpl_test_library.book", "[(3,)]"),
        ("SELECT hpl_test_library.book.title FROM book LIMIT 1", "[('Alpha',)]"),
        ("SELECT HPL_TEST_LIBRARY.b.title FROM book AS b LIMIT 1", "[('Alpha',)]"),
        ("SELECT 1 WHERE 1 = 2", "[]"),
        ("USE hpl_test_library", "None"),
        ("use `hpl_test_library`;", "None"),
        (
            "SELECT * FROM zoo",
            "Error executing query: Table 'hpl_test_library.zoo' doesn't exist",
        ),
        ("DESC zoo", "Error executing query: Table 'hpl_test_library.zoo' doesn't exist"),
        ("SELECT zoo FROM book", "Error executing query: Unknown column 'zoo' in 'field list'"),
        (
            "SELECT author_id FROM book, author",
            "Error executing query: Column 'author_id' in field list is ambiguous",
        ),
    ],
)
def test_what_statements_give(session, statement, text):
    log, shown = run(session, statement)
    assert shown == text
    assert log == ()


@pytest.mark.parametrize("statement", ["SELEC 1", "foo", "", "```", "SELECT 1; SELECT 2", "'"])
def test_bad_syntax(session, statement):
    _, text = run(session, statement)
    assert text.startswith("Error executing query: ")


HOSTILE = [
    "SELECT 1; DROP TABLE book",
    "SELECT 1 -- \n; DROP TABLE book",
    "/* SELECT */ DROP TABLE book",
    "/*! DROP TABLE book */",
    "SELECT * FROM book INTO OUTFILE '/tmp/hpl_stolen'",
    "SELECT LOAD_FILE('/etc/passwd')",
    "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE author",
    f"SELECT * FROM {OTHER}.secret",
    f"SELECT * FROM book UNION SELECT word, 1, 1, 1, 1 FROM {OTHER}.secret",
    f"SELECT {OTHER}.secret.word FROM book",
    f"USE {OTHER}",
    f"DROP DATABASE {OTHER}",
    f"DROP DATABASE {LIBRARY}",
    f"CREATE TABLE {OTHER}.x (a int)",
    f"INSERT INTO {OTHER}.secret VALUES ('rose')",
    "SELECT * FROM mysql.user",
    "SELECT authentication_string FROM mysql.global_priv",
    "SET GLOBAL max_connections = 1",
    "SET PASSWORD = 'x'",
    "CREATE USER x",
    "GRANT ALL ON *.* TO CURRENT_USER",
    "KILL 1",
    "SHUTDOWN",
    "FLUSH TABLES",
    "ATTACH DATABASE '/tmp/hpl_attached' AS x",
    "PRAGMA writable_schema = 1",
    "DELETE FROM book",
    "UPDATE book SET price = 0",
    "TRUNCATE TABLE book",
    "DROP TABLE book",
    "ALTER TABLE book DROP COLUMN price",
    "WITH t AS (SELECT 1) DELETE FROM book",
    "CREATE TRIGGER t AFTER INSERT ON book FOR EACH ROW DELETE FROM author",
    "SELECT '\ud800 lone'",
    "SELECT '\x00'",
    "SELECT " + "(" * 3000 + "1" + ")" * 3000,
    "SELECT 'x" + "y" * 1_000_000 + "'",
    "SELECT REPEAT('x', 1000000000)",
    "/*M! DELETE FROM book */",
    "/*! SET PASSWORD = PASSWORD('x') */",
    "--\r\nDELETE FROM book",
    ";CREATE TEMPORARY TABLE book (a int)",
    "CREATE TEMPORARY TABLE book (a int)",
    "/*! USE hpl_test_other */",
    "IF 1 THEN DELETE FROM book; END IF",
    "SELECT GET_LOCK/**/('hpl_gym', 1)",
    "SELECT zeroblob(2000000000)",
    "SELECT hex(zeroblob(900000000))",
    "SELECT printf('%1000000000d', 1)",
    "SELECT RPAD('x', 100000000, 'y') FROM author, book",
    "SELECT 'x' LIKE '" + "%a" * 20_000 + "'",
    "CREATE TABLE far (a int) DATA DIRECTORY = '/tmp'",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT RPAD(n, 999, 1) FROM t",
    "SELECT DATE_ADD(NOW() INTERVAL 1 DAY)",
    "XA START 'a'",
    "USE " + "a" * 60_000,
]


@pytest.mark.parametrize("statement", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_hostile_leaves_a_trace(server, statement):
    def content():
        return [
            server.session(name).run((), query)[1]
            for name, query in (
                (LIBRARY, "SHOW TABLES"),
                (LIBRARY, "SELECT * FROM book ORDER BY book_id"),
                (LIBRARY, "SELECT * FROM author ORDER BY author_id"),
                (OTHER, "SHOW TABLES"),
                (OTHER, "SELECT * FROM secret"),
            )
        ]

    before, session = content(), server.session(LIBRARY)
    begun = time.monotonic()
    _, text = run(session, statement)
    assert time.monotonic() - begun < 9
    assert isinstance(text, str)
    for hidden in ("tulip", "root:", "authentication"):
        assert hidden not in text.removeprefix("Error executing query")
    session.close()
    assert content() == before
    assert not [*Path("/tmp").glob("hpl_stolen*"), *Path("/tmp").glob("hpl_attached*")]
    assert not [*Path("/tmp").glob("*/far.ibd")]


@pytest.mark.parametrize(
    "statement",
    [
        "SHOW TABLES " + "#" * 60 + "\nx",
        "SHOW TABLES " + "-- " * 60 + "\nx",
        "INSERT xa" + "/**/" * 60 + "!",
        "SELECT '" + "''" * 60,
        "SHOW TABLES" + "/*" * 30_000,
        "SHOW TABLES" + "/*!" * 20_000,
        "SHOW TABLES '" + "\\'" * 30_000,
    ],
)
def test_no_statement_is_looked_at_for_long(session, statement):
    begun = time.monotonic()
    run(session, statement)
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 'get_lock(1, 2)', 1 AS release_lock",
        "SELECT 'xa start'",
        "SELECT name FROM author WHERE name = 'fox xa end'",
        "DELETE FROM book WHERE title = 'xa start'",
    ],
)
def test_what_is_only_called_like_a_lock_is_none(session, statement):
    assert not session.run((), statement)[1].error


@pytest.mark.parametrize(
    "statement",
    ["SELECT GET_LOCK('x', 0)", "DO RELEASE_ALL_LOCKS ()", "SELECT /*! IS_USED_LOCK( */ 'x')"],
)
def test_there_are_no_locks_by_name(session, statement):
    assert "Locks by name" in session.run((), statement)[1].error


def test_slow_statements_are_ended(session):
    many = ", ".join(f"book AS b{number}" for number in range(26))
    begun = time.monotonic()
    _, text = run(session, f"SELECT COUNT(*) FROM {many}")
    assert text == f"Error executing query: {TOO_SLOW}"
    assert time.monotonic() - begun < 8
    assert run(session, "SELECT COUNT(*) FROM book")[1] == "[(3,)]"


def test_results_are_limited(session):
    many = ", ".join(f"book AS b{number}" for number in range(15))
    _, result = session.run((), f"SELECT b0.book_id FROM {many}")
    assert result.rows is not None
    assert len(result.rows) == MOST_ROWS
    assert run(session, "SELECT COUNT(*) FROM book")[1] == "[(3,)]"
    assert run(session, "SELECT 1" + " " * 70_000)[1] == f"Error executing query: {TOO_LONG}"


def test_a_result_of_exactly_the_most_rows_ends_nothing(session):
    many = ", ".join(f"book AS b{number}" for number in range(9))
    log, _ = session.run((), "CREATE TEMPORARY TABLE own (a int)")
    log, result = session.run(log, f"SELECT b0.book_id FROM {many} LIMIT {MOST_ROWS}")
    assert len(result.rows) == MOST_ROWS
    assert session.run(log, "SELECT count(*) FROM own")[1].text == "[(0,)]"


def test_a_slow_statement_does_not_take_the_copys_session(session):
    log, _ = session.run((), "CREATE TEMPORARY TABLE own (a int)")
    many = ", ".join(f"book AS b{number}" for number in range(26))
    log, result = session.run(log, f"SELECT COUNT(*) FROM {many}")
    assert result.error == TOO_SLOW
    assert session.run(log, "SELECT count(*) FROM own")[1].text == "[(0,)]"


def test_syntax_errors_are_no_state(session):
    log, text = run(session, "SELEC 1", "I look at the tables first.", "SHOW TABLES")
    assert log == ()
    assert text == "[('author',), ('book',)]"


@pytest.mark.parametrize(
    "look", ["SELECT NOW()", "SELECT SYSDATE()", "SELECT CURDATE()", "SELECT RAND()"]
)
def test_time_and_chance_are_the_same_everywhere(server, look):
    first, second = server.session(LIBRARY), server.session(LIBRARY)
    shown = run(first, look)[1]
    time.sleep(1.1 if "NOW" in look or "SYSDATE" in look else 0)
    assert shown == run(second, look)[1]
    assert not shown.startswith("Error")
    log, _ = first.run((), "CREATE TABLE drawn (a text)")
    log, _ = first.run(log, f"INSERT INTO drawn {look}")
    kept = first.run(log, "SELECT * FROM drawn")[1]
    assert second.run(log, "SELECT * FROM drawn")[1] == kept
    first.close()
    second.close()


@pytest.mark.parametrize("look", ["SELECT LEFT('alpha', 2)", "SELECT RIGHT(title, 2) FROM book"])
def test_left_and_right(session, look):
    text = "[('al',)]" if "LEFT" in look else "[('ha',), ('ta',), ('ma',)]"
    assert run(session, look)[1] == text
    assert run(session, "SELECT RIGHT('alpha', 0)")[1] == "[('',)]"


def test_length_counts_bytes_and_char_length_characters(session):
    look = "SELECT LENGTH('\u00e9a'), CHAR_LENGTH('\u00e9a'), LENGTH(NULL), LENGTH(12)"
    assert run(session, look)[1] == "[(3, 2, None, 2)]"


@pytest.mark.parametrize(
    ("look", "row"),
    [
        (r"SELECT 'a%b' LIKE 'a\%b', 'axb' LIKE 'a\%b', 'axb' LIKE 'a|_b' ESCAPE '|'", (1, 0, 0)),
        (r"SELECT 'a_b' NOT LIKE 'a\_b', 'axb' LIKE 'a_b'", (0, 1)),
        ("SELECT SUBSTRING('abc', 0), SUBSTR('abc', -2), SUBSTR('abc', 2, 1)", ("", "bc", "b")),
        ("SELECT SUBSTRING('abc', -5), SUBSTR('abc', 2, -1), SUBSTR(NULL, 1)", ("", "", None)),
        ("SELECT DATEDIFF('2010-05-03 01:00:00', '2010-05-01 23:00:00')", (2,)),
        ("SELECT DATEDIFF('2010-05-01', '2010-05-03'), DATEDIFF('x', '2010-05-03')", (-2, None)),
        ("SELECT DATE_ADD('2010-01-31', INTERVAL 1 MONTH)", ("2010-02-28",)),
        ("SELECT DATE_ADD('2014-10-22 10:00:00', INTERVAL 1 DAY)", ("2014-10-23 10:00:00",)),
        ("SELECT DATE_SUB('2012-02-29', INTERVAL 1 YEAR)", ("2011-02-28",)),
        ("SELECT DATE_SUB('2012-03-01', INTERVAL 2 HOUR)", ("2012-02-29 22:00:00",)),
        ("SELECT DATE_ADD(NULL, INTERVAL 1 DAY)", (None,)),
        ("SELECT DATE_ADD('20100131', INTERVAL 1 MONTH)", ("2010-02-28",)),
        ("SELECT DATE_ADD('2010/1/31', INTERVAL 2.5 DAY)", ("2010-02-03",)),
        ("SELECT '2010-01-31' + INTERVAL 1 DAY", ("2010-02-01",)),
        ("SELECT '2010-01-31' - INTERVAL 1 DAY", ("2010-01-30",)),
        ("SELECT '2012-02-29' + INTERVAL 1 YEAR", ("2013-02-28",)),
        ("SELECT ADDDATE('2010-01-31', 2)", ("2010-02-02",)),
        ("SELECT SUBDATE('2010-01-31', INTERVAL 1 WEEK)", ("2010-01-24",)),
        ("SELECT DATEDIFF('10-5-3', '2010-05-01abc')", (2,)),
        ("SELECT DATEDIFF('2010-W01-1', '2010-01-01')", (None,)),
        ("SELECT LEFT('abcdef', 2.5), RIGHT('abcdef', 0.5)", ("abc", "f")),
        ("SELECT SUBSTRING('abcdef', 2.5)", ("cdef",)),
        ("SELECT SUBSTRING('abcdef', '2.7'), MID('abcdef', '2x', 2)", ("bcdef", "bc")),
        ("SELECT SUBSTRING(X'414243', 1, 2), LEFT(X'414243', 1)", (b"AB", b"A")),
        (r"SELECT ('a%b' LIKE 'a\%b') LIKE '1', 'a\\' LIKE 'a\\'", (1, 1)),
    ],
)
def test_texts_and_times_are_cut_and_compared_as_by_mysql(session, look, row):
    assert run(session, look)[1] == f"[{row}]"


@pytest.mark.parametrize(
    ("statement", "column"),
    [
        ("SELECT `zoo` FROM book", "zoo"),
        ("SELECT count(*) FROM book WHERE `titel` <> 'x'", "titel"),
        ("SELECT title FROM book ORDER BY `prize`", "prize"),
    ],
)
def test_a_name_in_backticks_is_no_text(session, statement, column):
    assert run(session, statement)[1].startswith(
        f"Error executing query: Unknown column '{column}' in '"
    )


def test_there_are_no_full_joins(session):
    both = "ON book.author_id = author.author_id"
    for join in (f"book FULL OUTER JOIN author {both}", f"book FULL JOIN author {both}"):
        error = run(session, f"SELECT 'fuller' FROM {join}")[1]
        assert error.startswith("Error executing query")
        assert "fuller" not in error


def test_a_table_whose_name_has_quotes_can_be_emptied(session):
    log, _ = run(session, 'CREATE TABLE `od"d` (a int)', 'INSERT INTO `od"d` VALUES (1)')
    log, result = session.run(log, 'TRUNCATE TABLE `od"d`')
    assert not result.error
    assert session.run(log, 'SELECT * FROM `od"d`')[1].text == "[]"


def test_a_temporary_table_hides_another(session):
    log, _ = run(session, "CREATE TEMPORARY TABLE author (x INT, y TEXT)")
    assert session.run(log, "DESC author")[1].text.startswith("[('x', 'int")


def test_a_first_row_that_is_too_long_is_cut(session):
    long = "REPLACE(REPLACE('" + "a" * 1000 + f"', 'a', '{'b' * 500}'), 'x', 'y')"
    _, text = run(session, f"SELECT {long}, {long}, {long}")
    assert len(text) == MOST_CHARACTERS + len("[]")
    assert text.startswith("[('bbb")


def test_slow_statements_do_not_hold_up_others(server):
    many = ", ".join(f"book AS b{number}" for number in range(26))
    slow = server.session(LIBRARY)
    thread = threading.Thread(target=run, args=(slow, f"SELECT COUNT(*) FROM {many}"))
    thread.start()
    time.sleep(0.3)
    begun = time.monotonic()
    run(server.session(LIBRARY), "SELECT COUNT(*) FROM book")
    assert thread.is_alive()
    assert time.monotonic() - begun < 3
    thread.join()


def test_writes_go_to_a_copy_and_are_the_state(server):
    one, other = server.session(LIBRARY), server.session(LIBRARY)
    log, text = run(one, "INSERT INTO author (name, born) VALUES ('Di', 1999)")
    assert text == "None"
    assert log == ("INSERT INTO author (name, born) VALUES ('Di', 1999)",)
    assert one.run(log, "SELECT max(author_id) FROM author")[1].text == "[(4,)]"
    assert one.run(log, f"SELECT count(*) FROM {LIBRARY}.author")[1].text == "[(4,)]"
    assert other.run((), "SELECT count(*) FROM author")[1].text == "[(3,)]"
    # back to the state before, on to the state after, in another session
    assert one.run((), "SELECT count(*) FROM author")[1].text == "[(3,)]"
    assert other.run(log, "SELECT name FROM author WHERE author_id = 4")[1].text == "[('Di',)]"
    after, _ = other.run(log, "DELETE FROM author WHERE author_id = 4")
    assert len(after) == 2
    assert one.run(after, "SELECT count(*) FROM author")[1].text == "[(3,)]"
    one.close()
    other.close()


def test_tables_can_be_made_and_described(session):
    log, _ = run(session, "CREATE TABLE shelf (number int NOT NULL, PRIMARY KEY (number))")
    assert session.run(log, "SHOW TABLES")[1].text == "[('author',), ('book',), ('shelf',)]"
    assert "('number', 'int', 'NO', 'PRI'" in session.run(log, "DESC shelf")[1].text


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("select 1", "SELECT"),
        (" -- no\n/* no */ (SELECT 1)", "SELECT"),
        ("--\r\nDELETE FROM x", "DELETE"),
        ("/*M! DELETE FROM x */", ""),
        ("# no\nupdate x", "UPDATE"),
        ("", ""),
        ("1", ""),
    ],
)
def test_first_word(statement, word):
    assert first_word(statement) == word
