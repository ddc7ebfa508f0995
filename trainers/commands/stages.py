"""`hpl experts`, `sft`, `rft`, `explore`, `pairs`, `train`: each reads the last one's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.commands.names import check_name
from hpl_gym.trainers.commands.options import (
    ConfigOption,
    RayOption,
    RunOption,
    Settings,
    settings_of,
    show,
)
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.preferences import LEVELS

DEFAULT_RUN = Path("runs/quickstart")
STAGES = ("experts", "sft", "explore", "pairs", "rft", "eval", "report")


def experts(
    overrides: Settings = None, run: RunOption = DEFAULT_RUN, config: ConfigOption = None
) -> None:
    """Collect expert trajectories from a scripted expert, or a chat model (experts.teacher).

    Example: `hpl experts --run runs/mine experts.count=500 experts.mode=informed`
    """
    from hpl_gym.trainers.experts import collect_experts

    show("experts", collect_experts(settings_of(run, config, overrides), run))


def sft(
    overrides: Settings = None, run: RunOption = DEFAULT_RUN, config: ConfigOption = None
) -> None:
    """Clone the experts (stage 0): the reference policy.

    Example: `hpl sft --run runs/mine sft.model=Qwen/Qwen2.5-1.5B-Instruct sft.lr=1.0e-5`
    """
    needs_train_extra()
    from hpl_gym.trainers.sft import sft as stage

    _show_finished("sft", stage(_settings(run, config, overrides), run))


def rft(
    overrides: Settings = None, run: RunOption = DEFAULT_RUN, config: ConfigOption = None
) -> None:
    """Let the cloned policy play, and clone it again from what it solved (RFT, a baseline).

    Example: `hpl rft --run runs/mine rft.count=200 rft.samples=5`
    """
    needs_train_extra()
    from hpl_gym.trainers.rft import rft as stage

    _show_finished("rft", stage(_settings(run, config, overrides), run))


def explore(
    overrides: Settings = None,
    run: RunOption = DEFAULT_RUN,
    config: ConfigOption = None,
    ray: RayOption = None,
) -> None:
    """Explore with the reference policy from every expert step, and value group ends (stage 1).

    Examples: `hpl explore --run runs/mine explore.count=100 explore.rollouts=5`,
    `hpl explore --run runs/mine "explore.segmenters=[fixed-n, fixed-k, uncertainty, semantic]"`,
    `hpl explore --run runs/mine --ray auto`
    """
    needs_train_extra()
    from hpl_gym.trainers.account import account_table
    from hpl_gym.trainers.explore import explore as stage

    manifest = stage(_settings(run, config, overrides), run, ray)
    show("explore", manifest)
    Console().print(account_table(manifest))


def pairs(
    overrides: Settings = None, run: RunOption = DEFAULT_RUN, config: ConfigOption = None
) -> None:
    """Make trajectory, step and group preference pairs.

    Example: `hpl pairs --run runs/mine pairs.min_gap=0.1`
    """
    from hpl_gym.trainers.preferences import make_pairs

    Console().print(_pairs_table(make_pairs(_settings(run, config, overrides), run)))


def train(
    overrides: Settings = None,
    run: RunOption = DEFAULT_RUN,
    config: ConfigOption = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="A baseline or ablation, written to a folder of its name: hpl, hpl-fixed-k, "
            "hpl-fixed-n, hpl-uncertainty, hpl-semantic, eto, ipr, static, length-only, "
            "difficulty-only, no-bc, no-trajectory, no-step, no-group, group-only, bc-only. "
            "Default: the run's own settings, in `train`."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="The folder to write, in the run's, to try other settings beside it."),
    ] = None,
) -> None:
    """Train with behaviour cloning and DPO at three levels, over the curriculum (stage 2).

    Examples: `hpl train --run runs/mine train.lr=3.0e-6 train.beta=0.3`,
    `hpl train --run runs/mine --method ipr`,
    `hpl train --run runs/mine --name low-beta train.beta=0.1`,
    `hpl train --run runs/mine --name lora train.lora='{r: 16}' train.args.report_to=wandb`

    On many GPUs: `accelerate launch --num_processes 8 -m hpl_gym.trainers.cli train --run runs/mine
    train.args.bf16=true train.args.deepspeed=zero3`
    """
    needs_train_extra()
    from hpl_gym.trainers.config import method as settings
    from hpl_gym.trainers.hpl import train as stage

    differing = settings(method) if method else []
    folder = name or method or "train"
    check_name(folder)
    if folder in STAGES:
        raise HPLGymError(f"{run / folder} is for `hpl {folder}`: give another --name.")
    mine = _settings(run, config, [*differing, *(overrides or [])], keep=folder == "train")
    _show_finished(folder, stage(mine, run, folder))


def _settings(
    run: Path, config: str | None, overrides: list[str] | None, *, keep: bool = True
) -> Config:
    """Return the settings of a run that `hpl experts` has begun, here or where it came from."""
    return settings_of(run, config, overrides, keep=keep and (run / "experts").is_dir())


def _show_finished(title: str, manifest: dict[str, Any]) -> None:
    """Show a stage's results, in the process that has them, and leave the others."""
    from accelerate import PartialState

    from hpl_gym.trainers.processes import leave

    if manifest["finished"]:
        show(title, _readable(manifest))
    leave(PartialState())


def _readable(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a training's results with its metrics in few words."""
    shown = {name: value for name, value in manifest.items() if name not in {"first", "last"}}
    if isinstance(manifest.get("steps"), list) and len(list(filter(None, manifest["steps"]))) == 1:
        shown["steps"] = sum(manifest["steps"])
    first, last = manifest.get("first", {}), manifest.get("last", {})
    for term in ("bc", *LEVELS):
        if f"{term}/loss" in first and f"{term}/loss" in last:
            told = f"{first[f'{term}/loss']:.4g} at first, {last[f'{term}/loss']:.4g} at last"
            if f"{term}/accuracy" in last:
                told += f", {last[f'{term}/accuracy']:.0%} preferred"
            shown[f"{term} loss"] = told
    return shown


def _pairs_table(manifest: dict[str, Any]) -> Table:
    """Return what was kept of each kind of pair, and why others were dropped."""
    reasons = ("same", "tie", "worse")
    table = Table(
        title="Preference pairs",
        caption="Dropped: both sides say the same, are worth the same (pairs.min_gap), or the "
        "policy's is worth more.",
    )
    for column in ("pairs", "kept", *reasons):
        table.add_column(column, justify="left" if column == "pairs" else "right")
    for name, kept in manifest["kept"].items():
        dropped = manifest["dropped"][name]
        table.add_row(name, str(kept), *(str(dropped.get(reason, 0)) for reason in reasons))
    return table


def needs_train_extra(*more: str) -> None:
    """Raise `MissingExtraError` where torch, transformers or `more` packages are not installed."""
    from importlib.util import find_spec

    from hpl_gym.core import MissingExtraError

    if not all(map(find_spec, ("torch", "transformers", *more))):
        raise MissingExtraError("This command needs the train extra: pip install 'hpl-gym[train]'.")
