import fcntl
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpl_gym.core import HPLGymError
from hpl_gym.intercode_sql import server, supervisor
from hpl_gym.intercode_sql.server import keep_server, private_server, server_status, stop_server
from hpl_gym.trainers.commands import sql_server

SBIN = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin:/usr/libexec"
if not any(shutil.which(name, path=SBIN) for name in ("mariadbd", "mysqld")):
    pytest.skip("neither mariadbd nor mysqld is installed", allow_module_level=True)
mysql = pytest.importorskip("mysql.connector")

CLIENT = """
import sys
from pathlib import Path
from hpl_gym.intercode_sql.server import private_server, server_status
private_server(Path(sys.argv[1]))
print(server_status(Path(sys.argv[1]))["pid"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A server's folder after a first start, beside the remains of one that was killed."""
    folder = tmp_path_factory.mktemp("made") / "mysql"
    (folder / "new-killed" / "home").mkdir(parents=True)
    private_server(folder)
    assert stop_server(folder)
    assert not list(folder.glob("new-*"))
    return folder


@pytest.fixture
def folder(made):
    yield made
    stop_server(made)


@pytest.fixture
def copy(made, tmp_path):
    """A function that copies the server's folder."""

    def copy(name):
        folder = tmp_path / name / "mysql"
        shutil.copytree(made, folder)
        return folder

    return copy


@pytest.fixture
def start(folder):
    """A function that starts a process which uses the server until it is killed."""
    clients = []

    def start():
        clients.append(
            subprocess.Popen(
                [sys.executable, "-c", CLIENT, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return clients[-1]

    yield start
    for client in clients:
        client.kill()
        client.communicate()


def query(address, statement):
    with (
        mysql.connect(
            unix_socket=address.unix_socket,
            user=address.user,
            password=address.password,
            charset="utf8mb4",
            collation="utf8mb4_general_ci",
            autocommit=True,
            use_pure=True,
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
        return cursor.fetchall() if cursor.with_rows else None


def wait_for_end(folder):
    """Wait until neither the supervisor nor the server lives: both have the lock's file open."""
    with (folder / "running").open() as file:
        for _ in range(120):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
            else:
                return
    pytest.fail("the server still runs")


def test_there_is_one_account_and_it_has_a_password(folder):
    address = private_server(folder)
    assert private_server(folder) == address
    accounts = query(address, "SELECT user, host FROM mysql.user WHERE user NOT LIKE '%.%'")
    assert accounts == [("root", "localhost")]
    for user in ("root", "", "anyone"):
        with pytest.raises(mysql.Error, match="Access denied"):
            mysql.connect(unix_socket=address.unix_socket, user=user, use_pure=True)
    assert Path(address.unix_socket).parent.stat().st_mode & 0o77 == 0
    assert (folder / "password").stat().st_mode & 0o77 == 0


def test_the_server_reads_no_files_and_has_no_port(folder):
    address = private_server(folder)
    settings = query(address, "SELECT @@local_infile, @@skip_networking, @@secure_file_priv")
    assert settings[0][:2] == (0, 1)
    assert not list(Path(settings[0][2]).iterdir())


def test_data_outlive_the_server(folder):
    address = private_server(folder)
    query(address, "CREATE DATABASE kept")
    assert stop_server(folder)
    assert server_status(folder) is None
    assert private_server(folder) == address
    assert ("kept",) in query(address, "SHOW DATABASES")


def test_processes_that_start_at_once_share_a_server_that_ends_with_the_last(folder, start):
    clients = [start(), start()]
    pids = {client.stdout.readline() for client in clients}
    assert pids == {f"{server_status(folder)['pid']}\n"}
    assert server_status(folder)["clients"] == 2
    clients[0].kill()
    while server_status(folder)["clients"] > 1:
        time.sleep(0.05)
    clients[1].kill()
    wait_for_end(folder)
    assert server_status(folder) is None


def test_a_forked_process_is_a_client_of_its_own(folder):
    def use():
        private_server(folder)
        ready.set()
        done.wait(30)

    fork = multiprocessing.get_context("fork")
    ready, done = fork.Event(), fork.Event()
    private_server(folder)
    child = fork.Process(target=use)
    child.start()
    assert ready.wait(30)
    assert server_status(folder)["clients"] == 2
    done.set()
    child.join()


def test_a_server_that_is_kept_stays_until_it_is_stopped(folder, start):
    client = start()
    client.stdout.readline()
    keep_server(folder)
    server._held.pop(folder)[1].close()
    client.kill()
    time.sleep(supervisor.GRACE + 0.7)
    status = server_status(folder)
    assert status["kept"]
    assert status["clients"] == 0
    assert stop_server(folder)
    wait_for_end(folder)
    assert not stop_server(folder)


def test_the_server_ends_with_its_supervisor_and_is_started_again(folder):
    address = private_server(folder)
    os.kill(server_status(folder)["supervisor"], signal.SIGKILL)
    wait_for_end(folder)
    assert private_server(folder) == address
    assert query(address, "SELECT 1") == [(1,)]


def test_what_a_crash_of_the_machine_leaves_is_no_obstacle(folder):
    address = private_server(folder)
    status = server_status(folder)
    os.kill(status["pid"], signal.SIGSTOP)
    for process in (status["supervisor"], status["pid"]):
        os.kill(process, signal.SIGKILL)
    wait_for_end(folder)
    assert {path.name for path in (folder / "run").iterdir()} >= {"control", "mysql.sock", "pid"}
    assert private_server(folder) == address
    assert query(address, "SELECT 1") == [(1,)]


def test_a_server_that_crashes_is_started_again(folder):
    private_server(folder)
    os.kill(server_status(folder)["pid"], signal.SIGKILL)
    wait_for_end(folder)
    assert query(private_server(folder), "SELECT 1") == [(1,)]


def test_who_comes_while_the_server_stops_gets_a_new_one(folder):
    private_server(folder)
    before = server_status(folder)["pid"]
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(folder / "run" / "control"))
        control.sendall(b"stop\n")
        control.recv(1000)
    assert query(private_server(folder), "SELECT 1") == [(1,)]
    assert server_status(folder)["pid"] != before


def test_the_socket_of_a_folder_with_a_long_name_is_elsewhere(copy):
    folder = copy("long" * 30)
    address = private_server(folder)
    short = Path(address.unix_socket).parent
    assert query(address, "SELECT 1") == [(1,)]
    assert short.stat().st_mode & 0o77 == 0
    assert stop_server(folder)
    assert not short.exists()


def test_a_broken_folder_is_an_error_that_names_the_log_and_the_folder(copy):
    folder = copy("broken")
    (data,) = folder.glob("m*-*/data")
    (data / "ibdata1").write_bytes(b"nonsense")
    with pytest.raises(HPLGymError, match=r"did not start \(.+\): see .+server\.log") as error:
        private_server(folder)
    assert f"delete {data.parent}, which is made again" in str(error.value)
    wait_for_end(folder)


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HPLGymError, match="set HPL_CACHE"):
        private_server(tmp_path / "file" / "mysql")


def test_without_an_installed_server_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(supervisor, "_EVERYWHERE", "")
    with pytest.raises(HPLGymError, match="apt-get install mariadb-server"):
        supervisor._program()


def test_the_commands(folder, monkeypatch):
    monkeypatch.setenv("HPL_CACHE", str(folder.parent))

    def shown(command):
        result = CliRunner().invoke(sql_server.app, [command])
        assert result.exit_code == 0
        return result.stdout

    assert shown("status") == "No server is running.\n"
    assert "HPL_MYSQL_DSN='mysql://root:" in shown("start")
    assert f"folder: {folder}\n" in shown("status")
    assert shown("stop") == "The server is stopped.\n"
    assert shown("stop") == "No server was running.\n"
