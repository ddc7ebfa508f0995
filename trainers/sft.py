"""Behaviour cloning (HPL stage 0): fine-tune on expert trajectories, on the agent's tokens only.

The result is the policy that explores, and the frozen reference of the preference losses.

    hpl sft --run runs/mine
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedModel

from hpl_gym.agents.chat import ChatEncoder, load_prompt, prompt_identity
from hpl_gym.agents.language_model import load_model, load_tokenizer
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.examples import Example, example
from hpl_gym.trainers.fit import fit
from hpl_gym.trainers.optimizer import MuonAdamW
from hpl_gym.trainers.plan import Item, clone_plan, fits
from hpl_gym.trainers.processes import open_stage, processes
from hpl_gym.trainers.records import Stage, digest, finished_manifest, read_records
from hpl_gym.trainers.sections import SftConfig, TuningConfig, decisive
from hpl_gym.trainers.tiny import make_model, train_tokenizer
from hpl_gym.trainers.trajectory import to_conversation

Load = Callable[[], PreTrainedModel]


def sft(config: Config, run: Path) -> dict[str, Any]:
    """Clone the expert trajectories in ``experts/`` and write ``sft/model/``.

    Args:
        config: The run's settings.
        run: The run's folder.

    Returns:
        The stage's manifest, with the loss at the end and the number of tokens trained on.

    Raises:
        StageError: The expert trajectories are missing or unfinished.
        HPLGymError: No expert trajectory solved its task.
    """
    made = finished_manifest(run / "experts", f"experts --run {run}")["config"]
    played = made.get("env", {}).get("id", config.env.id)
    if played != config.env.id:
        raise HPLGymError(
            f"The expert trajectories in {run / 'experts'} are of {played}, and the run is set to "
            f"{config.env.id}: begin another --run."
        )
    source = run / "experts" / "trajectories.jsonl"
    sections = {
        "seed": config.seed,
        "prompt": prompt_identity(config.prompt),
        "sft": decisive(config.sft),
    }
    if weights := sorted(Path(config.sft.model).glob("*.safetensors")):
        sections["base"] = digest(weights)
    state = processes(config.device)
    stage = open_stage(state, run / "sft", sections | {"experts": digest([source])})
    if stage.finished:
        return stage.manifest
    experts = [one for one in read_records(source) if one["success"]]
    if not experts:
        raise HPLGymError(
            f"{source} holds no solved trajectory: delete its folder and collect more by "
            "`hpl experts` (experts.count)."
        )
    tokenizer, load = _base(config, experts)
    return clone(config, config.sft, stage, state, experts, tokenizer, load)


def clone(
    config: Config,
    settings: TuningConfig,
    stage: Stage,
    state: PartialState,
    records: Sequence[dict[str, Any]],
    tokenizer: Any,
    load: Load,
) -> dict[str, Any]:
    """Clone the agent's replies in some trajectories, but for their slips.

    A model made from nothing first models whole transcripts.

    Args:
        config: The run's settings.
        settings: How to train.
        stage: Where to write.
        state: The processes.
        records: Trajectories.
        tokenizer: The model's tokenizer.
        load: Loads the model.

    Returns:
        The stage's manifest.

    Raises:
        HPLGymError: No trajectory is short enough.
    """
    encoder = ChatEncoder(tokenizer, load_prompt(config.prompt))
    examples = [
        example(encoder, to_conversation(one, config.env.id), without=one["slips"])
        for one in records
    ]
    fitting = [
        one
        for one in examples
        if fits(Item("bc", "", (one,)), settings.max_length) and any(one.weights[1:])
    ]
    if not fitting:
        raise HPLGymError(
            f"All {len(examples)} trajectories are longer than {settings.max_length} tokens, or "
            "nothing but slips: raise sft.max_length (of `hpl rft`, rft.max_length), or lower "
            "experts.slips."
        )
    rng = random.Random(config.seed)
    plan, optimizer = [], None
    if isinstance(settings, SftConfig) and settings.model == "tiny":
        tiny = settings.tiny
        whole = [
            Example(one.ids, tuple(max(tiny.context, weight) for weight in one.weights))
            for one in fitting
        ]
        plan = clone_plan(whole, settings.batch, tiny.epochs, rng)

        def optimizer(model: PreTrainedModel) -> MuonAdamW:
            return MuonAdamW(model, tiny.lr, tiny.muon_lr)

    plan += clone_plan(fitting, settings.batch, settings.epochs, rng, phase=2)
    packs = fit(
        load, tokenizer, plan, settings, stage, state, seed=config.seed, optimizer=optimizer
    )
    if not state.is_main_process:
        return stage.manifest
    losses = [one["loss"] for one in read_records(stage.folder / "metrics.jsonl")]
    tail = losses[-max(1, len(losses) // 20) :]
    return stage.finish(
        trajectories=len(fitting),
        too_long=len(examples) - len(fitting),
        tokens=packs.tokens,
        steps=len(plan),
        loss=round(sum(tail) / len(tail), 5),
        processes=state.num_processes,
    )


def _base(config: Config, experts: Sequence[dict[str, Any]]) -> tuple[Any, Load]:
    """Return the tokenizer of the model to begin with, and what loads that model."""
    settings = config.sft
    if settings.model != "tiny":
        load: Load = lambda: load_model(settings.model)[0]  # noqa: E731
        return load_tokenizer(settings.model), load
    prompt = load_prompt(config.prompt)
    texts = (
        message["content"]
        for one in experts
        for message in to_conversation(one, config.env.id).messages(prompt)
    )
    tokenizer = train_tokenizer(texts, settings.tiny.vocabulary)
    return tokenizer, lambda: make_model(settings.tiny, tokenizer, config.seed)
