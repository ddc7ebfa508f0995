"""A reproduction's jobs: ordinary `hpl` commands, each with a key of what decides its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpl_gym import __version__
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.config import (
    Config,
    ConfigError,
    load_config,
    method,
    method_names,
    save_config,
)
from hpl_gym.trainers.curriculum import CURRICULA
from hpl_gym.trainers.records import digest
from hpl_gym.trainers.reproduction.presets import MAIN, PHASES, Preset
from hpl_gym.trainers.sections import Section, decisive

STAGES = {
    "experts": ("seed", "env", "experts"),
    "sft": ("seed", "device", "prompt", "sft"),
    "explore": ("seed", "device", "env", "prompt", "max_new_tokens", "backend", "explore"),
    "pairs": ("pairs",),
    "train": ("seed", "device", "prompt", "train"),
    "rft": ("seed", "device", "env", "prompt", "max_new_tokens", "backend", "rft"),
    "eval": ("seed", "device", "env", "prompt", "max_new_tokens", "backend", "eval"),
}
"""The settings that decide the result of each stage; of what could start, earlier stages do."""


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        name: What it is, for people: experiment, seed, stage or policy.
        stage: Which stage it is, a key of `STAGES`.
        key: Digest of everything that decides its result, the jobs it builds on included.
        folder: Where the result goes.
        command: The arguments of `hpl`.
        needs: Keys of the jobs that must be finished before.
    """

    name: str
    stage: str
    key: str
    folder: Path
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether a launcher starts it on several GPUs."""
        return self.stage in {"sft", "rft", "train"}


@dataclass(frozen=True)
class Run:
    """One benchmark and seed: its run folder and settings.

    Attributes:
        experiment: Name of the benchmark.
        seed: The seed.
        folder: The run's folder.
        config: Its settings.
        overrides: Those of them that the user gave.
        world: What else decides results: the package's version, what the environment runs on ("" if
            that was not looked up), and digests of the benchmark's files and of the user's own.
    """

    experiment: str
    seed: int
    folder: Path
    config: Config
    overrides: tuple[str, ...]
    world: Mapping[str, Any]


def make_runs(
    preset: Preset,
    root: Path,
    experiments: Iterable[str],
    seeds: Iterable[int],
    overrides: list[str],
    *,
    dry: bool = False,
) -> list[Run]:
    """Return the runs of some experiments; each has a folder of its own for its settings.

    Args:
        preset: The scale.
        root: The reproduction's folder.
        experiments: Names of benchmarks.
        seeds: Seeds.
        overrides: Settings that have the last word.
        dry: The benchmark's data need not be there.

    Raises:
        HPLGymError: A benchmark or a setting is wrong, or data are missing.
    """
    if any(one.partition("=")[0].strip() == "seed" for one in overrides):
        raise ConfigError("A reproduction has the seeds 0, 1, ...: choose how many by --seeds.")
    runs = []
    for experiment in experiments:
        for seed in seeds:
            config = preset.config(experiment, seed, overrides)
            world = {"version": __version__} | _origin(config, dry) | _contents(config)
            settings = config.model_dump(mode="json") | {"seed": None}
            same = _digest({"settings": settings, "world": world})
            folder = root / f"{experiment}-{same[:8]}" / f"seed-{seed}"
            runs.append(Run(experiment, seed, folder, config, tuple(overrides), world))
    return runs


def by_stage(jobs: Iterable[Job]) -> list[Job]:
    """Return jobs in the order of their stages, those of a stage as they came."""
    order = list(STAGES)
    return sorted(jobs, key=lambda job: order.index(job.stage))


def _origin(config: Config, dry: bool) -> dict[str, Any]:
    try:
        origin = config.env.origin(*dict.fromkeys((config.experts.split, *config.eval.splits)))
    except HPLGymError:
        if not dry:
            raise
        origin = {"env_backend": ""}
    return {name.removeprefix("env_"): value for name, value in origin.items()}


def write_settings(runs: Iterable[Run]) -> None:
    """Write the settings of runs into their folders, where the commands read them.

    Raises:
        HPLGymError: A folder has other settings.
    """
    for run in runs:
        path = run.folder / "config.yaml"
        if not path.is_file():
            save_config(run.config, path)
        elif load_config(path) != run.config:
            raise HPLGymError(
                f"{path} has other settings than this reproduction: delete {run.folder}, and give "
                "what should differ as SECTION.KEY=VALUE."
            )


def make_jobs(preset: Preset, run: Run, policies: Sequence[str]) -> list[Job]:
    """Return the jobs of a run that clone its policy and evaluate some policies.

    Args:
        preset: The scale.
        run: The run.
        policies: ``sft``, ``rft``, a method of `hpl train`, or ``<method>-phase-<number>``.

    Raises:
        ConfigError: There is no such policy, or an override is a setting of one of them.
    """
    made: dict[str, Job] = {}
    methods = list(dict.fromkeys(one.partition("-phase-")[0] for one in policies))
    trained = [one for one in methods if one not in {"sft", "rft"}]
    for policy in policies:
        if "-phase-" in policy and policy not in PHASES:
            raise ConfigError(
                f"There is no policy {policy!r} to evaluate: phases are kept of {MAIN}, "
                f"as {' and '.join(PHASES[:2])}."
            )

    known = ("sft", "rft", *method_names())
    if foreign := next((one for one in methods if one not in known), None):
        raise ConfigError(f"There is no method {foreign!r}: use one of {', '.join(known)}.")

    def add(
        name: str,
        stage: str,
        folder: str,
        inputs: tuple[str, ...],
        *options: str,
        after: tuple[str, ...] = (),
        config: Config = run.config,
    ) -> None:
        values = {part: decisive(one) if isinstance(one, Section) else one for part, one in config}
        parts = _parts(stage, values)
        splits = values["eval"]["splits"] if stage == "eval" else [values["experts"]["split"]]
        data = {one: held for one, held in run.world.get("data", {}).items() if one in splits}
        world = {"version", "backend", *parts, *(("model",) if stage == "sft" else ())}
        key = _digest(
            {
                "stage": stage,
                "settings": {part: values[part] for part in parts},
                "inputs": [made[one].key for one in inputs],
                "name": name,
            }
            | {what: held for what, held in run.world.items() if what in world}
            | ({"data": data} if data else {})
        )
        made[name] = Job(
            f"{run.experiment} {run.seed} {name}",
            stage,
            key,
            run.folder / folder,
            (stage, "--run", str(run.folder), *options),
            tuple(made[one].key for one in (*inputs, *after)),
        )

    add("experts", "experts", "experts", ())
    add("sft", "sft", "sft", ("experts",))
    if "rft" in methods:
        add("rft", "rft", "rft", ("experts", "sft"))
    if trained:
        add("explore", "explore", "explore", ("experts", "sft"), *preset.cluster)
        add("pairs", "pairs", "pairs", ("experts", "explore"))
    for name in trained:
        own = method(name)
        _refuse_overrides(name, own, run.overrides)
        differing = [*run.overrides, *own]
        config = preset.config(run.experiment, run.seed, differing)
        _refuse_unexplored(name, config)
        if name == MAIN and not set(PHASES[:2]).isdisjoint(policies):
            _refuse_single_phase(config)
        keep = ("train.phases=keep",) if name == MAIN else ()
        add(
            name,
            "train",
            name,
            ("experts", "sft", "pairs"),
            "--method",
            name,
            *keep,
            after=("explore",),
            config=config,
        )
    for policy in policies:
        trainer, is_phase, phase = policy.partition("-phase-")
        agent = f"{trainer}/phases/{phase}" if is_phase else policy
        add(
            f"eval {policy}",
            "eval",
            f"eval/{policy}",
            (trainer,),
            "--agent",
            agent,
            "--name",
            policy,
            *preset.cluster,
        )
    return list(made.values())


def _contents(config: Config) -> dict[str, str]:
    """Return digests of the user's own files that settings name: a prompt, a model."""
    prompt, model = Path(config.prompt), sorted(Path(config.sft.model).glob("*.safetensors"))
    found = {"prompt": digest([prompt])} if prompt.is_file() else {}
    return found | ({"model": digest(model)} if model else {})


def _refuse_overrides(name: str, own: Iterable[str], overrides: Iterable[str]) -> None:
    taken = {one.partition("=")[0] for one in own}
    for override in overrides:
        key = override.partition("=")[0].strip()
        if any(one == key or one.startswith(f"{key}.") for one in taken):
            raise ConfigError(
                f"{key} is what method {name} has of its own, so it cannot be the same for all "
                "methods: leave it out, or leave the method out (--method)."
            )


def _refuse_unexplored(name: str, config: Config) -> None:
    segmenter, explored = config.train.segmenter, config.explore.segmenters
    if config.train.group and segmenter and segmenter not in explored:
        raise ConfigError(
            f"Method {name} needs groups of the segmenter {segmenter!r}: add it to "
            "explore.segmenters, or leave the method out (--method)."
        )


def _refuse_single_phase(config: Config) -> None:
    curriculum = config.train.curriculum
    if not config.train.group or len(CURRICULA[curriculum]) == 1:
        raise ConfigError(
            "Figure 4 shows the phases of the curriculum, and these settings have one phase: leave "
            "train.curriculum and train.group as they are, or the figure out."
        )


def _parts(stage: str, values: dict[str, Any]) -> tuple[str, ...]:
    taught = stage == "experts" and values["experts"]["teacher"]
    return (*STAGES[stage], *(("prompt", "max_new_tokens") if taught else ()))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
