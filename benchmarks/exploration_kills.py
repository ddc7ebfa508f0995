"""Kills an exploration again and again, and compares its pairs with an undisturbed one's.

    hpl quickstart
    python benchmarks/exploration_kills.py --run runs/quickstart --count 4 --kills 20

Each time `hpl explore` is killed (SIGKILL) at a random moment and started again, with another
concurrency; after the last kill it may finish.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from hpl_gym.trainers.preferences import LEVELS

FILES = [f"pairs/pairs_{level}.jsonl" for level in LEVELS]
FILES += [f"explore/{name}.jsonl" for name in ("trajectories", "segments", "values", "groups")]
SEGMENTERS = "explore.segmenters=[fixed-n,fixed-k,uncertainty,semantic,single]"


def hpl(*arguments: object) -> subprocess.Popen[bytes]:
    """Start a command."""
    command = [sys.executable, "-m", "hpl_gym.trainers.cli", "--progress", "quiet"]
    return subprocess.Popen([*command, *map(str, arguments)], stdout=subprocess.DEVNULL)


def copy_of(run: Path, folder: Path) -> Path:
    """Return a copy of a run up to its policy."""
    for name in ("experts", "sft"):
        shutil.copytree(run / name, folder / name)
    shutil.copy(run / "config.yaml", folder)
    return folder


def content(run: Path) -> list[bytes]:
    """Return the files of a run, with its pairs made."""
    assert hpl("pairs", "--run", run).wait() == 0
    return [(run / name).read_bytes() for name in FILES]


def records(run: Path) -> int:
    """Return how many records an exploration has written so far."""
    return sum(path.read_bytes().count(b"\n") for path in (run / "explore").glob("*.jsonl"))


def main() -> None:
    """Print whether the files are the same."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--count", type=int, default=4, help="expert trajectories to explore")
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    chance, out = random.Random(0), Console()
    settings = (SEGMENTERS, f"explore.count={arguments.count}")
    with tempfile.TemporaryDirectory() as temporary:
        whole = copy_of(arguments.run, Path(temporary) / "whole")
        begun = time.monotonic()
        assert hpl("explore", "--run", whole, *settings).wait() == 0
        took = time.monotonic() - begun
        killed = copy_of(arguments.run, Path(temporary) / "killed")
        places, kills = [], 0
        while kills < arguments.kills:
            concurrency = chance.choice((1, 8, 64))
            process = hpl(
                "explore", "--run", killed, *settings, f"explore.concurrency={concurrency}"
            )
            time.sleep(chance.uniform(0, took))
            if process.poll() is not None:  # it finished first: another copy
                shutil.rmtree(killed)
                copy_of(arguments.run, killed)
                continue
            process.kill()
            process.wait()
            kills += 1
            places.append(records(killed))
        assert hpl("explore", "--run", killed, *settings).wait() == 0
        same = content(whole) == content(killed)
    out.print(f"{took:.1f} s undisturbed. Records on disk at each kill: {places}")
    out.print(f"All files the same after {kills} kills: {same}")


if __name__ == "__main__":
    main()
