"""A causal language model that scores packed trees: one log-probability a sequence.

Only the places that predict a token that counts go through the output head, and so many at a time
that a large vocabulary never fills the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.losses import token_logprobs
from hpl_gym.trainers.packing import ATTENTION, Packed

LOGITS_AT_A_TIME = 2**26


def score_trees(model: PreTrainedModel) -> None:
    """Make ``model(packed=...)`` return the sequences' log-probabilities; see `tree_logprobs`.

    The model stays what it is otherwise, so that it can be wrapped, sharded and saved as ever.

    Raises:
        HPLGymError: The model's log-probabilities are not those of its output head, or its
            attention cannot be exchanged.
    """
    head = model.get_output_embeddings()
    with torch.no_grad(), _whole(model):
        ids = torch.arange(4, device=model.get_input_embeddings().weight.device)[None]
        logits = model(input_ids=ids, use_cache=False).logits
        hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        if not torch.allclose(logits, head(hidden), rtol=0, atol=0, equal_nan=True):
            raise HPLGymError(
                f"{type(model).__name__} changes its logits after the output head, so it cannot "
                "be trained on packed trees: use another model."
            )
    try:
        model.set_attn_implementation(ATTENTION)
    except ValueError as error:
        raise HPLGymError(
            f"{type(model).__name__} cannot be trained on packed trees: its attention is its own."
        ) from error
    head.forward = partial(_in_pieces, head.forward)
    model.forward = partial(tree_logprobs, model)


def _whole(model: PreTrainedModel) -> Any:
    """Return a context in which a model that ZeRO-3 loaded in shards has all its weights."""
    if not is_deepspeed_zero3_enabled():
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(model.parameters()))


def _in_pieces(
    project: Callable[[torch.Tensor], torch.Tensor],
    hidden: torch.Tensor,
    targets: torch.Tensor,
    rows: int,
) -> torch.Tensor:
    """Return the targets' log-probabilities; the output head's new forward.

    Inside the head, so that ZeRO-3 gathers its weights once however many pieces there are.
    """

    def score(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return token_logprobs(project(hidden), targets)

    if len(targets) <= rows:
        return score(hidden, targets)
    pieces = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.cat([checkpoint(score, *piece, use_reentrant=False) for piece in pieces])


def tree_logprobs(
    model: PreTrainedModel,
    packed: Packed,
    logits_at_a_time: int = LOGITS_AT_A_TIME,
    **_: Any,
) -> torch.Tensor:
    """Return the weighted sum of token log-probabilities of each sequence of a tree.

    Args:
        model: A causal language model with `ATTENTION`.
        packed: The tree, on the model's device.
        logits_at_a_time: Most logits in memory at a time.

    Returns:
        Nats, shape (packed.count,), in single precision or the model's own if that is finer.
    """
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    hidden = decoder(
        input_ids=packed.ids[None],
        position_ids=packed.depths[None],
        use_cache=False,
        packed=packed,
    ).last_hidden_state[0]
    rows = max(1, logits_at_a_time // model.config.get_text_config().vocab_size)
    return packed.sums(head(hidden[packed.sources], packed.targets, rows))
