"""The optimiser of models that learn from nothing, and saving a model whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar


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
            torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.0),
        )
        super().__init__(self._groups(), {})

    def _groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Any = None) -> None:
        """Step both."""
        for part in self.parts:
            part.step(closure)

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
