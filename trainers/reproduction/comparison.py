"""A report on runs of your own: all evaluations side by side, with paired differences.

hpl report --run runs/mine
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.config import load_config
from hpl_gym.trainers.records import finished_manifest, is_finished, write_json
from hpl_gym.trainers.reproduction.jobs import Run
from hpl_gym.trainers.reproduction.scores import read_scores
from hpl_gym.trainers.reproduction.tables import (
    LABELS,
    Sheet,
    by_type,
    columns,
    differences,
    results,
)
from hpl_gym.trainers.sections import BENCHMARKS

_NAMES = {env_id: name for name, env_id in BENCHMARKS.items()}


def compare(
    folders: Sequence[Path], agents: Sequence[str] = (), baseline: str | None = None
) -> list[Sheet]:
    """Compare the evaluations of a run, or of several that differ by their seed.

    Writes ``report/report.md`` and ``report/report.json`` in the first run's folder.

    Args:
        folders: The runs' folders.
        agents: Names of evaluations; default all that are finished in every run.
        baseline: What the others are compared with; default ``sft`` if it is there, else the first.

    Returns:
        The tables: results, differences, and success by task type on each split.

    Raises:
        HPLGymError: There is nothing to compare, or other tasks were played.
    """
    finished = _finished(folders)
    if not finished:
        raise HPLGymError(
            f"No evaluation is finished in {' and '.join(map(str, folders))}: run "
            f"`hpl eval --run {folders[0]} --agent sft` first."
        )
    agents = agents or finished
    if baseline is None:
        baseline = "sft" if "sft" in agents else agents[0]
    agents = list(dict.fromkeys((baseline, *agents)))
    if missing := next((one for one in agents if one not in finished), None):
        raise HPLGymError(
            f"{missing} is not evaluated in {' and '.join(map(str, folders))}: use one of "
            f"{', '.join(finished)}, or run `hpl eval` on it first."
        )
    manifests = [
        finished_manifest(folder / "eval" / agent, "eval") for folder in folders for agent in agents
    ]
    _refuse_other_games([one["config"] for one in manifests])
    splits = _shared([one["config"]["eval"]["splits"] for one in manifests])
    runs = [_run(folder, splits) for folder in folders]
    _refuse_other_settings(runs)
    for split in splits:
        tasks = {one: read_scores(runs, one, split).tasks for one in agents}
        if other := next((one for one in agents if tasks[one] != tasks[baseline]), None):
            raise HPLGymError(
                f"{other} and {baseline} played different tasks of {split}: evaluate them by the "
                "same eval.count and env settings, or say which to compare (--agent, --baseline)."
            )
    experiment = runs[0].experiment
    shown = columns({experiment: runs}, agents)
    sheets = [results("Results", shown, agents)]
    numbers: dict[str, Any] = {}
    if len(agents) > 1:
        title = f"Differences to {LABELS.get(baseline, baseline)}"
        sheet, numbers = differences(title, shown, agents, [baseline])
        sheets.append(sheet)
    sheets += [by_type(f"Success on {split} by type", runs, split, agents) for split in splits]
    target = folders[0] / "report"
    target.mkdir(exist_ok=True)
    text = "\n".join(sheet.markdown() for sheet in sheets)
    (target / "report.md").write_text(text, encoding="utf-8")
    tables = [{"title": one.title, "columns": one.columns, "rows": one.rows} for one in sheets]
    found = {"runs": list(map(str, folders)), "baseline": baseline, "tables": tables}
    write_json(target / "report.json", found | {"differences": numbers})
    return sheets


def _finished(folders: Sequence[Path]) -> list[str]:
    """Return the names of the evaluations that are finished in all runs."""
    names = [
        {path.name for path in folder.glob("eval/*") if is_finished(path)} for folder in folders
    ]
    return sorted(set.intersection(*names))


def _shared(splits: Sequence[Sequence[str]]) -> list[str]:
    shared = [one for one in splits[0] if all(one in own for own in splits)]
    if not shared:
        raise HPLGymError(
            "These evaluations have no split in common: evaluate them with the same eval.splits, "
            "or say which to compare (--agent)."
        )
    return shared


def _refuse_other_games(settings: Sequence[dict[str, Any]]) -> None:
    """Refuse evaluations that differ in how the games are played."""
    for part in ("env", "eval", "env_backend"):
        own = [
            {key: value for key, value in one[part].items() if key not in {"splits", "count"}}
            if isinstance(one[part], dict)
            else one[part]
            for one in settings
        ]
        if any(one != own[0] for one in own):
            raise HPLGymError(
                f"These evaluations have different settings of {part}: evaluate with the same, or "
                "say which to compare (--agent, --baseline)."
            )


def _refuse_other_settings(runs: Sequence[Run]) -> None:
    """Refuse runs that are no repetitions of each other."""
    seeds = [run.seed for run in runs]
    same = [run.config.model_dump() | {"seed": None} for run in runs]
    if len(set(seeds)) < len(seeds) or any(one != same[0] for one in same):
        raise HPLGymError(
            "Several runs are taken for repetitions with different seeds, and these have the same "
            "seed or differ in other settings too: report on each by itself, or evaluate their "
            "policies in one run (hpl eval --agent OTHER/train/model --name NAME)."
        )


def _run(folder: Path, splits: Sequence[str]) -> Run:
    config = load_config(folder / "config.yaml")
    evaluated = config.eval.model_copy(update={"splits": tuple(splits)})
    config = config.model_copy(update={"eval": evaluated})
    return Run(_NAMES.get(config.env.id, config.env.id), config.seed, folder, config, (), {})
