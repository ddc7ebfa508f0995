"""The paper's figures from evaluated runs, as SVG."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from hpl_gym.trainers.reproduction.jobs import Run
from hpl_gym.trainers.reproduction.presets import PHASES
from hpl_gym.trainers.reproduction.scores import read_scores
from hpl_gym.trainers.reproduction.tables import KINDS, LABELS, Column, deviation, task_types

_STYLE = {"svg.hashsalt": "hpl-gym", "svg.fonttype": "none", "font.size": 9}


def progress(runs: Sequence[Run], split: str) -> Figure:
    """Draw success after each phase, by task type (the paper's Figure 4).

    Args:
        runs: The runs of one benchmark.
        split: The split.
    """
    scores = [read_scores(runs, policy, split) for policy in ("sft", *PHASES)]
    kinds = task_types(scores[0])
    figure, axes = _figure()
    for kind in kinds if len(kinds) > 1 else ():
        own = [score.of_type(kind).success.mean() for score in scores]
        axes.plot(own, marker="o", markersize=3, linewidth=1, label=KINDS.get(kind, kind))
    mean = np.array([score.success.mean() for score in scores])
    spread = np.array([deviation(score.success) for score in scores])
    axes.plot(mean, color="black", marker="o", linewidth=2, label="all")
    axes.fill_between(range(4), mean - spread, mean + spread, color="black", alpha=0.15)
    axes.set_xticks(range(4), ["SFT", "phase 1", "phase 2", "phase 3"])
    axes.set_ylabel(f"success on {split}, per cent")
    _legend(axes)
    return figure


def bars(shown: Sequence[Column], policies: Sequence[str]) -> Figure:
    """Draw the results of some policies side by side (the paper's Figure 5).

    Args:
        shown: What was measured, a group of bars each.
        policies: The bars of a group.
    """
    shown = [column for column in shown if not column.pooled]
    figure, axes = _figure()
    width = 0.8 / len(policies)
    for place, policy in enumerate(policies):
        values = [column.values[policy] for column in shown]
        at = np.arange(len(shown)) + (place - (len(policies) - 1) / 2) * width
        heights, spreads = [one.mean() for one in values], [deviation(one) for one in values]
        axes.bar(at, heights, width, yerr=spreads, capsize=2, label=LABELS.get(policy, policy))
    axes.set_xticks(range(len(shown)), [f"{one.experiment}\n{one.title}" for one in shown])
    axes.set_ylabel("per cent")
    _legend(axes)
    return figure


def trade_off(found: dict[str, Any]) -> Figure:
    """Draw bias and variance against group length (Proposition 1).

    Args:
        found: What `proposition.compare` returned.
    """
    figure, axes = _figure()
    rows = found["rows"]
    lengths = [row["length"] for row in rows]

    def drawn(values: Iterable[float | None]) -> list[float]:
        """Leave out what a logarithmic axis has no place for."""
        return [one if one is not None and one > 0 else np.nan for one in values]

    biases = drawn(row["bias"] for row in rows)
    axes.plot(lengths, biases, ":", color="black", label="squared bias")
    for place, budget in enumerate(found["budgets"]):
        color = f"C{place}"
        variance, error = (
            drawn(row[name][place] for row in rows) for name in ("variance", "error")
        )
        axes.plot(lengths, variance, "--", color=color, label=f"variance, {budget} rollouts")
        axes.plot(lengths, error, "-o", color=color, markersize=3, label=f"error, {budget}")
    axes.set_yscale("log")
    axes.set_xticks(lengths, [str(one) for one in lengths[:-1]] + ["all"])
    axes.set_xlabel("turns a group: 1 is the step level, all is the trajectory level")
    axes.set_ylabel("mean square, of a turn's estimated credit")
    _legend(axes)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Save a figure as SVG, the same bytes for the same numbers."""
    drawn = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(drawn, format="svg", bbox_inches="tight", metadata={"Date": None})
    path.write_text(drawn.getvalue(), encoding="utf-8")


def _figure() -> tuple[Figure, Any]:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6, 3.6))
        axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(axes: Any) -> None:
    axes.legend(fontsize=7, frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
