"""HPL training (stage 2): behaviour cloning and DPO at three levels, with a curriculum over groups.

    hpl train --run runs/mine

The loss of a step is ``L_BC + L_traj-DPO + L_step-DPO + L_group-DPO``, each the mean over the
step's share of its own data. The group pairs of a phase set the number of steps; the data of the
other three terms run through all phases once, spread evenly over the steps.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from hpl_gym.agents.chat import ChatEncoder, load_prompt
from hpl_gym.agents.language_model import load_model
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.curriculum import PHASES, spread
from hpl_gym.trainers.examples import Example, collate, example, score
from hpl_gym.trainers.experts import clean_experts
from hpl_gym.trainers.losses import bc_loss, dpo_loss
from hpl_gym.trainers.optimizer import Optimizer, save_model
from hpl_gym.trainers.preferences import LEVELS
from hpl_gym.trainers.progress import bar
from hpl_gym.trainers.records import Stage, digest, finished_manifest, read_records
from hpl_gym.trainers.rollout import to_conversation
from hpl_gym.wrappers.transcript import Conversation


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference pair, ready to train on.

    Attributes:
        winner: The expert's piece, after its history.
        loser: The reference policy's piece, after the same history.
        winner_reference: Log-probability of the winner's piece under the reference policy, nats.
        loser_reference: That of the loser's piece.
        cell: Grid cell of a group pair; (0, 0) at the other levels.
    """

    winner: Example
    loser: Example
    winner_reference: float
    loser_reference: float
    cell: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Step:
    """The data of one optimiser step."""

    phase: int
    experts: Sequence[Example]
    pairs: Mapping[str, Sequence[Pair]]


def train(config: Config, run: Path) -> dict[str, Any]:
    """Train the policy in ``sft/model`` on ``pairs/`` and write ``train/model/``.

    Args:
        config: The run's settings.
        run: The run's folder.

    Returns:
        The stage's manifest: the data, the steps of each phase, and each loss at first and last.

    Raises:
        StageError: An earlier stage is missing or unfinished.
        HPLGymError: There is no preference pair at all.
    """
    settings = config.train
    finished_manifest(run / "sft", "sft")
    finished_manifest(run / "pairs", "pairs")
    experts_file = run / "experts" / "trajectories.jsonl"
    files = [run / "pairs" / f"pairs_{level}.jsonl" for level in LEVELS]
    reference = run / "sft" / "model"
    values = config.model_dump(mode="json")
    stage = Stage(
        run / "train",
        {name: values[name] for name in ("seed", "prompt", "train")}
        | {
            "pairs": digest(files),
            "experts": digest([experts_file]),
            "reference": digest(sorted(reference.glob("*.safetensors"))),
        },
    )
    if stage.finished:
        return stage.manifest

    model, tokenizer = load_model(reference, config.device)
    encoder = ChatEncoder(tokenizer, load_prompt(config.prompt))
    experts = {
        record["key"]: to_conversation(record, config.env.id)
        for record in clean_experts(experts_file)
    }
    segmenter = settings.segmenter or config.explore.segmenters[0]
    pairs, too_long = {}, {}
    for level, file in zip(LEVELS, files, strict=True):
        rows = [one for one in read_records(file) if one.get("segmenter", segmenter) == segmenter]
        pairs[level] = _prepare(model, encoder, experts, rows, level, settings.max_length)
        too_long[level] = len(rows) - len(pairs[level])
    if not any(pairs.values()):
        raise HPLGymError(
            f"{run / 'pairs'} holds no preference pair that fits: explore more expert "
            "trajectories (explore.count), or raise train.max_length."
        )
    clones = [example(encoder, one) for one in experts.values()]
    clones = [one for one in clones if len(one.ids) <= settings.max_length]
    plan = make_plan(clones, pairs, settings.batch, settings.epochs, random.Random(config.seed))

    weights = {level: getattr(settings, level) for level in LEVELS}
    optimizer = Optimizer(model, settings.lr, len(plan), settings.warmup)
    levels = [level for level in LEVELS if weights[level]]
    (stage.folder / "metrics.jsonl").unlink(missing_ok=True)
    model.train()
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    with bar("train", len(plan)) as progress:
        for number, step in enumerate(plan):
            losses: dict[str, float] = defaultdict(float)
            # One backward a sequence or pair: memory holds a single one, however large the step.
            for one in step.experts if settings.bc else ():
                loss = bc_loss(score(model, collate([one], model.device)))
                (settings.bc * loss / len(step.experts)).backward()
                losses["bc"] += loss.item() / len(step.experts)
            for level in levels:
                for pair in step.pairs[level]:
                    both = score(model, collate([pair.winner, pair.loser], model.device))
                    known = both.new_tensor([[pair.winner_reference], [pair.loser_reference]])
                    loss = dpo_loss(both[:1], both[1:], known[0], known[1], settings.beta)
                    (weights[level] * loss / len(step.pairs[level])).backward()
                    losses[level] += loss.item() / len(step.pairs[level])
            norm = optimizer.step()
            last = {name: round(value, 5) for name, value in losses.items()}
            stage.append("metrics", {"update": number, "phase": step.phase, "norm": norm, **last})
            first = last | first
            progress.advance()
            progress.note(" ".join(f"{name} {value:.2f}" for name, value in last.items()))
    save_model(model, tokenizer, stage.folder / "model")
    return stage.finish(
        experts=len(clones),
        pairs={level: len(pairs[level]) for level in LEVELS},
        too_long=too_long,
        steps=[sum(step.phase == phase for step in plan) for phase in (1, 2, 3)],
        first_losses=first,
        last_losses=last,
    )


def make_plan(
    clones: Sequence[Example],
    pairs: Mapping[str, Sequence[Pair]],
    batch: int,
    epochs: int,
    rng: random.Random,
) -> list[Step]:
    """Lay out every optimiser step of the three phases.

    A phase has one step for every `batch` of its group pairs, and at least one if it has any.
    Phases without a group pair are passed over; without any group pair at all, one phase goes
    through the data of the other terms.

    Args:
        clones: Expert trajectories of the behaviour-cloning term.
        pairs: The preference pairs of each level.
        batch: Group pairs a step.
        epochs: Passes over each phase's group pairs.
        rng: Shuffles.
    """
    groups: list[tuple[int, Sequence[Pair]]] = []
    for phase, cells in enumerate(PHASES, 1):
        inside = [pair for pair in pairs["group"] if pair.cell in cells]
        for _ in range(epochs):
            rng.shuffle(inside)
            steps = -(-len(inside) // batch)
            groups += [(phase, inside[a:b]) for a, b in spread(len(inside), max(1, steps)) if b > a]
    if not groups:
        rows = max(len(clones), len(pairs["trajectory"]), len(pairs["step"]))
        groups = [(3, ()) for _ in range(-(-rows // batch))]

    def shares(items: Sequence[Any]) -> list[Sequence[Any]]:
        shuffled = list(items)
        rng.shuffle(shuffled)
        return [shuffled[a:b] for a, b in spread(len(shuffled), len(groups))]

    return [
        Step(phase, experts, {"trajectory": trajectories, "step": steps, "group": inside})
        for (phase, inside), experts, trajectories, steps in zip(
            groups, shares(clones), shares(pairs["trajectory"]), shares(pairs["step"]), strict=True
        )
    ]


@torch.no_grad()
def _prepare(
    model: PreTrainedModel,
    encoder: ChatEncoder,
    experts: dict[str, Conversation],
    rows: list[dict[str, Any]],
    level: str,
    max_length: int,
) -> list[Pair]:
    """Encode the pairs that fit and score them under the reference policy, the model as it is."""
    model.eval()
    pairs = []
    with bar(f"reference {level}", len(rows)) as progress:
        for row in rows:
            progress.advance()
            expert = experts[row["expert"]]
            loser = expert.prefix(row["start"])
            for turn in row["loser"]:
                loser = loser.add(
                    turn["reply"], turn["observation"], tuple(turn.get("token_ids", ()))
                )
            winner_example = example(encoder, expert.prefix(row["stop"]), row["start"])
            loser_example = example(encoder, loser, row["start"])
            if max(len(winner_example.ids), len(loser_example.ids)) > max_length:
                continue
            known = score(model, collate([winner_example, loser_example], model.device)).tolist()
            length, gap = row.get("cell", (0, 0))
            pairs.append(Pair(winner_example, loser_example, known[0], known[1], (length, gap)))
    return pairs
