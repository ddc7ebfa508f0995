"""The processes of one training, as ``accelerate launch`` or torchrun starts them; often one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import PartialState

from hpl_gym.agents.language_model import check_device
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.progress import set_mode
from hpl_gym.trainers.records import Stage

_PATIENCE = timedelta(days=1)
"""How long processes wait for the main one, which plays alone in RFT and after phases."""


def processes(device: str) -> PartialState:
    """Return which process this is; only the main one shows progress.

    Args:
        device: The settings' device.

    Raises:
        HPLGymError: There is no such device, or it is not the first one.
    """
    check_device(device)
    kind, _, number = device.partition(":")
    if number not in ("", "0"):
        raise HPLGymError(
            f"Training takes the first device that it sees, not {device}: set "
            f"CUDA_VISIBLE_DEVICES={number} and device={kind}."
        )
    more: dict[str, Any] = {}
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        more["timeout"] = _PATIENCE
        if device == "cpu":
            more["backend"] = "gloo"
    state = PartialState(cpu=device == "cpu", **more)
    if not state.is_main_process:
        set_mode("quiet")
    return state


def open_stage(
    state: PartialState, folder: Path, config: Mapping[str, Any], *, waits: bool = False
) -> Stage:
    """Open a stage in all processes, the main one first; only that one may write to it."""
    with state.main_process_first():
        return Stage(folder, config, writes=state.is_main_process, waits=waits)


def leave(state: PartialState) -> None:
    """Wait for the other processes, end the connection, and end those that have nothing to tell.

    Threads of the connection may abort an ordinary exit, and with it all other processes.
    """
    if state.num_processes > 1:
        state.wait_for_everyone()
        state.destroy_process_group()
        if not state.is_main_process:
            os._exit(0)
