"""Ends statements that a server's own time limit does not end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Watch:
    """Kills connections whose statement runs too long; an agent can lift the session's own limit.

    Args:
        limit: Seconds that a statement may take.
        kill: Ends connections by their numbers; what it raises is its own affair.
    """

    def __init__(self, limit: float, kill: Callable[[list[int]], None]) -> None:
        self._limit = limit
        self._kill = kill
        self._running: dict[int, float] = {}
        self._killed: set[int] = set()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, connection: Any) -> Iterator[None]:
        """Watch over a connection while it runs a statement."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        number = connection.connection_id
        self._killed.discard(number)  # servers that start anew count anew
        self._running[number] = time.monotonic() + self._limit
        try:
            yield
        finally:
            del self._running[number]

    def has_killed(self, connection: Any) -> bool:
        """Whether the connection was killed for being late."""
        return connection.connection_id in self._killed

    def _watch(self) -> None:
        while True:
            time.sleep(0.5)
            now = time.monotonic()
            late = [number for number, end in list(self._running.items()) if now > end]
            if late:
                self._killed.update(late)
                self._kill(late)
