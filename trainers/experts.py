"""Expert trajectories: scripted experts play training tasks, and what they solved is kept."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path
from typing import Any

from hpl_gym.agents.agent import Agent, Reply
from hpl_gym.agents.scripted import expert
from hpl_gym.core import Task
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.progress import bar
from hpl_gym.trainers.records import Stage, read_records
from hpl_gym.trainers.rollout import Simulator, choose, rollout, to_record
from hpl_gym.trainers.value import stream
from hpl_gym.wrappers.transcript import Conversation

_NAME = re.compile(r"\b[a-z]+ \d+\b")


class Slipping:
    """An expert that now and then says a wrong name, sees what happens, and recovers.

    A policy cloned from flawless trajectories has never seen its own mistakes and is lost after the
    first one. Noise injected into the demonstrations shows it the way back (DART, Laskey et al.
    2017); the slips themselves are not to be imitated.

    Args:
        agent: The expert.
        rate: Share of the turns with a slip, in [0, 1].

    Attributes:
        slips: The turns of the episode that were slips.
    """

    def __init__(self, agent: Agent, rate: float) -> None:
        self._agent, self._rate = agent, rate
        self.slips: list[int] = []

    async def act(self, conversation: Conversation, seed: int = 0) -> Reply:
        """Return the expert's reply, or that with one name changed to another one of the room."""
        reply = await self._agent.act(conversation, seed)
        draw = random.Random(f"{conversation.digest} {seed}")
        said = sorted(set(_NAME.findall(reply.action)))
        if draw.random() >= self._rate or not said:
            return reply
        wrong = draw.choice(said)
        shown = [conversation.observation, *(turn.observation for turn in conversation.turns)]
        names = sorted(set(_NAME.findall("\n".join(shown))) - {wrong})
        if not names:
            return reply
        self.slips.append(len(conversation.turns))
        return Reply(re.sub(rf"\b{wrong}\b", draw.choice(names), reply.text))


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
    tasks = choose(env.tasks(), settings.count)
    simulator = Simulator(env, limit)
    done = stage.keys("trajectories")

    def play(task: Task) -> dict[str, Any]:
        start = simulator.start(task)
        seed = stream(config.seed, "expert", task.task_id)
        slips = random.Random(seed).random() < settings.noisy
        agent = Slipping(expert(env, settings.mode), settings.slips if slips else 0.0)
        states = asyncio.run(rollout(simulator, agent, start, seed=seed))
        return to_record(states, key=task.task_id, slips=agent.slips)

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


def clean_experts(trajectories: Path) -> list[dict[str, Any]]:
    """Return the records that solved their task without a slip: what policies are compared with."""
    return [one for one in read_records(trajectories) if one["success"] and not one["slips"]]


def _sections(config: Config, *names: str) -> dict[str, Any]:
    values = config.model_dump(mode="json")
    return {name: values[name] for name in names}
