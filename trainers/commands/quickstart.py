"""`hpl quickstart`: the whole method once, small, on this machine."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.commands.evaluation import success_table
from hpl_gym.trainers.commands.names import agent_of
from hpl_gym.trainers.commands.options import Settings, check_splits, settings_of
from hpl_gym.trainers.commands.stages import needs_train_extra
from hpl_gym.trainers.config import Config, load_config
from hpl_gym.trainers.progress import heading
from hpl_gym.trainers.records import write_json
from hpl_gym.trainers.sections import BENCHMARKS

AGENTS = {"random": "random", "SFT": "sft", "HPL": "train"}
TASKS = {"alfworld": "games", "webshop": "goals", "intercode-sql": "questions"}


def quickstart(
    overrides: Settings = None,
    env: Annotated[
        Literal["alfworld", "webshop", "intercode-sql"],
        typer.Option(help="Household games, a shop, or questions to databases."),
    ] = "alfworld",
    games: Annotated[
        Literal["generated", "real"],
        typer.Option(
            help="ALFWorld: generated games, or the benchmark's own ($ALFWORLD_DATA, $HPL_DATA)."
        ),
    ] = "generated",
    run: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run; default runs/quickstart[-real|-webshop|-intercode-sql]."
        ),
    ] = None,
) -> None:
    """Run the whole method with small settings: experts, SFT, exploration, pairs, HPL, evaluation.

    Ends with a table of random, SFT and HPL success. A run that was stopped goes on where it was.

    Examples: `hpl quickstart`, `HPL_DATA=/data hpl quickstart --games real`,
    `hpl quickstart --env webshop`, `hpl quickstart --env intercode-sql`
    """
    needs_train_extra()
    from hpl_gym.trainers.evaluate import evaluate
    from hpl_gym.trainers.experts import collect_experts
    from hpl_gym.trainers.explore import explore
    from hpl_gym.trainers.hpl import train
    from hpl_gym.trainers.preferences import make_pairs
    from hpl_gym.trainers.sft import sft

    began = time.monotonic()
    if env != "alfworld" and games == "real":
        raise HPLGymError(
            "--games is for household games: for the benchmark's own products run `hpl data "
            "webshop prepare` and add env.kwargs='{data: THE_FOLDER}', for its own databases add "
            "env.kwargs='{data: THE_FOLDER}'."
        )
    preset = env if env != "alfworld" else "real" if games == "real" else "quickstart"
    run = run or Path("runs") / ("quickstart" if preset == "quickstart" else f"quickstart-{preset}")
    own = run / "config.yaml"
    if preset == "real":
        from hpl_gym.alfworld.games import locate_or_unpack

        locate_or_unpack()
    if own.is_file():
        _refuse_other(load_config(own, overrides), env, games, own)
    config = settings_of(run, None if own.is_file() else preset, overrides)
    check_splits(config)

    stages: dict[str, dict[str, Any]] = {}
    for number, (name, stage) in enumerate(
        {
            "experts": collect_experts,
            "sft": sft,
            "explore": explore,
            "pairs": make_pairs,
            "train": train,
        }.items(),
        1,
    ):
        heading(f"{number} of 6: {name}")
        stages[name] = stage(config, run)
    heading("6 of 6: eval")
    results = {
        label: evaluate(config, run, agent_of(run, name), name) for label, name in AGENTS.items()
    }
    out = Console()
    out.print(_stage_table(stages, results, run))
    data = str(config.env.kwargs.get("games" if env == "alfworld" else "data", "auto"))
    word = f"{data} " if data in ("generated", "real") else ""
    for split in config.eval.splits:
        rates = {label: result["splits"][split] for label, result in results.items()}
        title = f"Success on {word}{split} {TASKS[env]}, 95 % interval"
        out.print(success_table(title, rates))
    seconds = round(time.monotonic() - began, 1)
    write_json(
        run / "result.json",
        {"env": env, "data": data, "results": results, "seconds_of_this_call": seconds},
    )
    typer.echo(f"{seconds / 60:.1f} minutes. Everything is in {run}/, the table in result.json.")
    there = shlex.quote(str(run))
    typer.echo(
        f"Next: hpl eval --run {there} --agent scripted, or other settings beside these: "
        f"hpl train --run {there} --name low-beta train.beta=0.1"
    )


def _refuse_other(config: Config, env: str, games: str, file: Path) -> None:
    """Refuse to go on with a run of another benchmark, or of other games."""
    if config.env.id != BENCHMARKS[env]:
        raise HPLGymError(
            f"{file} has env.id {config.env.id}, which is not --env {env}: name that benchmark, or "
            "begin another run by --run."
        )
    if games == "real" and config.env.kwargs.get("games") != "real":
        raise HPLGymError(
            f"{file} does not play the benchmark's own games: leave out --games, or begin another "
            "run by --run."
        )


def _stage_table(
    stages: dict[str, dict[str, Any]], results: dict[str, dict[str, Any]], run: Path
) -> Table:
    experts, sft, explore, pairs, train = stages.values()
    table = Table(title="What was done")
    for column, justify in (("stage", "left"), ("result", "left"), ("seconds", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_row("experts", f"{experts['solved']} of {experts['played']} tasks", _seconds(experts))
    table.add_row(
        "sft",
        f"{sft['parameters'] / 1e6:.1f} M parameters, {sft['steps']} steps, loss {sft['loss']:.3f}",
        _seconds(sft),
    )
    table.add_row(
        "explore",
        f"{explore['branches']} branches, {explore['values']} values, "
        f"{explore['model_calls']} model calls, {explore['env_steps']} environment steps",
        _seconds(explore),
    )
    kept = ", ".join(f"{count} {level}" for level, count in pairs["kept"].items())
    table.add_row("pairs", kept, _seconds(pairs))
    steps = [str(count) for count in train["steps"] if count]
    phases = ("one phase", "two phases", "three phases")[len(steps) - 1]
    table.add_row("train", f"{' + '.join(steps)} steps in {phases}", _seconds(train))
    for label, result in results.items():
        manifest = json.loads((run / "eval" / AGENTS[label] / "manifest.json").read_text())
        turns = f"{result['mean_turns']} turns an episode on average"
        table.add_row(f"eval {label}", turns, _seconds(manifest))
    return table


def _seconds(manifest: dict[str, Any]) -> str:
    return f"{manifest['seconds']:.1f}"
