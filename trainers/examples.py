"""Token sequences to train on, which of their tokens count, and the plain way to score them.

Training scores them on token trees (see `packing`); the plain way is what these are tested against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from hpl_gym.agents.chat import ChatEncoder
from hpl_gym.trainers.losses import summed_logprobs
from hpl_gym.wrappers.transcript import Conversation


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence.

    Attributes:
        ids: Token ids.
        weights: How much each token counts in the loss: 1 for the agent's, 0 for masked ones.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded sequences.

    Attributes:
        ids: Shape (rows, tokens).
        attention: 1 where there is a token, 0 at padding, same shape.
        weights: How much each token counts in the loss, 0 at padding; same shape.
    """

    ids: torch.Tensor
    attention: torch.Tensor
    weights: torch.Tensor


def example(
    encoder: ChatEncoder, conversation: Conversation, first: int = 0, without: Sequence[int] = ()
) -> Example:
    """Return the sequence of a conversation, in which the agent's tokens count.

    Args:
        encoder: Makes the tokens.
        conversation: The episode.
        first: The first turn that counts.
        without: Later turns that do not count.
    """
    encoded = encoder.encode(conversation, ask=False)
    # A turn adds two bounds, of reply and observation: reply t begins at bound 2 t.
    start = encoded.bounds[2 * first]
    skipped = [range(*encoded.bounds[2 * turn : 2 * turn + 2]) for turn in without]
    weights = tuple(
        float(flag and place >= start and not any(place in span for span in skipped))
        for place, flag in enumerate(encoded.is_agent)
    )
    return Example(encoded.ids, weights)


def collate(examples: Sequence[Example], device: torch.device | str = "cpu") -> Batch:
    """Pad sequences to one length."""
    width = max(len(one.ids) for one in examples)
    ids = torch.zeros(len(examples), width, dtype=torch.long)
    attention = torch.zeros(len(examples), width, dtype=torch.long)
    weights = torch.zeros(len(examples), width)
    for row, one in enumerate(examples):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
        attention[row, : len(one.ids)] = 1
        weights[row, : len(one.ids)] = torch.tensor(one.weights)
    return Batch(ids.to(device), attention.to(device), weights.to(device))


def score(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Return each row's weighted sum of token log-probabilities in nats, shape (rows,)."""
    logits = model(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False).logits
    return summed_logprobs(logits, batch.ids, batch.weights)
