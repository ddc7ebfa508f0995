"""Behaviour cloning (HPL stage 0): fine-tune on expert trajectories, on the agent's tokens only.

The result is the policy that explores, and the frozen reference of the preference losses.

    hpl sft --run runs/mine
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from hpl_gym.agents.chat import ChatEncoder, load_prompt
from hpl_gym.agents.language_model import load_model
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.examples import Example, batches, collate, example, score
from hpl_gym.trainers.optimizer import Optimizer, save_model
from hpl_gym.trainers.progress import bar
from hpl_gym.trainers.records import Stage, digest, finished_manifest, read_records
from hpl_gym.trainers.rollout import to_conversation
from hpl_gym.trainers.tiny import make_model, train_tokenizer


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
    settings = config.sft
    finished_manifest(run / "experts", "experts")
    source = run / "experts" / "trajectories.jsonl"
    values = config.model_dump(mode="json")
    stage = Stage(
        run / "sft",
        {name: values[name] for name in ("seed", "prompt", "sft")} | {"experts": digest([source])},
    )
    if stage.finished:
        return stage.manifest
    experts = [
        (to_conversation(record, config.env.id), record["slips"])
        for record in read_records(source)
        if record["success"]
    ]
    if not experts:
        raise HPLGymError(f"{source} holds no solved trajectory: collect more with `hpl experts`.")

    prompt = load_prompt(config.prompt)
    if settings.model == "tiny":
        texts = (text for one, _ in experts for text in _texts(one.messages(prompt)))
        tokenizer = train_tokenizer(texts, settings.tiny.vocabulary)
        model: PreTrainedModel = make_model(settings.tiny, tokenizer, config.seed)
        model = model.to(config.device)
        lr, muon_lr, warm_epochs = settings.tiny.lr, settings.tiny.muon_lr, settings.tiny.epochs
    else:
        model, tokenizer = load_model(settings.model, config.device)
        lr, muon_lr, warm_epochs = settings.lr, None, 0
    encoder = ChatEncoder(tokenizer, prompt)
    examples = [example(encoder, one, without=slips) for one, slips in experts]
    fitting = [one for one in examples if len(one.ids) <= settings.max_length]
    rest = settings.tiny.context
    whole = [Example(one.ids, tuple(max(rest, w) for w in one.weights)) for one in fitting]

    rng = random.Random(config.seed)
    plan = [batch for _ in range(warm_epochs) for batch in batches(whole, settings.batch, rng)]
    plan += [
        batch for _ in range(settings.epochs) for batch in batches(fitting, settings.batch, rng)
    ]
    optimizer = Optimizer(model, lr, len(plan), settings.warmup, muon_lr)
    model.train()
    losses = []
    with bar("sft", len(plan)) as progress:
        for examples_of_step in plan:
            batch = collate(examples_of_step, model.device)
            loss = -score(model, batch).sum() / batch.weights[:, 1:].sum()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            progress.advance()
            progress.note(f"loss {losses[-1]:.3f}")
    save_model(model, tokenizer, stage.folder / "model")
    tail = losses[-max(1, len(losses) // 20) :]
    return stage.finish(
        trajectories=len(fitting),
        too_long=len(examples) - len(fitting),
        parameters=sum(weight.numel() for weight in model.parameters()),
        tokens=sum(len(one.ids) for one in fitting),
        steps=len(plan),
        loss=round(sum(tail) / len(tail), 5),
        threads=torch.get_num_threads(),
    )


def _texts(messages: list[dict[str, str]]) -> list[str]:
    return [message["content"] for message in messages]
