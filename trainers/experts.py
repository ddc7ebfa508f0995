"""Expert trajectories: scripted experts play training tasks, and what they solved is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hpl_gym.agents.scripted import expert
from hpl_gym.core import Task
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.progress import bar
from hpl_gym.trainers.records import Stage, read_records
from hpl_gym.trainers.rollout import Simulator, rollout, to_record
from hpl_gym.trainers.value import stream


def collect_experts(config: Config, run: Path) -> dict[str, Any]:
    """Play `config.experts.count` tasks and write ``experts/trajectories.jsonl``.

    Args:
        config: The run's settings.
        run: The run's folder.

    Returns:
        The stage's manifest, with the number of tasks played and solved.
    """
    settings = config.experts
    stage = Stage(run / "experts", {"seed": config.seed, **_sections(config, "env", "experts")})
    env, limit = config.env.make(settings.split)
    tasks = env.tasks()[: settings.count]
    simulator = Simulator(env, limit)
    done = stage.keys("trajectories")

    def play(task: Task) -> dict[str, Any]:
        start = simulator.start(task)
        agent = expert(env, settings.mode)
        seed = stream(config.seed, "expert", task.task_id)
        states = asyncio.run(rollout(simulator, agent, start, seed=seed))
        return to_record(states, key=task.task_id)

    with bar("experts", len(tasks), len(done)) as progress:
        for task in tasks:
            if task.task_id not in done:
                stage.append("trajectories", play(task))
                progress.advance()
    records = list(read_records(stage.folder / "trajectories.jsonl"))
    solved = [record for record in records if record["success"]]
    turns = sum(len(record["turns"]) for record in solved)
    return stage.finish(
        played=len(records), solved=len(solved), mean_turns=round(turns / max(1, len(solved)), 2)
    )


def _sections(config: Config, *names: str) -> dict[str, Any]:
    values = config.model_dump(mode="json")
    return {name: values[name] for name in names}
