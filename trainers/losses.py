"""The losses of HPL, as pure functions of summed log-probabilities.

`L = L_BC + L_traj-DPO + L_step-DPO + L_group-DPO` (HPL, stage 2). A log-probability of a piece of a
trajectory is the sum over the agent's own tokens in it, given all that comes before; tokens of
prompt, instruction and observations are masked.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F


def token_logprobs(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each token given those before it.

    Args:
        logits: Shape (rows, tokens, vocabulary), as a causal language model gives them.
        ids: Token ids, shape (rows, tokens).

    Returns:
        Nats, shape (rows, tokens - 1): entry t belongs to token t + 1.
    """
    targets = ids[:, 1:]
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2).float(), targets, reduction="none")
    return -losses


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
    return (token_logprobs(logits, ids) * weights[:, 1:]).sum(dim=1)


def bc_loss(logprobs: torch.Tensor) -> torch.Tensor:
    """Behaviour cloning: the mean over expert trajectories of ``-log pi(trajectory)``.

    Args:
        logprobs: Summed log-probabilities of expert trajectories, shape (rows,).

    Returns:
        A scalar, in nats a trajectory.
    """
    return -logprobs.mean()


def dpo_loss(
    winner: torch.Tensor,
    loser: torch.Tensor,
    winner_reference: torch.Tensor,
    loser_reference: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """Direct preference optimisation, at any of the three levels.

    ``-log sigmoid(beta * ((log pi - log ref)(winner) - (log pi - log ref)(loser)))``, averaged
    (DPO, Rafailov et al. 2023, equation 7).

    Args:
        winner: Policy log-probabilities of the winners, shape (pairs,).
        loser: Policy log-probabilities of the losers, shape (pairs,).
        winner_reference: Reference log-probabilities of the winners, shape (pairs,).
        loser_reference: Reference log-probabilities of the losers, shape (pairs,).
        beta: Strength of the pull towards the reference policy, > 0.

    Returns:
        A scalar; log 2 where policy and reference agree.
    """
    margin = (winner - winner_reference) - (loser - loser_reference)
    return -F.logsigmoid(beta * margin).mean()
