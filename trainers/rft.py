"""Rejection-sampling fine-tuning (RFT): the policy plays, and is cloned again from what it solved.

    hpl rft --run runs/mine

Every task is played a number of times; solved trajectories are kept, each course of actions once
and none that the expert took, and the policy is cloned again from the experts' and its own (Yuan et
al. 2023, section 3.3). Like the preference methods it begins with the policy in ``sft/model``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpl_gym.agents.language_model import load_model, load_tokenizer
from hpl_gym.core import Task
from hpl_gym.trainers.cloned import cloned_policy
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.processes import open_stage, processes
from hpl_gym.trainers.progress import bar, console
from hpl_gym.trainers.records import Stage, digest, read_records
from hpl_gym.trainers.rollout import Simulator, State, rollout
from hpl_gym.trainers.sections import decisive
from hpl_gym.trainers.seeds import stream
from hpl_gym.trainers.sft import clone
from hpl_gym.trainers.trajectory import to_record
from hpl_gym.trainers.work import choose, in_order, repeated, together
from hpl_gym.trainers.worker import load_policy
from hpl_gym.wrappers.react import parse_reply

Record = dict[str, Any]


def rft(config: Config, run: Path) -> dict[str, Any]:
    """Sample with the policy in ``sft/model``, clone the successes, and write ``rft/model/``.

    Args:
        config: The run's settings.
        run: The run's folder.

    Returns:
        The stage's manifest, with the numbers of trajectories sampled and kept.

    Raises:
        StageError: An earlier stage is missing or unfinished.
        HPLGymError: The policy was cloned with another prompt.
    """
    source, model = run / "experts" / "trajectories.jsonl", cloned_policy(config, run)
    policy = digest(sorted(model.glob("*.safetensors")))
    state = processes(config.device)
    sections = config.playing | {
        "seed": config.seed,
        "env": config.env.model_dump(mode="json"),
        "split": config.experts.split,
        "rft": decisive(config.rft),
        **config.env.origin(config.experts.split),
    }
    inputs = {"experts": digest([source]), "policy": policy}
    stage = open_stage(state, run / "rft", sections | inputs)
    if stage.finished:
        return stage.manifest
    if state.is_main_process:
        _sample(config, stage, model)
    state.wait_for_everyone()
    experts = [one for one in read_records(source) if one["success"]]
    sampled = list(read_records(stage.folder / "trajectories.jsonl"))
    kept = distinct(sampled, experts)
    if state.is_main_process:
        solved = sum(one["success"] for one in sampled)
        stage.note(sampled=len(sampled), solved=solved, kept=len(kept))
        if not kept:
            console.print(
                f"None of {len(sampled)} samples solved its task in a way of its own, so the "
                "experts' trajectories are cloned once more: more samples come by rft.count and "
                "rft.samples."
            )
    tokenizer = load_tokenizer(model)
    return clone(
        config,
        config.rft,
        stage,
        state,
        experts + kept,
        tokenizer,
        lambda: load_model(model)[0],
    )


def distinct(sampled: Sequence[Record], experts: Sequence[Record]) -> list[Record]:
    """Return the solved trajectories, each task's every course of actions once.

    Args:
        sampled: The policy's trajectories.
        experts: Trajectories whose courses are not taken again.
    """
    seen = {_course(one) for one in experts}
    kept = []
    for one in sampled:
        course = _course(one)
        if one["success"] and course not in seen:
            seen.add(course)
            kept.append(one)
    return kept


def _course(record: Record) -> tuple[str, ...]:
    return (record["task_id"], *(parse_reply(turn["reply"]).action for turn in record["turns"]))


def _sample(config: Config, stage: Stage, model: Path) -> None:
    settings = config.rft
    env, _ = config.env.make(config.experts.split)
    tasks = choose(env.tasks(), settings.count)
    known = stage.keys("trajectories")

    def keys(task: Task) -> list[str]:
        return [f"{task.task_id}#{number}" for number in range(settings.samples)]

    left = [task for task in tasks if not known.issuperset(keys(task))]
    if not left:
        return
    agent = load_policy(config, model)
    player = agent.at_temperature(settings.temperature)
    solved = 0

    async def work(task: Task) -> list[Record]:
        nonlocal solved

        async def episodes() -> list[list[State]]:
            seeds = [stream(config.seed, "rft", key) for key in keys(task)]
            with Simulator(*config.env.make(config.experts.split)) as simulator:
                start = simulator.start(task)
                return await together(
                    rollout(simulator, player, start, seed=seed) for seed in seeds
                )

        found, _ = await repeated(episodes)
        records = [
            to_record(states, key=key, slips=[])
            for key, states in zip(keys(task), found, strict=True)
        ]
        solved += sum(one["success"] for one in records)
        progress.advance()
        progress.note(f"{solved} solved")
        return records

    def done(task: Task, records: list[Record]) -> None:
        stage.append("trajectories", *(one for one in records if one["key"] not in known))

    async def sample() -> None:
        try:
            await in_order(left, work, done, settings.concurrency)
        finally:
            await agent.backend.close()

    with bar("rft samples", len(tasks), len(tasks) - len(left)) as progress:
        asyncio.run(sample())
