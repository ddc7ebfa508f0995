"""What only a live server can do: connections break, other databases are there."""

import os
import re
import signal
import time
from dataclasses import replace

import pytest

from hpl_gym.core import EnvironmentFaultError, HPLGymError
from hpl_gym.intercode_sql import mysql_load
from hpl_gym.intercode_sql.env import _gold
from hpl_gym.intercode_sql.mysql import MySQLServer
from hpl_gym.intercode_sql.mysql_load import reader, run
from hpl_gym.intercode_sql.questions import QuestionSet
from hpl_gym.intercode_sql.result import TOO_SLOW, Result
from hpl_gym.intercode_sql.server import private_server, server_status, stop_server
from tests.hpl_gym.intercode_sql.library import DUMP, LIBRARY


def kill_all(server):
    """Kill all connections of agents' accounts."""
    with server.admin() as admin:
        for number, user, *_ in run(admin, "SHOW PROCESSLIST"):
            if user.startswith("hpl_"):
                run(admin, f"KILL {number}")


def private_copies(server):
    with server.admin() as admin:
        databases = [name for (name,) in run(admin, "SHOW DATABASES")]
        accounts = [name for (name,) in run(admin, "SELECT user FROM mysql.user")]
    return [name for name in databases + accounts if name.startswith("hpl_") and "test" not in name]


def test_broken_connections_are_replaced(mysql):
    session = mysql.session(LIBRARY)
    assert session.run((), "SELECT count(*) FROM book")[1].text == "[(3,)]"
    kill_all(mysql)
    assert session.run((), "SELECT count(*) FROM book")[1].text == "[(3,)]"
    log, _ = session.run((), "DELETE FROM book WHERE book_id = 1")
    kill_all(mysql)
    log, result = session.run(log, "DELETE FROM book WHERE book_id = 2")
    assert not result.error
    assert session.run(log, "SELECT book_id FROM book")[1].text == "[(3,)]"
    session.close()


def test_a_server_that_stays_away_is_a_fault(mysql, questions):
    gone = MySQLServer(mysql.address, questions)
    session = gone.session(LIBRARY)
    session.run((), "SELECT 1")
    gone.address = replace(mysql.address, unix_socket="/nonexistent/socket")
    kill_all(mysql)
    with pytest.raises(EnvironmentFaultError, match="out of reach"):
        session.run((), "SELECT 1")
    with pytest.raises(EnvironmentFaultError, match="cannot copy"):
        session.run((), "DELETE FROM book")


def test_agents_can_end_their_own_connection_at_most(mysql):
    session = mysql.session(LIBRARY)
    _, result = session.run((), "KILL CONNECTION_ID()")
    assert result.error
    log, result = session.run((), "SET SESSION max_statement_time = 0")
    _, result = session.run(log, "SELECT SLEEP(60)")
    assert "interrupted" in result.error
    assert session.run((), "SELECT count(*) FROM book")[1].text == "[(3,)]"
    session.close()


def test_nothing_is_left_of_a_copy(mysql):
    before = private_copies(mysql)
    session = mysql.session(LIBRARY)
    log, _ = session.run((), "DROP TABLE book")
    assert len(private_copies(mysql)) == len(before) + 2
    assert LIBRARY in session.run(log, "SELECT DATABASE()")[1].text
    session.close()
    assert private_copies(mysql) == before


def test_a_transaction_cannot_outlive_its_episode(mysql):
    session = mysql.session(LIBRARY)
    log, _ = session.run((), "CREATE TABLE zz (a int)")
    for statement in (
        "XA START 'a'",
        "XA/**/BEGIN 'a'",
        "/*!XA*/ START 'a'",
        'EXECUTE IMMEDIATE "xa  begin 0x61"',
        "EXECUTE IMMEDIATE 'xa/**/begin 0x61'",
        "SET STATEMENT max_statement_time=1 FOR XA START 'a'",
        "BEGIN NOT ATOMIC XA START 'a'; END",
        "CREATE PROCEDURE p() XA /* x */ START 'a'",
    ):
        after, result = session.run(log, statement)
        assert after == log
        assert "not available" in result.error
    assert session.run(log, "SELECT 'the xa start'")[1].text == "[('the xa start',)]"
    session.close()
    with mysql.admin() as admin:
        assert run(admin, "XA RECOVER") == []


def test_after_a_write_the_database_is_still_called_by_its_name(mysql):
    session = mysql.session(LIBRARY)
    log = ()
    looks = (
        f"SHOW TABLES FROM {LIBRARY}",
        f"SHOW TABLES IN `{LIBRARY}` LIKE 'book'",
        f"SHOW COLUMNS FROM book FROM {LIBRARY};",
        f"SHOW CREATE DATABASE {LIBRARY}",
    )
    before = [session.run((), look)[1] for look in looks]
    log, _ = session.run((), "CREATE TEMPORARY TABLE zz (a int)")
    assert [session.run(log, look)[1] for look in looks] == before
    assert not any(one.error for one in before)
    session.close()


def test_no_password_is_shown(mysql):
    session = mysql.session(LIBRARY)
    for log in ((), session.run((), "CREATE TABLE zz (a int)")[0]):
        shown = session.run(log, "SHOW GRANTS")[1].text
        assert LIBRARY.replace("_", r"\\_") in shown or LIBRARY in shown
        assert "IDENTIFIED" not in shown
        assert not re.search("hpl_[0-9a-f]{8}_|hpl\\\\+_[0-9a-f]{8}", shown)
    session.close()


def test_rows_of_one_rank_come_in_one_order_on_every_connection(mysql):
    if not mysql.maria:
        pytest.skip("it is a trait of MariaDB")
    query = (
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 900) "
        "SELECT md5(n % 300) AS name FROM t GROUP BY name ORDER BY count(*) DESC LIMIT 3"
    )
    seen = set()
    for _ in range(20):
        connection = mysql.open(reader(LIBRARY), LIBRARY)
        seen.add(mysql.execute(connection, query)[0])
        connection.close()
    assert len(seen) == 1


def test_a_copy_that_is_locked_holds_nobody_up(mysql, questions):
    name = "hpl_5f000000_0123456789cd"
    with mysql.admin() as admin, mysql.admin() as other:
        run(admin, f"CREATE DATABASE {name}")
        run(admin, f"CREATE TABLE {name}.t (a int)")
        run(other, "START TRANSACTION")
        run(other, f"INSERT INTO {name}.t VALUES (1)")
        MySQLServer(mysql.address, questions)
        run(other, "ROLLBACK")
    assert name in private_copies(mysql)
    MySQLServer(mysql.address, questions)
    assert name not in private_copies(mysql)


def test_when_tables_were_made_is_not_told(mysql):
    log, shown = (), []
    for _ in range(2):
        session = mysql.session(LIBRARY)
        log = session.run((), "CREATE TABLE zz (a int)")[0]
        shown.append(session.run(log, "SHOW TABLE STATUS LIKE 'zz'")[1].text)
        session.close()
        time.sleep(1.1)
    assert shown[0] == shown[1]
    assert "datetime.datetime(2024, 1, 1, 0, 0)" in shown[0]


def test_copies_that_nobody_dropped_are_dropped_a_day_later(mysql, questions):
    with mysql.admin() as admin:
        run(admin, "CREATE DATABASE hpl_5f000000_0123456789ab")
    assert private_copies(mysql)
    MySQLServer(mysql.address, questions)
    assert "hpl_5f000000_0123456789ab" not in private_copies(mysql)


def test_another_database_of_the_same_name_is_left_alone(mysql, questions):
    for row in ("(4,'Delta',1,1,NULL),(5,'Eta',1,1,NULL)", "(3,'Delta',5.25,3,NULL)"):
        other = QuestionSet("x", DUMP.replace("(3,'Gamma',5.25,3,NULL)", row), ())
        with pytest.raises(HPLGymError, match="another database 'hpl_test_library'"):
            MySQLServer(mysql.address, other)
    MySQLServer(mysql.address, questions)


def part_of(name):
    """A dump of two tables, of which one can be loaded alone."""
    return QuestionSet(
        name,
        f"CREATE DATABASE `{name}`; USE `{name}`; CREATE TABLE `a` (`n` int); "
        "INSERT INTO `a` VALUES (1); CREATE TABLE `b` (`n` int); INSERT INTO `b` VALUES (2);",
        (),
    )


def test_a_load_that_is_interrupted_leaves_nothing(mysql, monkeypatch):
    asked = part_of("hpl_test_interrupted")

    def interrupted(connection, statement):
        if statement.startswith("INSERT INTO `b`"):
            raise KeyboardInterrupt
        return run(connection, statement)

    with monkeypatch.context() as patch:
        patch.setattr(mysql_load, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            MySQLServer(mysql.address, asked)
    with mysql.admin() as admin:
        assert not run(admin, "SHOW DATABASES LIKE 'hpl\\_test\\_interrupted'")
    session = MySQLServer(mysql.address, asked).session("hpl_test_interrupted")
    assert session.run((), "SELECT n FROM b")[1].text == "[(2,)]"


def test_a_load_that_was_killed_is_done_again(mysql):
    asked = part_of("hpl_test_killed")
    MySQLServer(mysql.address, asked)
    with mysql.admin() as admin:
        run(admin, "DROP TABLE hpl_test_killed.b")
        with pytest.raises(HPLGymError, match="another database"):
            MySQLServer(mysql.address, asked)
        run(admin, "UPDATE hpl_gym.loaded SET done = FALSE WHERE name = 'hpl_test_killed'")
        run(admin, "CREATE TABLE hpl_test_killed.own (a int)")
        with pytest.raises(HPLGymError, match="another database"):
            MySQLServer(mysql.address, asked)
        run(admin, "DROP TABLE hpl_test_killed.own")
    session = MySQLServer(mysql.address, asked).session("hpl_test_killed")
    assert session.run((), "SELECT n FROM b")[1].text == "[(2,)]"


def test_what_another_way_has_loaded_is_taken(mysql):
    asked = part_of("hpl_test_foreign")
    with mysql.admin() as admin:
        mysql_load.load(admin, "hpl_test_foreign", asked.databases["hpl_test_foreign"])
    MySQLServer(mysql.address, asked)


@pytest.mark.parametrize("word", ["WITH", "SELECT"])
def test_a_result_that_is_too_large_does_not_end_the_writing(mysql, word):
    many = ", ".join(f"author AS a{number}" for number in range(9))
    large = f"SELECT REPEAT('x', 1000) FROM {many}"
    large = f"WITH t AS ({large}) SELECT * FROM t" if word == "WITH" else large
    one, other = mysql.session(LIBRARY), mysql.session(LIBRARY)
    log, _ = one.run((), "DELETE FROM book WHERE book_id = 1")
    log, _ = one.run(log, "CREATE TEMPORARY TABLE own (a int)")
    log, result = one.run(log, large)
    assert result.rows
    for look in ("SELECT book_id FROM book", "SELECT count(*) FROM own", "SHOW TABLES"):
        shown = one.run(log, look)[1]
        assert shown == other.run(log, look)[1]
        assert "Lost connection" not in shown.error
    assert one.run(log, "SELECT book_id FROM book")[1].text == "[(2,), (3,)]"
    log, result = one.run(log, "DELETE FROM book WHERE book_id = 2")
    assert not result.error
    assert other.run(log, "SELECT book_id FROM book")[1].text == "[(3,)]"
    one.close()
    other.close()


@pytest.mark.parametrize(
    "statement",
    [
        "/*! SET PASSWORD = PASSWORD('x') */",
        "EXECUTE IMMEDIATE 'SET PASSWORD = PASSWORD(''x'')'",
        "EXECUTE IMMEDIATE CONCAT('DROP DATABASE ', DATABASE())",
        "EXECUTE IMMEDIATE 'KILL CONNECTION_ID()'",
        "SELECT SLEEP(9) INTO @x",
    ],
)
def test_no_statement_makes_an_episode_a_fault(mysql, questions, statement):
    session = mysql.session(LIBRARY)
    log, _ = session.run((), statement)
    for look in ("SELECT count(*) FROM book", "SELECT SLEEP(9)", "SHOW TABLES"):
        log, result = session.run(log, look)
        assert isinstance(result.text, str)
    session.close()
    with mysql.admin() as admin:
        run(admin, "SELECT 1")
    assert (
        MySQLServer(mysql.address, questions)
        .session(LIBRARY)
        .run((), "SELECT count(*) FROM book")[1]
        .text
        == "[(3,)]"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "SET PASSWORD = PASSWORD('x')",
        "EXECUTE IMMEDIATE CONCAT('DROP DATABASE ', DATABASE())",
        "CREATE TABLE x (a int)",
    ],
)
def test_a_copy_goes_on_in_a_new_connection(mysql, statement):
    one, other = mysql.session(LIBRARY), mysql.session(LIBRARY)
    log, result = one.run((), statement)
    assert not result.error
    large = f"SELECT REPEAT('x', 200000) FROM ({'SELECT 1 UNION ALL ' * 9} SELECT 1) AS t"
    log, _ = one.run(log, f"WITH t AS ({large}) SELECT * FROM t")
    for look in ("SHOW TABLES", "SELECT count(*) FROM book"):
        log, shown = one.run(log, look)
        assert shown == other.run(log, look)[1]
    one.close()
    other.close()


def test_a_procedure_may_give_several_results(mysql):
    session = mysql.session(LIBRARY)
    log, _ = session.run((), "CREATE PROCEDURE two() BEGIN SELECT 1; SELECT 2; END")
    log, result = session.run(log, "CALL two()")
    assert result.text == "[(1,)]"
    assert session.run(log, "SELECT 3")[1].text == "[(3,)]"
    session.close()


@pytest.mark.parametrize(
    ("write", "look"),
    [
        ("CREATE SEQUENCE numbers", "SELECT NEXT VALUE FOR numbers"),
        ("SET @x = 1", "SELECT @x := @x + 1"),
        (
            "CREATE FUNCTION more() RETURNS INT BEGIN "
            "INSERT INTO author (name) VALUES ('x'); RETURN (SELECT count(*) FROM author); END",
            "SELECT more()",
        ),
    ],
)
def test_reading_that_changes_something_is_state_too(mysql, write, look):
    one, other = mysql.session(LIBRARY), mysql.session(LIBRARY)
    log, first = one.run((), write)
    assert not first.error
    log, _ = one.run(log, look)
    log, second = one.run(log, look)
    assert other.run(log, look)[1] == one.run(log, look)[1] != second
    one.close()
    other.close()


@pytest.mark.parametrize("ask", ["SHOW WARNINGS", "SELECT FOUND_ROWS()", "SELECT @@warning_count"])
def test_nothing_is_told_of_the_statements_of_others(mysql, ask):
    fresh = mysql.session(LIBRARY).run((), ask)[1]
    for statement in ("SELECT 1/0, 'a' + 1", "SELECT * FROM book"):
        mysql.session(LIBRARY).run((), statement)
        assert mysql.session(LIBRARY).run((), ask)[1] == fresh
    session = mysql.session(LIBRARY)
    log, _ = session.run((), "DELETE FROM book WHERE book_id = 1")
    told = session.run(log, ask)[1]
    session.run(log, "SELECT 1/0, 'a' + 1 FROM author")
    assert session.run(log, ask)[1] == told
    session.close()


def test_what_the_connection_holds_besides_the_log_is_forgotten(mysql):
    one, other = mysql.session(LIBRARY), mysql.session(LIBRARY)
    log, _ = one.run((), "BEGIN")
    log, _ = one.run(log, "SELECT * FROM book")
    log, _ = one.run(log, "SET @x = 1")
    assert one.run(log, "SELECT FOUND_ROWS()")[1] == other.run(log, "SELECT FOUND_ROWS()")[1]
    one.close()
    other.close()


def test_chance_in_a_view_is_the_same_everywhere(mysql):
    one, other = mysql.session(LIBRARY), mysql.session(LIBRARY)
    log, _ = one.run((), "CREATE VIEW v AS SELECT RAND() AS r")
    one.run(log, "SELECT r FROM v LIMIT 1")
    assert one.run(log, "SELECT * FROM v")[1] == other.run(log, "SELECT * FROM v")[1]
    one.close()
    other.close()


def test_connections_are_not_used_after_a_fork(mysql):
    session = mysql.session(LIBRARY)
    session.run((), "SELECT 1")
    child = os.fork()
    if not child:
        told = False
        try:
            session.run((), "SELECT 2")
        except HPLGymError as error:
            told = "after the fork" in str(error)
        finally:
            os._exit(0 if told else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert session.run((), "SELECT 3")[1].text == "[(3,)]"


def test_a_fork_drops_no_copy_of_its_parents(mysql):
    session = mysql.session(LIBRARY)
    session.run((), "DELETE FROM book")
    before = private_copies(mysql)
    child = os.fork()
    if not child:
        try:
            session.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert private_copies(mysql) == before != []
    session.close()


def test_tables_and_texts_with_the_databases_name(mysql):
    dump = (
        "CREATE DATABASE `hpl_test_band`; USE `hpl_test_band`;"
        "CREATE TABLE `hpl_test_band` (`name` varchar(30)); "
        "INSERT INTO `hpl_test_band` VALUES ('hpl_test_band.x');"
    )
    server = MySQLServer(mysql.address, QuestionSet("band", dump, ()))
    session = server.session("hpl_test_band")
    log, result = session.run((), "INSERT INTO hpl_test_band.hpl_test_band VALUES ('b')")
    assert not result.error
    for look in (
        "SELECT hpl_test_band.name FROM hpl_test_band LIMIT 1",
        "SELECT name FROM hpl_test_band.hpl_test_band WHERE name = 'hpl_test_band.x'",
    ):
        assert session.run(log, look)[1].text == "[('hpl_test_band.x',)]"
    session.close()


def test_agents_do_not_hold_up_the_start(mysql, questions):
    session = mysql.session(LIBRARY)
    session.run((), "SELECT GET_LOCK('hpl_gym', 1)")
    log, _ = session.run((), "CREATE TABLE x (a int)")
    session.run(log, "SELECT GET_LOCK('hpl_gym', 1)")
    begun = time.monotonic()
    MySQLServer(mysql.address, questions)
    assert time.monotonic() - begun < 10
    session.close()


def test_large_values_do_not_take_the_servers_memory(mysql):
    session = mysql.session(LIBRARY)
    log, _ = session.run((), "SET @x = REPEAT('x', 2000000)")
    many = " UNION ".join(f"SELECT @x, {number}" for number in range(1500))
    session.run(log, f"SELECT COUNT(*) FROM ({many}) AS t")
    session.run(log, f"SELECT @x FROM ({many}) AS t")
    assert session.run((), "SELECT count(*) FROM book")[1].text == "[(3,)]"
    session.close()


def test_a_failing_gold_query_is_a_fault_and_not_a_zero(mysql, monkeypatch):
    monkeypatch.setattr(MySQLServer, "execute", lambda *_: (Result(error=TOO_SLOW), 1969, True))
    with pytest.raises(EnvironmentFaultError, match="gold query"):
        _gold(mysql, LIBRARY, "SELECT 'slow gold'")


def test_a_server_of_ours_that_ended_is_started_again(mysql, questions, tmp_path):
    def start():
        return private_server(tmp_path)

    server = MySQLServer(start(), questions, restart=start)
    session = server.session(LIBRARY)
    log, _ = session.run((), "DELETE FROM book WHERE book_id = 1")
    os.kill(server_status(tmp_path)["pid"], signal.SIGKILL)
    log, result = session.run(log, "DELETE FROM book WHERE book_id = 2")
    assert not result.error
    assert session.run(log, "SELECT book_id FROM book")[1].text == "[(3,)]"
    stop_server(tmp_path)
    assert server.session(LIBRARY).run((), "SELECT count(*) FROM book")[1].text == "[(3,)]"
    session.close()
    stop_server(tmp_path)
