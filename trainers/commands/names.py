"""What the names mean that a user gives: of agents, and of folders in a run."""

from __future__ import annotations

import re
from pathlib import Path

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.config import method_names
from hpl_gym.trainers.records import finished_manifest

PLAYERS = ("random", "scripted", "informed")
STAGES = ("sft", "rft", "train")


def agent_of(run: Path, agent: str, players: tuple[str, ...] = PLAYERS) -> str:
    """Return what an agent's name means: a model of the run, or the name as it stands.

    Args:
        run: The run's folder.
        agent: The name.
        players: Names of agents that need no model.

    Raises:
        StageError: The stage that makes this model has not been run.
        HPLGymError: There is no such agent.
    """
    folders = [run / agent, *([Path(agent)] if "/" in agent else [])]
    for folder in folders:  # a plain name is never a folder elsewhere
        if (folder / "model").is_dir():
            return str(folder / "model")
    if agent in STAGES:
        finished_manifest(run / agent, f"{agent} --run {run}")
    if agent in method_names():
        finished_manifest(run / agent, f"train --method {agent} --run {run}")
    if not (agent in players or ":" in agent or "/" in agent or Path(agent).exists()):
        raise HPLGymError(
            f"There is no agent {agent!r} in {run}: use {', '.join(players)}, a stage, method or "
            "--name of the run, a model's folder, OWNER/NAME of a model of the hub, or "
            "openai:MODEL."
        )
    return agent


def label_of(run: Path, agent: str) -> str:
    """Return what to call an agent's result where nobody says it.

    Args:
        run: The run's folder.
        agent: The agent's name.

    Raises:
        HPLGymError: The result would pass for that of another policy, the run's own.
    """
    folder = Path(agent)
    stage = folder.parent if folder.name == "model" else folder
    label = stage.name or agent
    own = (run / label).resolve()
    taken = own.exists() or label in (*STAGES, *method_names())
    if taken and agent != label and stage.resolve() != own:
        raise HPLGymError(f"{agent} is not the {label} of {run}: give its result another --name.")
    return label


def check_name(name: str) -> None:
    """Check a name for a folder in a run.

    Raises:
        HPLGymError: It would be another folder than one directly there.
    """
    if not re.fullmatch(r"\w[\w.:+-]*", name):
        raise HPLGymError(
            f"{name!r} is no name for a folder of the run: give --name letters, digits, '_', '.', "
            "':', '+' and '-', a letter or digit first."
        )
