"""What policies achieved: results by seed and task, out of the evaluations' episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.records import read_records
from hpl_gym.trainers.reproduction.jobs import Run


@dataclass(frozen=True)
class Scores:
    """A policy's results on one split, in per cent.

    Attributes:
        tasks: The tasks' ids, in order.
        types: The tasks' types.
        success: 100 where a task was solved, shape (seeds, tasks).
        reward: 100 times the outcome reward, same shape.
    """

    tasks: tuple[str, ...]
    types: tuple[str, ...]
    success: np.ndarray
    reward: np.ndarray

    def of_type(self, kind: str) -> Scores:
        """Return the results on the tasks of one type."""
        places = [place for place, one in enumerate(self.types) if one == kind]
        return Scores(
            tuple(self.tasks[place] for place in places),
            (kind,) * len(places),
            self.success[:, places],
            self.reward[:, places],
        )


def read_scores(runs: Sequence[Run], policy: str, split: str) -> Scores:
    """Read a policy's results in the runs of one benchmark, one a seed.

    Args:
        runs: The runs, all evaluated on the same tasks.
        policy: Name of its evaluation.
        split: The split.

    Raises:
        HPLGymError: The seeds were evaluated on different tasks.
    """
    found = []
    for run in runs:
        file = run.folder / "eval" / policy / "episodes.jsonl"
        own = [one for one in read_records(file) if one["split"] == split]
        found.append({one["task_id"]: one for one in own})
    tasks = tuple(found[0])
    if any(tuple(one) != tasks for one in found):
        raise HPLGymError(f"The seeds of {policy} were evaluated on different tasks of {split}.")
    types = tuple(found[0][task]["task_type"] for task in tasks)

    def table(name: str) -> np.ndarray:
        return 100 * np.array([[float(one[task][name]) for task in tasks] for one in found])

    return Scores(tasks, types, table("success"), table("reward"))
