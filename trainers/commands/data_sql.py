"""`hpl data intercode-sql`: make and check InterCode-SQL's databases and questions."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hpl_gym.core import HPLGymError

app = typer.Typer(help="InterCode-SQL's databases and questions.", no_args_is_help=True)


@app.command()
def generate(
    folder: Annotated[Path, typer.Argument(help="Where to write the two files.")],
    databases: Annotated[
        int, typer.Option(help="How many databases: each fifth is for tests.", min=5)
    ] = 24,
    seed: Annotated[int, typer.Option(help="Another seed, other databases.", min=0)] = 0,
) -> None:
    """Write generated databases and questions in the benchmark's own formats.

    Example: `hpl data intercode-sql generate questions --databases 24`
    """
    from hpl_gym.intercode_sql.generate import generate_databases

    dump, questions = generate_databases(databases, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ic_spider_dbs.sql").write_text(dump, encoding="utf-8")
        text = json.dumps(questions, indent=1)
        (folder / "ic_spider_dev.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise HPLGymError(
            f"{folder} cannot be written ({error.strerror}): name another folder."
        ) from error
    typer.echo(f"{databases} databases and {len(questions)} questions written to {folder}")
    typer.echo(
        f"Play: INTERCODE_DATA={shlex.quote(str(folder))} hpl play --config intercode-sql "
        "env.kwargs={}"
    )


@app.command()
def verify(
    data: Annotated[str, typer.Option(help="A folder, `generated`, or `auto`.")] = "auto",
    server: Annotated[
        str, typer.Option(help="sqlite, private, docker, mysql://..., or auto.")
    ] = "auto",
    against: Annotated[
        str | None, typer.Option(help="A second server to compare the gold answers with.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the findings as JSON too.")] = None,
) -> None:
    """Run every gold query: count and list those that fail or give no rows.

    Example: `HPL_DATA=/data hpl data intercode-sql verify --server private --against sqlite`
    """
    import gymnasium

    import hpl_gym  # noqa: F401
    from hpl_gym.intercode_sql.check import check_gold, compare_gold

    env = gymnasium.make("HPL/InterCodeSQL-v0", data=data, server=server).unwrapped
    found = check_gold(env)  # type: ignore[arg-type]
    out = Console()
    table = Table(title=f"Gold queries on {found['backend']}")
    for column in ("split", "databases", "questions", "fail", "no rows"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, counts in found["splits"].items():
        table.add_row(split, *map(str, counts.values()))
    out.print(table)
    for number, error in found["failing"].items():
        typer.echo(f"question {number} fails: {error}")
    for database, numbers in found["empty"].items():
        typer.echo(f"no rows, {database}: questions {', '.join(map(str, numbers))}")
    if against is not None:
        other = gymnasium.make("HPL/InterCodeSQL-v0", data=data, server=against).unwrapped
        found["against"] = compare_gold(env, other)  # type: ignore[arg-type]
        table = Table(title=f"Gold answers on {found['backend']} and {other.backend}")  # type: ignore[attr-defined]
        table.add_column("answers")
        table.add_column("questions", justify="right")
        counts = Counter({kind: len(numbers) for kind, numbers in found["against"].items()})
        for kind, count in counts.most_common():
            table.add_row(kind, str(count))
        out.print(table)
        for kind, numbers in found["against"].items():
            if "equal" not in kind:
                typer.echo(f"{kind}: questions {', '.join(map(str, numbers))}")
    if output is not None:
        output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
