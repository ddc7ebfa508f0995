"""The way of earlier work to explore, for `exploration.py`: reset and replay for every rollout."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium

from hpl_gym.agents.backends.request import Completion, Request, Usage
from hpl_gym.agents.chat import ChatEncoder, load_prompt
from hpl_gym.agents.language_model import LanguageModelAgent, load_model
from hpl_gym.trainers.config import Config
from hpl_gym.wrappers import ReActWrapper, TranscriptWrapper


class Generate:
    """A backend that answers one request after the other by `generate`.

    Args:
        model: A `transformers` causal language model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.usage = Usage()

    async def generate(self, request: Request) -> Completion:
        """Return the model's continuation."""
        import torch

        torch.manual_seed(request.seed)
        context = torch.tensor([request.ids])
        ids = self._model.generate(
            context,
            attention_mask=torch.ones_like(context),
            do_sample=True,
            temperature=request.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=request.max_new_tokens,
            eos_token_id=request.stop_id,
            pad_token_id=request.stop_id,
        )
        return Completion(tuple(ids[0, len(request.ids) :].tolist()), (), ())

    async def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Job:
    """What is done from one step of an expert trajectory, in one go.

    Attributes:
        task: The task.
        replies: The expert's replies.
        start: The step.
        stops: Where the groups that start there end, one for each method that has such a group.
    """

    task: str
    replies: list[str]
    start: int
    stops: list[int]


class ReplayWay:
    """Rollouts by reset and replay, in a process of its own.

    Args:
        config: The run's settings.
        model: The policy's folder.
    """

    def __init__(self, config: Config, model: Path) -> None:
        import torch

        torch.set_num_threads(1)
        policy, tokenizer = load_model(model)
        self._agent = LanguageModelAgent(
            Generate(policy),
            ChatEncoder(tokenizer, load_prompt(config.prompt)),
            temperature=config.explore.temperature,
            max_new_tokens=config.max_new_tokens,
        )
        kwargs = config.env.kwargs | {"engine": "textworld"}
        env = gymnasium.make(
            config.env.id, split=config.experts.split, disable_env_checker=True, **kwargs
        )
        self._env = TranscriptWrapper(ReActWrapper(env))
        self._rollouts = config.explore.rollouts
        self._done: Counter[str] = Counter()

    def explore(self, job: Job) -> Counter[str]:
        """Branch from a step, and value the ends of the groups there, the expert's and the own.

        Where an episode was over at the end of a group, nothing is rolled out.
        """
        self._done = Counter()
        before = job.replies[: job.start]
        branch = self._roll(job.task, before, 0)
        for stop in job.stops:
            turns = stop - job.start
            ends = [job.replies[:stop]] if stop < len(job.replies) else []
            ends += [before + branch[:turns]] if turns < len(branch) else []
            for prefix in ends:
                for number in range(self._rollouts):
                    self._roll(job.task, prefix, number)
        return self._done

    def _roll(self, task: str, prefix: list[str], seed: int) -> list[str]:
        begun = time.perf_counter()
        _, info = self._env.reset(options={"task": task})
        for reply in prefix:
            _, _, _, _, info = self._env.step(reply)
        self._done["env"] += time.perf_counter() - begun
        over, replies = False, []
        while not over:
            begun = time.perf_counter()
            text = asyncio.run(self._agent.act(info["conversation"], seed)).text
            middle = time.perf_counter()
            _, _, terminated, truncated, info = self._env.step(text)
            over = terminated or truncated
            replies.append(text)
            self._done["model"] += middle - begun
            self._done["env"] += time.perf_counter() - middle
            self._done["calls"] += 1
        return replies


_WAY: list[ReplayWay] = []  # of this process


def _begin(config: Config, model: Path) -> None:
    _WAY.append(ReplayWay(config, model))


def _work(job: Job) -> Counter[str]:
    return _WAY[0].explore(job)


def jobs(experts: Sequence[dict[str, Any]], spans: dict[str, Any]) -> Iterator[Job]:
    """Yield all work of the replay way.

    Args:
        experts: The expert trajectories.
        spans: The groups of every method, by expert.
    """
    for expert in experts:
        replies = [turn["reply"] for turn in expert["turns"]]
        groups = [span for own in spans[expert["key"]].values() for span in own]
        for start in range(len(replies)):
            stops = [stop for begin, stop in groups if begin == start]
            yield Job(expert["task_id"], replies, start, stops)


def replay(
    config: Config,
    model: Path,
    experts: Sequence[dict[str, Any]],
    spans: dict[str, Any],
    processes: int,
) -> tuple[Counter[str], float]:
    """Explore in so many processes.

    Args:
        config: The run's settings.
        model: The policy's folder.
        experts: The expert trajectories.
        spans: The groups of every method, by expert.
        processes: One for each core.

    Returns:
        Seconds in the environment (`env`) and in the `model` over all processes and `calls` of it,
        and the wall time in seconds.
    """
    begun = time.perf_counter()
    done: Counter[str] = Counter()
    with ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(config, model),
    ) as pool:
        for one in pool.map(_work, jobs(experts, spans)):
            done += one
    return done, time.perf_counter() - begun
