"""The options that all stages share: which run, which settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.config import Config, load_config, method_names, save_config
from hpl_gym.trainers.records import finished_manifest, holds_results

PLAYERS = ("human", "random", "scripted", "informed")

RunOption = Annotated[Path, typer.Option("--run", help="Folder of the run.")]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="A YAML file, or a shipped one: quickstart, real, webshop, intercode-sql, paper, "
        "paper-webshop, paper-intercode-sql. "
        "Default: the run's own, else quickstart.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Settings that override the YAML file."),
]


def settings_of(
    run: Path, config: str | None, overrides: list[str] | None, *, keep: bool = True
) -> Config:
    """Return the settings of a run.

    Args:
        run: The run's folder.
        config: A YAML file or the name of a shipped one; None for the run's own.
        overrides: Settings that have the last word.
        keep: Whether this command may begin a run: as long as nothing is there that was made with
            the run's settings, it writes them to ``config.yaml``.
    """
    own = run / "config.yaml"
    source = config or (own if own.is_file() else "quickstart")
    loaded = load_config(source, overrides)
    stages = [*run.glob("*/manifest.json"), *run.glob("eval/*/manifest.json")]
    begun = own.is_file() and any(holds_results(one.parent) for one in stages)
    if keep and not begun:
        save_config(loaded, own)
    return loaded


def check_splits(config: Config) -> None:
    """Look for the tasks that a run will play, before hours are spent on it.

    Raises:
        HPLGymError: A split does not exist, or has no tasks.
    """
    for split in dict.fromkeys((config.experts.split, *config.eval.splits)):
        config.env.make(split)[0].tasks()


def agent_of(run: Path, agent: str) -> str:
    """Return what an agent's name means: a model of the run, or the name as it stands.

    Args:
        run: The run's folder.
        agent: The name.

    Raises:
        StageError: The stage that makes this model has not been run.
        HPLGymError: There is no such agent.
    """
    trained = run / agent / "model"
    if trained.is_dir():
        return str(trained)
    if agent in {"sft", "rft", "train"}:
        finished_manifest(run / agent, agent)
    if agent in method_names():
        finished_manifest(run / agent, f"train --method {agent}")
    if not (agent in PLAYERS or ":" in agent or "/" in agent or Path(agent).exists()):
        raise HPLGymError(
            f"There is no agent {agent!r} in {run}: use {', '.join(PLAYERS)}, a stage, method or "
            "--name of the run, a model's folder, OWNER/NAME of a model of the hub, or "
            "openai:MODEL."
        )
    return agent


def check_name(name: str) -> None:
    """Check a name for a folder in a run.

    Raises:
        HPLGymError: It would be another folder than one directly there.
    """
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise HPLGymError(
            f"{name!r} is no name for a folder of the run: give --name letters, digits, '_', '.', "
            "'+' and '-', a letter or digit first."
        )


def show(title: str, result: dict[str, Any]) -> None:
    """Print a stage's results as a table."""
    table = Table(title=escape(title), show_header=False)
    for key, value in result.items():
        if key not in {"stage", "config", "packages", "machine", "finished", "account", "usage"}:
            text = json.dumps(value) if isinstance(value, dict | list) else str(value)
            table.add_row(key.replace("_", " "), escape(text))
    Console().print(table)
