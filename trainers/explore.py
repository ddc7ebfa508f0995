"""Exploration by the reference policy (HPL stage 1): branches off the expert trajectories, valued.

From every step of an expert trajectory the reference policy acts to the end of the episode. That
one branch serves all three levels: from the first step it is the reference's own trajectory; the
whole of it is the step pair's loser; its first turns are the loser of the group that starts there.
Expert and branch states at the ends of groups are valued by M rollouts. All of it starts from
restored states; no prefix is ever played again.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from hpl_gym.agents.language_model import load_agent
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.experts import clean_experts
from hpl_gym.trainers.progress import bar
from hpl_gym.trainers.records import Stage, digest, finished_manifest
from hpl_gym.trainers.rollout import (
    Simulator,
    State,
    choose,
    in_order,
    repeated,
    replay,
    rollout,
    turn_record,
)
from hpl_gym.trainers.segment import SEGMENTERS
from hpl_gym.trainers.value import Values, stream


def explore(config: Config, run: Path) -> dict[str, Any]:
    """Explore from the solved trajectories in ``experts/`` with the policy in ``sft/model``.

    Writes ``explore/trajectories.jsonl`` (a branch from every step) and ``explore/values.jsonl``.

    Args:
        config: The run's settings.
        run: The run's folder.

    Returns:
        The stage's manifest, with the counts of model calls, tokens and environment steps.

    Raises:
        StageError: An earlier stage is missing or unfinished.
    """
    settings = config.explore
    finished_manifest(run / "experts", "experts")
    finished_manifest(run / "sft", "sft")
    source = run / "experts" / "trajectories.jsonl"
    model = run / "sft" / "model"
    values = config.model_dump(mode="json")
    stage = Stage(
        run / "explore",
        {name: values[name] for name in ("seed", "env", "prompt", "max_new_tokens", "explore")}
        | {"backend": config.env.backend, "experts": digest([source])}
        | {"policy": digest(sorted(model.glob("*.safetensors")))},
    )
    if stage.finished:
        return stage.manifest
    experts = choose(clean_experts(source), settings.count)
    branch_keys, value_keys = stage.keys("trajectories"), stage.keys("values")
    left = [record for record in experts if _last_key(record) not in branch_keys]

    policy = load_agent(
        model,
        prompt=config.prompt,
        temperature=settings.temperature,
        max_new_tokens=config.max_new_tokens,
        device=config.device,
    )
    valuer = policy.at_temperature(settings.value_temperature)
    simulators = []

    async def work(record: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        simulator = Simulator(*config.env.make(config.experts.split))
        simulators.append(simulator)
        expert = replay(simulator, record)
        turns = len(record["turns"])
        branches = await asyncio.gather(
            *(
                rollout(simulator, policy, expert[start], seed=stream(config.seed, "branch", start))
                for start in range(turns)
            )
        )
        worth = Values(simulator, valuer, settings.rollouts, config.seed)
        spans = SEGMENTERS[settings.segmenter](turns, settings.size)
        groups = await asyncio.gather(
            *(_value_group(worth, expert, branches[start], start, stop) for start, stop in spans)
        )
        group_of = {group["start"]: group for group in groups}
        progress.advance()
        progress.note(f"{policy.backend.usage.calls} model calls")
        return [
            _branch_record(record["key"], start, states, group_of.get(start))
            for start, states in enumerate(branches)
        ], worth.records()

    async def sound(
        record: dict[str, Any],
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        return (await repeated(partial(work, record)))[0]

    def done(
        record: dict[str, Any], result: tuple[list[dict[str, Any]], list[dict[str, Any]]]
    ) -> None:
        branches, estimates = result
        for name, records, known in (
            ("values", estimates, value_keys),
            ("trajectories", branches, branch_keys),
        ):
            for one in records:
                if one["key"] not in known:
                    stage.append(name, one)
                    known.add(one["key"])

    with bar("explore", len(experts), len(experts) - len(left)) as progress:
        asyncio.run(in_order(left, sound, done, settings.concurrency))
    usage = policy.backend.usage
    return stage.finish(
        experts=len(experts),
        branches=len(branch_keys),
        values=len(value_keys),
        model_calls=usage.calls,
        tokens_in=usage.tokens_in,
        tokens_computed=usage.tokens_computed,
        tokens_out=usage.tokens_out,
        env_steps=sum(simulator.steps for simulator in simulators),
    )


async def _value_group(
    values: Values, expert: list[State], branch: list[State], start: int, stop: int
) -> dict[str, Any]:
    loser = branch[min(stop - start, len(branch) - 1)]
    winner_value, loser_value = await asyncio.gather(
        values.value(expert[stop]), values.value(loser)
    )
    return {"start": start, "stop": stop, "winner": winner_value, "loser": loser_value}


def _branch_record(
    expert: str, start: int, states: list[State], group: dict[str, Any] | None
) -> dict[str, Any]:
    last = states[-1]
    return {
        "key": _key(expert, start),
        "expert": expert,
        "start": start,
        "turns": [turn_record(state.conversation) for state in states[1:]],
        "reward": last.reward,
        "success": last.success,
        "group": group,
    }


def _key(expert: str, start: int) -> str:
    return f"{expert}#{start}"


def _last_key(record: dict[str, Any]) -> str:
    return _key(record["key"], len(record["turns"]) - 1)
