"""The `hpl` command: one sub-command a file in `hpl_gym.trainers.commands`."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer
from rich.text import Text

from hpl_gym import __version__
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.commands import (
    data,
    evaluation,
    play,
    quickstart,
    report,
    reproduce,
    sql_server,
    stages,
)
from hpl_gym.trainers.kernels import round_alike
from hpl_gym.trainers.progress import Mode, console, set_mode

INTERRUPTED = 130
"""The exit status after Ctrl-C."""

app = typer.Typer(
    name="hpl",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hpl-gym {__version__}")
        raise typer.Exit


@app.callback()
def options(
    progress: Annotated[
        Mode, typer.Option(help="How progress is shown: bars, a JSON line now and then, or not.")
    ] = "bar",
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show it, and leave."
        ),
    ] = False,
) -> None:
    """Hierarchical Preference Learning for language-model agents, from experts to results."""
    set_mode(progress)


app.command()(quickstart.quickstart)
app.add_typer(data.app, name="data")
app.command()(play.play)
app.command()(stages.experts)
app.command()(stages.sft)
app.command()(stages.rft)
app.command()(stages.explore)
app.command()(stages.pairs)
app.command()(stages.train)
app.command(name="eval")(evaluation.evaluation)
app.command()(report.report)
app.command()(reproduce.reproduce)
app.add_typer(sql_server.app, name="sql-server")


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit status 1."""
    round_alike()
    try:
        app()
    except HPLGymError as error:
        _fail(str(error))
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _fail(f"{what}.")
    except SystemExit as stopped:
        if stopped.code == INTERRUPTED:
            console.print("Interrupted: the same command goes on from what is finished.")
        raise


def _fail(what: str) -> NoReturn:
    console.print(Text.assemble(("Error: ", "bold red"), what), soft_wrap=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
