"""The script that MySQL's image runs at its first start, run on a private server instead."""

import os
import shutil
import subprocess

import pytest
import yaml

from hpl_gym.intercode_sql.docker import compose_file
from hpl_gym.intercode_sql.server import private_server, stop_server

DUMP = """\
-- TEST USER
CREATE USER 'admin'@'%' IDENTIFIED BY 'admin';\x20
GRANT ALL PRIVILEGES ON *.* TO 'admin'@'%';\x20
FLUSH PRIVILEGES;

CREATE DATABASE  IF NOT EXISTS `pet_shop` /*!40100 DEFAULT CHARACTER SET utf8mb4 COLLATE \
utf8mb4_general_ci */ /*!80016 DEFAULT ENCRYPTION='N' */;
USE `pet_shop`;
-- MySQL dump 10.13  Distrib 8.0.30, for macos12 (x86_64)
/*!50503 SET NAMES utf8 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
DROP TABLE IF EXISTS `Pets`;
CREATE TABLE `Pets` (
  `ID` int NOT NULL AUTO_INCREMENT,
  `Name` text COLLATE utf8mb4_general_ci,
  PRIMARY KEY (`ID`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
LOCK TABLES `Pets` WRITE;
INSERT INTO `Pets` VALUES (1,'Zoë; GRANT\\nGRANT'),(2,NULL);
UNLOCK TABLES;
/*!40014 SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;

CREATE DATABASE  IF NOT EXISTS `petXshop` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;
USE `petXshop`;
CREATE TABLE `owner` (`ID` int NOT NULL, PRIMARY KEY (`ID`)) ENGINE=InnoDB;
INSERT INTO `owner` VALUES (7);
"""
LOADER = compose_file().parent / "mysql" / "load.sh"
CLIENT = shutil.which("mariadb") or shutil.which("mysql")
ADMIN = shutil.which("mariadb-admin") or shutil.which("mysqladmin")
PASSWORD = "it's a \\ \"pass&word$"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A new server as the script finds it: an environment in which `mysql` reaches it."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    if not CLIENT or not (shutil.which("mariadbd", path=path) or shutil.which("mysqld", path=path)):
        pytest.skip("no MariaDB or MySQL server and client are installed")
    home = tmp_path_factory.mktemp("server")
    address = private_server(home)
    (home / "bin").mkdir()
    (home / "bin" / "mysql").symlink_to(CLIENT)
    (home / "bin" / "mysqladmin").symlink_to(ADMIN)
    (home / ".my.cnf").write_text(f"[client]\nsocket={address.unix_socket}\n")
    yield {
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "MYSQL_ROOT_PASSWORD": address.password,
        "HPL_READER_PASSWORD": PASSWORD,
    }
    stop_server(home)


def query(server, user, statement, password=PASSWORD):
    options = "--default-character-set=utf8mb4", "--batch", "--skip-column-names"
    if user == "root":
        password = server["MYSQL_ROOT_PASSWORD"]
    return subprocess.run(
        ["mysql", f"--user={user}", *options, "--execute", statement],
        env={**server, "MYSQL_PWD": password},
        capture_output=True,
        text=True,
    )


def load(server, dump, how):
    """Run the script as the image does: sourced, or executed where it is executable."""
    command = {"sourced": ".", "executed": "bash"}[how]
    return subprocess.run(
        ["bash", "-c", f"set -eo pipefail; shopt -s nullglob; {command} '{LOADER}'; echo went on"],
        env={**server, "HPL_DUMP": str(dump)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module", params=["sourced", "executed"])
def loaded(request, server, tmp_path_factory):
    path = tmp_path_factory.mktemp("dump") / "databases.sql"
    path.write_text(DUMP)
    query(server, "root", "DROP USER IF EXISTS hpl_reader")
    for database in ("pet_shop", "petxshop"):
        assert not query(server, "root", f"DROP DATABASE IF EXISTS {database}").returncode
    done = load(server, path, request.param)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    return server


def test_reader_reads(loaded):
    def rows(statement):
        return query(loaded, "hpl_reader", statement).stdout

    assert rows("SELECT Name FROM pet_shop.pets") == "Zoë; GRANT\\nGRANT\nNULL\n"
    assert rows("SELECT * FROM petxshop.owner") == "7\n"
    assert rows("SHOW CREATE TABLE pet_shop.Pets")
    assert set(rows("SHOW DATABASES").split()) - {"performance_schema"} == {
        "information_schema",
        "pet_shop",
        "petxshop",
    }
    assert len(rows("SHOW GRANTS").splitlines()) == 3


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO pet_shop.pets VALUES (3, 'x')",
        "DELETE FROM pet_shop.pets",
        "DROP TABLE pet_shop.pets",
        "CREATE TABLE pet_shop.more (a int)",
        "CREATE DATABASE more",
        "CREATE USER other",
        "SELECT * FROM mysql.user",
        "SELECT * FROM more.more",
        "SELECT 1 INTO OUTFILE '/tmp/hpl-gym-outfile'",
        "SET GLOBAL max_connections = 5",
    ],
)
def test_reader_does_nothing_else(loaded, statement):
    done = query(loaded, "hpl_reader", statement)
    assert done.returncode
    assert "denied" in done.stderr


def test_the_dumps_own_account_is_not_made(loaded):
    accounts = query(loaded, "root", "SELECT User FROM mysql.user").stdout.split()
    assert "admin" not in accounts
    assert "hpl_reader" in accounts
    assert query(loaded, "hpl_reader", "SELECT 1", "another").returncode


def test_health_check_needs_the_reader(loaded):
    """The check of compose.yaml, on the socket where the container has TCP."""
    compose = yaml.safe_load(compose_file().read_text())
    check = compose["services"]["mysql"]["healthcheck"]["test"].replace("$$", "$")
    check = ["bash", "-c", check.replace("--host=127.0.0.1", "")]
    assert not subprocess.run(check, env=loaded, capture_output=True).returncode
    other = {**loaded, "HPL_READER_PASSWORD": "another"}
    assert subprocess.run(check, env=other, capture_output=True).returncode


@pytest.mark.parametrize("how", ["sourced", "executed"])
def test_a_broken_dump_stops_the_start(server, tmp_path, how):
    query(server, "root", "DROP USER IF EXISTS hpl_reader")
    path = tmp_path / "broken.sql"
    path.write_text("CREATE DATABASE broken;\nUSE broken;\nCREATE TABEL t;\n")
    done = load(server, path, how)
    query(server, "root", "DROP DATABASE broken")
    assert done.returncode
    assert not done.stdout
    assert "ERROR 1064" in done.stderr
    assert query(server, "hpl_reader", "SELECT 1").returncode


def test_an_unreadable_dump_is_said_to_be(server, tmp_path):
    done = load(server, tmp_path / "nothing.sql", "sourced")
    assert done.returncode
    assert "ERROR: the dump cannot be read" in done.stderr


def test_no_databases(server):
    query(server, "root", "DROP USER IF EXISTS hpl_reader")
    assert not load(server, os.devnull, "sourced").returncode
    assert query(server, "hpl_reader", "SELECT 1").stdout == "1\n"
