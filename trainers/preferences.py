"""Preference pairs at three levels, from expert trajectories and the reference policy's branches.

Every winner is a piece of an expert trajectory, so a pair names it by its span of turns; every
loser branches off at the span's start.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpl_gym.trainers.config import Config
from hpl_gym.trainers.curriculum import cell
from hpl_gym.trainers.records import Stage, StageError, digest, finished_manifest, read_records
from hpl_gym.trainers.sections import PairsConfig

LEVELS = ("trajectory", "step", "group")
Record = dict[str, Any]


def make_pairs(config: Config, run: Path) -> dict[str, Any]:
    """Turn ``explore/`` into ``pairs/pairs_{trajectory,step,group}.jsonl``.

    * trajectory: the expert trajectory against the reference policy's own;
    * step: from every later step, the rest of the expert trajectory against the reference's rest
      (from the first step this is the trajectory pair, which is not taken twice);
    * group: an action group of the expert against as many turns of the reference, rewarded by the
      values of the states they end in; once for every segmenter.

    A pair is kept when the winner's reward exceeds the loser's by more than ``pairs.min_gap``, and
    dropped as ``same`` (the same replies; of a step pair, the same first reply: it is the next
    step's pair once more), ``tie`` (too small a gap) or ``worse`` (the winner's reward is the lower
    one).

    A record has: key, level, segmenter (groups), expert, the turns ``[start, stop)`` of the winner,
    the loser's turns, reward_winner, reward_loser, gap, length (turns of the winner), cell
    (groups), and the places ``[from, to)`` of both in the tokens of their conversations, whose
    first ``from`` tokens are the same.

    Args:
        config: The run's settings.
        run: The run's folder.

    Returns:
        The stage's manifest: pairs kept and dropped at each level (of groups: by segmenter), and
        the group pairs' grid.

    Raises:
        StageError: An earlier stage is missing or unfinished, or other trajectories were explored.
    """
    made = finished_manifest(run / "explore", f"explore --run {run}")["config"]
    experts_file = run / "experts" / "trajectories.jsonl"
    explored = [run / "explore" / f"{name}.jsonl" for name in ("trajectories", "groups")]
    stage = Stage(
        run / "pairs",
        {
            "pairs": config.pairs.model_dump(mode="json"),
            "experts": digest([experts_file]),
            "explore": digest(explored),
        },
    )
    if stage.finished:
        return stage.manifest
    if made["experts"] != stage.manifest["config"]["experts"]:
        raise StageError(
            f"{run / 'explore'} explored other expert trajectories than {experts_file} holds: "
            "delete its folder and explore again, or put the old trajectories back."
        )
    experts = {record["key"]: record for record in read_records(experts_file)}
    groups = defaultdict(list)
    for group in read_records(explored[1]):
        groups[group["expert"], group["start"]].append(group)
    known = {level: stage.keys(f"pairs_{level}") for level in LEVELS}
    kept = Counter[str]()
    dropped: defaultdict[str, Counter[str]] = defaultdict(Counter)
    grid: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for branch in read_records(explored[0]):
        expert = experts[branch["expert"]]
        own = groups[branch["expert"], branch["start"]]
        for pair in _pairs(expert, branch, own, config.pairs):
            level = pair["level"]
            name = str(pair.get("segmenter", level))
            reason = _reason(expert, pair, config.pairs.min_gap)
            if reason:
                dropped[name][reason] += 1
                continue
            kept[name] += 1
            if level == "group":
                grid[name]["{},{}".format(*pair["cell"])] += 1
            if pair["key"] not in known[level]:
                stage.append(f"pairs_{level}", pair)
    names = dict.fromkeys([*LEVELS[:2], *sorted(set(kept) | set(dropped))])
    return stage.finish(
        kept={name: kept[name] for name in names},
        dropped={name: dict(sorted(dropped[name].items())) for name in names},
        grid={name: dict(sorted(cells.items())) for name, cells in sorted(grid.items())},
    )


def _reason(expert: Record, pair: Record, min_gap: float) -> str:
    """Return why a pair is dropped; "" if it is kept."""
    winner = expert["turns"][pair["start"] : pair["stop"]]
    ours, theirs = ([turn["reply"] for turn in turns] for turns in (winner, pair["loser"]))
    if ours == theirs or (pair["level"] == "step" and ours[:1] == theirs[:1]):
        return "same"
    if pair["gap"] > min_gap:
        return ""
    return "tie" if pair["gap"] >= -min_gap else "worse"


def _pairs(
    expert: Record,
    branch: Record,
    groups: Sequence[Mapping[str, Any]],
    settings: PairsConfig,
) -> Iterator[Record]:
    """Yield the pairs of a branch: one with all of it, and one with each group's first turns."""
    start, turns = branch["start"], len(expert["turns"])
    level = "step" if start else "trajectory"
    span = (start, turns)
    yield {
        "key": f"{branch['expert']}#{start}-{turns}",
        "level": level,
        **_pair(branch, span, len(branch["turns"])),
        "winner_tokens": branch["winner_tokens"],
        "loser_tokens": [branch["bounds"][0], branch["bounds"][-1]],
        **_rewards(expert["reward"], branch["reward"]),
    }
    for group in groups:
        length = group["stop"] - start
        rewards = _rewards(group["winner"], group["loser"])
        yield {
            "key": group["key"],
            "level": "group",
            "segmenter": group["segmenter"],
            **_pair(branch, (start, group["stop"]), length),
            "winner_tokens": group["winner_tokens"],
            "loser_tokens": group["loser_tokens"],
            **rewards,
            "cell": cell(length, rewards["gap"], settings.lengths, settings.gaps),
        }


def _pair(branch: Record, span: tuple[int, int], turns: int) -> Record:
    start, stop = span
    return {
        "expert": branch["expert"],
        "start": start,
        "stop": stop,
        "length": stop - start,
        "loser": branch["turns"][:turns],
    }


def _rewards(winner: float, loser: float) -> Record:
    return {
        "reward_winner": winner,
        "reward_loser": loser,
        "gap": round(winner - loser, 6),
    }
