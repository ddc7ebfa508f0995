"""A reproduction's report: tables and figures as files, with the manifests behind every number."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from hpl_gym.trainers.config import Config
from hpl_gym.trainers.records import finished_manifest, is_finished, read_records, write_json
from hpl_gym.trainers.reproduction import figures
from hpl_gym.trainers.reproduction.jobs import Job, Run
from hpl_gym.trainers.reproduction.presets import BASELINES, MAIN, PropositionConfig
from hpl_gym.trainers.reproduction.proposition import compare, roll_out
from hpl_gym.trainers.reproduction.tables import (
    LABELS,
    Runs,
    Sheet,
    by_type,
    columns,
    comparisons,
    differences,
    resources,
    results,
)

TITLES = {
    "table 1": "Table 1: methods",
    "table 2": "Table 2: curriculum",
    "table 6": "Table 6: {} {} by type of task",
    "table 7": "Table 7: {} {} by type of task",
    "figure 4": "Figure 4: {} {} after each phase",
    "figure 5": "Figure 5: losses (IPR is HPL without L_group-DPO)",
}

_SPLITS = {"table 6": 0, "table 7": 1}
"""Which of the evaluated splits a table by ALFWorld's task types shows."""


def possible(name: str, runs: Iterable[Run]) -> bool:
    """Return whether any of the runs has what a table or figure shows.

    Args:
        name: A key of `RESULTS`.
        runs: The runs.
    """
    return name not in _SPLITS or any(_has_types(one.config, _SPLITS[name]) for one in runs)


def write_result(name: str, runs: Runs, folder: Path, policies: Sequence[str]) -> list[Sheet]:
    """Make a table or figure, and write it as Markdown, SVG and JSON.

    Args:
        name: A key of `RESULTS`.
        runs: The evaluated runs of each benchmark.
        folder: Where to write.
        policies: Its rows.

    Returns:
        The tables; a figure comes with the table of its numbers.
    """
    file = name.replace(" ", "-")
    sheets = []
    numbers: dict[str, Any] = {}
    if name == "table 5":
        sheet, numbers = resources(runs, policies)
        sheets.append(sheet)
    elif name in _SPLITS or name == "figure 4":
        place = _SPLITS.get(name, 0)
        for experiment, own in runs.items():
            if name == "figure 4" or _has_types(own[0].config, place):
                split = own[0].config.eval.splits[place]
                sheets.append(by_type(TITLES[name].format(experiment, split), own, split, policies))
                numbers |= _values(columns({experiment: own}, policies))
            if name == "figure 4":
                figures.save(figures.progress(own, split), folder / f"{file}-{experiment}.svg")
        numbers = {"results": numbers}
    else:
        every = columns(runs, policies)
        sheets.append(results(TITLES[name], every, policies))
        references = [comparisons(policies, BASELINES if name == "table 1" else (MAIN,))]
        if name == "table 1" and "sft" in policies:
            references.append(("sft",))
        for experiment, best in product(runs, dict.fromkeys(references)):
            shown = [column for column in every if column.experiment == experiment]
            title = f"{TITLES[name]}, differences on {experiment}"
            if len(best) == 1:
                title += f" to {LABELS.get(best[0], best[0])}"
            sheet, numbers[title] = differences(title, shown, policies, best)
            sheets.append(sheet)
        if name == "figure 5":
            figures.save(figures.bars(every, policies), folder / f"{file}.svg")
        numbers = {"differences": numbers, "results": _values(every)}
    text = "\n".join(sheet.markdown() for sheet in sheets)
    (folder / f"{file}.md").write_text(text, encoding="utf-8")
    tables = [{"title": one.title, "columns": one.columns, "rows": one.rows} for one in sheets]
    write_json(folder / f"{file}.json", {"runs": _places(runs), "tables": tables} | numbers)
    return sheets


def write_proposition(run: Run, settings: PropositionConfig, folder: Path) -> Sheet:
    """Measure Proposition 1 in a run, and write the figure and its numbers.

    Args:
        run: A run with a cloned policy.
        settings: How much to measure.
        folder: Where to write.

    Returns:
        The numbers as a table.
    """
    rolled = roll_out(run.config, run.folder, settings)
    outcomes = [np.array(one["rewards"]) for one in read_records(rolled / "outcomes.jsonl")]
    found = compare(outcomes, settings.budgets, run.seed)
    rows, budgets = found["rows"], found["budgets"]
    heads = [f"{what}, {budget}" for budget in budgets for what in ("variance", "error")]
    names = [*(str(row["length"]) for row in rows[:-1]), "all"]
    body = []
    for name, row in zip(names, rows, strict=True):
        both = zip(row["variance"], row["error"], strict=True)
        numbers = [row["bias"], *(one for pair in both for one in pair)]
        body.append((name, *("" if one is None else f"{one:.5f}" for one in numbers)))
    least = ", ".join(
        f"{names[place]} with {budget} rollouts ({100 * sure:.0f} %)"
        for place, budget, sure in zip(found["least"], budgets, found["sure"], strict=True)
    )
    sheet = Sheet(
        f"Proposition 1 on {run.experiment}: mean squared error of a turn's credit",
        ("turns a group", "squared bias", *heads),
        tuple(body),
        f"{found['trajectories']} expert trajectories, {found['states']} states; true values from "
        f"{found['rollouts']} rollouts each. The columns' numbers are rollouts a trajectory. Turns "
        f"a group of least error: {least}; in brackets, how often that is so when the trajectories "
        "are drawn with replacement. Squared biases are without the rollouts' noise: where there "
        "is none, chance may put them, or an error, a little below zero.",
    )
    name = f"proposition-1-{run.experiment}"
    figures.save(figures.trade_off(found), folder / f"{name}.svg")
    (folder / f"{name}.md").write_text(sheet.markdown(), encoding="utf-8")
    places = {"run": str(run.folder), "outcomes": os.path.relpath(rolled / "outcomes.jsonl")}
    write_json(folder / f"{name}.json", places | found)
    _copy_manifest(rolled, _manifests(folder, run))
    return sheet


def write_manifests(runs: Iterable[Run], folder: Path) -> None:
    """Copy the manifests of the finished stages of runs into a report, by benchmark and seed."""
    for run in runs:
        target = _manifests(folder, run)
        for stage in run.folder.glob("*/"):
            if not stage.name.startswith("proposition-"):  # has its own settings
                _copy_manifest(stage, target)
        for stage in run.folder.glob("eval/*/"):
            _copy_manifest(stage, target / "eval")
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.folder / "config.yaml", target / "config.yaml")


def mixed_versions(jobs: Iterable[Job]) -> dict[str, list[str]]:
    """Return the packages of which finished jobs were run with several versions, and these."""
    found = defaultdict(set)
    for job in jobs:
        manifest = finished_manifest(job.folder, job.stage)
        for packages in (manifest["packages"], manifest.get("resumed_with", {})):
            for package, version in packages.items():
                found[package].add(version)
    return {package: sorted(some) for package, some in found.items() if len(some) > 1}


def _manifests(report: Path, run: Run) -> Path:
    return report / "manifests" / run.experiment / f"seed-{run.seed}"


def _copy_manifest(stage: Path, target: Path) -> None:
    if is_finished(stage):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(stage / "manifest.json", target / f"{stage.name}.json")


def _has_types(config: Config, place: int) -> bool:
    return config.env.id == "HPL/ALFWorld-v0" and place < len(config.eval.splits)


def _places(runs: Runs) -> dict[str, list[str]]:
    return {name: [str(run.folder) for run in own] for name, own in runs.items()}


def _values(shown: Sequence[Any]) -> dict[str, dict[str, list[list[float]]]]:
    """Return every result, by column and policy, a list of the tasks' for each seed."""

    def rounded(values: np.ndarray) -> list[list[float]]:
        return [[round(float(one), 2) for one in row] for row in values]

    def own(values: Mapping[str, np.ndarray]) -> dict[str, list[list[float]]]:
        return {policy: rounded(one) for policy, one in values.items()}

    return {
        f"{column.experiment} {column.title}": own(column.values)
        for column in shown
        if not column.pooled
    }
