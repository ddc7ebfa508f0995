"""Counts where things lie at the start of the ALFWorld training games.

Writes `hpl_gym/alfworld/placements.json`: for each portable object type (and each lamp) how often a
receptacle of each type holds one. The scripted expert searches by it and generated games place
things by it.

    python benchmarks/alfworld_placements.py $ALFWORLD_DATA/json_2.1.1/train
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

TARGET = Path(__file__).parents[1] / "hpl_gym" / "alfworld" / "placements.json"
LAMPS = ("DeskLamp", "FloorLamp")


def count_placements(split: Path) -> tuple[int, dict[str, dict[str, int]]]:
    """Return the number of games below `split`, and object type -> receptacle type -> count."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    games = sorted(split.glob("*/*/game.tw-pddl"))
    for game in games:
        problem = json.loads(game.read_text(encoding="utf-8"))["pddl_problem"]
        facts = problem[problem.index("(:init") : problem.index("(:goal")]
        types = dict(re.findall(r"\((?:objectType|receptacleType) (\S+) (\S+)Type\)", facts))
        portable = set(re.findall(r"\(pickupable (\S+)\)", facts))
        for thing, receptacle in sorted(set(re.findall(r"\(inReceptacle (\S+) (\S+)\)", facts))):
            if thing in portable or types[thing] in LAMPS:
                counts[types[thing]][types[receptacle]] += 1
    return len(games), {kind: dict(sorted(counts[kind].items())) for kind in sorted(counts)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("split", type=Path, help="the folder of the training games")
    folder = parser.parse_args().split
    games, placements = count_placements(folder)
    if not games:
        parser.error(f"there are no games in {folder}")
    rows = [f"  {json.dumps(kind)}: {json.dumps(places)}" for kind, places in placements.items()]
    TARGET.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    things = sum(sum(places.values()) for places in placements.values())
    print(f"{games} games, {len(placements)} object types, {things} placements -> {TARGET}")
