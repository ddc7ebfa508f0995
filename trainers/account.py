"""The account of an exploration: model calls, tokens, environment steps and time, by part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from hpl_gym.trainers.records import read_records

COUNTS = ("calls", "tokens_in", "tokens_out", "env_steps")


def account(folder: Path, experts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what an exploration has made and what it took, from its files.

    All counts come from the records, so they are the same however often it was interrupted.

    Args:
        folder: The stage's folder.
        experts: The expert trajectories explored.

    Returns:
        Numbers of records, the branches' success rate, and `account`: `branches`, `values` and
        `replay` with their `COUNTS` and `resets`. Every environment step begins with a restore.
    """
    lengths: dict[tuple[str, int], int] = {}
    branches, solved = Counter[str](), 0
    for one in read_records(folder / "trajectories.jsonl"):
        branches["records"] += 1
        branches.update({name: one[name] for name in COUNTS})
        solved += one["success"]
        lengths[one["expert"], one["start"]] = len(one["turns"])
    values = Counter[str]()
    for one in read_records(folder / "values.jsonl"):
        values["records"] += 1
        values.update({name: one[name] for name in COUNTS})
    groups = Counter[str]()
    retraced: dict[tuple[str, int], int] = {}
    for one in read_records(folder / "groups.jsonl"):
        groups[one["segmenter"]] += 1
        place = one["expert"], one["start"]
        turns = min(one["stop"] - one["start"], lengths[place])
        retraced[place] = max(retraced.get(place, 0), turns)
    # The expert's own turns are played once for its branches and once for its groups.
    steps = 2 * sum(len(one["turns"]) for one in experts) + sum(retraced.values())
    parts = {
        "branches": {name: branches[name] for name in COUNTS},
        "values": {name: values[name] for name in COUNTS},
        "replay": {"env_steps": steps, "resets": 2 * len(experts)},
    }
    return {
        "experts": len(experts),
        "branches": branches["records"],
        "values": values["records"],
        "groups": dict(groups),
        "success": round(solved / max(1, branches["records"]), 4),
        "model_calls": branches["calls"] + values["calls"],
        "env_steps": sum(part["env_steps"] for part in parts.values()),
        "account": parts,
    }


def account_table(manifest: dict[str, Any]) -> Table:
    """Return the account in a finished exploration's manifest as a table."""
    usage = manifest["usage"]
    table = Table(title="What the exploration took")
    table.add_column("part")
    columns = ("model calls", "tokens in", "tokens out", "environment steps", "resets")
    for column in columns:
        table.add_column(column, justify="right")
    for name, part in manifest["account"].items():
        table.add_row(name, *_cells(part.get(one, 0) for one in (*COUNTS, "resets")))
    if "external_calls" in usage:
        external = ("external_calls", "external_tokens_in", "external_tokens_out")
        table.add_row("external model", *_cells(usage[one] for one in external), "0", "0")
    table.add_section()
    model, env = usage["model_seconds"], usage["env_seconds"]
    table.add_row(
        "seconds",
        f"{manifest['seconds']:.1f} in all",
        f"model {model:.1f}",
        "",
        f"environment {env:.1f}",
        f"rest {max(0.0, manifest['seconds'] - model - env):.1f}",
    )
    table.caption = (
        f"{usage['prefill']:,} of the tokens in were computed, the others were in memory. Every "
        "environment step begins with a restore."
    )
    return table


def _cells(numbers: Iterable[int]) -> list[str]:
    return [f"{number:,}" for number in numbers]
