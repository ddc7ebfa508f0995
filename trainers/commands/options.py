"""The options that all stages share: which run, which settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hpl_gym.trainers.config import Config, load_config, save_config

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
    """Return the settings of a run; its first command (`keep`) writes them to ``config.yaml``."""
    own = run / "config.yaml"
    source = config or (own if own.is_file() else "quickstart")
    loaded = load_config(source, overrides)
    if keep and not own.is_file():
        run.mkdir(parents=True, exist_ok=True)
        save_config(loaded, own)
    return loaded


def show(title: str, result: dict[str, Any]) -> None:
    """Print a stage's results as a table."""
    table = Table(title=title, show_header=False)
    for key, value in result.items():
        if key not in {"stage", "config", "packages", "machine", "finished", "account", "usage"}:
            text = json.dumps(value) if isinstance(value, dict | list) else str(value)
            table.add_row(key.replace("_", " "), text)
    Console().print(table)
