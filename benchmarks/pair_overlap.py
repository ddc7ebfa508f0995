"""How many decisions do group pairs teach that trajectory and step pairs do not?

The turn at which a pair's winner and loser part is its decision. A group's loser is the beginning
of the branch that is the whole loser of the step pair from the same turn, so most decisions of
groups are those of step pairs as well, with a shorter tail behind them. Reads the pairs of run
folders and prints a Markdown table.

    python benchmarks/pair_overlap.py runs/reproduce/alfworld-1a2b3c4d/seed-*
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from hpl_gym.trainers.experts import clean_experts
from hpl_gym.trainers.preferences import LEVELS
from hpl_gym.trainers.records import finished_manifest, read_records

Record = dict[str, Any]


def decision(experts: Mapping[str, Record], pair: Record) -> tuple[str, int]:
    """Return the expert trajectory and the turn at which a pair's two sides part."""
    winner = experts[pair["expert"]]["turns"][pair["start"] : pair["stop"]]
    both = zip(winner, pair["loser"], strict=False)
    turn = next(at for at, (own, other) in enumerate(both) if own["reply"] != other["reply"])
    return pair["expert"], pair["start"] + turn


def measure(run: Path) -> None:
    """Print a row of the table for each segmenter."""
    finished_manifest(run / "pairs", f"pairs --run {run}")
    experts = {one["key"]: one for one in clean_experts(run / "experts" / "trajectories.jsonl")}
    pairs = [
        pair for level in LEVELS for pair in read_records(run / "pairs" / f"pairs_{level}.jsonl")
    ]
    groups = [pair for pair in pairs if pair["level"] == "group"]
    others = [pair for pair in pairs if pair["level"] != "group"]
    known = {decision(experts, pair) for pair in others}
    tail = mean(len(pair["loser"]) for pair in others)
    for segmenter in sorted({pair["segmenter"] for pair in groups}):
        own = [pair for pair in groups if pair["segmenter"] == segmenter]
        found = {decision(experts, pair) for pair in own}
        turns = mean(len(pair["loser"]) for pair in own)
        counts = f"{len(known)} | {len(found)} | {len(found - known)} | {tail:.1f} | {turns:.1f}"
        print(f"| {run.parent.name}/{run.name} | {segmenter} | {counts} |")


def main() -> None:
    """Measure all runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    runs = parser.parse_args().runs
    print(
        "| run | segmenter | decisions of trajectory and step pairs | of group pairs "
        "| of these only there | turns of a loser, trajectory and step | group |"
    )
    print("|---|---|---|---|---|---|---|")
    for run in runs:
        measure(run)


if __name__ == "__main__":
    main()
