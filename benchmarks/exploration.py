"""Exploration beside the way of earlier work, and what shared values and prefixes save.

    hpl quickstart
    python benchmarks/exploration.py --run runs/quickstart

The replay way is that of earlier work: TextWorld, one process a core, and for every rollout a reset
and a replay of the prefix; the model in single precision, asked for one reply at a time with
`transformers`' own `generate`; the ends of every method's groups are valued on their own. Both
ways start from the same expert trajectories, with the same policy, temperature and M, and make
pairs at the same places; branches are sampled, so that they are rollouts of the values too. First
with one segmenter, then with all of them and IPR's steps.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from exploration_replay import replay
from rich.console import Console
from rich.table import Table

from hpl_gym.agents.backends.request import Completion, Request
from hpl_gym.agents.language_model import LanguageModelAgent
from hpl_gym.trainers import explore as exploration
from hpl_gym.trainers.config import Config, load_config
from hpl_gym.trainers.experts import clean_experts
from hpl_gym.trainers.records import finished_manifest, read_records
from hpl_gym.trainers.work import choose
from hpl_gym.trainers.worker import load_policy

ALL = ("fixed-n", "fixed-k", "uncertainty", "semantic", "single")


class Recorder:
    """A backend that notes what is asked and answered.

    Args:
        backend: Who generates.
        known: What need not be generated, since it was before.
    """

    def __init__(self, backend: Any, known: Mapping[Request, Completion]) -> None:
        self._backend = backend
        self._known = known
        self.usage = backend.usage
        self.seen: dict[Request, Completion] = {}

    async def generate(self, request: Request) -> Completion:
        """Return the continuation."""
        completion = self._known.get(request) or await self._backend.generate(request)
        self.seen[request] = completion
        return completion

    async def close(self) -> None:
        """End the backend."""
        await self._backend.close()

    def needed(self) -> int:
        """Return how many context tokens had to be computed, each distinct prefix once.

        What was decoded is not among them, but for a reply's last token.
        """
        trie: dict[int, Any] = {}
        for request, completion in self.seen.items():
            _walk(trie, request.ids + completion.ids[:-1])
        decoded = set()
        for request, completion in self.seen.items():
            node = trie
            for place, token in enumerate(request.ids + completion.ids[:-1]):
                node = node[token]
                if place >= len(request.ids):
                    decoded.add(id(node))
        return len(_nodes(trie)) - len(decoded)


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


@dataclass(frozen=True)
class Explored:
    """An exploration by our engine.

    Attributes:
        manifest: Its manifest.
        spans: The groups of each segmenter, by expert.
        recorder: What the model was asked.
        seconds: Wall time.
    """

    manifest: dict[str, Any]
    spans: dict[str, Any]
    recorder: Recorder
    seconds: float


def explore_copy(
    config: Config,
    run: Path,
    count: int,
    segmenters: Sequence[str],
    known: Mapping[Request, Completion] = MappingProxyType({}),
) -> Explored:
    """Explore in a copy of the run."""
    recorders: list[Recorder] = []

    def load(config: Config, model: Path) -> LanguageModelAgent:
        agent = load_policy(config, model)
        recorders.append(Recorder(agent.backend, known))
        agent.backend = recorders[0]
        return agent

    settings = config.explore.model_copy(update={"count": count, "segmenters": tuple(segmenters)})
    exploration.load_policy = load
    with tempfile.TemporaryDirectory() as folder:
        for name in ("experts", "sft"):
            shutil.copytree(run / name, Path(folder) / name)
        begun = time.perf_counter()
        manifest = exploration.explore(
            config.model_copy(update={"explore": settings}), Path(folder)
        )
        seconds = time.perf_counter() - begun
        segments = read_records(Path(folder) / "explore" / "segments.jsonl")
        spans = {one["key"]: one["spans"] for one in segments}
    return Explored(manifest, spans, recorders[0], seconds)


def compare(
    config: Config, run: Path, count: int, segmenters: Sequence[str]
) -> tuple[Table, Explored]:
    """Return the table of both ways, and our exploration."""
    own = explore_copy(config, run, count, segmenters)
    experts = choose(clean_experts(run / "experts" / "trajectories.jsonl"), count)
    cores = os.cpu_count() or 1
    done, replayed = replay(config, run / "sft" / "model", experts, own.spans, cores)
    usage = own.manifest["usage"]
    table = Table(
        title=f"{', '.join(segmenters)}: {count} expert trajectories, M = {config.explore.rollouts}"
    )
    for column in ("", f"replay, {cores} processes", "this engine", "ratio"):
        table.add_column(column, justify="right")
    rows = (
        ("wall time, s", replayed, own.seconds),
        ("environment, s (all processes)", done["env"], usage["env_seconds"]),
        ("model, s (all processes)", done["model"], usage["model_seconds"]),
        ("model calls", done["calls"], own.manifest["model_calls"]),
    )
    for name, theirs, ours in rows:
        table.add_row(name, f"{theirs:,.1f}", f"{ours:,.2f}", f"{theirs / ours:.1f}")
    return table, own


def sharing(config: Config, run: Path, count: int, together: Explored) -> tuple[Table, str]:
    """Return the table of model calls by segmenter and together, and a line on prefill."""
    table = Table(title=f"Model calls on {count} expert trajectories")
    for column in ("segmenters", "values", "model calls", "of the costliest"):
        table.add_column(column, justify="right")
    known = together.recorder.seen
    found = {(name,): explore_copy(config, run, count, (name,), known) for name in ALL}
    found[ALL] = together
    most = max(found[name,].manifest["model_calls"] for name in ALL)
    for names, explored in found.items():
        label = names[0] if len(names) == 1 else "all, with IPR's (single)"
        calls = explored.manifest["model_calls"]
        table.add_row(label, str(explored.manifest["values"]), f"{calls:,}", f"{calls / most:.2f}")
    recorder = together.recorder
    computed, needed = together.manifest["usage"]["prefill"], recorder.needed()
    asked = sum(len(request.ids) for request in recorder.seen)
    line = (
        f"Prefill: {computed:,.0f} context tokens computed, {needed:,} needed "
        f"({computed / needed:.3f} times), {asked:,} asked about."
    )
    return table, line


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--experts", type=int, default=8, help="to explore with one segmenter")
    parser.add_argument("--all", type=int, default=4, help="to explore with all segmenters")
    arguments = parser.parse_args()
    run = arguments.run
    finished_manifest(run / "sft", f"sft --run {run}")
    config = load_config(run / "config.yaml", ["explore.temperature=1"])
    out = Console()
    if arguments.experts:
        out.print(compare(config, run, arguments.experts, ("fixed-n",))[0])
    if arguments.all:
        table, together = compare(config, run, arguments.all, ALL)
        out.print(table)
        for part in sharing(config, run, arguments.all, together):
            out.print(part)


if __name__ == "__main__":
    main()
