"""What only a live server can do: connections break, other databases are there."""

from dataclasses import replace

import pytest

from hpl_gym.core import EnvironmentFaultError, HPLGymError
from hpl_gym.intercode_sql.mysql import MySQLServer
from hpl_gym.intercode_sql.mysql_load import run
from hpl_gym.intercode_sql.questions import QuestionSet
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


def test_copies_that_nobody_dropped_are_dropped_a_day_later(mysql, questions):
    with mysql.admin() as admin:
        run(admin, "CREATE DATABASE hpl_5f000000_0123456789ab")
    assert private_copies(mysql)
    MySQLServer(mysql.address, questions)
    assert "hpl_5f000000_0123456789ab" not in private_copies(mysql)


def test_another_database_of_the_same_name_is_left_alone(mysql, questions):
    other = QuestionSet(
        "x", DUMP.replace("(3,'Gamma',5.25,3,NULL)", "(4,'Delta',1,1,NULL),(5,'Eta',1,1,NULL)"), ()
    )
    with pytest.raises(HPLGymError, match="another database 'hpl_test_library'"):
        MySQLServer(mysql.address, other)
    MySQLServer(mysql.address, questions)
