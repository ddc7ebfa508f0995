"""Training by `transformers.Trainer`: arguments, checkpoints, resume, and the model at the end."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, TrainingArguments
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.trainer_pt_utils import get_model_param_count
from transformers.utils.logging import disable_progress_bar

from hpl_gym.agents.language_model import positions_of
from hpl_gym.core import HPLGymError, MissingExtraError
from hpl_gym.trainers.callbacks import PhaseEnds, Shown
from hpl_gym.trainers.optimizer import save_model
from hpl_gym.trainers.plan import Item, Packs, Step
from hpl_gym.trainers.progress import bar
from hpl_gym.trainers.records import Stage, repair
from hpl_gym.trainers.scorer import score_trees
from hpl_gym.trainers.sections import TuningConfig
from hpl_gym.trainers.tree_trainer import TreeTrainer

PLANNED = {
    "output_dir",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_steps",
    "num_train_epochs",
    "logging_strategy",
    "logging_steps",
    "save_strategy",
    "save_steps",
    "dataloader_drop_last",
    "auto_find_batch_size",
    "save_only_model",
    "ignore_data_skip",
    "learning_rate",
    "warmup_steps",
    "warmup_ratio",
    "seed",
}
"""Arguments that follow from the plan; with others data would be left out, or a stopped training
would go on in another way."""
WITHOUT_EFFECT = {"eval_strategy", "eval_on_start", "label_smoothing_factor", "fp16"}
"""Arguments for what this training does not do: evaluation of a loss, other losses, scaled ones."""
DEEPSPEED = Path(__file__).parent / "configs" / "deepspeed"


def fit(
    load: Callable[[], PreTrainedModel],
    tokenizer: Any,
    plan: Sequence[Step],
    settings: TuningConfig,
    stage: Stage,
    state: PartialState,
    *,
    seed: int,
    beta: float = 0.0,
    optimizer: Callable[[PreTrainedModel], torch.optim.Optimizer] | None = None,
    phase_end: Callable[[int, Path], None] | None = None,
) -> Packs:
    """Train a model on a plan and save it in ``model/`` of a stage.

    A training that was stopped goes on from its last checkpoint, with the same losses.

    Args:
        load: Loads the model on the CPU, in single precision.
        tokenizer: Saved beside it.
        plan: The steps.
        settings: How to train.
        stage: Where checkpoints, metrics and the model go.
        state: The processes.
        seed: Seed of dropout and of LoRA's weights.
        beta: Of the DPO losses.
        optimizer: Makes the optimiser; None is AdamW.
        phase_end: Called in the main process at the end of each phase with its number and a folder
            that holds the policy of then; None keeps no such policies.

    Returns:
        What was trained on.

    Raises:
        HPLGymError: ``args`` or ``lora`` have a bad argument, a loss is not a number, or the model
            has too few positions or cannot be trained on token trees.
    """
    disable_progress_bar()  # of every checkpoint's files
    packs = Packs(plan, settings.pack_tokens, state.num_processes)
    if (stage.folder / "model").is_dir():  # saved whole, after the last step
        _drop_checkpoints(stage.folder, state)
        return packs
    args = arguments(settings, stage.folder, packs, seed, state)
    model = load()
    refuse_too_long((item for step in plan for item, _ in step.items), model)
    score_trees(model)
    if settings.lora is not None:
        model = with_lora(model, settings.lora, seed)
    metrics = stage.folder / "metrics.jsonl"
    resume, done = last_checkpoint(stage.folder)
    if state.is_main_process:
        stage.note(
            parameters=get_model_param_count(model),
            trained=get_model_param_count(model, trainable_only=True),
        )
        keep_until(metrics, done)

    def save(folder: Path) -> None:
        _save(trainer, load, tokenizer, folder, lora=settings.lora is not None)
        state.wait_for_everyone()

    callbacks: list[TrainerCallback] = []
    if phase_end:
        callbacks.append(PhaseEnds(plan, stage.folder / "phases", save, phase_end))
    with bar(stage.folder.name, len(plan), done) as progress:
        made = optimizer(model) if optimizer else None
        try:
            trainer = TreeTrainer(
                model,
                args,
                packs,
                beta,
                stage,
                callbacks=[Shown(progress), *callbacks],
                optimizers=(made, None),
            )
            # What `train` makes where it does not wrap the model first, made here to see it fail.
            if not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
                trainer.get_train_dataloader()
                trainer.create_optimizer_and_scheduler(packs.steps)
        except torch.OutOfMemoryError:
            raise
        except (ImportError, RuntimeError, TypeError, ValueError) as error:
            raise HPLGymError(f"The setting 'args' of the training: {error}") from error
        trainer.remove_callback(PrinterCallback)
        with repeatable(state.device):
            trainer.train(resume_from_checkpoint=resume)
    save(stage.folder / "model")
    _drop_checkpoints(stage.folder, state)
    return packs


def _drop_checkpoints(folder: Path, state: PartialState) -> None:
    if state.is_main_process:
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)


def refuse_too_long(items: Iterable[Item], model: PreTrainedModel) -> None:
    """Refuse sequences that a model has no positions for.

    Args:
        items: What is to be trained on, or scored.
        model: The model.

    Raises:
        HPLGymError: There is one.
    """
    longest = max(len(sequence.ids) for item in items for sequence in item.sequences)
    positions = positions_of(model.config)
    if positions and longest > positions:
        raise HPLGymError(
            f"The model has {positions} positions, and the longest sequence has {longest} tokens: "
            f"set sft.max_length, rft.max_length and train.max_length to {positions} (longer ones "
            "are left out), or take another model."
        )


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Let a CPU add the gradients that meet in one place in the same order every time.

    Its threads add them as they come otherwise. A GPU, where the order costs time, and a process
    that asked for it already are left as they are.
    """
    if device.type != "cpu" or torch.are_deterministic_algorithms_enabled():
        yield
        return
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def arguments(
    settings: TuningConfig, folder: Path, packs: Packs, seed: int, state: PartialState
) -> TrainingArguments:
    """Return the trainer's arguments; ``settings.args`` has the last word.

    Raises:
        HPLGymError: ``settings.args`` has an argument that does not exist, or a bad value.
        MissingExtraError: DeepSpeed is asked for and not installed.
    """
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": packs.accumulation,
        "max_steps": packs.steps,
        "learning_rate": settings.lr,
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(math.ceil(settings.warmup * packs.steps), packs.steps - 1),
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "optim": "adamw_torch",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": settings.save_steps,
        "save_total_limit": 1,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "use_cpu": state.device.type == "cpu",
        "seed": seed,
    }
    own = dict(settings.args)
    if taken := sorted(PLANNED & set(own)):
        raise HPLGymError(
            f"The setting 'args' of the training: {taken[0]} follows from lr, warmup, batch, "
            "epochs, pack_tokens and save_steps, which are set beside args, and the run's seed."
        )
    if foreign := sorted(WITHOUT_EFFECT & set(own)):
        raise HPLGymError(
            f"The setting 'args' of the training: {foreign[0]} has no part in this training"
            f"{'; half precision is bf16' if foreign[0] == 'fp16' else ''}."
        )
    defaults = {one.name: one.default for one in fields(TrainingArguments)} | values
    for name, value in own.items():
        known = defaults.get(name)
        if isinstance(known, (bool, int, float)) and not isinstance(value, (bool, int, float)):
            raise HPLGymError(
                f"The setting 'args' of the training: {name} is {known!r} by default and cannot be "
                f"{value!r}."
            )
    if own.get("deepspeed"):
        _begin_deepspeed(state)
        shipped = DEEPSPEED / f"{own['deepspeed']}.json"
        own["deepspeed"] = str(shipped) if shipped.is_file() else own["deepspeed"]
    if state.device.type == "cpu" and state.num_processes > 1:
        values["ddp_backend"] = "gloo"
    try:
        args = TrainingArguments(**values | own)
        # Several GPUs are for several processes: one process would copy the model for each batch.
        args._n_gpu = min(args.n_gpu, 1)
    except (TypeError, ValueError) as error:
        raise HPLGymError(f"The setting 'args' of the training: {error}") from error
    return args


def _begin_deepspeed(state: PartialState) -> None:
    """Let DeepSpeed know of the processes before a model is loaded in shards."""
    try:
        import deepspeed
    except ImportError as error:
        raise MissingExtraError(
            "DeepSpeed is not installed: pip install 'hpl-gym[deepspeed]'."
        ) from error
    if not torch.distributed.is_initialized():
        raise HPLGymError(
            "DeepSpeed needs a launcher: torchrun --nproc_per_node 1 -m hpl_gym.trainers.cli -- "
            "and then the command, or accelerate launch."
        )
    deepspeed.init_distributed(dist_backend=state.backend)


def with_lora(model: PreTrainedModel, settings: dict[str, Any], seed: int) -> Any:
    """Return a model of which low-rank adapters are trained and nothing else.

    Args:
        model: The model.
        settings: Arguments of `peft.LoraConfig`.
        seed: Seed of their weights.

    Raises:
        HPLGymError: An argument does not exist or does not suit the model.
    """
    from peft import LoraConfig, get_peft_model

    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    except (AttributeError, TypeError, ValueError) as error:
        raise HPLGymError(f"The setting 'lora' of the training: {error}") from error


def last_checkpoint(folder: Path) -> tuple[str | None, int]:
    """Return the newest whole checkpoint of a stage and its step; (None, 0) without one."""
    found = []
    for state in folder.glob("checkpoint-*/trainer_state.json"):
        try:
            found.append((json.loads(state.read_text())["global_step"], str(state.parent)))
        except json.JSONDecodeError:  # it is written last, so this one is not whole
            continue
    if not found:
        return None, 0
    step, newest = max(found)
    return newest, step


def keep_until(metrics: Path, step: int) -> None:
    """Cut a metrics file back to a step, from which training goes on."""
    repair(metrics)
    kept = metrics.read_text().splitlines(keepends=True)[:step]
    temporary = metrics.with_suffix(".part")
    temporary.write_text("".join(kept))
    temporary.replace(metrics)


def _save(
    trainer: TreeTrainer,
    load: Callable[[], PreTrainedModel],
    tokenizer: Any,
    folder: Path,
    *,
    lora: bool,
) -> None:
    """Save the trained model; adapters are merged into it, and kept beside it as well."""
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    unset_hf_deepspeed_config()  # what is loaded from now on is loaded whole
    if not trainer.is_world_process_zero():
        return
    model = trainer.accelerator.unwrap_model(trainer.model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not lora:
        save_model(model, tokenizer, folder, weights)
        return
    from peft import PeftModel

    adapter = folder.with_name("adapter")
    model.save_pretrained(adapter, state_dict=weights)
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are read
        merged = PeftModel.from_pretrained(load(), adapter).merge_and_unload()
    save_model(merged, tokenizer, folder)
