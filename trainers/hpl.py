"""Preference training (stage 2): behaviour cloning and DPO at three levels, over a curriculum.

    hpl train --run runs/mine
    hpl train --run runs/mine --method ipr
    accelerate launch --num_processes 8 -m hpl_gym.trainers.cli train --run runs/mine

The loss is ``w_BC L_BC + w_traj L_traj-DPO + w_step L_step-DPO + w_group L_group-DPO``, every term
the mean over its own data of the phase (see `plan`). All sequences of an expert trajectory are one
token tree (see `packing`), so each step is one forward and backward pass over every distinct token.
"""

from __future__ import annotations

import io
import random
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from hpl_gym.agents.chat import ChatEncoder, load_prompt, prompt_identity
from hpl_gym.agents.language_model import load_model, load_tokenizer
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.cloned import cloned_policy
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.curriculum import CURRICULA, heat_map
from hpl_gym.trainers.evaluate import evaluate
from hpl_gym.trainers.examples import example
from hpl_gym.trainers.experts import clean_experts
from hpl_gym.trainers.fit import fit, refuse_too_long
from hpl_gym.trainers.plan import TERMS, Item, fits, make_plan
from hpl_gym.trainers.preferences import LEVELS
from hpl_gym.trainers.processes import open_stage, processes
from hpl_gym.trainers.progress import display
from hpl_gym.trainers.records import digest, finished_manifest, read_records
from hpl_gym.trainers.reference import pair_items, pair_records, with_references
from hpl_gym.trainers.scorer import score_trees
from hpl_gym.trainers.sections import decisive
from hpl_gym.trainers.trajectory import to_conversation


def train(config: Config, run: Path, name: str = "train") -> dict[str, Any]:
    """Train the policy in ``sft/model`` on ``pairs/`` and write ``<name>/model/``.

    Args:
        config: The run's settings.
        run: The run's folder.
        name: The folder to write, in the run's.

    Returns:
        The stage's manifest: the data, the steps of each phase, the tokens, and the metrics of the
        first and the last step.

    Raises:
        StageError: An earlier stage is missing or unfinished, or was made with other settings.
        HPLGymError: The pairs were made with another model or prompt or from other trajectories,
            there are none, or there are no groups of the segmenter asked for.
    """
    settings = config.train
    made = finished_manifest(run / "pairs", f"pairs --run {run}")["config"]
    experts_file, folder = run / "experts" / "trajectories.jsonl", cloned_policy(config, run)
    inputs = {
        "pairs": digest([run / "pairs" / f"pairs_{level}.jsonl" for level in LEVELS]),
        "experts": digest([experts_file]),
        "reference": digest(sorted(folder.glob("*.safetensors"))),
        "prompt": prompt_identity(config.prompt),
    }
    explored = finished_manifest(run / "explore", f"explore --run {run}")["config"]
    if explored["policy"] != inputs["reference"]:
        raise HPLGymError(
            f"The pairs in {run / 'pairs'} were made with another reference policy than the one "
            f"in {folder}: explore again, or put the old policy back."
        )
    sources = [run / "explore" / f"{name}.jsonl" for name in ("trajectories", "groups")]
    if (made["experts"], made["explore"]) != (inputs["experts"], digest(sources)):
        raise HPLGymError(
            f"The pairs in {run / 'pairs'} are not of what {run / 'experts'} and {run / 'explore'} "
            "hold now: delete their folder and run `hpl pairs` again, or put the old files back."
        )
    segmenter = settings.segmenter or explored["explore"]["segmenters"][0]
    if settings.group and segmenter not in explored["explore"]["segmenters"]:
        raise HPLGymError(
            f"{run / 'explore'} has no groups of the segmenter {segmenter!r}: explore with it in "
            "explore.segmenters, or train with one of "
            f"{', '.join(explored['explore']['segmenters'])}."
        )
    state = processes(config.device)
    sections = {"seed": config.seed, "train": decisive(settings)}
    stage = open_stage(state, run / name, sections | inputs)
    if stage.finished:
        if config.train.phases != "drop" and not (stage.folder / "phases").is_dir():
            raise HPLGymError(
                f"{stage.folder} was trained without keeping the policies of its phases: train "
                "anew under another --name with train.phases, or leave it out."
            )
        return stage.manifest

    tokenizer = load_tokenizer(folder)
    encoder = ChatEncoder(tokenizer, load_prompt(config.prompt))
    experts = {
        one["key"]: to_conversation(one, config.env.id) for one in clean_experts(experts_file)
    }
    rows = pair_records(run, segmenter)
    pairs = _referenced(config, run, state, inputs, rows, pair_items(rows, encoder, experts))
    if not pairs and any(getattr(settings, level) for level in LEVELS):
        raise HPLGymError(
            f"{run / 'pairs'} holds no preference pair that fits: raise train.max_length, or "
            f"delete it and {run / 'explore'}, and explore more trajectories (explore.count)."
        )
    source = run / "explore" / "trajectories.jsonl"
    clones = [
        Item("bc", key, (example(encoder, experts[key]),))
        for key in sorted({branch["expert"] for branch in read_records(source)})
    ]
    clones = [one for one in clones if fits(one, settings.max_length)]
    plan = make_plan(
        [*clones, *pairs],
        {term: getattr(settings, term) for term in TERMS},
        CURRICULA[settings.curriculum],
        settings.batch,
        settings.epochs,
        random.Random(config.seed),
    )
    if not plan:
        raise HPLGymError(
            "There is nothing to train on: every term with data has weight 0, or all is longer "
            "than train.max_length."
        )
    steps = Counter(step.phase for step in plan)
    curriculum = _picture(config, made["pairs"], pairs, steps)
    if state.is_main_process and settings.group:
        display(curriculum)

    def phase_ended(phase: int, policy: Path) -> None:
        if settings.phases == "evaluate":
            evaluate(config, run, str(policy), f"{name}-phase-{phase}")

    packs = fit(
        lambda: load_model(folder)[0],
        tokenizer,
        plan,
        settings,
        stage,
        state,
        seed=config.seed,
        beta=settings.beta,
        phase_end=None if settings.phases == "drop" else phase_ended,
    )
    if not state.is_main_process:
        return stage.manifest
    if settings.group:
        _save_picture(curriculum, stage.folder / "curriculum.svg")
    metrics = list(read_records(stage.folder / "metrics.jsonl"))
    fitting = Counter(item.term for item in pairs)
    asked = Counter(row["level"] for row in rows)
    return stage.finish(
        experts=len(clones) if settings.bc else 0,
        pairs={level: fitting[level] if getattr(settings, level) else 0 for level in LEVELS},
        too_long={level: asked[level] - fitting[level] for level in LEVELS},
        steps=[steps[phase] for phase in (1, 2, 3)],
        tokens=packs.tokens,
        tokens_asked=packs.asked,
        first=metrics[0],
        last=metrics[-1],
        processes=state.num_processes,
    )


def _referenced(
    config: Config,
    run: Path,
    state: PartialState,
    inputs: dict[str, str],
    rows: list[dict[str, Any]],
    items: list[Item],
) -> list[Item]:
    """Return the pairs that fit, scored by the reference policy, in bfloat16 where that trains."""
    args = config.train.args
    half = bool(args.get("bf16"))
    # DeepSpeed computes in half precision throughout.
    throughout = half and bool(args.get("deepspeed"))

    def load() -> PreTrainedModel:
        model, _ = load_model(run / "sft" / "model", str(state.device), torch.float32)
        refuse_too_long((one for one in items if fits(one, config.train.max_length)), model)
        score_trees(model)
        return model.bfloat16() if throughout else model

    precision = "-bf16" * half + "-deepspeed" * throughout
    stage = open_stage(state, run / "pairs" / f"reference{precision}", inputs, waits=True)
    with torch.autocast(state.device.type, torch.bfloat16, enabled=half and not throughout):
        return with_references(
            items, [row["key"] for row in rows], load, stage, state, config.train
        )


def _picture(config: Config, grid: dict[str, Any], pairs: list[Item], steps: Counter[int]) -> Table:
    """Return a table of what each cell of the curriculum's grid holds."""
    cells = [item.cell for item in pairs if item.term == "group"]
    picture = heat_map(cells, grid["lengths"], grid["gaps"])
    phases = len(CURRICULA[config.train.curriculum])
    told = ", ".join(f"phase {phase}: {steps[phase]}" for phase in range(1, phases + 1))
    picture.caption = f"Steps of {told}."
    return picture


def _save_picture(picture: Table, path: Path) -> None:
    drawn = Console(record=True, width=80, file=io.StringIO())
    drawn.print(picture)
    drawn.save_svg(str(path), title="curriculum")
