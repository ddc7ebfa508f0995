"""A private MySQL or MariaDB server of the user, started where one is installed.

A supervisor, a process of its own, runs the server for all processes of the user, as long as one
of them is connected to it.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpl_gym.cache import cache_path
from hpl_gym.core import HPLGymError
from hpl_gym.intercode_sql.address import Address
from hpl_gym.intercode_sql.supervisor import START_LIMIT, STOP_LIMIT, locked, trouble

# This process's connection to each folder's supervisor, with the process's id: forks inherit it.
_held: dict[Path, tuple[int, socket.socket, Address]] = {}


def private_server(folder: Path | None = None) -> Address:
    """Start the user's private server, or join the one that runs, and keep it for this process.

    Args:
        folder: Where its data are, which are made at the first start; by default `mysql` in
            `$HPL_CACHE` or `~/.cache/hpl-gym`.

    Raises:
        HPLGymError: No server is installed, or it does not start.
    """
    folder = _folder(folder)
    with _starting(folder):
        return _join(folder)


def keep_server(folder: Path | None = None) -> Address:
    """Do as `private_server`, and keep the server until `stop_server`.

    Raises:
        HPLGymError: No server is installed, or it does not start.
    """
    folder = _folder(folder)
    with _starting(folder):
        address = _join(folder)
        _ask(folder, "keep")
        return address


def server_status(folder: Path | None = None) -> dict[str, Any] | None:
    """Return what is known of the running server, or None.

    Returns:
        Its folder, socket, version, pid, supervisor (a pid too), clients (how many), and kept.
    """
    return _ask(_folder(folder), "status")


def stop_server(folder: Path | None = None) -> bool:
    """Stop the server, even if it has clients, and wait for its end.

    Returns:
        Whether one ran.
    """
    folder = _folder(folder)
    if not folder.is_dir():
        return False
    with _starting(folder):
        runs = _ask(folder, "stop") is not None
        with locked(folder / "running", 2 * STOP_LIMIT):
            return runs


@atexit.register
def _leave() -> None:
    for _process, connection, _address in _held.values():
        connection.close()


def _folder(folder: Path | None) -> Path:
    return (folder or cache_path("mysql")).expanduser().resolve()


@contextmanager
def _starting(folder: Path) -> Iterator[None]:
    """Let one process at a time start or stop the server of a folder."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(folder / "lock", 4 * START_LIMIT):
            yield
    except OSError as error:
        raise HPLGymError(
            f"A private MySQL server cannot use {folder} ({error.strerror}): set HPL_CACHE to a "
            "folder of your own on this machine."
        ) from error


def _join(folder: Path) -> Address:
    if folder in _held:
        process, connection, address = _held[folder]
        if process == os.getpid() and _is_open(connection):
            return address
        del _held[folder]
        connection.close()
    called = _call(folder, "join")
    if called is None:
        _start(folder)
        called = _call(folder, "join")
    if called is None:
        raise trouble(folder, "stopped at once")
    connection, status = called
    connection.setblocking(False)
    password = (folder / "password").read_text()
    address = Address("localhost", unix_socket=status["socket"], password=password)
    _held[folder] = os.getpid(), connection, address
    return address


def _is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _call(folder: Path, command: str) -> tuple[socket.socket, dict[str, Any]] | None:
    """Send a command to the supervisor; return the connection and the answer, or None."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    try:
        connection.connect(str((folder / "run").resolve() / "control"))
        connection.sendall(f"{command}\n".encode())
        return connection, json.loads(connection.recv(65536))
    except (OSError, ValueError):
        connection.close()
        return None


def _ask(folder: Path, command: str) -> dict[str, Any] | None:
    called = _call(folder, command)
    if called is None:
        return None
    called[0].close()
    return called[1]


def _start(folder: Path) -> None:
    """Start a supervisor and wait until its server is ready."""
    command = [sys.executable, "-m", "hpl_gym.intercode_sql.supervisor", str(folder)]
    with (folder / "server.log").open("ab") as log:
        log.truncate(0)
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        ) as process:
            told = process.stdout.read() if process.stdout else ""
    if told != "ready":
        raise HPLGymError(told) if told else trouble(folder, "could not be started")
