"""Exploration beside the way of earlier work, and what shared values and prefixes save.

    hpl quickstart
    python benchmarks/exploration.py --run runs/quickstart

The replay way plays on TextWorld, in one process a core: for every rollout it resets the game,
replays the prefix, and asks the model for one reply at a time; the ends of all groups are valued
on their own. Both make the same pairs of the same expert trajectories with the same policy and M.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
from rich.console import Console
from rich.table import Table

from hpl_gym.agents.agent import Agent
from hpl_gym.agents.backends.request import Completion, Request
from hpl_gym.agents.chat import ChatEncoder, load_prompt
from hpl_gym.agents.language_model import LanguageModelAgent, load_model
from hpl_gym.trainers import explore as exploration
from hpl_gym.trainers.config import Config, load_config
from hpl_gym.trainers.experts import clean_experts
from hpl_gym.trainers.rollout import choose
from hpl_gym.trainers.segment import fixed_k
from hpl_gym.trainers.worker import load_policy
from hpl_gym.wrappers import ReActWrapper, TranscriptWrapper

Actions = list[str]
ALL = ("fixed-k", "fixed-n", "uncertainty", "semantic", "single")


class ReplayWay:
    """Rollouts by reset and replay.

    Args:
        config: The run's settings.
        agent: The policy.
    """

    def __init__(self, config: Config, agent: Agent) -> None:
        self._config, self._agent = config, agent
        kwargs = config.env.kwargs | {"engine": "textworld"}
        env = gymnasium.make(
            config.env.id, split=config.experts.split, disable_env_checker=True, **kwargs
        )
        self._env = TranscriptWrapper(ReActWrapper(env))
        self.done: Counter[str] = Counter()

    def explore(self, expert: dict[str, Any]) -> None:
        """Branch from every step of an expert trajectory and value all group ends."""
        replies = [turn["reply"] for turn in expert["turns"]]
        task, draws = expert["task_id"], range(self._config.explore.rollouts)
        branches = [self._roll(task, replies[:start], start) for start in range(len(replies))]
        for start, stop in fixed_k(len(replies), self._config.explore.k):
            own = branches[start][: stop - start]
            for prefix in (replies[:stop], replies[:start] + own):
                for number in draws:
                    self._roll(task, prefix, number)

    def _roll(self, task: str, prefix: Actions, seed: int) -> Actions:
        begun = time.perf_counter()
        _, info = self._env.reset(options={"task": task})
        over, replies = False, []
        for reply in prefix:
            _, _, terminated, truncated, info = self._env.step(reply)
            over = terminated or truncated
        self.done["env"] += time.perf_counter() - begun
        if over and prefix:  # its outcome is its value; nothing is rolled out
            return replies
        while not over:
            begun = time.perf_counter()
            text = asyncio.run(self._agent.act(info["conversation"], seed)).text
            middle = time.perf_counter()
            _, _, terminated, truncated, info = self._env.step(text)
            over = terminated or truncated
            replies.append(text)
            self.done["model"] += middle - begun
            self.done["env"] += time.perf_counter() - middle
            self.done["calls"] += 1
        return replies


def replay_one(config: Config, model: Path, expert: dict[str, Any]) -> Counter[str]:
    """Explore one expert trajectory in the replay way, in a process of its own."""
    import torch

    from hpl_gym.agents.backends.transformers import TransformersBackend

    torch.set_num_threads(1)
    policy, tokenizer = load_model(model)
    backend = TransformersBackend(policy, max_batch=1, cache_bytes=0)
    agent = LanguageModelAgent(
        backend,
        ChatEncoder(tokenizer, load_prompt(config.prompt)),
        temperature=config.explore.temperature,
        max_new_tokens=config.max_new_tokens,
    )
    way = ReplayWay(config, agent)
    way.explore(expert)
    return way.done


class Recorder:
    """A backend that notes what is asked and answered.

    Args:
        backend: Who generates.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.usage = backend.usage
        self.seen: list[tuple[Request, Completion]] = []

    async def generate(self, request: Request) -> Completion:
        """Return the backend's continuation."""
        completion: Completion = await self._backend.generate(request)
        self.seen.append((request, completion))
        return completion

    async def close(self) -> None:
        """End the backend."""
        await self._backend.close()

    def needed(self) -> int:
        """Return how many context tokens had to be computed, each distinct prefix once.

        What was decoded is not among them, but for a reply's last token.
        """
        trie: dict[int, Any] = {}
        for request, completion in self.seen:
            _walk(trie, request.ids + completion.ids[:-1])
        decoded = len(_nodes(trie))
        contexts: dict[int, Any] = {}
        for request, _ in self.seen:
            _walk(contexts, request.ids)
        computed = set()
        for request, completion in self.seen:
            node = trie
            for place, token in enumerate(request.ids + completion.ids[:-1]):
                node = node[token]
                if place >= len(request.ids):
                    computed.add(id(node))
        return decoded - len(computed)


def _walk(trie: dict[int, Any], ids: Sequence[int]) -> None:
    for token in ids:
        trie = trie.setdefault(token, {})


def _nodes(trie: dict[int, Any]) -> list[dict[int, Any]]:
    found, waiting = [], [trie]
    while waiting:
        node = waiting.pop()
        found += node.values()
        waiting += node.values()
    return found


def explore_copy(config: Config, run: Path, **settings: Any) -> tuple[dict[str, Any], Recorder]:
    """Explore in a copy of the run; return the manifest and what the model was asked."""
    recorders: list[Recorder] = []

    def load(config: Config, model: Path) -> LanguageModelAgent:
        agent = load_policy(config, model)
        recorders.append(Recorder(agent.backend))
        agent.backend = recorders[0]
        return agent

    explored = config.explore.model_copy(update=settings)
    exploration.load_policy = load
    with tempfile.TemporaryDirectory() as folder:
        for name in ("experts", "sft"):
            shutil.copytree(run / name, Path(folder) / name)
        manifest = exploration.explore(
            config.model_copy(update={"explore": explored}), Path(folder)
        )
    return manifest, recorders[0]


def compare(config: Config, run: Path, experts: list[dict[str, Any]]) -> Table:
    """Return the table of both ways."""
    begun = time.perf_counter()
    spawn = multiprocessing.get_context("spawn")
    cores = os.cpu_count() or 1
    done: Counter[str] = Counter()
    with ProcessPoolExecutor(cores, spawn) as processes:
        work = partial(replay_one, config, run / "sft" / "model")
        for one in processes.map(work, experts):
            done += one
    replayed = time.perf_counter() - begun
    begun = time.perf_counter()
    manifest, _ = explore_copy(config, run, segmenters=("fixed-k",), count=len(experts))
    ours = time.perf_counter() - begun
    usage = manifest["usage"]
    table = Table(title=f"{len(experts)} expert trajectories, M = {config.explore.rollouts}")
    for column in ("", f"replay, {cores} processes", "this engine", "ratio"):
        table.add_column(column, justify="right")
    rows = (
        ("wall time, s", replayed, ours),
        ("environment, s (all processes)", done["env"], usage["env_seconds"]),
        ("model, s (all processes)", done["model"], usage["model_seconds"]),
        ("model calls", done["calls"], manifest["model_calls"]),
    )
    for name, theirs, own in rows:
        table.add_row(name, f"{theirs:,.1f}", f"{own:,.1f}", f"{theirs / own:.1f}")
    return table


def sharing(config: Config, run: Path, count: int) -> tuple[Table, str]:
    """Return the table of model calls by segmenter and together, and a line on prefill."""
    table = Table(title=f"Model calls on {count} expert trajectories")
    for column in ("segmenters", "values", "model calls", "of the costliest"):
        table.add_column(column, justify="right")
    found = {}
    for names in (*((name,) for name in ALL), ALL):
        found[names] = explore_copy(config, run, segmenters=names, count=count)
    most = max(found[name,][0]["model_calls"] for name in ALL)
    for names, (manifest, _) in found.items():
        label = names[0] if len(names) == 1 else "all, with IPR's (single)"
        calls = manifest["model_calls"]
        table.add_row(label, str(manifest["values"]), f"{calls:,}", f"{calls / most:.2f}")
    manifest, recorder = found[ALL]
    computed, needed = manifest["usage"]["prefill"], recorder.needed()
    asked = sum(len(request.ids) for request, _ in recorder.seen)
    line = (
        f"Prefill: {computed:,.0f} context tokens computed, {needed:,} needed "
        f"({computed / needed:.3f} times), {asked:,} asked about."
    )
    return table, line


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--experts", type=int, default=4, help="expert trajectories to explore")
    parser.add_argument("--sharing", type=int, default=2, help="those for the second table")
    arguments = parser.parse_args()
    run = arguments.run
    config = load_config(run / "config.yaml")
    experts = choose(clean_experts(run / "experts" / "trajectories.jsonl"), arguments.experts)
    out = Console()
    if arguments.experts:
        out.print(compare(config, run, experts))
    if arguments.sharing:
        for part in sharing(config, run, arguments.sharing):
            out.print(part)


if __name__ == "__main__":
    main()
