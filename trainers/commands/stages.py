"""`hpl experts`, `sft`, `explore`, `pairs`, `train`: each reads the last one's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hpl_gym.trainers.commands.options import ConfigOption, RunOption, Settings, settings_of, show

DEFAULT_RUN = Path("runs/quickstart")


def experts(
    overrides: Settings = None, run: RunOption = DEFAULT_RUN, config: ConfigOption = None
) -> None:
    """Collect expert trajectories from a scripted expert.

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

    show("sft", stage(settings_of(run, config, overrides), run))


def explore(
    overrides: Settings = None,
    run: RunOption = DEFAULT_RUN,
    config: ConfigOption = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Ray cluster: its address, `auto`, or `local` to start one here."),
    ] = None,
) -> None:
    """Explore with the reference policy from every expert step, and value group ends (stage 1).

    Examples: `hpl explore --run runs/mine explore.count=100 explore.rollouts=5`,
    `hpl explore --run runs/mine "explore.segmenters=[fixed-k, fixed-n, uncertainty, semantic]"`,
    `hpl explore --run runs/mine --ray auto`
    """
    needs_train_extra()
    from hpl_gym.trainers.account import account_table
    from hpl_gym.trainers.explore import explore as stage

    manifest = stage(settings_of(run, config, overrides), run, ray)
    show("explore", manifest)
    Console().print(account_table(manifest))


def pairs(
    overrides: Settings = None, run: RunOption = DEFAULT_RUN, config: ConfigOption = None
) -> None:
    """Make trajectory, step and group preference pairs.

    Example: `hpl pairs --run runs/mine pairs.min_gap=0.1`
    """
    from hpl_gym.trainers.preferences import make_pairs

    show("pairs", make_pairs(settings_of(run, config, overrides), run))


def train(
    overrides: Settings = None, run: RunOption = DEFAULT_RUN, config: ConfigOption = None
) -> None:
    """Train with behaviour cloning and DPO at three levels, over the curriculum (stage 2).

    Example: `hpl train --run runs/mine train.lr=3.0e-6 train.beta=0.3`
    """
    needs_train_extra()
    from hpl_gym.trainers.hpl import train as stage

    show("train", stage(settings_of(run, config, overrides), run))


def needs_train_extra() -> None:
    """Raise `MissingExtraError` where torch or transformers are not installed."""
    from importlib.util import find_spec

    from hpl_gym.core import MissingExtraError

    if not (find_spec("torch") and find_spec("transformers")):
        raise MissingExtraError("This command needs the train extra: pip install 'hpl-gym[train]'.")
