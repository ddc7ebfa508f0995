"""The cloned policy of a run, and that what it is told is still what it was trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpl_gym.agents.chat import prompt_identity
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.records import finished_manifest


def cloned_policy(config: Config, run: Path) -> Path:
    """Return the folder of a run's cloned policy.

    Raises:
        StageError: It has not been cloned, or not to the end.
        HPLGymError: It was cloned with another prompt.
    """
    made = finished_manifest(run / "sft", f"sft --run {run}")
    refuse_other_prompt(config, run / "sft", made)
    return run / "sft" / "model"


def refuse_other_prompt(config: Config, stage: Path, manifest: dict[str, Any]) -> None:
    """Refuse a policy that was trained with another prompt.

    Args:
        config: The run's settings.
        stage: The folder of the training.
        manifest: Its manifest.

    Raises:
        HPLGymError: The prompt's text is another one now.
    """
    if manifest["config"].get("prompt") != prompt_identity(config.prompt):
        raise HPLGymError(
            f"The policy in {stage} was trained with another text of the prompt than "
            f"{config.prompt!r} has now: put the old text back, or begin another --run."
        )
