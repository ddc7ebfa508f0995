"""Exploration by the reference policy (HPL stage 1): from expert trajectories to valued groups.

    hpl explore --run runs/mine

1. Branches. From every step of an expert trajectory the policy acts to the end of the episode. That
   one branch serves all levels: from the first step it is the policy's own trajectory; the whole of
   it is the step pair's loser; its first turns are the loser of every group that starts there.
2. Segments. The segmenters cut the expert trajectories into action groups.
3. Values. The states at the ends of groups, the expert's and the policy's, are valued by M
   rollouts, each state once.

All rollouts start from restored states; none plays its prefix again.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpl_gym.trainers.account import account
from hpl_gym.trainers.cloned import cloned_policy
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.experts import clean_experts
from hpl_gym.trainers.progress import bar
from hpl_gym.trainers.records import Stage, digest, finished_manifest, read_records
from hpl_gym.trainers.sections import decisive
from hpl_gym.trainers.segmenters import segment_all
from hpl_gym.trainers.work import choose, in_order
from hpl_gym.trainers.worker import Record, Worker, branch_key, group_key, load_policy

if TYPE_CHECKING:
    from hpl_gym.trainers.cluster import Cluster


def explore(config: Config, run: Path, ray: str | None = None) -> dict[str, Any]:
    """Explore from the solved trajectories in ``experts/`` with the policy in ``sft/model``.

    Writes below ``explore/``: ``trajectories.jsonl`` (the branches), ``segments.jsonl`` (the groups
    of each expert trajectory), ``values.jsonl``, and ``groups.jsonl`` (groups with both values).

    Args:
        config: The run's settings.
        run: The run's folder.
        ray: Address of a Ray cluster, ``auto`` for the one that runs here, ``local`` to start one;
            None explores in this process. The files are the same.

    Returns:
        The stage's manifest, with the account of model calls, tokens, environment steps and time.

    Raises:
        StageError: An earlier stage is missing or unfinished, or this one has other settings.
        HPLGymError: The policy was cloned with another prompt.
    """
    finished_manifest(run / "experts", f"experts --run {run}")
    source, model = run / "experts" / "trajectories.jsonl", cloned_policy(config, run)
    policy = digest(sorted(model.glob("*.safetensors")))
    inputs = {"experts": digest([source]), "policy": policy}
    stage = Stage(run / "explore", _settings(config) | inputs)
    if stage.finished:
        return stage.manifest
    experts = choose(clean_experts(source), config.explore.count)
    asyncio.run(_explore(config, stage, experts, model, policy, ray))
    return stage.finish(**account(stage.folder, experts))


def _settings(config: Config) -> dict[str, Any]:
    values = config.model_dump(mode="json")
    return config.playing | {
        "seed": config.seed,
        "env": values["env"],
        "split": config.experts.split,
        "explore": decisive(config.explore),
        **config.env.origin(config.experts.split),
    }


async def _explore(
    config: Config, stage: Stage, experts: list[Record], model: Path, policy: str, ray: str | None
) -> None:
    workers: Worker | Cluster
    if ray is None:
        workers = Worker(config, load_policy(config, model), policy)
    else:
        from hpl_gym.trainers.cluster import Cluster

        workers = Cluster(config, model, policy, ray)
    usage = Counter(stage.manifest.get("usage", {}))
    try:
        await _branch(config, stage, experts, workers)
        branches = defaultdict(list)
        for branch in read_records(stage.folder / "trajectories.jsonl"):
            branches[branch["expert"]].append(branch)
        spans = await segment_all(config, stage, experts, branches, usage)
        await _value(config, stage, experts, branches, spans, workers)
    finally:
        try:
            usage.update(await workers.usage())
            stage.note(usage={name: round(amount, 3) for name, amount in sorted(usage.items())})
        finally:
            await workers.close()


async def _branch(
    config: Config, stage: Stage, experts: list[Record], workers: Worker | Cluster
) -> None:
    """Write the branches of all experts."""
    known = stage.keys("trajectories")
    left = [one for one in experts if branch_key(one["key"], len(one["turns"]) - 1) not in known]
    done = Counter[str]()

    async def work(expert: Record) -> list[Record]:
        branches = await workers.branches(expert)
        done["branches"] += len(branches)
        done["calls"] += sum(one["calls"] for one in branches)
        done["solved"] += sum(one["success"] for one in branches)
        progress.advance()
        progress.note(f"{done['solved'] / done['branches']:.0%} solved, {done['calls']} calls")
        return branches

    def write(expert: Record, branches: list[Record]) -> None:
        stage.append("trajectories", *(one for one in branches if one["key"] not in known))

    with bar("explore branches", len(experts), len(experts) - len(left)) as progress:
        await in_order(left, work, write, config.explore.concurrency)


async def _value(
    config: Config,
    stage: Stage,
    experts: list[Record],
    branches: Mapping[str, list[Record]],
    spans: Mapping[str, Mapping[str, Sequence[Any]]],
    workers: Worker | Cluster,
) -> None:
    """Write the groups of all experts, and the values that they need."""
    known, finished = stage.keys("values"), stage.keys("groups")

    def is_done(expert: Record) -> bool:
        name, own = list(spans[expert["key"]].items())[-1]
        start, stop = own[-1]
        return group_key(name, expert["key"], start, stop) in finished

    left = [expert for expert in experts if not is_done(expert)]
    done = Counter[str]()

    async def work(expert: Record) -> tuple[list[Record], list[Record]]:
        key = expert["key"]
        values, groups = await workers.groups(expert, branches[key], spans[key])
        done["values"] += len(values)
        done["calls"] += sum(one["calls"] for one in values)
        done["pairs"] += sum(one["winner"] - one["loser"] > config.pairs.min_gap for one in groups)
        progress.advance()
        progress.note(f"{done['values']} values, {done['pairs']} pairs, {done['calls']} calls")
        return values, groups

    def write(expert: Record, both: tuple[list[Record], list[Record]]) -> None:
        values, groups = both
        fresh = [one for one in values if one["key"] not in known]
        stage.append("values", *fresh)
        known.update(one["key"] for one in fresh)
        stage.append("groups", *(one for one in groups if one["key"] not in finished))

    with bar("explore values", len(experts), len(experts) - len(left)) as progress:
        await in_order(left, work, write, config.explore.concurrency)
