"""The cloned policy of a run, and that what it is told is still what it was trained with."""

from __future__ import annotations

import re
from pathlib import Path

from hpl_gym.agents.chat import prompt_identity
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.records import StageError, finished_manifest, read_manifest


def cloned_policy(config: Config, run: Path) -> Path:
    """Return the folder of a run's cloned policy.

    Raises:
        StageError: It has not been cloned, or not to the end.
        HPLGymError: It was cloned with another prompt.
    """
    finished_manifest(run / "sft", f"sft --run {run}")
    model = run / "sft" / "model"
    refuse_other_prompt(config, model)
    return model


def refuse_other_prompt(config: Config, model: Path) -> None:
    """Refuse a policy that a stage trained with another prompt.

    Args:
        config: The run's settings.
        model: The policy's folder, ``STAGE/model`` or ``STAGE/phases/N/model``; of another one
            nothing is known, and it is not refused.

    Raises:
        HPLGymError: The prompt is another one now.
    """
    if not model.is_dir():
        return
    model = model.resolve()
    in_phase = len(model.parents) > 2 and model.parents[1].name == "phases"
    stage = model.parents[2] if in_phase else model.parent
    then = _prompt_of(stage)
    if then in ("", prompt_identity(config.prompt)):
        return
    if re.fullmatch("[0-9a-f]{16}", then):
        raise HPLGymError(
            f"The policy in {stage} was trained with another text of the prompt than "
            f"{config.prompt!r} has now: put the old text back, or name its file by prompt=FILE."
        )
    raise HPLGymError(
        f"The policy in {stage} was trained with the prompt {then!r}, and {config.prompt!r} is "
        f"set: add prompt={then}."
    )


def _prompt_of(stage: Path) -> str:
    """Return what identifies the prompt of a stage that trained a policy; "" elsewhere."""
    try:
        config = read_manifest(stage)["config"]
    except StageError:
        return ""
    return str(config.get("prompt", "")) if isinstance(config, dict) else ""
