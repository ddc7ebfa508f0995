"""What a WebShop catalogue costs, by size: building, opening, memory, search, steps, snapshots.

Each size is built in one process and measured in two others that have it open at the same time.
Private memory is what a process has for itself alone (not shared, not files mapped).

    python benchmarks/webshop_scale.py --products 1000 10000 100000
    python benchmarks/webshop_scale.py --products 1180000 --folder /big/disk
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = {
    "prepare": "prepare, s",
    "disk": "on disk, MB",
    "peak": "peak memory of preparing, MB",
    "open": "open, ms",
    "private": "private memory, MB",
    "private_buy": "private memory after a purchase, MB",
    "search_p50": "search p50, ms",
    "search_p99": "search p99, ms",
    "steps": "page steps a second",
    "snapshot": "snapshot, us",
    "restore": "restore, us",
}


def prepare(folder: Path, products: int) -> dict[str, float]:
    """Build a generated shop; return seconds, megabytes on disk and peak memory."""
    import resource

    from hpl_gym.webshop.generate import write_generated

    start = time.perf_counter()
    write_generated(folder, products)
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"prepare": seconds, "disk": size / 1e6, "peak": peak}


def private_megabytes() -> float:
    """Return the memory that this process shares with no other and no file backs."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def measure(folder: Path) -> dict[str, float]:
    """Open a catalogue and play."""
    import gymnasium as gym

    import hpl_gym  # noqa: F401
    from hpl_gym.webshop.catalog import Catalog

    before = private_megabytes()
    start = time.perf_counter()
    Catalog(folder)
    opened = time.perf_counter() - start
    env: Any = gym.make("HPL/WebShop-v0", data=str(folder), disable_env_checker=True).unwrapped
    tasks = env.tasks("train")
    draw = random.Random(0)
    queries = []
    for _ in range(300):
        _, info = env.reset(options={"task": draw.randrange(len(tasks))})
        queries.append(info["instruction"])
    searches = []
    for query in dict.fromkeys(queries):  # what was searched before is remembered
        start = time.perf_counter()
        env.catalog.search(query)
        searches.append(1e3 * (time.perf_counter() - start))
    playing = private_megabytes() - before

    steps, spent = 0, 0.0
    for query in queries:
        env.reset(options={"task": draw.randrange(len(tasks))})
        _, _, _, _, info = env.step(f"search[{query}]")
        for _ in range(20):
            actions = [one for one in info["admissible_actions"] if "buy now" not in one]
            action = draw.choice([one for one in actions[1:] if "back to search" not in one])
            start = time.perf_counter()
            info = env.step(action)[-1]
            spent += time.perf_counter() - start
            steps += 1
    saved = env.snapshot()
    start = time.perf_counter()
    for _ in range(10_000):
        env.snapshot()
    snapshot = (time.perf_counter() - start) * 100
    start = time.perf_counter()
    for _ in range(10_000):
        env.restore(saved)
    restore = (time.perf_counter() - start) * 100
    env.step(f"search[{queries[0]}]")
    env.step(next(one for one in env._info()["admissible_actions"] if one.startswith("click[b0")))
    env.step("click[buy now]")
    return {
        "open": 1e3 * opened,
        "private": playing,
        "private_buy": private_megabytes() - before,
        "search_p50": median(searches),
        "search_p99": quantiles(searches, n=100)[98],
        "steps": steps / spent,
        "snapshot": snapshot,
        "restore": restore,
    }


def run(part: str, folder: Path, products: int) -> subprocess.Popen[str]:
    """Start a part of the work in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    return subprocess.Popen(
        [*command, "--products", str(products)], stdout=subprocess.PIPE, text=True
    )


def main() -> None:
    """Build, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--folder", type=Path, help="where to build; kept if it is named")
    parser.add_argument("--part", choices=("prepare", "measure"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        work = {"prepare": lambda: prepare(arguments.folder, arguments.products[0])}
        print(json.dumps(work.get(arguments.part, lambda: measure(arguments.folder))()))
        return
    base = arguments.folder or Path(tempfile.mkdtemp())
    table = Table(title="WebShop catalogues, generated")
    table.add_column("")
    rows: dict[str, list[str]] = {name: [title] for name, title in COLUMNS.items()}
    for products in arguments.products:
        table.add_column(f"{products:,} products", justify="right")
        folder = base / f"shop-{products}"
        values = json.loads(run("prepare", folder, products).communicate()[0])
        both = [run("measure", folder, products) for _ in range(2)]
        values |= [json.loads(one.communicate()[0]) for one in both][-1]
        for name, row in rows.items():
            row.append(f"{values[name]:,.3g}" if values[name] < 1000 else f"{values[name]:,.0f}")
    for row in rows.values():
        table.add_row(*row)
    Console().print(table)
    if not arguments.folder:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
