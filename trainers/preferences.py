"""Preference pairs at three levels, from expert trajectories and the reference policy's branches.

Every winner is a piece of an expert trajectory, so a pair names it by its span of turns; every
loser branches off at the span's start.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from hpl_gym.trainers.config import Config, PairsConfig
from hpl_gym.trainers.curriculum import cell
from hpl_gym.trainers.records import Stage, digest, finished_manifest, read_records

LEVELS = ("trajectory", "step", "group")


def make_pairs(config: Config, run: Path) -> dict[str, Any]:
    """Turn ``explore/`` into ``pairs/pairs_{trajectory,step,group}.jsonl``.

    * trajectory: the expert trajectory against the reference policy's own;
    * step: from every later step, the rest of the expert trajectory against the reference's rest
      (from the first step this is the trajectory pair, which is not taken twice);
    * group: an action group of the expert against as many turns of the reference, rewarded by the
      values of the states they end in.

    A pair is kept when the winner's reward exceeds the loser's by more than ``pairs.min_gap``.

    Args:
        config: The run's settings.
        run: The run's folder.

    Returns:
        The stage's manifest: pairs kept and dropped at each level, and the group pairs' grid.

    Raises:
        StageError: An earlier stage is missing or unfinished.
    """
    finished_manifest(run / "explore", "explore")
    experts_file = run / "experts" / "trajectories.jsonl"
    branches_file = run / "explore" / "trajectories.jsonl"
    stage = Stage(
        run / "pairs",
        {
            "pairs": config.pairs.model_dump(mode="json"),
            "experts": digest([experts_file]),
            "explore": digest([branches_file]),
        },
    )
    if stage.finished:
        return stage.manifest
    experts = {record["key"]: record for record in read_records(experts_file)}
    known = {level: stage.keys(f"pairs_{level}") for level in LEVELS}
    kept, dropped = Counter[str](), Counter[str]()
    grid = Counter[str]()
    for branch in read_records(branches_file):
        for pair in _pairs(experts[branch["expert"]], branch, config.pairs):
            level = pair["level"]
            if pair["gap"] <= config.pairs.min_gap:
                dropped[level] += 1
                continue
            kept[level] += 1
            if level == "group":
                grid["{},{}".format(*pair["cell"])] += 1
            if pair["key"] not in known[level]:
                stage.append(f"pairs_{level}", pair)
    return stage.finish(
        kept={level: kept[level] for level in LEVELS},
        dropped_no_gap={level: dropped[level] for level in LEVELS},
        grid=dict(sorted(grid.items())),
    )


def _pairs(
    expert: dict[str, Any], branch: dict[str, Any], settings: PairsConfig
) -> list[dict[str, Any]]:
    start, turns = branch["start"], len(expert["turns"])
    level = "step" if start else "trajectory"
    pairs = [_pair(level, branch, (start, turns), expert["reward"], branch["reward"])]
    group = branch["group"]
    if group:
        pair = _pair("group", branch, (start, group["stop"]), group["winner"], group["loser"])
        length = group["stop"] - start
        pair["loser"] = pair["loser"][:length]
        pair["cell"] = cell(length, pair["gap"], settings.lengths, settings.gaps)
        pairs.append(pair)
    return pairs


def _pair(
    level: str, branch: dict[str, Any], span: tuple[int, int], winner: float, loser: float
) -> dict[str, Any]:
    start, stop = span
    return {
        "key": f"{branch['expert']}#{start}-{stop}",
        "level": level,
        "expert": branch["expert"],
        "start": start,
        "stop": stop,
        "loser": branch["turns"],
        "reward_winner": winner,
        "reward_loser": loser,
        "gap": round(winner - loser, 6),
    }
