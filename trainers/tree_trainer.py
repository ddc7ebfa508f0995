"""`transformers.Trainer` over packed trees: every loss of every pair in one forward pass.

Whatever that trainer does is done here too: schedules, accumulation, mixed precision, gradient
checkpointing, DeepSpeed, adapters, checkpoints, trackers. This adds the loss and its metrics.
"""

from __future__ import annotations

import math
import time
from itertools import accumulate
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainingArguments

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.curriculum import CELLS
from hpl_gym.trainers.losses import bc_loss, dpo_loss, dpo_margins
from hpl_gym.trainers.plan import TERMS, Pack, Packs
from hpl_gym.trainers.records import Stage

ROWS = [*TERMS, *(f"group {length},{gap}" for length, gap in CELLS), "all"]
COLUMNS = ("count", "loss", "margin", "accuracy", "fall", "tokens", "asked")


class TreeTrainer(Trainer):
    """Trains a model on `Packs`.

    Every logged step has for each term and each grid cell of group pairs ``loss``; ``margin``, the
    mean of beta times the DPO margin; ``accuracy``, the share of pairs with a positive margin; and
    ``fall``, the mean of ``log ref - log pi`` of the losers, in nats a loser. Further
    ``tokens``, how many were computed; ``tokens_saved``, the share that separate sequences would
    compute more than once; and, for trackers, ``tokens_per_second``.

    Args:
        model: Made ready by `score_trees`.
        args: Its accumulation, batch size and number of epochs are those of `packs`.
        packs: The data.
        beta: Of the DPO losses.
        stage: Takes the metrics, one record a step.
        **others: As for `transformers.Trainer`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        packs: Packs,
        beta: float,
        stage: Stage,
        **others: Any,
    ) -> None:
        super().__init__(
            model, args, train_dataset=packs, data_collator=lambda one: {"pack": one[0]}, **others
        )
        self.model_accepts_loss_kwargs = False
        self.beta = beta
        self.stage = stage
        self._totals = torch.zeros(len(ROWS), len(COLUMNS), dtype=torch.float64)
        self._since = time.perf_counter()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the pack's share of the step's loss.

        Raises:
            HPLGymError: The loss is not a number.
        """
        pack: Pack = inputs["pack"]
        values = model(packed=pack.packed.to(self.args.device))
        losses, margins = self._losses(values, pack)
        for (item, _), one in zip(pack.items, losses.tolist(), strict=True):
            if not math.isfinite(one):
                raise HPLGymError(
                    f"The {item.term} loss of expert trajectory {item.expert!r} is {one} at step "
                    f"{self.state.global_step}: lower the learning rate, or use a finer precision."
                )
        self._count(pack, values.tolist(), losses.tolist(), margins.tolist())
        weights = losses.new_tensor([weight for _, weight in pack.items])
        # The trainer takes the mean over accumulation and processes; a step's loss is the sum.
        shares = self.args.gradient_accumulation_steps * self.args.world_size
        return (losses * weights).sum() * shares

    def _losses(self, values: torch.Tensor, pack: Pack) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each item's loss and margin (0 for cloning)."""
        sizes = [len(item.sequences) for item, _ in pack.items]
        firsts = [0, *accumulate(sizes[:-1])]
        clones = [at for at, size in enumerate(sizes) if size == 1]
        pairs = [at for at, size in enumerate(sizes) if size == 2]
        losses, margins = values.new_zeros(len(sizes)), values.new_zeros(len(sizes))
        losses[clones] = bc_loss(values[[firsts[at] for at in clones]])
        if pairs:
            winners = values[[firsts[at] for at in pairs]]
            losers = values[[firsts[at] + 1 for at in pairs]]
            known = values.new_tensor([pack.items[at][0].references for at in pairs])
            found = dpo_margins(winners, losers, known[:, 0], known[:, 1])
            margins[pairs] = self.beta * found
            losses[pairs] = dpo_loss(found, self.beta)
        return losses, margins

    def _count(
        self, pack: Pack, values: list[float], losses: list[float], margins: list[float]
    ) -> None:
        place = 0
        for (item, weight), loss, margin in zip(pack.items, losses, margins, strict=True):
            place += len(item.sequences)
            if not weight:
                continue
            fall = item.references[1] - values[place - 1] if item.references else 0.0
            row = torch.tensor([1.0, loss, margin, margin > 0, fall], dtype=torch.float64)
            names = [item.term, "group {},{}".format(*item.cell)]
            for name in names[: 1 + (item.term == "group")]:
                self._totals[ROWS.index(name), :5] += row
        self._totals[-1, 5] += len(pack.packed.ids)
        self._totals[-1, 6] += pack.asked

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics since the last call to what is logged, and keep them in the stage."""
        if "loss" in logs:
            sums = self._totals
            if self.accelerator.num_processes > 1:
                sums = self.accelerator.reduce(sums.to(self.args.device), "sum")
            totals = sums.tolist()
            self._totals.zero_()
            logs |= self._means(totals)
            if self.is_world_process_zero():
                self.stage.append("metrics", {"step": self.state.global_step, **logs})
            # Not in the file, whose bytes a resumed training repeats.
            now = time.perf_counter()
            logs["tokens_per_second"] = logs["tokens"] / (now - self._since)
            self._since = now
        super().log(logs, start_time)

    def _means(self, totals: list[list[float]]) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, row in zip(ROWS[:-1], totals, strict=False):
            if row[0]:
                columns = COLUMNS[1:2] if name == "bc" else COLUMNS[1:5]
                means = zip(columns, row[1:], strict=False)
                found |= {f"{name}/{column}": total / row[0] for column, total in means}
        *_, tokens, asked = totals[-1]
        return found | {"tokens": tokens, "tokens_saved": 1 - tokens / asked}

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)
