"""`hpl sql-server`: the user's private MySQL server."""

from __future__ import annotations

import typer

app = typer.Typer(help="The private MySQL server of InterCode-SQL.", no_args_is_help=True)


@app.command()
def start() -> None:
    """Start the server, or keep the one that runs, until `hpl sql-server stop`.

    Without this it starts with the first process that needs it and ends with the last.

    Example: `hpl sql-server start`
    """
    from hpl_gym.intercode_sql.server import keep_server

    address = keep_server()
    status()
    typer.echo(f"Environments with server=private use it. Others: HPL_MYSQL_DSN='{address.dsn}'")


@app.command()
def stop() -> None:
    """Stop the server, even if it is in use; its data are kept.

    Example: `hpl sql-server stop`
    """
    from hpl_gym.intercode_sql.server import stop_server

    typer.echo("The server is stopped." if stop_server() else "No server was running.")


@app.command()
def status() -> None:
    """Tell whether the server runs, where, and who keeps it.

    Example: `hpl sql-server status`
    """
    from hpl_gym.intercode_sql.server import server_status

    now = server_status()
    if now is None:
        typer.echo("No server is running.")
        return
    kept = ", kept until `hpl sql-server stop`" if now["kept"] else ""
    typer.echo(f"The server is running{kept}.")
    for name in ("version", "folder", "socket", "pid", "clients"):
        typer.echo(f"{name:>8}: {now[name]}")
