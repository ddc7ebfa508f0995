"""The optimiser of models that learn from nothing, and saving a model whole or not at all."""

from __future__ import annotations

import math
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon` in single precision, with matrices of one shape taken together.

    That one multiplies matrices in bfloat16, which takes a CPU without instructions for it more
    time than the rest of a training step.

    Args:
        matrices: What is optimised.
        lr: Learning rate.
        momentum: Decay of the gradients' running mean, in [0, 1).
    """

    def __init__(
        self, matrices: Sequence[torch.nn.Parameter], lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move each matrix along its orthogonalised running gradient (Nesterov's)."""
        for group in self.param_groups:
            momentum = group["momentum"]
            alike = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append(weight)
            for (rows, columns), weights in alike.items():
                updates = []
                for weight in weights:
                    state = self.state[weight]
                    mean = state.setdefault("momentum_buffer", torch.zeros_like(weight))
                    mean.lerp_(weight.grad, 1 - momentum)
                    updates.append(weight.grad.lerp(mean, momentum))
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                for weight, update in zip(weights, orthogonal(torch.stack(updates)), strict=True):
                    weight.add_(update, alpha=-rate)


def orthogonal(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Return matrices with the same singular vectors and singular values near 1.

    Five steps of the quintic Newton-Schulz iteration with the coefficients of Muon (Jordan et al.
    2024).

    Args:
        matrices: Shape (count, rows, columns).
        steps: Steps of the iteration.
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = wide @ wide.mT
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return wide if matrices.shape[1] <= matrices.shape[2] else wide.mT


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices inside a model, AdamW for its embeddings, biases and norms.

    Args:
        model: Whose parameters are optimised.
        lr: Peak learning rate of AdamW.
        muon_lr: Peak learning rate of Muon.
    """

    def __init__(self, model: PreTrainedModel, lr: float, muon_lr: float) -> None:
        embeddings = model.get_input_embeddings().weight
        matrices: list[torch.nn.Parameter] = []
        others: list[torch.nn.Parameter] = []
        for weight in model.parameters():
            inner = weight.ndim == 2 and weight is not embeddings
            (matrices if inner else others).append(weight)
        self.parts: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.AdamW(others, lr=lr, weight_decay=0.0),
            Muon(matrices, lr=muon_lr),
        )
        super().__init__(self._groups(), {})

    def _groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Step both."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take a state that `state_dict` returned."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = self._groups()


def save_model(
    model: PreTrainedModel,
    tokenizer: Any,
    folder: Path,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Save model and tokenizer into `folder`, whole or not at all.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        folder: Where to save; what is there is replaced.
        weights: The model's weights, where it does not hold all of them itself.
    """
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    disable_progress_bar()
    model.config.use_cache = True  # trainers switch it off
    model.save_pretrained(temporary, state_dict=weights)
    tokenizer.save_pretrained(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
