"""A report on runs of your own: all evaluations side by side, with paired differences.

hpl report --run runs/mine
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
from hpl_gym.trainers.sections import BENCHMARKS, Section, decisive

_NAMES = {env_id: name for name, env_id in BENCHMARKS.items()}


def compare(
    folders: Sequence[Path], agents: Sequence[str] = (), baseline: str | None = None
) -> list[Sheet]:
    """Compare the evaluations of a run, or of several that differ by their seed.

    Writes ``report/report.md`` and ``report/report.json`` in the first run's folder.

    Args:
        folders: The runs' folders.
        agents: Names of evaluations; default all that are finished in every run and were played as
            the baseline was, on the same tasks. The others are named below the results.
        baseline: What the others are compared with; default ``sft``, ``train`` or the first,
            whichever is there.

    Returns:
        The tables: results, differences, and success by task type on each split.

    Raises:
        HPLGymError: There is nothing to compare, or other tasks were played.
    """
    finished = _finished(folders)
    asked = agents or finished
    if baseline is None:
        baseline = next((one for one in ("sft", "train") if one in asked), asked[0])
    for agent in (baseline, *asked):
        if agent not in finished:
            raise HPLGymError(
                f"{agent} is not evaluated in {' and '.join(map(str, folders))}: use one of "
                f"{', '.join(finished)}, or run `hpl eval` on it first."
            )
    runs = [_run(folder) for folder in folders]
    _refuse_other_settings(runs)
    if reason := _uneven(runs, baseline):
        raise HPLGymError(
            f"The runs cannot be taken together, as {baseline} was {reason} in them: report on "
            "each by itself, or choose another --baseline."
        )
    played = splits = _splits(runs, baseline)
    compared, apart = [baseline], []
    for agent in dict.fromkeys(one for one in asked if one != baseline):
        shared = [split for split in splits if split in _splits(runs, agent)]
        reason = _uneven(runs, agent) or _reason(runs, baseline, agent, shared)
        if reason and agents:
            raise HPLGymError(
                f"{agent} and {baseline} cannot be compared, as {agent} was {reason}: make both "
                "with the same, or say which to compare (--agent, --baseline)."
            )
        if reason:
            apart.append(f"{agent} ({reason})")
        else:
            splits = shared
            compared.append(agent)
    runs = [_on(run, splits) for run in runs]
    experiment = runs[0].experiment
    shown = columns({experiment: runs}, compared)
    sheet = results("Results", shown, compared)
    if apart:
        left_out = f"Not compared with {baseline}: {', '.join(apart)}."
        sheet = replace(sheet, note=f"{sheet.note} {left_out}")
    if splits != played:
        others = ", ".join(split for split in played if split not in splits)
        sheet = replace(sheet, note=f"{sheet.note} Not all of them have played {others}.")
    sheets = [sheet]
    numbers: dict[str, Any] = {}
    if len(compared) > 1:
        title = f"Differences to {LABELS.get(baseline, baseline)}"
        sheet, numbers = differences(title, shown, compared, [baseline])
        sheets.append(sheet)
    sheets += [by_type(f"Success on {split} by type", runs, split, compared) for split in splits]
    target = folders[0] / "report"
    target.mkdir(exist_ok=True)
    text = "\n".join(sheet.markdown() for sheet in sheets)
    (target / "report.md").write_text(text, encoding="utf-8")
    tables = [{"title": one.title, "columns": one.columns, "rows": one.rows} for one in sheets]
    found = {"runs": list(map(str, folders)), "baseline": baseline, "tables": tables}
    write_json(target / "report.json", found | {"differences": numbers})
    return sheets


def _finished(folders: Sequence[Path]) -> list[str]:
    """Return the names of the evaluations that are finished in all runs.

    Raises:
        HPLGymError: There are none.
    """
    names = [
        {path.name for path in folder.glob("eval/*") if is_finished(path)} for folder in folders
    ]
    lacking = [folder for folder, own in zip(folders, names, strict=True) if not own]
    if lacking:
        raise HPLGymError(
            f"No evaluation is finished in {' and '.join(map(str, lacking))}: run "
            f"`hpl eval --run {lacking[0]} --agent sft` first."
        )
    found = sorted(set.intersection(*names))
    if not found:
        raise HPLGymError(
            f"No evaluation is finished in each of {' and '.join(map(str, folders))}: run `hpl "
            "eval` with one --agent on all of them."
        )
    return found


def _settings(runs: Sequence[Run], agent: str) -> list[dict[str, Any]]:
    """Return the settings with which an agent was evaluated in each run."""
    return [finished_manifest(run.folder / "eval" / agent, "eval")["config"] for run in runs]


def _splits(runs: Sequence[Run], agent: str) -> list[str]:
    """Return the splits that an agent has played in all runs."""
    first, *others = (one["eval"]["splits"] for one in _settings(runs, agent))
    return [split for split in first if all(split in own for own in others)]


def _uneven(runs: Sequence[Run], agent: str) -> str:
    """Return how an agent differs between the runs in more than its seed; "" if it does not."""
    splits = _splits(runs, agent)
    if reason := _played_differently(_settings(runs, agent), splits):
        return reason
    for split in splits:
        tasks = [read_scores([run], agent, split).tasks for run in runs]
        if any(one != tasks[0] for one in tasks):
            return f"played on different tasks of {split}"
    folders = [run.folder / agent for run in runs]
    if all(map(is_finished, folders)):
        trained = [finished_manifest(folder, agent)["config"] for folder in folders]
        for part in ("prompt", "sft", "rft", "train"):
            if any(one.get(part) != trained[0].get(part) for one in trained):
                return f"trained with different settings of {part}"
    return ""


def _reason(runs: Sequence[Run], baseline: str, agent: str, splits: Sequence[str]) -> str:
    """Return how an agent was played unlike another; "" if they can be compared on `splits`."""
    settings = [*_settings(runs, baseline), *_settings(runs, agent)]
    if reason := _played_differently(settings, splits):
        return reason
    if not splits:
        return "played on no split of the others"
    for split in splits:
        if read_scores(runs, agent, split).tasks != read_scores(runs, baseline, split).tasks:
            return f"played on different tasks of {split}"
    return ""


def _played_differently(settings: Sequence[dict[str, Any]], splits: Sequence[str]) -> str:
    for part in ("env", "eval", "env_backend"):
        own = [
            {key: value for key, value in one[part].items() if key not in {"splits", "count"}}
            if isinstance(one[part], dict)
            else one[part]
            for one in settings
        ]
        if any(one != own[0] for one in own):
            return f"played with different settings of {part}"
    data = [[one.get("env_data", {}).get(split) for split in splits] for one in settings]
    return "played on different data" if any(one != data[0] for one in data) else ""


def _refuse_other_settings(runs: Sequence[Run]) -> None:
    """Refuse runs that are no repetitions of each other."""
    seeds = [run.seed for run in runs]
    same = [
        {part: decisive(one) if isinstance(one, Section) else one for part, one in run.config}
        | {"seed": None}
        for run in runs
    ]
    if len(set(seeds)) < len(seeds) or any(one != same[0] for one in same):
        raise HPLGymError(
            "Several runs are taken for repetitions with different seeds, and these have the same "
            "seed or differ in other settings too: report on each by itself, or evaluate their "
            "policies in one run (hpl eval --agent OTHER/train/model --name NAME)."
        )


def _run(folder: Path) -> Run:
    config = load_config(folder / "config.yaml")
    return Run(_NAMES.get(config.env.id, config.env.id), config.seed, folder, config, (), {})


def _on(run: Run, splits: Sequence[str]) -> Run:
    """Return a run as if only these splits had been evaluated."""
    evaluated = run.config.eval.model_copy(update={"splits": tuple(splits)})
    return replace(run, config=run.config.model_copy(update={"eval": evaluated}))
