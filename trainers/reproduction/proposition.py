"""Proposition 1 measured: bias and variance of credit estimated at each level, at equal budget.

Along an expert trajectory the credit of turn t is ``A_t = V(s_{t+1}) - V(s_t)`` under the policy
that explores. With groups of k turns only the states between groups are valued, each from an equal
share of the rollouts, and the turns of a group share its credit equally: k = 1 is the step level,
one group of everything the trajectory level. Longer groups are valued by more rollouts and average
over more turns, so their variance is smaller; they cannot tell their turns apart: that is the bias.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpl_gym.agents.chat import prompt_identity
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.experts import clean_experts
from hpl_gym.trainers.progress import bar
from hpl_gym.trainers.records import Stage, digest, read_records
from hpl_gym.trainers.reproduction.presets import PropositionConfig
from hpl_gym.trainers.rollout import Simulator, choose, in_order, replay, rollouts
from hpl_gym.trainers.segment import fixed_k
from hpl_gym.trainers.value import draw
from hpl_gym.trainers.worker import load_policy

LONGEST = 8
"""Longest group that is measured, beside the whole trajectory."""


def measure(config: Config, run: Path, settings: PropositionConfig) -> dict[str, Any]:
    """Roll the cloned policy out from every expert state, and compare the levels' estimates.

    Writes ``proposition/outcomes.jsonl``, a record an expert trajectory, beside the policy: a run
    into which the policy is linked reads them there.

    Args:
        config: The run's settings.
        run: A run's folder with ``experts/`` and ``sft/model``.
        settings: How much to measure.

    Returns:
        What `compare` returns.
    """
    source, model = run / "experts" / "trajectories.jsonl", run / "sft" / "model"
    policy = digest(sorted(model.glob("*.safetensors")))
    values = config.model_dump(mode="json")
    names = ("seed", "env", "max_new_tokens", "device", "backend")
    sections = {name: values[name] for name in names} | {
        "prompt": prompt_identity(config.prompt),
        "temperature": config.explore.value_temperature,
        "count": settings.count,
        "rollouts": settings.rollouts,
    }
    folder = (run / "sft").resolve().parent / "proposition"
    stage = Stage(folder, sections | {"experts": digest([source]), "policy": policy})
    if not stage.finished:
        experts = choose(clean_experts(source), settings.count)
        _roll_out(config, stage, experts, model, settings.rollouts)
        stage.finish()
    outcomes = [np.array(one["rewards"]) for one in read_records(stage.folder / "outcomes.jsonl")]
    return compare(outcomes, settings.budgets, config.seed)


def compare(
    outcomes: Sequence[np.ndarray], budgets: Sequence[int], seed: int, draws: int = 4000
) -> dict[str, Any]:
    """Compare the levels' estimates of every turn's credit.

    The true values are known up to the noise of the rollouts that they are means of. The bias is
    therefore taken from each half of the rollouts, and squared by multiplying the two: what is
    noise in one half is not in the other. So a squared bias of nothing may come out below zero.

    Args:
        outcomes: For each trajectory the outcome rewards of rollouts from each of its states but
            the last, shape (turns, rollouts), at least 2 rollouts; the last state's value is 1.
        budgets: Numbers of rollouts a trajectory, which each estimate draws from these, with
            replacement.
        seed: Seed of the drawing.
        draws: How often each estimate is drawn.

    Returns:
        ``rows``, one a group length (the last is the whole trajectory): the mean squared ``bias``
        of a turn's credit, and for each budget its mean ``variance`` and mean squared ``error``,
        None where a trajectory has more groups than the budget has rollouts. ``least`` has for each
        budget the place of the row with the least error, and ``sure`` how often it is that row when
        the trajectories are drawn with replacement.
    """
    rng = np.random.default_rng(seed)
    turns = np.array([len(one) for one in outcomes])
    lengths = (*range(1, LONGEST + 1), int(turns.max()))
    biases = np.array([[_squared_bias(one, length) for one in outcomes] for length in lengths])
    variances = np.array(
        [
            [
                [
                    _estimates(one, length, budget, draws, rng).var(axis=0).sum()
                    if -(-len(one) // length) <= budget
                    else np.nan
                    for one in outcomes
                ]
                for length in lengths
            ]
            for budget in budgets
        ]
    )
    errors = biases + variances  # (budgets, lengths, trajectories), sums over turns

    def least(weights: np.ndarray) -> np.ndarray:
        means = errors @ weights / (turns @ weights)
        return np.where(np.isnan(means), np.inf, means).argmin(axis=1)

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


def _estimates(
    rewards: np.ndarray, length: int, budget: int, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Return estimated credits of a trajectory's turns, shape (draws, turns)."""
    turns = len(rewards)
    spans = fixed_k(turns, length)
    share = [budget * place // len(spans) for place in range(len(spans) + 1)]
    values = np.ones((draws, len(spans) + 1))
    for place, (start, _) in enumerate(spans):
        size = (draws, share[place + 1] - share[place])
        values[:, place] = rng.choice(rewards[start], size).mean(axis=1)
    credit = np.diff(values, axis=1)
    return np.concatenate(
        [
            np.repeat(credit[:, [place]] / (stop - start), stop - start, axis=1)
            for place, (start, stop) in enumerate(spans)
        ],
        axis=1,
    )


def _roll_out(
    config: Config, stage: Stage, experts: list[dict[str, Any]], model: Path, count: int
) -> None:
    agent = load_policy(config, model).at_temperature(config.explore.value_temperature)
    known = stage.keys("outcomes")
    left = [one for one in experts if one["key"] not in known]

    async def work(expert: dict[str, Any]) -> dict[str, Any]:
        simulator = Simulator(*config.env.make(config.experts.split))
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
