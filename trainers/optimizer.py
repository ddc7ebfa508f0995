"""AdamW with warm-up and a cosine, one clipped step, and saving a model whole or not at all."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar


def make_optimizer(
    model: PreTrainedModel, lr: float, steps: int, warmup: float
) -> tuple[torch.optim.AdamW, LambdaLR]:
    """Return AdamW and its schedule: linear warm-up, then a cosine to zero.

    Args:
        model: Whose parameters are optimised.
        lr: Peak learning rate.
        steps: Number of steps in all.
        warmup: Share of the steps with a rising rate, in [0, 1].
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    rising = max(1, math.ceil(warmup * steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return optimizer, LambdaLR(optimizer, factor)


def take_step(model: PreTrainedModel, optimizer: torch.optim.AdamW, schedule: LambdaLR) -> float:
    """Clip the gradients to norm 1, step, and clear them; returns the norm before clipping."""
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm)


def save_model(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Save model and tokenizer into `folder`, whole or not at all."""
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    disable_progress_bar()
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
