"""The settings of a run: one YAML file, one section a stage, ``section.key=value`` overrides it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import gymnasium
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hpl_gym.core import HPLGymError, TextEnv


class ConfigError(HPLGymError):
    """A setting is unknown or out of range, or a configuration file cannot be read."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EnvConfig(_Section):
    """Which environment is played.

    Attributes:
        id: Registered id.
        kwargs: Keyword arguments of the environment.
        max_turns: Turn limit; None takes the registered one.
    """

    id: str = "HPL/ALFWorld-v0"
    kwargs: dict[str, Any] = {}
    max_turns: int | None = Field(None, ge=1)

    @property
    def backend(self) -> str:
        """What the environment runs on here, such as ``native`` or ``mariadb 10.11.14``."""
        return gymnasium.make(self.id, disable_env_checker=True, **self.kwargs).unwrapped.backend  # type: ignore[attr-defined]

    def make(self, split: str) -> tuple[TextEnv, int]:
        """Return the bare environment, set to `split`, and the turn limit."""
        env = gymnasium.make(self.id, split=split, disable_env_checker=True, **self.kwargs)
        assert env.spec is not None
        assert isinstance(env.unwrapped, TextEnv)
        return env.unwrapped, self.max_turns or env.spec.max_episode_steps or 2**31


class ExpertsConfig(_Section):
    """Collection of expert trajectories.

    Attributes:
        split: Split the tasks come from.
        count: Tasks to play, drawn over the whole split; None plays all.
        mode: ``informed`` experts know where things are, ``search`` ones only what they see.
        noisy: Share of the tasks that are played with slips; only behaviour cloning uses these.
        slips: Share of the turns with a slip in such a task.
    """

    split: str = "train"
    count: int | None = Field(None, ge=1)
    mode: Literal["informed", "search"] = "search"
    noisy: float = Field(0.0, ge=0, le=1)
    slips: float = Field(0.3, ge=0, le=1)


class TinyConfig(_Section):
    """Size of the model that is made on the spot when ``sft.model`` is ``tiny``.

    Attributes:
        vocabulary: Most tokens of the tokenizer trained on the transcripts.
        layers: Transformer blocks.
        width: Hidden size.
        heads: Attention heads.
        kv_heads: Key / value heads.
        epochs: Passes of language modelling over whole transcripts before cloning.
        context: Weight in it of the tokens that are not the agent's.
        lr: Peak learning rate of AdamW in both, for embeddings, biases and norms.
        muon_lr: Peak learning rate of Muon in both, for the other matrices.
    """

    vocabulary: int = Field(2048, ge=300)
    layers: int = Field(4, ge=1)
    width: int = Field(128, ge=8)
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(4, ge=1)
    epochs: int = Field(2, ge=0)
    context: float = Field(0.3, ge=0, le=1)
    lr: float = Field(2e-3, gt=0)
    muon_lr: float = Field(0.02, gt=0)


class SftConfig(_Section):
    """Behaviour cloning (stage 0).

    Attributes:
        model: A model folder or hub name, or ``tiny`` to make one from the transcripts.
        tiny: The made model's size.
        epochs: Passes over the expert trajectories.
        lr: Peak learning rate.
        batch: Trajectories a step.
        warmup: Share of the steps with a rising learning rate; a cosine follows.
        max_length: Longest trajectory in tokens; longer ones are left out and counted.
    """

    model: str = "tiny"
    tiny: TinyConfig = TinyConfig()
    epochs: int = Field(3, ge=1)
    lr: float = Field(1e-5, gt=0)
    batch: int = Field(32, ge=1)
    warmup: float = Field(0.1, ge=0, le=1)
    max_length: int = Field(6000, ge=16)


SegmenterName = Literal["fixed-k", "fixed-n", "uncertainty", "semantic", "single"]


class ExploreConfig(_Section):
    """Exploration by the reference policy (stage 1).

    Attributes:
        count: Expert trajectories to explore from, drawn over all; None takes all.
        segmenters: How trajectories are cut into action groups, any number of ways at a time;
            ``single`` makes a group of every turn, which is IPR's step level.
        k: Number of groups of ``fixed-k``.
        n: Turns a group of ``fixed-n``.
        percentile: Where ``uncertainty`` cuts: above this percentile of the entropies over all
            explored steps.
        semantic: The model that ``semantic`` asks, by its name at the server that OPENAI_BASE_URL
            and OPENAI_API_KEY mean; None cuts by rules, without a model.
        rollouts: M, the rollouts that value one state.
        temperature: Sampling temperature of the branches.
        value_temperature: Sampling temperature of the value rollouts.
        concurrency: Expert trajectories explored at a time, each with a rollout for every step;
            changes nothing but time and memory.
    """

    count: int | None = Field(None, ge=1)
    segmenters: tuple[SegmenterName, ...] = Field(("fixed-k",), min_length=1)
    k: int = Field(3, ge=1)
    n: int = Field(3, ge=1)
    percentile: float = Field(80, ge=0, le=100)
    semantic: str | None = None
    rollouts: int = Field(5, ge=1)
    temperature: float = Field(1.0, ge=0)
    value_temperature: float = Field(1.0, gt=0)
    concurrency: int = Field(8, ge=1)


class PairsConfig(_Section):
    """Selection of preference pairs.

    Attributes:
        min_gap: A pair is kept when the winner's reward exceeds the loser's by more than this.
        lengths: Lower bounds of the three group lengths, in turns.
        gaps: Upper bounds of the three reward gaps, easiest first.
    """

    min_gap: float = Field(0.01, ge=0)
    lengths: tuple[int, int, int] = (0, 3, 6)
    gaps: tuple[float, float, float] = (1.0, 0.7, 0.4)


class TrainConfig(_Section):
    """Offline optimisation (stage 2).

    Attributes:
        lr: Peak learning rate.
        beta: The DPO losses' temperature.
        batch: Group pairs a step; the other terms' data are spread evenly over the same steps.
        epochs: Passes over each phase's group pairs.
        warmup: Share of the steps with a rising learning rate; a cosine follows.
        max_length: Longest sequence in tokens; pairs with a longer one are left out and counted.
        bc: Weight of the behaviour-cloning loss.
        trajectory: Weight of the trajectory-level DPO loss.
        step: Weight of the step-level DPO loss.
        group: Weight of the group-level DPO loss.
        segmenter: Whose groups are trained on; None takes the first of ``explore.segmenters``.
    """

    lr: float = Field(3e-6, gt=0)
    beta: float = Field(0.3, gt=0)
    batch: int = Field(32, ge=1)
    epochs: int = Field(1, ge=1)
    warmup: float = Field(0.1, ge=0, le=1)
    max_length: int = Field(6000, ge=16)
    bc: float = Field(1.0, ge=0)
    trajectory: float = Field(1.0, ge=0)
    step: float = Field(1.0, ge=0)
    group: float = Field(1.0, ge=0)
    segmenter: SegmenterName | None = None


class EvalConfig(_Section):
    """Evaluation.

    Attributes:
        splits: Splits to play.
        count: Tasks of each split, always the same ones; None plays all.
        temperature: Sampling temperature; 0 is greedy.
        concurrency: Episodes at a time.
    """

    splits: tuple[str, ...] = ("valid_seen",)
    count: int | None = Field(None, ge=1)
    temperature: float = Field(0.0, ge=0)
    concurrency: int = Field(64, ge=1)


class Config(_Section):
    """All settings of a run.

    Attributes:
        seed: Seed of everything random.
        prompt: A shipped prompt's name or a text file.
        max_new_tokens: Longest reply in tokens.
        device: A torch device.
        backend: What runs language models when they play: ``transformers``, ``vllm`` (its offline
            engine), or ``openai`` (vLLM's server at OPENAI_BASE_URL).
    """

    seed: int = Field(0, ge=0)
    prompt: str = "alfworld"
    max_new_tokens: int = Field(96, ge=1)
    device: str = "cpu"
    backend: Literal["transformers", "vllm", "openai"] = "transformers"
    env: EnvConfig = EnvConfig()
    experts: ExpertsConfig = ExpertsConfig()
    sft: SftConfig = SftConfig()
    explore: ExploreConfig = ExploreConfig()
    pairs: PairsConfig = PairsConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()


PRESETS = Path(__file__).parent / "configs"


def load_config(source: str | Path, overrides: list[str] | None = None) -> Config:
    """Read settings.

    Args:
        source: A YAML file, or the name of a shipped one (``quickstart``, ``real``, ``webshop``,
            ``intercode-sql``, ``paper``).
        overrides: ``section.key=value`` texts, values in YAML.

    Raises:
        ConfigError: A file that cannot be read, an unknown key, or a value out of range.
    """
    path = PRESETS / f"{source}.yaml"
    if not path.is_file():
        path = Path(source)
    if not path.is_file():
        names = ", ".join(sorted(preset.stem for preset in PRESETS.glob("*.yaml")))
        raise ConfigError(
            f"There is no configuration {str(source)!r}: name a YAML file or one of {names}."
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for override in overrides or []:
            _override(values, override)
        return Config.model_validate(values)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"Setting {where!r} in {path.name}: {first['msg']}.") from error


def save_config(config: Config, path: Path) -> None:
    """Write settings as YAML, whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"{override!r} is no setting: write section.key=value.")
    *sections, key = name.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{name!r} is no setting: {section!r} has no keys below it.")
    values[key] = yaml.safe_load(text)
