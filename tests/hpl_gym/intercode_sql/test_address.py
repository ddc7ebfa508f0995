import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpl_gym.core import HPLGymError
from hpl_gym.intercode_sql.address import Address, parse_dsn

words = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("dsn", "address"),
    [
        ("mysql://me:secret@db.example:3307", Address("db.example", 3307, None, "me", "secret")),
        ("mysql://me@localhost/", Address("localhost", 3306, None, "me", "")),
        ("mysql://a%40b:p%3Aq%2F@h", Address("h", 3306, None, "a@b", "p:q/")),
        ("mysql://me:x@[::1]:33", Address("::1", 33, None, "me", "x")),
        (
            "mysql://me:x@/?unix_socket=/run/my%20sql.sock",
            Address("localhost", 3306, "/run/my sql.sock", "me", "x"),
        ),
    ],
)
def test_an_address_is_read(dsn, address):
    assert parse_dsn(dsn) == address
    assert parse_dsn(address.dsn) == address


@given(user=words.filter(bool), password=words, path=words.filter(bool))
def test_what_is_written_is_read(user, password, path):
    for address in (
        Address("db.example", 3307, None, user, password),
        Address("localhost", 3306, path, user, password),
    ):
        assert parse_dsn(address.dsn) == address


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "sqllite",
        "postgresql://me:secret@db",
        "mysql://db:3306",
        "mysql://me:secret@",
        "mysql://me:secret@db:port",
        "mysql://me:secret@db:70000",
        "mysql://me:secret@db/world",
        "mysql://me:secret@db?ssl=1",
        "mysql://me:secret@db?unix_socket=/run/s",
        "mysql://me:sec#ret@db",
        "mysql://me:secret@[::1",
        "me:secret@db",
    ],
)
def test_anything_else_is_an_error_of_one_sentence_that_keeps_the_password(dsn):
    with pytest.raises(HPLGymError, match="is not the address of a MySQL server, nor") as error:
        parse_dsn(dsn)
    assert "sec" not in str(error.value)


def test_the_text_of_an_address_hides_the_password():
    address = parse_dsn("mysql://me:secret@db")
    assert str(address) == "mysql://me@db:3306"
    assert "secret" not in repr(address)
