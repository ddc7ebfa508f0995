"""Proposition 1 measured: bias and variance of credit estimated at each level, at equal budget.

Along an expert trajectory the credit of turn t is ``A_t = V(s_{t+1}) - V(s_t)`` under the policy
that explores. With groups of k turns only the states between groups are valued, each from an equal
share of the rollouts, and the turns of a group share its credit equally: k = 1 is the step level,
one group of everything the trajectory level. Longer groups are valued by more rollouts and average
over more turns, so their variance is smaller; they cannot tell their turns apart: that is the bias.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpl_gym.agents.chat import prompt_identity
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.experts import clean_experts
from hpl_gym.trainers.progress import bar
from hpl_gym.trainers.records import Stage, digest
from hpl_gym.trainers.reproduction.presets import PropositionConfig
from hpl_gym.trainers.rollout import Simulator, rollouts
from hpl_gym.trainers.seeds import draw
from hpl_gym.trainers.segment import fixed_k
from hpl_gym.trainers.trajectory import replay
from hpl_gym.trainers.work import choose, in_order
from hpl_gym.trainers.worker import load_policy

LONGEST = 8
"""Longest group that is measured, beside the whole trajectory."""


def roll_out(config: Config, run: Path, settings: PropositionConfig) -> Path:
    """Roll the cloned policy out from every state of some expert trajectories.

    Args:
        config: The run's settings.
        run: A run's folder with ``experts/`` and ``sft/model``.
        settings: How much to measure.

    Returns:
        A folder beside the policy, which other runs may share, with ``outcomes.jsonl``: for each
        trajectory the outcome rewards by state but the last, and rollout.

    Raises:
        HPLGymError: There is no expert trajectory to measure.
    """
    source, model = run / "experts" / "trajectories.jsonl", run / "sft" / "model"
    values = config.model_dump(mode="json")
    names = ("seed", "env", "max_new_tokens", "device", "backend")
    sections = {name: values[name] for name in names} | {
        "prompt": prompt_identity(config.prompt),
        "temperature": config.explore.value_temperature,
        "count": settings.count,
        "rollouts": settings.rollouts,
        "experts": digest([source]),
        "policy": digest(sorted(model.glob("*.safetensors"))),
    }
    key = hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()[:8]
    stage = Stage((run / "sft").resolve().parent / f"proposition-{key}", sections)
    if not stage.finished:
        experts = choose(clean_experts(source), settings.count)
        _roll_out(config, stage, experts, model, settings.rollouts)
        stage.finish()
    return stage.folder


def compare(outcomes: Sequence[np.ndarray], budgets: Sequence[int], seed: int) -> dict[str, Any]:
    """Compare the levels' estimates of every turn's credit.

    The true values are known up to the noise of the rollouts that they are means of. The bias is
    therefore taken from each half of the rollouts, and squared by multiplying the two: what is
    noise in one half is not in the other. So a squared bias of nothing may come out below zero.

    Args:
        outcomes: For each trajectory the outcome rewards of rollouts from each of its states but
            the last, shape (turns, rollouts), at least 2 rollouts; the last state's value is 1.
        budgets: Numbers of rollouts a trajectory. The variance is that of estimates which draw so
            many from these, with replacement.
        seed: Seed of the drawing of trajectories.

    Returns:
        ``rows``, one a group length (the last is the whole trajectory): the mean squared ``bias``
        of a turn's credit, and for each budget its mean ``variance`` and mean squared ``error``,
        None where a trajectory has more groups than the budget has rollouts. ``least`` has for each
        budget the place of the row with the least error, and ``sure`` how often it is that row when
        the trajectories are drawn with replacement.
    """
    turns = np.array([len(one) for one in outcomes])
    whole = int(turns.max())
    lengths = (*range(1, min(LONGEST + 1, whole)), whole)
    biases = np.array([[_squared_bias(one, length) for one in outcomes] for length in lengths])
    variances = np.array(
        [
            [[_variance(one, length, budget) for one in outcomes] for length in lengths]
            for budget in budgets
        ]
    )
    errors = biases + variances  # (budgets, lengths, trajectories), sums over turns

    def least(weights: np.ndarray) -> np.ndarray:
        means = errors @ weights / (turns @ weights)
        return np.where(np.isnan(means), np.inf, means).argmin(axis=1)

    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(turns), np.full(len(turns), 1 / len(turns)), 1000)
    best = least(np.ones(len(turns)))
    sure = np.mean([least(weights) == best for weights in drawn], axis=0)
    total = turns.sum()
    rows = [
        {
            "length": length,
            "bias": float(biases[place].sum() / total),
            "variance": [_number(one[place].sum() / total) for one in variances],
            "error": [_number(one[place].sum() / total) for one in errors],
        }
        for place, length in enumerate(lengths)
    ]
    return {
        "trajectories": len(outcomes),
        "states": int(total),
        "rollouts": int(outcomes[0].shape[1]),
        "budgets": list(budgets),
        "rows": rows,
        "least": best.tolist(),
        "sure": sure.tolist(),
    }


def _squared_bias(rewards: np.ndarray, length: int) -> float:
    """Return the sum over a trajectory's turns, without the noise of the rewards."""
    halves = rewards[:, ::2], rewards[:, 1::2]
    first, second = (
        shared(credit, length) - credit
        for credit in (np.diff([*half.mean(axis=1), 1.0]) for half in halves)
    )
    return float(first @ second)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def shared(credit: np.ndarray, length: int) -> np.ndarray:
    """Return credits, shape (turns,), of which the turns of each group have equal shares."""
    return np.concatenate(
        [
            np.full(stop - start, credit[start:stop].mean())
            for start, stop in fixed_k(len(credit), length)
        ]
    )


def _variance(rewards: np.ndarray, length: int, budget: int) -> float:
    """Return the sum over a trajectory's turns of the variance of their estimated credits."""
    spans = fixed_k(len(rewards), length)
    if len(spans) > budget:
        return float("nan")
    share = np.diff([budget * place // len(spans) for place in range(len(spans) + 1)])
    starts = [start for start, _ in spans]
    # Of the values of the states between groups; the last state's is known.
    values = np.append(rewards[starts].var(axis=1) / share, 0.0)
    sizes = np.array([stop - start for start, stop in spans])
    # Each of a group's turns has the credit's share: its variance over the squared size.
    return float(((values[:-1] + values[1:]) / sizes).sum())


def _roll_out(
    config: Config, stage: Stage, experts: list[dict[str, Any]], model: Path, count: int
) -> None:
    agent = load_policy(config, model).at_temperature(config.explore.value_temperature)
    known = stage.keys("outcomes")
    left = [one for one in experts if one["key"] not in known]

    async def work(expert: dict[str, Any]) -> dict[str, Any]:
        with Simulator(*config.env.make(config.experts.split)) as simulator:
            states = replay(simulator, expert)[:-1]
            paths = await asyncio.gather(
                *(
                    rollouts(simulator, agent, states, draw(config.seed, number))
                    for number in range(count)
                )
            )
        progress.advance()
        rewards = [[path[place][-1].reward for path in paths] for place in range(len(states))]
        return {"key": expert["key"], "rewards": rewards}

    def done(_: dict[str, Any], record: dict[str, Any]) -> None:
        stage.append("outcomes", record)

    async def roll_out() -> None:
        try:
            await in_order(left, work, done, concurrency=2)
        finally:
            await agent.backend.close()

    with bar("proposition 1", len(experts), len(experts) - len(left)) as progress:
        asyncio.run(roll_out())
