"""Where a MySQL server listens, and its DSN: `mysql://user:password@host:port`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote, urlsplit

from hpl_gym.core import HPLGymError


@dataclass(frozen=True, slots=True)
class Address:
    """Where a MySQL server listens, and the account to use; its text hides the password.

    Attributes:
        host: Name or number of the machine.
        port: The TCP port.
        unix_socket: Path of the socket that is used in place of host and port, or None.
        user: Name of the account.
        password: Its password.
    """

    host: str = "127.0.0.1"
    port: int = 3306
    unix_socket: str | None = None
    user: str = "root"
    password: str = field(default="", repr=False)

    @property
    def dsn(self) -> str:
        """The address with its password, as `parse_dsn` reads it."""
        password = f":{quote(self.password, safe='')}" if self.password else ""
        return f"mysql://{quote(self.user, safe='')}{password}@{self._place()}"

    def __str__(self) -> str:
        return f"mysql://{quote(self.user, safe='')}@{self._place()}"

    def _place(self) -> str:
        if self.unix_socket:
            return f"/?unix_socket={quote(self.unix_socket)}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_dsn(dsn: str) -> Address:
    """Read an address.

    Args:
        dsn: `mysql://user:password@host:port`, or `mysql://user:password@/?unix_socket=/path`;
            what has a meaning in a URL is percent-encoded, and the port may be left out.

    Raises:
        HPLGymError: It is neither.
    """
    try:
        parts = urlsplit(dsn)
        port = parts.port or 3306
        options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _unreadable(dsn) from None
    (socket,) = options.pop("unix_socket", [""])[:1]
    if (
        parts.scheme != "mysql"
        or not parts.username
        or bool(parts.hostname) == bool(socket)
        or parts.path not in ("", "/")
        or parts.fragment
        or options
    ):
        raise _unreadable(dsn)
    return Address(
        host=parts.hostname or "localhost",
        port=port,
        unix_socket=socket or None,
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
    )


def _unreadable(dsn: str) -> HPLGymError:
    shown = re.sub(r"^(\w+://)?([^:@]*:).*@", r"\1\2...@", dsn)
    return HPLGymError(
        f"{shown!r} is not the address of a MySQL server, nor sqlite, private, docker or auto: "
        "write mysql://user:password@host:port or mysql://user:password@/?unix_socket=/path, with "
        "characters like @ : / % # ? in the password percent-encoded."
    )
