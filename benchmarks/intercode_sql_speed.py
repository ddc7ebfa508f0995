"""InterCode-SQL: a step against the bare connector, episodes a second, snapshots, server start.

HPL_DATA=/data python benchmarks/intercode_sql_speed.py

Needs a MariaDB or MySQL server installed; it is started with a data folder of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
from rich.console import Console
from rich.table import Table

import hpl_gym  # noqa: F401
from hpl_gym.intercode_sql.env import InterCodeSQLEnv
from hpl_gym.intercode_sql.mysql import MySQLServer
from hpl_gym.intercode_sql.mysql_load import reader
from hpl_gym.intercode_sql.questions import Question
from hpl_gym.intercode_sql.server import private_server, stop_server


def make(server: str) -> InterCodeSQLEnv:
    """Return a bare environment."""
    env: Any = gym.make("HPL/InterCodeSQL-v0", server=server).unwrapped
    return env  # type: ignore[no-any-return]


def seconds(work: Callable[[], Any], times: int) -> float:
    """Return the median time of a call, in seconds."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def steps_against_connector(env: InterCodeSQLEnv, count: int) -> tuple[float, float]:
    """Return the mean time of a step with a gold query, and of the connector's own, in seconds.

    The two take turns on each query; each query's best of five counts.
    """
    assert isinstance(env.server, MySQLServer)
    bare: dict[str, Any] = {}
    mine, theirs = [], []
    for one in env.questions.questions[:count]:
        if one.database not in bare:
            bare[one.database] = env.server.open(reader(one.database), one.database)

        def query(connection: Any = bare[one.database], text: str = one.gold) -> None:
            cursor = connection.cursor()
            try:
                cursor.execute(text)
                cursor.fetchall()
            except Exception:
                pass
            cursor.close()

        def step(text: str = one.gold) -> None:
            env._last = env._advance(env._last.state, text)

        env.reset(options={"task": f"{env.questions.name}/{one.number}"})
        pairs = [(seconds(step, 1), seconds(query, 1)) for _ in range(5)]
        mine.append(min(first for first, _ in pairs))
        theirs.append(min(second for _, second in pairs))
    return statistics.mean(mine), statistics.mean(theirs)


def episodes_a_second(server: str, concurrent: int, count: int) -> float:
    """Play episodes of five statements, so many at a time."""

    def play(question: Question) -> None:
        env = make(server)
        env.reset(options={"task": f"{env.questions.name}/{question.number}"})
        for statement in ("SHOW TABLES", "SELECT 1", question.gold, question.gold, "submit"):
            env.step(statement)

    questions = make(server).questions.questions
    begun = time.perf_counter()
    with ThreadPoolExecutor(concurrent) as threads:
        list(threads.map(play, (questions[place % len(questions)] for place in range(count))))
    return count / (time.perf_counter() - begun)


def snapshots(env: InterCodeSQLEnv) -> list[tuple[str, float]]:
    """Return the times of snapshot and restore, without and with writes, in seconds."""
    env.reset(seed=0)
    env.step("SHOW TABLES")
    clean = env.snapshot()
    times = [
        ("snapshot", seconds(env.snapshot, 1000)),
        ("restore, nothing written", seconds(lambda: env.restore(clean), 1000)),
    ]
    env.step("CREATE TABLE hpl_x (a int)")
    written = env.snapshot()
    env.step("INSERT INTO hpl_x VALUES (1)")

    def back() -> None:
        env.restore(written)
        env.step("SELECT COUNT(*) FROM hpl_x")
        env.step("INSERT INTO hpl_x VALUES (1)")

    times.append(("first write: private copy", _first_write(env)))
    times.append(("restore and step, one write to run again", seconds(back, 10)))
    env.close()
    return times


def _first_write(env: InterCodeSQLEnv) -> float:
    def write() -> None:
        env.reset(seed=0)
        env.step("CREATE TABLE hpl_x (a int)")

    return seconds(write, 10)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=300, help="gold queries to step through")
    parser.add_argument("--episodes", type=int, default=300, help="episodes for each row")
    options = parser.parse_args()
    out = Console()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HPL_CACHE"] = cache
        starts = []
        for kind in ("cold", "warm"):
            begun = time.perf_counter()
            private_server()
            starts.append((f"server, {kind} start", time.perf_counter() - begun))
            if kind == "cold":
                stop_server()
        begun = time.perf_counter()
        env = make("private")
        starts.append(("databases loaded", time.perf_counter() - begun))
        table = Table("what", "time", title=f"InterCode-SQL on {env.backend}")
        for name, taken in starts:
            table.add_row(name, f"{taken:.2f} s")
        mine, theirs = steps_against_connector(env, options.queries)
        table.add_row("step (gold queries)", f"{mine * 1e6:.0f} µs")
        table.add_row("the connector alone", f"{theirs * 1e6:.0f} µs")
        table.add_row("ratio", f"{mine / theirs:.2f}")
        for name, taken in snapshots(env):
            table.add_row(name, f"{taken * 1e6:,.1f} µs")
        out.print(table)
        table = Table("episodes at a time", "sqlite", "private", title="Episodes a second")
        for concurrent in (1, 8, 64):
            rates = [
                episodes_a_second(one, concurrent, options.episodes)
                for one in ("sqlite", "private")
            ]
            table.add_row(str(concurrent), *(f"{rate:,.0f}" for rate in rates))
        out.print(table)
        stop_server()


if __name__ == "__main__":
    main()
