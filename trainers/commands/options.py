"""The options that all stages share: which run, which settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpl_gym.agents.language_model import check_chat_template, check_model
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.config import Config, load_config, save_config
from hpl_gym.trainers.records import holds_results


def run_folder(text: str | Path) -> Path:
    """Return the folder that ``--run`` names.

    Raises:
        HPLGymError: It names none.
    """
    if not str(text).strip():
        raise HPLGymError("--run is empty: name the folder of the run.")
    return Path(text)


RunOption = Annotated[
    Path,
    typer.Option("--run", parser=run_folder, metavar="FOLDER", help="Folder of the run."),
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="A YAML file, or a shipped one: quickstart, real, webshop, intercode-sql, paper, "
        "paper-webshop, paper-intercode-sql. "
        "Default: the run's own, else quickstart. For the first command of a run; later ones "
        "take what it kept in config.yaml.",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", help="Ray cluster: its address, `auto`, or `local` to start one here."),
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
            the run's settings, it writes them to ``config.yaml``, once their tasks are found, and
            the model to begin with, where it is a folder.
    """
    own = run / "config.yaml"
    source = config or (own if own.is_file() else "quickstart")
    loaded = load_config(source, overrides)
    # A baseline's evaluation does not keep `--config` from beginning the run anew.
    stages = [*run.glob("*/manifest.json"), *([] if config else run.glob("eval/*/manifest.json"))]
    begun = own.is_file() and any(holds_results(one.parent) for one in stages)
    if keep and not begun:
        check_splits(loaded)
        if loaded.sft.model != "tiny":
            check_model(loaded.sft.model)
            check_chat_template(loaded.sft.model)
        save_config(loaded, own)
    return loaded


def check_splits(config: Config) -> None:
    """Look for the tasks that a run will play, before hours are spent on it.

    Raises:
        HPLGymError: A split does not exist, or has no tasks.
    """
    for split in dict.fromkeys((config.experts.split, *config.eval.splits)):
        config.env.make(split)[0].tasks()


def show(title: str, result: dict[str, Any]) -> None:
    """Print a stage's results as a table."""
    table = Table(title=escape(title), show_header=False)
    for key, value in result.items():
        if key not in {"stage", "config", "packages", "machine", "finished", "account", "usage"}:
            text = json.dumps(value) if isinstance(value, dict | list) else str(value)
            table.add_row(key.replace("_", " "), escape(text))
    Console().print(table)
