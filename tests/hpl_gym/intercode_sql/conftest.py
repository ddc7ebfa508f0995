import shutil
import uuid
from pathlib import Path

import pytest

from hpl_gym.intercode_sql.questions import read_questions
from hpl_gym.intercode_sql.sqlite import SQLiteServer
from tests.hpl_gym.intercode_sql.library import LIBRARY, write

PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")


def has_mysql():
    names = ("mariadbd", "mysqld")
    return any(shutil.which(one) for one in names) or any(
        Path(place, one).is_file() for place in PLACES for one in names
    )


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Databases and servers of these tests go to a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPL_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("HPL_MYSQL_DSN", "INTERCODE_DATA"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder in the benchmark's format."""
    return write(tmp_path_factory.mktemp("data") / uuid.uuid4().hex)


@pytest.fixture(scope="session")
def questions(data):
    return read_questions(data / "ic_spider_dbs.sql", data / "ic_spider_dev.json")


@pytest.fixture(scope="session")
def mysql(cache, questions):
    """A private MySQL server with the databases; without one, the tests are skipped."""
    if not has_mysql():
        pytest.skip("neither mariadbd nor mysqld is installed")
    from hpl_gym.intercode_sql.mysql import MySQLServer
    from hpl_gym.intercode_sql.server import private_server

    return MySQLServer(private_server(), questions, restart=private_server)


@pytest.fixture(scope="session")
def sqlite(cache, questions):
    return SQLiteServer(questions)


@pytest.fixture(params=["sqlite", "mysql"])
def server(request):
    """Each of the two kinds of server."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def session(server):
    found = server.session(LIBRARY)
    yield found
    found.close()
