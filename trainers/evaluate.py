"""Evaluation: an agent plays a split's tasks, the same ones in the same order everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hpl_gym.agents.agent import Agent
from hpl_gym.agents.chat import load_prompt
from hpl_gym.agents.human import HumanAgent
from hpl_gym.agents.language_model import LanguageModelAgent, load_agent
from hpl_gym.agents.random import RandomAgent
from hpl_gym.agents.scripted import expert
from hpl_gym.core import HPLGymError, Task
from hpl_gym.trainers.cloned import refuse_other_prompt
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.progress import bar
from hpl_gym.trainers.records import (
    Stage,
    digest,
    read_records,
    repair,
    write_json,
)
from hpl_gym.trainers.rollout import Simulator, State, rollout
from hpl_gym.trainers.sections import decisive
from hpl_gym.trainers.seeds import stream
from hpl_gym.trainers.statistics import summarize
from hpl_gym.trainers.trajectory import to_record
from hpl_gym.trainers.work import choose, in_order, repeated

if TYPE_CHECKING:
    from hpl_gym.trainers.cluster import Cluster

SCRIPTED: dict[str, Literal["search", "informed"]] = {"scripted": "search", "informed": "informed"}


def evaluate(
    config: Config, run: Path, agent: str, name: str, ray: str | None = None
) -> dict[str, Any]:
    """Let `agent` play and write ``eval/<name>/`` (``episodes.jsonl``, ``result.json``).

    Args:
        config: The run's settings.
        run: The run's folder.
        agent: See `make_agent`.
        name: What to call the result.
        ray: Address of a Ray cluster for a language model, ``auto`` for the one that runs here,
            ``local`` to start one; None plays in this process.

    Returns:
        ``{"agent", "splits": {split: {"all" | task type: rate with interval}}, "mean_turns"}``.

    Raises:
        StageError: The folder was made with other settings.
        HPLGymError: The agent is none that a cluster can play, or was trained with another prompt.
    """
    is_model = agent != "random" and agent not in SCRIPTED
    if ray is not None and (not is_model or agent == "human" or agent.startswith("openai:")):
        raise HPLGymError(
            f"--ray spreads a language model's policy over machines, and {agent!r} has none: leave "
            "it out."
        )
    settings = config.eval
    values = config.model_dump(mode="json")
    sections = {key: values[key] for key in ("seed", "env")} | {
        "eval": decisive(settings),
        "agent": agent,
        **config.env.origin(*settings.splits),
    }
    if is_model:
        weights = sorted(Path(agent).glob("*.safetensors"))
        # A run's folder may be moved: a model is known by its weights, not by its place.
        sections |= config.playing | {"agent": digest(weights) if weights else agent}
        refuse_other_prompt(config, Path(agent))
    stage = Stage(run / "eval" / name, sections)
    if not stage.finished:
        asyncio.run(_play(config, stage, agent, ray))
    episodes = list(read_records(stage.folder / "episodes.jsonl"))
    result = {
        "agent": agent,
        "splits": {
            split: summarize(one for one in episodes if one["split"] == split)
            for split in settings.splits
        },
        "mean_turns": round(sum(len(one["turns"]) for one in episodes) / max(1, len(episodes)), 2),
    }
    write_json(stage.folder / "result.json", result)
    if not stage.finished:
        stage.finish()
    return result


async def _play(config: Config, stage: Stage, agent: str, ray: str | None) -> None:
    """Play what is left of all splits."""
    players: _Player | Cluster
    if ray is None:
        players = _Player(config, agent)
    else:
        from hpl_gym.trainers.cluster import Cluster

        players = Cluster(config, Path(agent), agent, ray)
    try:
        for split in config.eval.splits:
            await _play_split(config, stage, players, split)
    finally:
        await players.close()


async def _play_split(config: Config, stage: Stage, players: _Player | Cluster, split: str) -> None:
    episodes = stage.folder / "episodes.jsonl"
    repair(episodes)
    known = {one["key"] for one in read_records(episodes) if one["split"] == split}
    tasks = choose(config.env.make(split)[0].tasks(), config.eval.count)
    left = [task for task in tasks if task.task_id not in known]
    solved = 0

    async def work(task: Task) -> dict[str, Any]:
        nonlocal solved
        record = await players.episode(task, split)
        solved += record["success"]
        progress.advance()
        progress.note(f"{solved} solved")
        return record

    def done(_: Task, record: dict[str, Any]) -> None:
        stage.append("episodes", record)

    title = f"eval {stage.folder.name} {split}"
    with bar(title, len(tasks), len(tasks) - len(left)) as progress:
        await in_order(left, work, done, config.eval.concurrency)


class _Player:
    """An agent that plays in this process."""

    def __init__(self, config: Config, agent: str) -> None:
        self._config = config
        make = partial(make_agent, config, agent, temperature=config.eval.temperature)
        self._make = make
        self._model = None if agent in SCRIPTED else make(None)

    async def episode(self, task: Task, split: str) -> dict[str, Any]:
        return await play_task(
            self._config, lambda simulator: self._model or self._make(simulator), task, split
        )

    async def close(self) -> None:
        if isinstance(self._model, LanguageModelAgent):
            await self._model.backend.close()


async def play_task(
    config: Config, player: Callable[[Simulator], Agent], task: Task, split: str
) -> dict[str, Any]:
    """Play a task in evaluation, and again where the environment fails.

    Args:
        config: The run's settings.
        player: Returns who plays, given the simulator that is set to the task.
        task: The task.
        split: Its split.

    Returns:
        The episode's record.
    """
    seed = stream(config.seed, "eval", task.task_id)

    async def episode() -> list[State]:
        with Simulator(*config.env.make(split)) as simulator:
            start = simulator.start(task)
            return await rollout(simulator, player(simulator), start, seed=seed)

    states, faults = await repeated(episode)
    return to_record(states, key=task.task_id, split=split, faults=faults)


def make_agent(
    config: Config, agent: str, simulator: Simulator | None, temperature: float
) -> Agent:
    """Return the agent that a name or a model folder means.

    Args:
        config: The run's settings.
        agent: ``human``, ``random``, ``scripted``, ``informed``, a model's folder or hub name,
            or ``openai:`` and a chat model's name at the server that OPENAI_BASE_URL means.
        simulator: Set to the task that is played; only scripted agents look into it.
        temperature: A language model's sampling temperature.
    """
    if agent == "human":
        return HumanAgent()
    if agent == "random":
        return RandomAgent()
    if agent in SCRIPTED:
        assert simulator is not None
        return expert(simulator.env, SCRIPTED[agent], simulator.limit)
    if agent.startswith("openai:"):
        from hpl_gym.agents.backends.openai import ChatClient
        from hpl_gym.agents.chat_agent import ChatAgent

        client = ChatClient(agent.removeprefix("openai:"))
        return ChatAgent(
            client,
            load_prompt(config.prompt),
            temperature=temperature,
            max_tokens=config.max_new_tokens,
        )
    return load_agent(
        agent,
        prompt=config.prompt,
        temperature=temperature,
        max_new_tokens=config.max_new_tokens,
        device=config.device,
        backend=config.backend,
    )
