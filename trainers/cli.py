"""The `hpl` command: one sub-command a file in `hpl_gym.trainers.commands`."""

from __future__ import annotations

import sys

import typer

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.commands import data, evaluation, play, quickstart, sql_server, stages
from hpl_gym.trainers.progress import console

app = typer.Typer(
    name="hpl",
    help="Hierarchical Preference Learning for language-model agents, from experts to results.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command()(quickstart.quickstart)
app.add_typer(data.app, name="data")
app.command()(play.play)
app.command()(stages.experts)
app.command()(stages.sft)
app.command()(stages.explore)
app.command()(stages.pairs)
app.command()(stages.train)
app.command(name="eval")(evaluation.evaluation)
app.add_typer(sql_server.app, name="sql-server")


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit status 1."""
    try:
        app()
    except HPLGymError as error:
        console.print(f"[bold red]Error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("Interrupted. What is finished is kept: the same command goes on from there.")
        sys.exit(130)


if __name__ == "__main__":
    main()
