"""MySQL in a container: starts the server of docker/compose.yaml and waits until it is healthy."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from hpl_gym.cache import cache_folder
from hpl_gym.core import DataError, HPLGymError, MissingExtraError
from hpl_gym.intercode_sql.address import Address

PROJECT, SERVICE = "hpl-gym", "mysql"
_OTHERWISE = (
    "use another server: a private one (install mariadb-server), your own (its DSN in "
    "HPL_MYSQL_DSN), or the default, SQLite"
)


def docker_server(dump: Path, *, timeout: float = 180.0) -> Address:
    """Bring up docker/compose.yaml's MySQL; return its root account's address when it is healthy.

    A server that is healthy already is taken as it is.

    Args:
        dump: The databases that a new server has from the start.
        timeout: How long to wait after its start, in seconds.

    Raises:
        MissingExtraError: The package `docker` is not installed.
        DataError: There is no such dump.
        HPLGymError: Docker cannot be used, or the server does not become healthy.
    """
    try:
        import docker.errors
    except ImportError:
        raise MissingExtraError(
            "A MySQL server in Docker needs the sql extra: pip install 'hpl-gym[sql]'."
        ) from None
    if not dump.is_file():
        raise DataError(f"There is no file {dump}: name a MySQL dump such as ic_spider_dbs.sql.")
    try:
        with closing(docker.from_env()) as client, _lock():
            client.ping()
            container = _find(client)
            if container is None or _health(container) != "healthy":
                _up(dump)
                container = _wait(_find(client), timeout)
            return _address(container)
    except docker.errors.DockerException as error:
        raise HPLGymError(
            f"The Docker engine cannot be used ({error}): start Docker, or {_OTHERWISE}."
        ) from error


def compose_file() -> Path:
    """Return the path of docker/compose.yaml."""
    package = Path(str(files("hpl_gym")))
    installed, checkout = package / "docker", package.parent / "docker"
    return (installed if installed.is_dir() else checkout) / "compose.yaml"


@contextmanager
def _lock() -> Iterator[None]:
    """Let one process after the other start the server."""
    with (cache_folder() / "docker.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _find(client: Any) -> Any:
    """Return the server's container, or None."""
    labels = [f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={SERVICE}"]
    found = client.containers.list(all=True, filters={"label": labels})
    return found[0] if found else None


def _health(container: Any) -> str:
    state = container.attrs["State"]
    return str(state["Health"]["Status"] if state["Status"] == "running" else state["Status"])


def _up(dump: Path) -> None:
    compose = ("docker", "compose")
    run = partial(subprocess.run, capture_output=True, text=True)
    if shutil.which("docker") is None or run((*compose, "version")).returncode:
        raise HPLGymError(
            f"There is no `docker compose`: install Docker's compose plugin, or {_OTHERWISE}."
        )
    done = run(
        (*compose, "-p", PROJECT, "-f", str(compose_file()), "up", "-d", "--quiet-pull", SERVICE),
        env={**os.environ, "HPL_SQL_DUMP": str(dump.resolve())},
    )
    if done.returncode:
        raise HPLGymError(
            f"`docker compose up` failed ({_last(done.stderr)}): mend that (HPL_MYSQL_PORT names "
            f"another port), or {_OTHERWISE}."
        )


def _wait(container: Any, timeout: float) -> Any:
    """Return the container as it is once it is healthy."""
    end = time.monotonic() + timeout
    restarts = container.attrs["RestartCount"]
    while (health := _health(container)) != "healthy":
        # Where the databases cannot be loaded, the server is started again without them.
        failed = health not in ("created", "starting")
        if failed or container.attrs["RestartCount"] > restarts or time.monotonic() > end:
            log = container.logs(tail=500).decode(errors="replace")
            raise HPLGymError(
                f"MySQL in Docker is not healthy but {health}, and its log ends with "
                f"{_last(log)!r}: mend that, clear it away by `docker compose -f {compose_file()} "
                f"down -v` and try again, or {_OTHERWISE}."
            )
        time.sleep(0.5)
        container.reload()
    return container


def _last(log: str) -> str:
    """Return the last line of a log that tells of an error, or else the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line]
    return (errors or lines or ["nothing"])[-1]


def _address(container: Any) -> Address:
    port = container.attrs["NetworkSettings"]["Ports"]["3306/tcp"][0]["HostPort"]
    environment = dict(line.split("=", 1) for line in container.attrs["Config"]["Env"])
    return Address(
        host="127.0.0.1",
        port=int(port),
        unix_socket=None,
        user="root",
        password=environment["MYSQL_ROOT_PASSWORD"],
    )
