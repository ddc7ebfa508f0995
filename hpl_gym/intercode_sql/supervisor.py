"""The process that runs a private server for all processes of the user.

Each of them keeps a connection to its control socket; the kernel closes it however the process
ends. When the last is closed, the supervisor stops the server and ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import re
import resource
import secrets
import selectors
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hpl_gym.core import HPLGymError

GRACE = 2.0  # seconds that the server is kept after its last client
_FIRST_GRACE = 10.0  # seconds in which its first client has to come
START_LIMIT = 60.0
STOP_LIMIT = 30.0
_MOST_MEMORY = 1_200_000_000  # bytes: a statement that wants more fails, and not the machine
_LONGEST_SOCKET = 100  # bytes of a socket's path: Linux takes 107, macOS 103
_EVERYWHERE = "/usr/sbin:/usr/local/sbin:/usr/libexec"
_INITIAL = (
    "--lower-case-table-names=1",  # as on the benchmark's server
    "--innodb-autoextend-increment=8",
    "--loose-innodb-log-file-size=16M",
)
_FLAGS = (
    *_INITIAL,
    "--skip-networking",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
    "--default-time-zone=+00:00",
    "--sysdate-is-now",
    "--max-allowed-packet=2M",
    "--max-connections=1000",
    "--local-infile=0",
    "--event-scheduler=OFF",
    "--performance-schema=OFF",
    "--innodb-stats-auto-recalc=OFF",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=64M",
    "--loose-innodb-buffer-pool-size-max=64M",
    "--innodb-buffer-pool-dump-at-shutdown=OFF",
    "--innodb-buffer-pool-load-at-startup=OFF",
    "--key-buffer-size=1M",
    "--loose-aria-pagecache-buffer-size=8M",
    "--loose-mysqlx=OFF",
    "--loose-skip-symbolic-links",  # else tables could be put into any folder
    "--loose-log-warnings=1",
)


@contextmanager
def locked(path: Path, limit: float) -> Iterator[int]:
    """Hold a file's lock, which ends with the processes that have the file open."""
    end = time.monotonic() + limit
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise HPLGymError(
                        f"Another process has held {path} for {limit:.0f} seconds: end it (`fuser "
                        f"{path}` names it), or set HPL_CACHE to another folder."
                    ) from None
                time.sleep(0.02)
        yield file
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough if a fork has it open
        os.close(file)


def trouble(folder: Path, what: str, data: Path | None = None) -> HPLGymError:
    """Return an error that tells the last of the log and how to mend it."""
    with suppress(OSError):
        lines = (folder / "server.log").read_text(errors="replace").strip().splitlines()
        errors = [line for line in lines if "[ERROR]" in line]
        what += f" ({(errors or lines[-1:] or ['its log is empty'])[0].strip()[:300]})"
    return HPLGymError(
        f"The private MySQL server {what}: see {folder / 'server.log'}, or delete "
        f"{data or folder}, which is made again at the next start."
    )


def main(folder: Path) -> None:
    """Be the supervisor of a folder's server; the standard output gets `ready` or what is wrong."""
    if os.fork():  # Nobody has to wait for the child: its parent ends here.
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        _supervise(folder)
    except HPLGymError as error:
        _tell(str(error))


def _tell(text: str) -> bool:
    """Tell who started the supervisor; return whether that process still listens."""
    try:
        os.write(1, text.encode())
    except BrokenPipeError:
        return False
    os.dup2(2, 1)  # ends what the other reads
    return True


def _supervise(folder: Path) -> None:
    program, kind, version = _program()
    # The server has the lock's file open too: as long as either lives, no other is started.
    with locked(folder / "running", STOP_LIMIT + 10) as lock:
        home = folder / f"{kind}-{re.sub(r'[.][^.]*$', '', version)}"
        if not home.is_dir():
            _initialise(folder, home, program, kind, lock)
        run = _sockets(folder)
        path = str(run / "mysql.sock")
        (home / "accounts.sql").write_text(_accounts(_password(folder)))
        command = [
            *(program, "--no-defaults", *_user(), *_FLAGS),
            *(f"--datadir={home / 'data'}", f"--tmpdir={home / 'tmp'}", f"--socket={path}"),
            *(f"--pid-file={run / 'pid'}", f"--secure-file-priv={home / 'files'}"),
            f"--init-file={home / 'accounts.sql'}",
        ]
        server = subprocess.Popen(command, stdout=2, pass_fds=(lock,), preexec_fn=_limits())
        try:
            if not _answers(server, path):
                raise trouble(folder, "did not start", home)
            status: dict[str, Any] = {"folder": str(folder), "socket": path}
            status |= {"version": f"{kind} {version}", "pid": server.pid, "supervisor": os.getpid()}
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(run / "control"))
                listener.listen(128)
                if _tell("ready"):
                    _serve(listener, server, status)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            server.terminate()
            try:
                server.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            shutil.rmtree(run, ignore_errors=True)


def _serve(
    listener: socket.socket, server: subprocess.Popen[bytes], status: dict[str, Any]
) -> None:
    """Answer commands until the server ends, has to, or has no client any more."""
    clients: set[socket.socket] = set()
    kept = False
    end = time.monotonic() + _FIRST_GRACE
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        try:
            while server.poll() is None and (kept or clients or time.monotonic() < end):
                for key, _ in selector.select(0.5):
                    if key.fileobj is listener:
                        selector.register(listener.accept()[0], selectors.EVENT_READ)
                        continue
                    connection: Any = key.fileobj
                    command = b""
                    with suppress(OSError):
                        command = connection.recv(64).strip()
                        if command == b"join":
                            clients.add(connection)
                        kept |= command == b"keep"
                        if command == b"stop":  # who hears of it finds all others told
                            for other in {listener, *clients} - {connection}:
                                other.close()
                        answer = status | {"clients": len(clients), "kept": kept}
                        connection.sendall(json.dumps(answer).encode())
                    if command == b"stop":
                        return
                    if not command:
                        selector.unregister(connection)
                        connection.close()
                        if connection in clients:
                            clients.remove(connection)
                            end = time.monotonic() + GRACE
        finally:
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]


def _answers(server: subprocess.Popen[bytes], path: str) -> bool:
    """Wait until the server greets who connects."""
    end = time.monotonic() + START_LIMIT
    while server.poll() is None and time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.settimeout(1)
            probe.connect(path)
            if probe.recv(5)[4:] == b"\n":  # version 10 of the protocol
                return True
        time.sleep(0.02)
    return False


def _limits() -> Any:
    """Return what bounds a new process: its memory, and on Linux its life by its parent's."""
    control = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
        if control is not None:
            control(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    return limit


def _program() -> tuple[str, str, str]:
    """Return the installed server's path, whether it is mariadb or mysql, and its version."""
    program = _which("mariadbd", "mysqld")
    if program is None:
        raise HPLGymError(
            "No MySQL server is installed for a private one: `apt-get install mariadb-server`, or "
            "use the server `sqlite`, or name one that runs by mysql://user:password@host:port."
        )
    shown = subprocess.run([program, "--no-defaults", "--version"], capture_output=True, text=True)
    number = re.search(r"\bVer (\d+\.\d+\.\d+)", shown.stdout)
    if number is None:
        raise HPLGymError(f"{program} --version does not tell its version: install it again.")
    return program, "mariadb" if "mariadb" in shown.stdout.lower() else "mysql", number[1]


def _which(*names: str) -> str | None:
    path = f"{os.environ.get('PATH', '')}:{_EVERYWHERE}"
    return next(filter(None, (shutil.which(name, path=path) for name in names)), None)


def _user() -> list[str]:
    return ["--user=root"] if os.getuid() == 0 else []


def _initialise(folder: Path, home: Path, program: str, kind: str, lock: int) -> None:
    """Make the data folder; one that is not complete has another name."""
    for left in folder.glob("new-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="new-", dir=folder) as name:
        part = Path(name) / "home"
        for child in ("data", "tmp", "files"):
            (part / child).mkdir(parents=True)
        command = [program, "--no-defaults", "--initialize-insecure"]
        if kind == "mariadb":
            install = _which("mariadb-install-db", "mysql_install_db")
            if install is None:
                raise HPLGymError(
                    f"{program} comes without mariadb-install-db: `apt-get install mariadb-server`."
                )
            command = [install, "--no-defaults", "--auth-root-authentication-method=normal"]
            command += ["--skip-test-db", "--skip-name-resolve"]
        command += [*_user(), *_INITIAL, f"--datadir={part / 'data'}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=(lock,))
        if done.returncode:
            raise trouble(folder, "could not make its data folder")
        part.rename(home)


def _sockets(folder: Path) -> Path:
    """Return an empty folder for the sockets, a short one below the temporary folder if need be.

    `run` in the server's folder is that folder, or a link to it.
    """
    run = folder / "run"
    if run.is_symlink():
        run.unlink()
    shutil.rmtree(run, ignore_errors=True)
    if len(os.fsencode(run / "mysql.sock")) <= _LONGEST_SOCKET:
        run.mkdir()
        return run
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"hpl-{os.getuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    about = short.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o77:
        raise HPLGymError(f"{short} is not a private folder of yours: delete it.")
    for left in short.iterdir():
        left.unlink()
    run.symlink_to(short)
    return short


def _password(folder: Path) -> str:
    path = folder / "password"
    if not path.is_file():
        part = folder / "password.part"
        part.write_text(secrets.token_urlsafe(24))
        part.rename(path)
    return path.read_text()


def _accounts(password: str) -> str:
    """Return what leaves the server one account of its own, with a password."""
    hosts = ("127.0.0.1", "::1", socket.gethostname().lower())
    drops = [f"DROP USER IF EXISTS 'root'@'{host}';\n" for host in hosts]
    return f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}';\n" + "".join(drops)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
