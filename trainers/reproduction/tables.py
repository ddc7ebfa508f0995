"""The paper's tables from evaluated runs, with paired differences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpl_gym.trainers.records import read_records
from hpl_gym.trainers.reproduction.jobs import Run
from hpl_gym.trainers.reproduction.presets import MAIN
from hpl_gym.trainers.reproduction.scores import Scores, read_scores
from hpl_gym.trainers.statistics import Difference, paired_bootstrap

Runs = Mapping[str, Sequence[Run]]
"""The runs of each benchmark, one a seed."""

LABELS = {
    "sft": "SFT",
    "rft": "RFT",
    "train": "HPL (train)",
    "eto": "ETO",
    "ipr": "IPR",
    "hpl-fixed-n": "HPL (Fixed-N)",
    "hpl-fixed-k": "HPL (Fixed-K)",
    "hpl-uncertainty": "HPL (Uncertainty)",
    "hpl-semantic": "HPL (Semantic)",
    "static": "static",
    "length-only": "length only",
    "difficulty-only": "difficulty only",
    **{f"{MAIN}-phase-{phase}": f"phase {phase}" for phase in (1, 2, 3)},
    "no-bc": "without L_BC",
    "no-trajectory": "without L_traj-DPO",
    "no-step": "without L_step-DPO",
    "no-group": "without L_group-DPO",
    "group-only": "L_BC and L_group-DPO alone",
    "bc-only": "L_BC alone",
}


KINDS = {
    "pick_and_place_simple": "pick",
    "look_at_obj_in_light": "look",
    "pick_clean_then_place_in_recep": "clean",
    "pick_heat_then_place_in_recep": "heat",
    "pick_cool_then_place_in_recep": "cool",
    "pick_two_obj_and_place": "two",
    "easy": "easy",
    "medium": "medium",
    "hard": "hard",
    "extra": "extra",
}
"""ALFWorld's task types and InterCode-SQL's levels, in their order, and their short names."""


@dataclass(frozen=True)
class Sheet:
    """A table of texts.

    Attributes:
        title: Its title.
        columns: The column heads.
        rows: The rows; the first cell is the row's head.
        note: What to know when reading it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """Return it in Markdown."""
        head = ["| " + " | ".join(self.columns) + " |", "|---" * len(self.columns) + "|"]
        body = ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([f"**{self.title}**", "", *head, *body, "", self.note]).rstrip() + "\n"


@dataclass(frozen=True)
class Column:
    """A measured quantity of one benchmark: results of all policies by seed and task.

    Attributes:
        experiment: The benchmark.
        title: What of it, for people.
        values: For each policy, in per cent, shape (seeds, tasks).
        pooled: Whether it holds the tasks of the columns before it together.
    """

    experiment: str
    title: str
    values: Mapping[str, np.ndarray]
    pooled: bool = False


def columns(runs: Runs, policies: Sequence[str]) -> list[Column]:
    """Return what the paper reports: success for ALFWorld, reward and success elsewhere."""
    found = []
    for experiment, own in runs.items():
        splits = {
            split: {one: read_scores(own, one, split) for one in policies}
            for split in own[0].config.eval.splits
        }
        for split, scores in splits.items():
            if own[0].config.env.id != "HPL/ALFWorld-v0":
                rewards = {one: score.reward for one, score in scores.items()}
                found.append(Column(experiment, f"{split} reward", rewards))
            success = {one: score.success for one, score in scores.items()}
            found.append(Column(experiment, f"{split} success", success))
        if len(splits) > 1:
            together = {
                one: np.concatenate([scores[one].success for scores in splits.values()], axis=1)
                for one in policies
            }
            found.append(Column(experiment, "all success", together, pooled=True))
    return found


def results(title: str, shown: Sequence[Column], policies: Sequence[str]) -> Sheet:
    """Return a table of means over seeds and tasks, with the deviation between seeds.

    Args:
        title: The table's title.
        shown: Its columns.
        policies: Its rows.
    """
    shown = [column for column in shown if not column.pooled]
    heads = [f"{column.experiment} {column.title}" for column in shown]
    rows = []
    for policy in policies:
        cells = [_mean(column.values[policy]) for column in shown]
        if len(shown) > 1:
            cells.append(f"{np.mean([column.values[policy].mean() for column in shown]):.1f}")
        rows.append((LABELS.get(policy, policy), *cells))
    seeds = len(next(iter(shown[0].values.values())))
    of = f"mean over {seeds} seeds and standard deviation between them" if seeds > 1 else "one seed"
    note = f"Per cent; {of}; {_counts(shown)} tasks a column."
    average = ("average",) if len(shown) > 1 else ()
    return Sheet(title, ("", *heads, *average), tuple(rows), note)


def differences(
    title: str, shown: Sequence[Column], policies: Sequence[str], references: Sequence[str]
) -> tuple[Sheet, dict[str, dict[str, dict[str, object]]]]:
    """Return a table of paired differences to the best of some reference policies.

    Args:
        title: The table's title.
        shown: Its columns.
        policies: Its rows.
        references: Each column is compared with the one of these that is best in it.

    Returns:
        The table, and its numbers by policy and column.
    """
    heads, best = [], []
    for column in shown:
        top = max(references, key=lambda one: column.values[one].mean())
        best.append((column, top))
        versus = f" vs {LABELS.get(top, top)}" if len(references) > 1 else ""
        heads.append(column.title + versus)
    rows = []
    values = next(iter(shown[0].values.values()))
    numbers: dict[str, dict[str, dict[str, object]]] = {}
    for policy in policies:
        cells = []
        for column, top in best:
            if policy == top:
                cells.append("")
                continue
            found = paired_bootstrap(column.values[policy] - column.values[top])
            cells.append(show(found))
            numbers.setdefault(policy, {})[column.title] = {
                "reference": top,
                "mean": round(found.mean, 3),
                "low": None if found.endless else round(found.low, 3),
                "high": None if found.endless else round(found.high, 3),
                "within_noise": found.noise,
            }
        rows.append((LABELS.get(policy, policy), *cells))
    over = "tasks and seeds" if len(values) > 1 else "tasks, of one training each"
    note = (
        "Percentage points on the same tasks, with paired bootstrap intervals of 95 % over "
        f"{over}. An interval that holds 0 is within noise: these data do not tell the two apart. "
        "Each is taken by itself: of twenty without any difference, one is expected to miss 0."
    )
    return Sheet(title, ("", *heads), tuple(rows), note), numbers


def show(found: Difference) -> str:
    """Return a difference as a text."""
    if found.endless:
        return f"{found.mean:+.1f} within noise"
    sure = "within noise" if found.noise else "better" if found.mean > 0 else "worse"
    return f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}] {sure}"


def task_types(scores: Scores) -> list[str]:
    """Return the types of the tasks in the benchmark's order."""
    order = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(set(scores.types), key=lambda kind: (order.get(kind, len(order)), kind))


def by_type(title: str, runs: Sequence[Run], split: str, policies: Sequence[str]) -> Sheet:
    """Return success by task type: a row a policy, a column a type (the paper's Tables 6 and 7)."""
    scores = {one: read_scores(runs, one, split) for one in policies}
    first = next(iter(scores.values()))
    kinds = task_types(first)
    rows = [
        (
            LABELS.get(policy, policy),
            *(_mean(score.of_type(kind).success) for kind in kinds),
            _mean(score.success),
        )
        for policy, score in scores.items()
    ]
    heads = [f"{KINDS.get(kind, kind)} ({first.types.count(kind)})" for kind in kinds]
    spread = ", mean and deviation of the seeds" if len(runs) > 1 else ""
    note = f"Success in per cent{spread}; the number of tasks in brackets."
    return Sheet(title, ("", *heads, f"all ({len(first.tasks)})"), tuple(rows), note)


def resources(runs: Runs, policies: Sequence[str]) -> tuple[Sheet, dict[str, Any]]:
    """Return what each stage and method took, the mean over seeds (the paper's Table 5).

    Args:
        runs: The evaluated runs of each benchmark.
        policies: The methods.

    Returns:
        The table, and its numbers by row and seed.
    """
    heads = {
        "model_calls": "model calls",
        "tokens_out": "tokens generated",
        "env_steps": "environment steps",
        "tokens": "tokens trained on",
        "tokens_asked": "without shared prefixes",
        "seconds": "seconds",
    }
    methods = dict.fromkeys(one.partition("-phase-")[0] for one in policies)
    explored = ("explore",) if set(methods) - {"sft", "rft"} else ()
    rows, numbers = [], {}
    for experiment, own in runs.items():
        for stage in dict.fromkeys(("experts", "sft", *explored, *methods)):
            name = f"{experiment} {LABELS.get(stage, stage)}"
            costs = [_cost(run, stage) for run in own]
            numbers[name] = [{head: one.get(head) for head in heads} for one in costs]
            cells = [
                f"{np.mean([one[head] for one in costs]):,.0f}" if head in costs[0] else ""
                for head in heads
            ]
            rows.append((name, *cells))
    note = (
        "One exploration serves all preference methods. Seconds are those of the stage; the first "
        "methods also score the pairs by the reference policy, which the later ones read."
    )
    sheet = Sheet("Table 5: resources, mean of the seeds", ("", *heads.values()), tuple(rows), note)
    return sheet, {"costs": numbers}


def _cost(run: Run, stage: str) -> dict[str, float]:
    manifest = json.loads((run.folder / stage / "manifest.json").read_text())
    if "account" in manifest:
        parts = manifest["account"].values()
        manifest["tokens_out"] = sum(part.get("tokens_out", 0) for part in parts)
    if stage == "rft":  # its own episodes
        episodes = list(read_records(run.folder / stage / "trajectories.jsonl"))
        manifest["env_steps"] = manifest["model_calls"] = sum(len(one["turns"]) for one in episodes)
        manifest["tokens_out"] = sum(
            len(turn.get("token_ids", ())) for one in episodes for turn in one["turns"]
        )
    return manifest


def _mean(values: np.ndarray) -> str:
    seeds = values.mean(axis=1)
    if len(seeds) == 1:
        return f"{seeds[0]:.1f}"
    return f"{seeds.mean():.1f} ± {deviation(values):.1f}"


def deviation(values: np.ndarray) -> float:
    """Return the sample standard deviation between seeds; 0 where there is one seed."""
    seeds = values.mean(axis=1)
    return float(seeds.std(ddof=1)) if len(seeds) > 1 else 0.0


def _counts(shown: Sequence[Column]) -> str:
    counts = [next(iter(column.values.values())).shape[1] for column in shown]
    return str(counts[0]) if len(set(counts)) == 1 else ", ".join(map(str, counts))


def comparisons(policies: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return those of some policies that the others are compared with.

    Args:
        policies: The policies.
        wanted: The first choice; else HPL in full, else the first policy.
    """
    found = tuple(one for one in wanted if one in policies)
    return found or ((MAIN,) if MAIN in policies else tuple(policies[:1]))
