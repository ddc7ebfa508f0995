"""The losses of HPL, as pure functions of summed log-probabilities.

`L = L_BC + L_traj-DPO + L_step-DPO + L_group-DPO` (HPL, stage 2). A log-probability of a piece of a
trajectory is the sum over the agent's own tokens in it, given all that comes before; tokens of
prompt, instruction and observations are masked.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional as F


def token_logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each target.

    Args:
        logits: Shape (tokens, vocabulary), as a causal language model gives them one place before.
        targets: Token ids, shape (tokens,).

    Returns:
        Nats, shape (tokens,), in single precision or the logits' own if that is finer.
    """
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return -F.cross_entropy(exact, targets, reduction="none")


def summed_logprobs(logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of the tokens that count in each row.

    Args:
        logits: Shape (rows, tokens, vocabulary).
        ids: Token ids, shape (rows, tokens).
        weights: How much each token counts, shape (rows, tokens): 1 for the agent's, 0 for masked
            ones. The first column never counts.

    Returns:
        Nats, shape (rows,).
    """
    logprobs = token_logprobs(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    return (logprobs.view(len(ids), -1) * weights[:, 1:]).sum(dim=1)


def bc_loss(logprobs: torch.Tensor) -> torch.Tensor:
    """Behaviour cloning: ``-log pi(trajectory)`` of each expert trajectory.

    Args:
        logprobs: Summed log-probabilities of expert trajectories, shape (rows,).

    Returns:
        Nats, shape (rows,).
    """
    return -logprobs


def dpo_loss(margins: torch.Tensor, beta: float) -> torch.Tensor:
    """Direct preference optimisation, at any of the three levels.

    ``-log sigmoid(beta * ((log pi - log ref)(winner) - (log pi - log ref)(loser)))`` of each pair
    (DPO, Rafailov et al. 2023, equation 7).

    Args:
        margins: `dpo_margins` of the pairs, shape (pairs,).
        beta: Strength of the pull towards the reference policy, > 0.

    Returns:
        Shape (pairs,); log 2 where policy and reference agree.
    """
    return -F.logsigmoid(beta * margins)


def dpo_margins(
    winner: torch.Tensor,
    loser: torch.Tensor,
    winner_reference: torch.Tensor,
    loser_reference: torch.Tensor,
) -> torch.Tensor:
    """Return how much more the policy prefers the winner than the reference does.

    Args:
        winner: Policy log-probabilities of the winners, shape (pairs,).
        loser: Policy log-probabilities of the losers, shape (pairs,).
        winner_reference: Reference log-probabilities of the winners, shape (pairs,).
        loser_reference: Reference log-probabilities of the losers, shape (pairs,).

    Returns:
        Nats, shape (pairs,); 0 where policy and reference agree.
    """
    return (winner - winner_reference) - (loser - loser_reference)


def hpl_loss(losses: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """The composite loss: the weighted sum of the terms' means, each over its own data.

    ``w_BC L_BC + w_traj L_traj-DPO + w_step L_step-DPO + w_group L_group-DPO`` (HPL, stage 2).

    Args:
        losses: Each term's losses, shape (data of that term,).
        weights: Each term's weight, >= 0.

    Returns:
        A scalar.
    """
    return torch.stack([weights[term] * own.mean() for term, own in losses.items()]).sum()
