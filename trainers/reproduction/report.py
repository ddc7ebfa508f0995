"""A reproduction's report: tables and figures as files, with the manifests behind every number."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpl_gym.trainers.records import write_json
from hpl_gym.trainers.reproduction import figures
from hpl_gym.trainers.reproduction.jobs import Run
from hpl_gym.trainers.reproduction.presets import PHASES, PropositionConfig
from hpl_gym.trainers.reproduction.proposition import measure
from hpl_gym.trainers.reproduction.tables import (
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
    "figure 5": "Figure 5: losses",
}


def write_result(name: str, runs: Runs, folder: Path, policies: Sequence[str]) -> list[Sheet]:
    """Make a table or figure, and write it as Markdown, SVG and JSON.

    Args:
        name: A key of `RESULTS`.
        runs: The evaluated runs of each benchmark.
        folder: Where to write.
        policies: Its rows; Figure 4 has its own.

    Returns:
        The tables; a figure comes with the table of its numbers.
    """
    file = name.replace(" ", "-")
    numbers: dict[str, Any] = {}
    if name == "table 5":
        sheets = [resources(runs, policies)]
    elif name in {"table 6", "table 7"}:
        sheets = _by_type(name, runs, policies)
    elif name == "figure 4":
        sheets = []
        for experiment, own in runs.items():
            split = own[0].config.eval.splits[0]
            title = f"Figure 4: {experiment} {split} after each phase"
            sheets.append(by_type(title, own, split, ("sft", *PHASES)))
            figures.save(figures.progress(own, split), folder / f"{file}-{experiment}.svg")
    else:
        every = columns(runs, policies)
        sheets = [results(f"{TITLES[name]}", every, policies)]
        for experiment, own in runs.items():
            shown = columns({experiment: own}, policies)
            title = f"{TITLES[name]}, differences on {experiment}"
            sheet, numbers[experiment] = differences(title, shown, policies, comparisons(policies))
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
    found = measure(run.config, run.folder, settings)
    rows, budgets = found["rows"], found["budgets"]
    heads = [f"{what}, {budget}" for budget in budgets for what in ("variance", "error")]
    body = []
    for row in rows:
        length = "all" if row is rows[-1] else str(row["length"])
        both = zip(row["variance"], row["error"], strict=True)
        numbers = [row["bias"], *(one for pair in both for one in pair)]
        body.append((length, *(f"{one:.5f}" for one in numbers)))
    least = [min(body, key=lambda row: row[2 * place + 3])[0] for place in range(len(budgets))]
    sheet = Sheet(
        f"Proposition 1 on {run.experiment}: mean squared error of a turn's credit",
        ("turns a group", "squared bias", *heads),
        tuple(body),
        f"{found['trajectories']} expert trajectories, {found['states']} states; true values from "
        f"{found['rollouts']} rollouts each. The columns' numbers are rollouts a trajectory. The "
        f"error is least with {', '.join(least)} turns a group.",
    )
    name = f"proposition-1-{run.experiment}"
    figures.save(figures.trade_off(found), folder / f"{name}.svg")
    (folder / f"{name}.md").write_text(sheet.markdown(), encoding="utf-8")
    write_json(folder / f"{name}.json", {"run": str(run.folder)} | found)
    return sheet


def write_manifests(runs: Iterable[Run], folder: Path) -> None:
    """Copy the manifests of runs, by benchmark, seed and stage, and their evaluations' results."""
    for run in runs:
        target = folder / run.experiment / f"seed-{run.seed}"
        for source in sorted(run.folder.glob("*/manifest.json")):
            _copy(source, target / f"{source.parent.name}.json")
        for source in sorted(run.folder.glob("eval/*/manifest.json")):
            _copy(source, target / "eval" / f"{source.parent.name}.json")
        _copy(run.folder / "config.yaml", target / "config.yaml")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _by_type(name: str, runs: Runs, policies: Sequence[str]) -> list[Sheet]:
    sheets = []
    for experiment, own in runs.items():
        splits: Sequence[str] = own[0].config.eval.splits
        place = 0 if name == "table 6" else 1
        if own[0].config.env.id == "HPL/ALFWorld-v0" and place < len(splits):
            title = f"{name.capitalize()}: {experiment} {splits[place]} by type of task"
            sheets.append(by_type(title, own, splits[place], policies))
    return sheets


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
