"""Expert trajectories: scripted experts or a teacher play training tasks."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpl_gym.agents.agent import Agent, Reply
from hpl_gym.agents.chat import load_prompt, prompt_identity
from hpl_gym.agents.scripted import expert
from hpl_gym.core import HPLGymError, Task
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.progress import bar
from hpl_gym.trainers.records import Stage, read_records
from hpl_gym.trainers.rollout import Simulator, rollout
from hpl_gym.trainers.sections import decisive
from hpl_gym.trainers.seeds import stream
from hpl_gym.trainers.trajectory import to_record
from hpl_gym.trainers.work import choose, in_order, repeated
from hpl_gym.wrappers.react import parse_reply
from hpl_gym.wrappers.transcript import Conversation

if TYPE_CHECKING:
    from hpl_gym.agents.chat_agent import ChatAgent

_NAME = re.compile(r"\b[a-z]+ \d+\b")


class Slipping:
    """An expert that now and then says something wrong, sees what happens, and recovers.

    A policy cloned from flawless trajectories has never seen its own mistakes and is lost after the
    first one. Noise injected into the demonstrations shows it the way back (DART, Laskey et al.
    2017); the slips themselves are not to be imitated. A slip is a reply of the expert at the wrong
    time, or with one name changed to another one of the room, or both.

    Args:
        agent: The expert.
        rate: Share of the turns with a slip, in [0, 1].
        replies: What the expert says in a flawless episode of the task.

    Attributes:
        slips: The turns of the episode that were slips.
    """

    def __init__(self, agent: Agent, rate: float, replies: Sequence[str]) -> None:
        self._agent, self._rate, self._replies = agent, rate, replies
        self.slips: list[int] = []

    async def act(self, conversation: Conversation, seed: int = 0) -> Reply:
        """Return the expert's reply, or a slip."""
        right = await self._agent.act(conversation, seed)
        draw = random.Random(f"{conversation.digest} {seed}")
        if draw.random() >= self._rate:
            return right
        text = draw.choice(self._replies)
        if text == right.text or draw.random() < 0.5:
            shown = [conversation.observation, *(turn.observation for turn in conversation.turns)]
            said = sorted(set(_NAME.findall(parse_reply(text).action)))
            names = sorted(set(_NAME.findall("\n".join(shown))))
            if said and names:
                text = re.sub(rf"\b{draw.choice(said)}\b", draw.choice(names), text)
        if text == right.text:
            return right
        self.slips.append(len(conversation.turns))
        return Reply(text)


def collect_experts(config: Config, run: Path) -> dict[str, Any]:
    """Play `config.experts.count` tasks and write ``experts/trajectories.jsonl``.

    Args:
        config: The run's settings.
        run: The run's folder.

    Returns:
        The stage's manifest, with the number of tasks played and solved, and what a teacher cost.
    """
    settings = config.experts
    sections: dict[str, Any] = {
        "seed": config.seed,
        **config.env.origin(settings.split),
        "env": config.env.model_dump(mode="json"),
        "experts": decisive(settings),
    }
    if settings.teacher:
        sections["prompt"] = prompt_identity(config.prompt)
        sections["max_new_tokens"] = config.max_new_tokens
    stage = Stage(run / "experts", sections)
    if stage.finished:
        return stage.manifest
    tasks = choose(config.env.make(settings.split)[0].tasks(), settings.count)
    done = stage.keys("trajectories")
    teacher = _teacher(config) if settings.teacher else None

    async def episode(task: Task) -> dict[str, Any]:
        seed = stream(config.seed, "expert", task.task_id)
        slips: list[int] = []
        with Simulator(*config.env.make(settings.split)) as simulator:
            start = simulator.start(task)
            agent = teacher or expert(simulator.env, settings.mode, simulator.limit)
            states = await rollout(simulator, agent, start, seed=seed)
            if random.Random(seed).random() < settings.noisy:
                replies = [turn.reply for turn in states[-1].conversation.turns]
                slipping = Slipping(agent, settings.slips, replies)
                states = await rollout(simulator, slipping, start, seed=seed)
                slips = slipping.slips
        return to_record(states, key=task.task_id, slips=slips)

    async def play(task: Task) -> dict[str, Any]:
        record, _ = await repeated(partial(episode, task))
        progress.advance()
        return record

    def write(_: Task, record: dict[str, Any]) -> None:
        stage.append("trajectories", record)

    left = [task for task in tasks if task.task_id not in done]
    try:
        with bar("experts", len(tasks), len(tasks) - len(left)) as progress:
            asyncio.run(in_order(left, play, write, settings.concurrency))
    finally:
        if teacher:
            usage = teacher.client.usage
            spent = {"model_calls": usage.calls, "tokens_out": usage.tokens_out}
            before = stage.manifest
            stage.note(**{name: before.get(name, 0) + count for name, count in spent.items()})
    records = list(read_records(stage.folder / "trajectories.jsonl"))
    solved = [record for record in records if record["success"]]
    turns = sum(len(record["turns"]) for record in solved)
    return stage.finish(
        played=len(records),
        solved=len(solved),
        mean_turns_of_solved=round(turns / max(1, len(solved)), 2),
    )


def _teacher(config: Config) -> ChatAgent:
    from hpl_gym.agents.backends.openai import ChatClient
    from hpl_gym.agents.chat_agent import ChatAgent

    assert config.experts.teacher is not None
    client = ChatClient(config.experts.teacher)
    return ChatAgent(client, load_prompt(config.prompt), max_tokens=config.max_new_tokens)


def clean_experts(trajectories: Path) -> list[dict[str, Any]]:
    """Return the records that solved their task without a slip: what policies are compared with.

    Raises:
        HPLGymError: There are none.
    """
    clean = [one for one in read_records(trajectories) if one["success"] and not one["slips"]]
    if not clean:
        raise HPLGymError(
            f"{trajectories} holds no solved trajectory without slips: delete its folder and "
            "collect more by `hpl experts` (experts.count, experts.noisy)."
        )
    return clean
