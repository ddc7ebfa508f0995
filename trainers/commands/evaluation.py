"""`hpl eval`: success rates with intervals, by task type."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpl_gym.trainers.commands.names import agent_of, check_name, label_of
from hpl_gym.trainers.commands.options import (
    ConfigOption,
    RayOption,
    RunOption,
    Settings,
    settings_of,
)
from hpl_gym.trainers.commands.stages import DEFAULT_RUN
from hpl_gym.trainers.statistics import Rate


def evaluation(
    overrides: Settings = None,
    agent: Annotated[
        str,
        typer.Option(
            help="random, scripted, informed (not in WebShop), a stage, method or --name of the "
            "run (sft, rft, train, eto, ipr, ...), a model folder, OWNER/NAME of the hub, or "
            "openai:MODEL at OPENAI_BASE_URL."
        ),
    ] = "train",
    name: Annotated[str | None, typer.Option(help="What to call the result.")] = None,
    run: RunOption = DEFAULT_RUN,
    config: ConfigOption = None,
    ray: RayOption = None,
) -> None:
    """Evaluate an agent: success rate by task type, with 95 % intervals.

    Examples: `hpl eval --agent scripted --run runs/mine`,
    `hpl eval --agent sft --run runs/mine eval.splits='[valid_seen,valid_unseen]'`,
    `hpl eval --agent sft --run runs/mine --ray auto`
    """
    from hpl_gym.trainers.evaluate import evaluate

    label = name or label_of(run, agent)
    check_name(label)
    who = agent_of(run, agent)
    settings = settings_of(run, config, overrides)
    result = evaluate(settings, run, who, label, ray)
    for split, rates in result["splits"].items():
        Console().print(success_table(f"{split}: success", {label: rates}))
    typer.echo(f"Written to {run / 'eval' / label / 'result.json'}")


def success_table(title: str, agents: dict[str, dict[str, Any]]) -> Table:
    """Return a table of success rates: a row a task type, a column an agent.

    Args:
        title: The table's title.
        agents: For each agent its rates by task type, as `evaluate` returns them for a split.
    """
    table = Table(title=escape(title))
    table.add_column("task type")
    table.add_column("episodes", justify="right")
    for agent in agents:
        table.add_column(escape(agent), justify="right")
    types = list(next(iter(agents.values())))
    for kind in [*types[1:], types[0]]:
        if kind == "all":
            table.add_section()
        rates = [_rate(agent[kind]) for agent in agents.values()]
        table.add_row(kind, str(rates[0].episodes), *map(str, rates))
    every = [agent["all"] for agent in agents.values()]
    if any(one["reward"] != one["rate"] for one in every):
        rewards = [f"{one['reward']:.3f}" for one in every]
        table.add_row("mean reward", str(every[0]["episodes"]), *rewards)
    return table


def _rate(values: dict[str, Any]) -> Rate:
    return Rate(**{name: value for name, value in values.items() if name != "reward"})
