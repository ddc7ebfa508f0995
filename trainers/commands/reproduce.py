"""`hpl reproduce`: the paper's experiments at a chosen scale, with its tables and figures."""

from __future__ import annotations

import os
import shlex
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.commands.options import Settings, check_splits
from hpl_gym.trainers.commands.report import table_of
from hpl_gym.trainers.commands.stages import needs_train_extra


def reproduce(
    overrides: Settings = None,
    preset: Annotated[
        Literal["mini", "gpu", "paper"],
        typer.Option(help="Two CPU cores; one GPU; eight GPUs and the paper's models."),
    ] = "mini",
    table: Annotated[
        list[int] | None,
        typer.Option(
            help="1 methods, 2 curriculum, 5 resources, 6 and 7 by type of task; may be repeated. "
            "Default, with --figure: everything."
        ),
    ] = None,
    figure: Annotated[
        list[int] | None, typer.Option(help="4 progress by phase, 5 losses; may be repeated.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="A row of the tables: sft, rft, or a method of `hpl train`; may be repeated. "
            "Default: those of the paper."
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            help="alfworld, webshop or intercode-sql; may be repeated. Default: all. mini has "
            "alfworld-real too, with the benchmark's own games from $HPL_DATA."
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds 0, 1, ...; default 3.")] = None,
    proposition: Annotated[
        bool, typer.Option("--proposition", help="Measure bias and variance (Proposition 1).")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Commands at a time; default one a core, with gpu and paper one."),
    ] = None,
    run: Annotated[Path, typer.Option(help="Folder of all runs and reports.")] = Path(
        "runs/reproduce"
    ),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the commands, finished ones too, and end.")
    ] = False,
) -> None:
    """Run the paper's experiments and print its tables with what was measured here.

    Every number comes from ordinary commands in run folders. What is finished is not computed
    again: not in a second run, nor when a seed, a table or a setting is added.

    Examples: `hpl reproduce --preset mini --table 1 --env alfworld`,
    `hpl reproduce --table 2 --figure 5 --env webshop --seeds 5`,
    `hpl reproduce --table 1 --method ipr --method hpl-semantic --env alfworld train.lr=5.0e-5`,
    `hpl reproduce --proposition --env alfworld`, `hpl reproduce --preset paper --dry-run`
    """
    needs_train_extra("matplotlib")
    import torch

    from hpl_gym.trainers.reproduction.jobs import by_stage, make_jobs, make_runs, write_settings
    from hpl_gym.trainers.reproduction.presets import RESULTS, load_preset
    from hpl_gym.trainers.reproduction.report import (
        mixed_versions,
        possible,
        write_manifests,
        write_proposition,
        write_result,
    )
    from hpl_gym.trainers.reproduction.scheduler import Ledger, run_jobs

    chosen = load_preset(preset)
    names = [f"table {one}" for one in table or ()] + [f"figure {one}" for one in figure or ()]
    unknown = [name for name in names if name not in RESULTS]
    if unknown:
        raise HPLGymError(f"There is no {unknown[0]} to make: use one of {', '.join(RESULTS)}.")
    everything = not names and not proposition
    names = list(RESULTS) if everything else names
    experiments = list(
        dict.fromkeys(env or (one for one in chosen.experiments if not one.endswith("-real")))
    )
    runs = make_runs(
        chosen, run, experiments, range(seeds or chosen.seeds), overrides or [], dry=dry_run
    )
    for name in [one for one in names if not possible(one, runs)]:
        if not everything:
            raise HPLGymError(
                f"There is no {name} of {', '.join(experiments)}: it is of ALFWorld, and Table 7 "
                "of its second split (eval.splits)."
            )
        names.remove(name)
    named = tuple(dict.fromkeys(method or ()))
    if named and set(names) <= {"figure 4"}:
        raise HPLGymError(
            "--method chooses the rows of a table or of figure 5, and none was asked for: leave "
            "it out, or add one (--table 1)."
        )
    rows = {name: named if named and name != "figure 4" else RESULTS[name] for name in names}
    first = [one for one in runs if one.seed == 0] if proposition or everything else []
    shown = [
        tuple(dict.fromkeys(row for name in names if possible(name, [one]) for row in rows[name]))
        for one in runs
    ]
    wanted = [pair for pair in zip(runs, shown, strict=True) if pair[1] or pair[0] in first]
    plan = by_stage(job for pair in wanted for job in make_jobs(chosen, *pair))
    runs = [one for one, _ in wanted]
    if dry_run:
        folders = {one.folder: one for one in runs}
        for job in plan:
            start = chosen.launcher if job.trains and chosen.launcher else ("hpl",)
            command = [*start, *job.command]
            if job.stage == "experts":
                own = folders[job.folder.parent]
                config, settings = chosen.source(own.experiment, own.seed, overrides or [])
                command += ["--config", config, *settings]
            print(shlex.join(command))
        return
    for one in runs:
        if one.seed == 0:
            check_splits(one.config)
    write_settings(runs)
    on_cpu = all(one.config.device == "cpu" for one in runs)
    run_jobs(
        plan,
        Ledger(run),
        jobs or chosen.jobs or os.cpu_count() or 1,
        chosen.launcher,
        threads=1 if on_cpu else None,
    )
    by_experiment = {one: list(own) for one, own in groupby(runs, lambda one: one.experiment)}
    report = run / "+".join(
        ["report", *(own[0].folder.parent.name for own in by_experiment.values())]
    )
    report.mkdir(exist_ok=True)
    out = Console()
    for name in names:
        for sheet in write_result(name, by_experiment, report, rows[name]):
            out.print(table_of(sheet))
    if first and on_cpu:
        torch.set_num_threads(1)  # as the commands have
    for one in first:
        out.print(table_of(write_proposition(one, chosen.proposition, report)))
    write_manifests(runs, report)
    for package, versions in mixed_versions(plan).items():
        typer.echo(
            f"Note: these results were made with several versions of {package} "
            f"({', '.join(versions)}), which may give different ones; with another --run all are "
            "made by one."
        )
    typer.echo(f"Tables, figures and manifests are in {report}, the runs in {run}.")
