"""`hpl report`: the evaluations of a run side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from hpl_gym.trainers.commands.stages import DEFAULT_RUN

if TYPE_CHECKING:
    from hpl_gym.trainers.reproduction.tables import Sheet


def report(
    run: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a run; may be repeated, for runs that differ by their seed. "
            "Default: runs/quickstart."
        ),
    ] = None,
    agent: Annotated[
        list[str] | None,
        typer.Option(help="Name of an evaluation; may be repeated. Default: all finished ones."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="What the others are compared with. Default: sft, else the first."),
    ] = None,
) -> None:
    """Compare the agents that `hpl eval` played: results, paired differences, task types.

    Examples: `hpl report --run runs/mine`,
    `hpl report --run runs/seed-0 --run runs/seed-1 --baseline ipr`
    """
    from hpl_gym.trainers.reproduction.comparison import compare

    folders = run or [DEFAULT_RUN]
    for sheet in compare(folders, agent or (), baseline):
        Console().print(table_of(sheet))
    typer.echo(f"Written to {folders[0] / 'report'}")


def table_of(sheet: Sheet) -> Table:
    """Return a sheet as a table for the terminal."""
    shown = Table(title=sheet.title, caption=sheet.note)
    for place, column in enumerate(sheet.columns):
        shown.add_column(column, justify="right" if place else "left", overflow="fold")
    for row in sheet.rows:
        shown.add_row(*row)
    return shown
