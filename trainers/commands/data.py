"""`hpl data`: get, make and check the benchmarks' data."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hpl_gym.core import SPLITS, DataError
from hpl_gym.trainers.commands.data_sql import app as intercode_sql

app = typer.Typer(help="Get, make and check the benchmarks' data.", no_args_is_help=True)
alfworld = typer.Typer(help="ALFWorld's household games.", no_args_is_help=True)
app.add_typer(alfworld, name="alfworld")


@alfworld.command()
def unpack() -> None:
    """Unpack the archives of games in $HPL_DATA into the user's cache.

    Example: `HPL_DATA=/data hpl data alfworld unpack`
    """
    from hpl_gym.alfworld.games import locate_or_unpack

    typer.echo(f"The games are in {locate_or_unpack()}")


@alfworld.command()
def generate(
    folder: Annotated[Path, typer.Argument(help="Where to write; json_2.1.1 is made in it.")],
    split: Annotated[str, typer.Option(help=f"One of {', '.join(SPLITS)}.")] = "train",
    count: Annotated[int, typer.Option(help="How many games.", min=1)] = 100,
    rooms: Annotated[str, typer.Option(help="full or small.")] = "full",
    seed: Annotated[int, typer.Option(help="Another seed, other games.", min=0)] = 0,
) -> None:
    """Write generated games as files in the benchmark's own layout.

    Example: `hpl data alfworld generate games --split valid_seen --count 20`
    """
    from hpl_gym.alfworld.generate import write_games

    paths = write_games(folder, split, count, rooms=rooms, seed=seed)
    typer.echo(f"{len(paths)} games written below {folder / 'json_2.1.1' / split}")


@alfworld.command()
def verify() -> None:
    """Read every playable real game and count them by split and task type.

    Example: `ALFWORLD_DATA=/data/alfworld hpl data alfworld verify`
    """
    from collections import Counter

    from hpl_gym.alfworld.games import game_path, locate, read_game, real_tasks
    from hpl_gym.trainers.progress import bar

    root = locate()
    counts = {split: Counter[str]() for split in SPLITS}
    broken = []
    for split in SPLITS:
        try:
            tasks = real_tasks(root, split)
        except DataError:
            continue
        with bar(f"read {split}", len(tasks)) as progress:
            for task in tasks:
                try:
                    read_game(task, game_path(root, task.task_id))
                    counts[split][task.task_type] += 1
                except DataError as error:
                    broken.append(str(error))
                progress.advance()
    typer.echo(f"Playable games in {root}")
    table = Table()
    table.add_column("task type")
    for split in SPLITS:
        table.add_column(split, justify="right")
    for kind in sorted(set().union(*counts.values())):
        table.add_row(kind, *(str(counts[split][kind]) for split in SPLITS))
    table.add_section()
    table.add_row("all", *(str(counts[split].total()) for split in SPLITS))
    Console().print(table)
    for what in broken:
        typer.echo(what, err=True)
    if broken:
        raise typer.Exit(1)


app.add_typer(intercode_sql, name="intercode-sql")

webshop = typer.Typer(help="WebShop's products and goals.", no_args_is_help=True)
app.add_typer(webshop, name="webshop")


@webshop.command()
def prepare(
    files: Annotated[
        list[Path], typer.Argument(help="The benchmark's JSON files, or one folder with them.")
    ],
    folder: Annotated[Path, typer.Option(help="Where the catalogue goes.")],
    limit: Annotated[int | None, typer.Option(help="Read so many products only.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of prices and price caps.", min=0)] = 0,
) -> None:
    """Build a catalogue that every process maps into memory, out of the benchmark's files.

    Example: `hpl data webshop prepare items_shuffle.json items_ins_v2.json items_human_ins.json
    --folder shop`
    """
    from hpl_gym.trainers.progress import bar
    from hpl_gym.webshop.catalog import Catalog
    from hpl_gym.webshop.files import prepare as build

    with bar("products", None) as progress:
        build(files, folder, limit=limit, seed=seed, advance=progress.advance)
    _show(Catalog(folder))


@webshop.command(name="generate")
def generate_shop(
    folder: Annotated[Path, typer.Argument(help="Where the catalogue goes.")],
    products: Annotated[int, typer.Option(help="How many products.", min=1)] = 10_000,
    seed: Annotated[int, typer.Option(help="Another seed, another shop.", min=0)] = 0,
) -> None:
    """Build the catalogue of a generated shop.

    Example: `hpl data webshop generate shop --products 100000`
    """
    from hpl_gym.trainers.progress import bar
    from hpl_gym.webshop.catalog import Catalog
    from hpl_gym.webshop.generate import write_generated

    with bar("products", products) as progress:
        write_generated(folder, products, seed, progress.advance)
    _show(Catalog(folder))


def _show(catalog: Any) -> None:
    goals = ", ".join(f"{count} {kind} goals" for kind, count in catalog.goals.items())
    typer.echo(f"{catalog.products} products, {goals} in {catalog.folder}")
    kinds = [kind for kind, count in catalog.goals.items() if count]
    if kinds:  # however few there are, some are in train
        typer.echo(
            f"Play: WEBSHOP_DATA={shlex.quote(str(catalog.folder))} hpl play --config webshop "
            f"--split train env.kwargs.data=real env.kwargs.goals={kinds[0]}"
        )
