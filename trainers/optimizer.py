"""The optimiser with its schedule, and saving a model whole or not at all."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar


class Optimizer:
    """AdamW, or Muon for the matrices of a model that learns from nothing, on one schedule.

    The rates rise linearly, then fall to zero along a cosine. The gradients are clipped to norm 1.

    Args:
        model: Whose parameters are optimised.
        lr: Peak learning rate of AdamW.
        steps: Number of steps in all.
        warmup: Share of the steps with a rising rate, in [0, 1].
        muon_lr: Peak learning rate of Muon, which then has all matrices but the embeddings; None:
            AdamW has all parameters.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        lr: float,
        steps: int,
        warmup: float,
        muon_lr: float | None = None,
    ) -> None:
        self.model = model
        embeddings = model.get_input_embeddings().weight
        matrices: list[torch.nn.Parameter] = []
        others: list[torch.nn.Parameter] = []
        for weight in model.parameters():
            inner = muon_lr is not None and weight.ndim == 2 and weight is not embeddings
            (matrices if inner else others).append(weight)
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=lr, weight_decay=0.0)
        ]
        if muon_lr is not None:
            self.parts.append(torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.0))
        rising = max(1, math.ceil(warmup * steps))

        def factor(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

        self.schedules = [LambdaLR(part, factor) for part in self.parts]

    def step(self) -> float:
        """Clip the gradients, step, and clear them; returns their norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for part, schedule in zip(self.parts, self.schedules, strict=True):
            part.step()
            schedule.step()
            part.zero_grad(set_to_none=True)
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
