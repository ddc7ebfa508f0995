"""What a reproduction runs: presets, and the methods behind each table and figure."""

from __future__ import annotations

import json
from typing import Any

import yaml
from pydantic import Field

from hpl_gym.trainers.config import REPRODUCE, Config, ConfigError, load_config
from hpl_gym.trainers.sections import Section

MAIN = "hpl-semantic"
"""The method whose parts the ablations take away."""
BASELINES = ("eto", "ipr")
"""Methods of a single granularity, which HPL is compared with."""
HPL = ("hpl-fixed-n", "hpl-fixed-k", "hpl-uncertainty", MAIN)
PHASES = (f"{MAIN}-phase-1", f"{MAIN}-phase-2", MAIN)
"""The main method after each phase of its curriculum; after the last it is done."""

RESULTS: dict[str, tuple[str, ...]] = {
    "table 1": ("sft", "rft", *BASELINES, *HPL),
    "table 2": ("static", "length-only", "difficulty-only", MAIN),
    "table 5": ("sft", "rft", *BASELINES, *HPL),
    "table 6": ("sft", "rft", *BASELINES, *HPL),
    "table 7": ("sft", "rft", *BASELINES, *HPL),
    "figure 4": ("sft", *PHASES),
    "figure 5": ("no-bc", "no-trajectory", "no-step", "ipr", "group-only", "bc-only", MAIN),
}
"""Every table and figure, and the policies that are evaluated for it; IPR has no group loss."""


class Experiment(Section):
    """One benchmark of a preset.

    Attributes:
        config: A shipped configuration.
        settings: What differs from it, by ``section.key``.
    """

    config: str
    settings: dict[str, Any] = Field({})


class PropositionConfig(Section):
    """How Proposition 1 is measured, with the policy of the first seed.

    Attributes:
        count: Expert trajectories.
        rollouts: Rollouts of each of their states, whose mean is taken for the true value.
        budgets: Rollouts a trajectory that every estimate may use; 15 is M = 5 for three groups.
    """

    count: int = Field(10, ge=1)
    rollouts: int = Field(100, ge=2)
    budgets: tuple[int, ...] = (15, 60, 240)


class Preset(Section):
    """The scale of a reproduction.

    Attributes:
        seeds: Trainings of every method, each from its own experts on.
        jobs: Commands at a time; None runs one a core, each on one thread.
        launcher: What starts a training on several GPUs; empty starts it plainly.
        cluster: More options of `hpl explore` and `hpl eval`.
        proposition: How Proposition 1 is measured.
        settings: What differs from the configurations in all experiments.
        experiments: The benchmarks.
    """

    seeds: int = Field(3, ge=1)
    jobs: int | None = Field(None, ge=1)
    launcher: tuple[str, ...] = ()
    cluster: tuple[str, ...] = ()
    proposition: PropositionConfig = PropositionConfig()
    settings: dict[str, Any] = Field({})
    experiments: dict[str, Experiment]

    def source(self, experiment: str, seed: int, overrides: list[str]) -> tuple[str, list[str]]:
        """Return the shipped configuration of one run, and what overrides it.

        Args:
            experiment: Name of the benchmark.
            seed: The run's seed.
            overrides: More ``section.key=value``, which have the last word.

        Raises:
            ConfigError: There is no such benchmark.
        """
        if experiment not in self.experiments:
            raise ConfigError(
                f"This preset has no experiment {experiment!r}: use one of "
                f"{', '.join(self.experiments)}."
            )
        chosen = self.experiments[experiment]
        settings = self.settings | chosen.settings | {"seed": seed}
        mine = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        return chosen.config, mine + overrides

    def config(self, experiment: str, seed: int, overrides: list[str]) -> Config:
        """Return the settings of one run; see `source`.

        Raises:
            ConfigError: There is no such benchmark, or a setting is wrong.
        """
        return load_config(*self.source(experiment, seed, overrides))


def load_preset(name: str) -> Preset:
    """Return a shipped preset.

    Raises:
        ConfigError: There is no such preset.
    """
    presets = yaml.safe_load(REPRODUCE.read_text(encoding="utf-8"))
    if name not in presets:
        raise ConfigError(f"There is no preset {name!r}: use one of {', '.join(presets)}.")
    return Preset.model_validate(presets[name])
