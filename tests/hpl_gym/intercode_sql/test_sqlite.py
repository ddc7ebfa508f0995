"""What only SQLite has: its own clock and chance."""

import pytest

from tests.hpl_gym.intercode_sql.library import LIBRARY


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
        assert "nested too deeply" in session.run((), many)[1].error
    plain = f"SELECT {'ABS(' * 20}1{')' * 20}, {'(' * 20}DATE('2020-01-02'){')' * 20}"
    assert session.run((), plain)[1].text == "[(1, '2020-01-02')]"


def test_nothing_is_drawn(sqlite):
    session = sqlite.session(LIBRARY)
    for log in ((), ("DELETE FROM book",)):
        error = session.run(log, "SELECT hex(randomblob(4))")[1].error
        assert error == f"FUNCTION {LIBRARY}.RANDOMBLOB does not exist"
    session.close()
